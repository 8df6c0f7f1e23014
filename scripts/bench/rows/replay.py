"""A log of a million moves of tags: folding its views, starting on it, the bytes it takes."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.endpoint import Connection, Endpoint
from bench.logs import KNOWN, LONG, write_log
from bench.run import Figures, Run
from bench.service import COMMAND, listening, stored

MOVES = 1_000_000
ENTRIES = 90
"""How many moves each stream's tag has, but the long one's."""

_FOLD_VIEWS = """
import sys
from contextlib import closing
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.projections.projector import catch_up
with closing(SQLiteStore(sys.argv[1])) as store:
    store.create_tables()
    catch_up(store)
"""
"""What a service does that starts on a log without views."""

_GROW_TREE = """
import sys
from contextlib import closing
from imagestream_es.persistence.sqlite import SQLiteStore
with closing(SQLiteStore(sys.argv[1])) as store, store.writing() as rows:
    rows.regrow()
"""


@dataclass(frozen=True)
class Moved:
    """A log of many moves with its views, and what folding them took: seconds, those of CPU, peak bytes of memory."""

    directory: Path
    moves: int
    log_bytes: int
    views: float
    tree: float
    cpu: float
    peak: int


def long_history(run: Run) -> int:
    """How many of the moves are of one tag."""
    return run.scaled(MOVES) // 10


def moved(run: Run) -> Moved:
    """The log of many moves with its views; written and folded at the first call in a run."""
    return run.shared("moved", lambda: _moved(run))


def _moved(run: Run) -> Moved:
    return _fold(run, run.prepared("many moves, folded", lambda directory: _copy_log(run, directory)))


def _entries(run: Run) -> dict[str, int]:
    moves, long = run.scaled(MOVES), long_history(run)
    streams = max((moves - long) // ENTRIES, 10)
    return {f"stream-{number}": ENTRIES for number in range(streams)} | {LONG: long}


def _copy_log(run: Run, directory: Path) -> None:
    """Make a data directory with the log of many moves, and no views over it yet."""
    log = run.prepared("many moves", partial(write_log, entries=_entries(run), fold=False))
    shutil.copytree(log, directory)


def _fold(run: Run, directory: Path) -> Moved:
    """Fold the views of such a directory."""
    moves, log_bytes = sum(_entries(run).values()), stored(directory)
    run.say(f"folding the views of {moves:,} moves")
    database = str(directory / "imagestream.db")
    views, views_cpu, first = _timed([sys.executable, "-c", _FOLD_VIEWS, database])
    run.say(f"growing the tree over {moves:,} moves")
    tree, tree_cpu, second = _timed([sys.executable, "-c", _GROW_TREE, database])
    return Moved(directory, moves, log_bytes, views, tree, views_cpu + tree_cpu, max(first, second))


def _timed(command: Sequence[str]) -> tuple[float, float, int]:
    """Seconds, seconds of CPU and peak bytes of memory of a command and of what it begins.

    Raises RuntimeError if it fails.
    """
    peaks: dict[int, int] = {}
    with tempfile.TemporaryFile("w+") as told:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=told, stderr=told)
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, ended, peaks))
        watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            raise
        finally:
            ended.set()
            watcher.join()
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            told.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {told.read()[-2000:]}")
    return seconds, usage.ru_utime + usage.ru_stime, max(sum(peaks.values()), usage.ru_maxrss * 1024)


def _watch(process: int, ended: threading.Event, peaks: dict[int, int]) -> None:
    """Keep the peak bytes of memory of a process and of those that it begins, each until it ends."""
    while not ended.wait(0.05):
        with suppress(OSError, IndexError):  # it has ended
            begun = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            for one in (process, *map(int, begun)):
                told = Path(f"/proc/{one}/status").read_text()
                peaks[one] = int(told.partition("VmHWM:")[2].split()[0]) * 1024


def replay(run: Run) -> Figures:
    """Folding the views of a log that has none, as a start does, and growing the tree over it.

    `imagestream-es replay` folds in the same way where no service runs, and leaves one that runs half of the time.
    """
    rounds = [moved(run)]
    with tempfile.TemporaryDirectory(prefix="imagestream-benchmark-") as place:
        for number in range(1, min(run.rounds, 2)):
            _copy_log(run, Path(place) / str(number))
            rounds.append(_fold(run, Path(place) / str(number)))
    return {
        "moves": rounds[0].moves,
        "seconds": statistics.median(one.views + one.tree for one in rounds),
        "seconds for the views": statistics.median(one.views for one in rounds),
        "seconds for the tree": statistics.median(one.tree for one in rounds),
        "CPU seconds": statistics.median(one.cpu for one in rounds),
        "peak MB": max(one.peak for one in rounds) / 1e6,
        "rounds": len(rounds),
    }


def start(run: Run) -> Figures:
    """From the start of the process to the first answer, on a log of many moves; and on an empty one."""
    with tempfile.TemporaryDirectory(prefix="imagestream-benchmark-") as place:
        full, empty = Path(place) / "full", Path(place) / "empty"
        shutil.copytree(moved(run).directory, full)
        times: dict[str, list[float]] = {"full": [], "empty": []}
        for number in range(1 + run.rounds):  # the first start of each makes what later ones find
            run.say(f"start {number + 1} of {1 + run.rounds}")
            times["full"].append(_first_answer(full, f"/{KNOWN}"))
            times["empty"].append(_first_answer(empty, ""))
    return {
        "moves": moved(run).moves,
        "seconds": statistics.median(times["full"][1:]),
        "seconds on an empty log": statistics.median(times["empty"][1:]),
        "seconds at the first start": times["full"][0],
    }


def _first_answer(data: Path, name: str) -> float:
    """Seconds until a service on a data directory has answered for a stream."""
    began = time.perf_counter()
    with listening([str(COMMAND), "serve", "--bind", "127.0.0.1:0", "--data-dir", str(data)]) as (_, url):
        endpoint = Endpoint.of(url)
        Connection(endpoint).expect("GET", endpoint.streams + name)
        return time.perf_counter() - began


def disk(run: Run) -> Figures:
    """Bytes of log, tree and views for each move of a tag to an image that is known already."""
    found = moved(run)
    whole = stored(found.directory)
    return {
        "moves": found.moves,
        "bytes a move": whole / found.moves,
        "bytes a move, log and tree": found.log_bytes / found.moves,
        "bytes a move, views": (whole - found.log_bytes) / found.moves,
    }

"""Long histories: what one more push costs on a tag that has had many, and what reading all of them costs."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.contest import Contest
from bench.endpoint import Connection, Endpoint
from bench.images import digest, mapping, mapping_request
from bench.logs import write_log
from bench.rows.limits import bare
from bench.rows.mappings import create_streams
from bench.rows.reads import gets
from bench.run import Figures, Run
from bench.service import Target, service, start

LENGTHS = {10: 200, 1000: 8, 5000: 4, 100_000: 1}
"""How long the histories are that are compared, and how many tags have one: each push makes its tag's longer."""
REMOTE = {10: 20, 1000: 1, 5000: 1}
"""The same for another server, which can only be filled by pushes."""
TURN, REMOTE_TURN = 400, 20
"""How many pushes are measured in a row."""
READ = 5000
"""How long the history is that is read."""


def history(run: Run) -> Figures:
    """Mappings of new images by one client, to tags with short and long histories in turns."""
    lengths = {run.scaled(length, 10): count for length, count in (REMOTE if run.remote else LENGTHS).items()}
    names = {length: [f"history-{length}-{number}" for number in range(count)] for length, count in lengths.items()}
    with run.target(prepared=None if run.remote else _log(run, names)) as target:
        if run.remote:
            _fill(run, target, names)
        turn = REMOTE_TURN if run.remote else run.scaled(TURN, REMOTE_TURN)
        pushes: dict[int, Any] = {}
        for length, streams in names.items():
            requests = [mapping_request(target.endpoint, stream, "latest") for stream in streams]
            pushes[length] = target.load((requests * turn)[:turn], 1)
        memory = {}
        for length, load in pushes.items():
            load.run()
            memory[length] = target.memory()
        loads = {f"at {length} entries": load.run for length, load in pushes.items()}
        contest = Contest(loads, max(run.rounds, 2), run.say)
        after = target.memory()
    figures: Figures = {name: contest.figures(name) for name in contest.rounds}
    shortest = f"at {min(names)} entries"
    for length in names:
        pairs = zip(contest.rounds[f"at {length} entries"], contest.rounds[shortest], strict=True)
        figures[f"at {length} entries"] |= {
            "p50 by the shortest": statistics.median(mine.p50 / short.p50 for mine, short in pairs),
            "memory MB": memory[length] / 1e6,
        }
    return figures | {"memory MB afterwards": after / 1e6, "longest": max(names)}


def _log(run: Run, names: dict[int, list[str]]) -> Path:
    entries = {stream: length for length, streams in names.items() for stream in streams}
    return run.prepared("long histories", partial(write_log, entries=entries, fold=True))


def _fill(run: Run, target: Target, names: dict[int, list[str]]) -> None:
    for length, streams in names.items():
        run.say(f"pushing {length} images to each of {len(streams)} tags")
        create_streams(target, streams)
        for stream in streams:
            target.load([mapping_request(target.endpoint, stream, "latest")] * length, 1).run()


def entries(run: Run) -> Figures:
    """GET of a stream with 5,000 entries by one client: when nothing changed, after a write, after a start."""
    length = run.scaled(READ, 10)
    flask = run.limit("flask")
    build = partial(write_log, entries={"read": length}, fold=True)
    with tempfile.TemporaryDirectory(prefix="imagestream-benchmark-") as place:
        data = Path(place) / "data"
        shutil.copytree(run.prepared("one long history", build), data)
        cold = []
        for number in range(run.rounds):
            run.say(f"start {number + 1} of {run.rounds}")
            with start(data, []) as target:
                connection = target.connect()
                connection.request("GET", "/livez")
                cold.append(_read(connection, target.endpoint)[0])
    with service(prepared=run.prepared("one long history", build)) as target:
        path = f"{target.endpoint.streams}/read"
        size = _read(target.connect(), target.endpoint)[1]
        contest = Contest(
            {
                "warm": target.load(gets(target, [path]), 1, run.seconds / 2).run,
                "bare Flask": flask.load(bare(flask.endpoint, f"/{size}"), 1, run.seconds / 2).run,
            },
            run.rounds,
            run.say,
        )
        run.say("reads after writes")
        changed = _after_writes(target)
    figures: Figures = {name: contest.figures(name) for name in contest.rounds}
    figures["warm"]["by bare Flask"] = contest.ratio("warm", "bare Flask")
    return figures | {
        "entries": length,
        "bytes": size,
        "first read after a write, p50 ms": 1000 * statistics.median(changed),
        "first read after a start, p50 ms": 1000 * statistics.median(cold),
    }


def _read(connection: Connection, endpoint: Endpoint) -> tuple[float, int]:
    """Seconds and bytes of a read."""
    began = time.perf_counter()
    answer = connection.expect("GET", f"{endpoint.streams}/read")
    return time.perf_counter() - began, len(answer)


def _after_writes(target: Target) -> list[float]:
    connection, endpoint, spent = target.connect(), target.endpoint, []
    for number in range(20):
        body = mapping(endpoint.namespace, "read", "latest", digest(f"after {number}"))
        status, answer = connection.request("POST", endpoint.mappings, body)
        if status != 201:
            raise RuntimeError(answer)
        spent.append(_read(connection, endpoint)[0])
    return spent

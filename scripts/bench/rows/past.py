"""Reads of the past in a log of a million changes, against the same reads in one of ten thousand."""

from __future__ import annotations

import base64
import json
import statistics
import time
from functools import partial

from bench.images import digest
from bench.logs import KNOWN, LONG, NAMESPACE, write_log
from bench.rows.replay import long_history, moved
from bench.run import Figures, Run
from bench.service import Target, service

FEW = 10_000
HISTORY = f"/apis/history.imagestream-es.io/v1/namespaces/{NAMESPACE}"


def past(run: Run) -> Figures:
    """Each read in the one log and in the other, in turns: how long it takes, and by how much longer."""
    few = run.scaled(FEW, 1000)
    build = partial(write_log, entries={f"stream-{number}": 100 for number in range(few // 100)}, fold=True)
    with (
        service(prepared=run.prepared("some changes", build)) as small,
        service(prepared=moved(run).directory) as large,
    ):
        return _Past(small, large, run).figures()


class _Past:
    def __init__(self, small: Target, large: Target, run: Run) -> None:
        self._small, self._large, self._run = small, large, run
        self._tags = large.endpoint.tags
        self._changes = f"{HISTORY}/tagchanges?limit=100&fieldSelector=tag%3Dlatest,stream%3D"

    def figures(self) -> Figures:
        head, head_of_small = _head(self._large), _head(self._small)
        figures: Figures = {"changes": head, "changes of the small log": head_of_small}
        usages = f"{HISTORY}/imageusages?image={digest(f'{KNOWN} 3')}"
        for name, of_small, of_large in (
            ("as-of read of a tag", self._as_of(KNOWN, head_of_small // 2), self._as_of(KNOWN, head // 2)),
            ("first page of the changes of a tag", self._changes + KNOWN, self._changes + KNOWN),
            ("where an image was tagged", usages, usages),
        ):
            figures[name] = self._compared((self._small, of_small), (self._large, of_large))
        for name, of_short, of_long in (
            ("first page of the long tag", self._changes + KNOWN, self._changes + LONG),
            ("page in its middle", self._changes + KNOWN, f"{self._changes}{LONG}&continue={_continue(head, 2)}"),
            ("page at its end", self._changes + KNOWN, f"{self._changes}{LONG}&continue={_continue(head, 50)}"),
            ("as-of read of the long tag", self._as_of(KNOWN, head // 2), self._as_of(LONG, head // 2)),
        ):
            figures[name] = self._compared((self._large, of_short), (self._large, of_long))
        return figures | {"changes of the long tag": long_history(self._run)}

    def _as_of(self, stream: str, position: int) -> str:
        return f"{self._tags}/{stream}:latest?asOf={position}"

    def _compared(self, few: tuple[Target, str], many: tuple[Target, str]) -> Figures:
        """Read from both in turns: the time of the second, and by that of the first."""
        self._run.say(many[1].partition("?")[0].rpartition("/")[2])
        connections = few[0].connect(), many[0].connect()
        times: tuple[list[float], list[float]] = ([], [])
        end = time.monotonic() + self._run.seconds / 2
        while time.monotonic() < end or len(times[1]) < 20:
            for connection, spent, (_, path) in zip(connections, times, (few, many), strict=True):
                began = time.perf_counter()
                connection.expect("GET", path)
                spent.append(time.perf_counter() - began)
        for connection in connections:
            connection.close()
        small, large = (1000 * statistics.median(spent[3:]) for spent in times)
        return {"ms": large, "by the short one": large / small}


def _head(target: Target) -> int:
    answer = target.connect().expect("GET", f"{HISTORY}/tagchanges?limit=1")
    return int(json.loads(answer)["metadata"]["resourceVersion"])


def _continue(head: int, share: int) -> str:
    """Where a list goes on that began at the head, in another share of the log."""
    token = json.dumps([head, NAMESPACE, f"{head // share}-0"]).encode()
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()

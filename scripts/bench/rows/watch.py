"""Watches: how long after a commit those who watch hear of it, while others write."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from typing import Any

from bench.contest import percentile
from bench.endpoint import GROUP, MERGE_PATCH
from bench.images import digest
from bench.rows.mappings import create_streams
from bench.run import Figures, Run
from bench.service import Target

WATCHES = (1, 100, 1000)


class Watcher(threading.Thread):
    """Holds a watch and notes when each line came."""

    def __init__(self, target: Target, name: str | None) -> None:
        super().__init__(daemon=True)
        selector = f"&fieldSelector=metadata.name%3D{name}" if name else ""
        path = f"{target.endpoint.streams}?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan{selector}"
        self._request = target.endpoint.head("GET", path)
        self._socket: socket.socket = target.endpoint.open()
        self.came: list[tuple[str, float]] = []

    def run(self) -> None:
        """Read lines until the end."""
        self._socket.sendall(self._request)
        rest = b""
        try:
            while data := self._socket.recv(1 << 16):
                now = time.perf_counter()
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b'{"type"'):
                        self.note(line, now)
        except OSError:
            return

    def note(self, line: bytes, now: float) -> None:
        """Take one line of the watch."""
        version = line.partition(b'"resourceVersion":"')[2].partition(b'"')[0]
        self.came.append((version.decode(), now))

    def close(self) -> None:
        """End the watch."""
        self._socket.close()


class Writers:
    """Four clients that map known images to streams that nobody watches, until the end of the block."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._counts = [0] * 4
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(4)]

    def __enter__(self) -> Writers:
        create_streams(self._target, [f"written-{number}" for number in range(4)])
        self._began = time.perf_counter()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.rate = sum(self._counts) / (time.perf_counter() - self._began)

    def _write(self, number: int) -> None:
        connection, path = self._target.connect(), self._target.endpoint.mappings
        while not self._stop.is_set():
            image = {"metadata": {"name": digest(f"{number} {self._counts[number] % 50}")}}
            connection.expect(
                "POST", path, {"metadata": {"name": f"written-{number}"}, "tag": "latest", "image": image}
            )
            self._counts[number] += 1
        connection.close()


def watch(run: Run) -> Figures:
    """Delay from a commit to those who watch it, with 1, 100 and 1,000 watches, while others write."""
    figures: dict[str, Any] = {}
    with run.target() as target:
        run.say("writes that nobody watches")
        with Writers(target) as alone:
            time.sleep(run.seconds)
        for count in (run.scaled(count) for count in WATCHES):
            run.say(f"{count} watches")
            figures[f"{count} watches"] = _watched(target, count, run.seconds, alone.rate)
    return figures


def _watched(target: Target, count: int, seconds: float, alone: float) -> Figures:
    before = target.memory()
    streams = [f"watched-{count}-{number}" for number in range(min(count, 50))]
    create_streams(target, streams)
    watchers = [Watcher(target, streams[number % len(streams)]) for number in range(count)]
    for watcher in watchers:
        watcher.start()
    time.sleep(0.5 + count / 300)
    memory = (target.memory() - before) / count
    with Writers(target) as writers:
        sent = _touch(target, streams, seconds)
    time.sleep(0.5)
    delays = [
        1000 * max(came - sent[version], 0) for watcher in watchers for version, came in watcher.came if version in sent
    ]
    for watcher in watchers:
        watcher.close()
    return {
        "lines": len(delays),
        "delay p50 ms": statistics.median(delays) if delays else float("nan"),
        "delay p99 ms": percentile(delays, 0.99),
        "kB a watch": memory / 1000,
        "writes kept": writers.rate / alone,
    }


def _touch(target: Target, streams: list[str], seconds: float) -> dict[str, float]:
    """Label watched streams now and then; answers when each answer, and so its commit, was there."""
    sent: dict[str, float] = {}
    connection = target.connect()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end or number == 0:
        path = f"{GROUP}/namespaces/{target.endpoint.namespace}/imagestreams/{streams[number % len(streams)]}"
        labels = {"metadata": {"labels": {"touched": str(number)}}}
        answer = json.loads(connection.expect("PATCH", path, labels, MERGE_PATCH))
        # The answer comes after the commit: what a watcher got before it counts as no delay at all.
        sent[answer["metadata"]["resourceVersion"]] = time.perf_counter()
        number += 1
        time.sleep(0.05)
    connection.close()
    return sent

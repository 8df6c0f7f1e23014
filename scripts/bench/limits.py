"""What the machine gives: the same server without the service, and SQLite without a server.

The two applications read the body and answer as many ready bytes as the path says. They run under the service's own
server module, so with the same threads and limits: one is a WSGI callable, the other a route of Flask with nothing
around it.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
from flask import Flask, Response, request

from bench.endpoint import Endpoint
from bench.load import Answers, Outcome, busy
from bench.service import Target, listening
from imagestream_es import server
from imagestream_es.settings import Address, Settings

IMAGE, STREAM_EVENT, STREAM_VIEW = b"i" * 2300, b"s" * 170, b"v" * 250
"""What a mapping of a new image stores, in bytes of about the right number."""


class _Nothing:
    def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Bytes:
    """Ready bytes of any length."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def __call__(self, size: str) -> bytes:
        found = self._known.get(size)
        if found is None:
            found = self._known[size] = b"x" * int(size)
        return found


class Wsgi:
    """The raw WSGI callable."""

    def __init__(self) -> None:
        self.extensions = {"imagestream": _Nothing()}
        self._bytes = _Bytes()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"].read()
        body = self._bytes(environ["PATH_INFO"][1:])
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def flask_app() -> Flask:
    """The bare Flask route."""
    app, ready = Flask("limit"), _Bytes()
    app.extensions["imagestream"] = _Nothing()

    @app.route("/<size>", methods=["GET", "POST"])
    def answer(size: str) -> Response:
        request.get_data()
        return Response(ready(size), mimetype="application/json")

    return app


def main(kind: str) -> None:
    """Serve one of the two applications, on a free port."""
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(bind=Address("127.0.0.1", 0), data_dir=Path(directory))
        app = Wsgi() if kind == "wsgi" else flask_app()
        server.serve(settings, lambda _: cast("Flask", app))


@contextmanager
def limit_server(kind: str) -> Iterator[Target]:
    """One of the two applications (`wsgi` or `flask`), in a process of its own."""
    code = f"from bench.limits import main; main({kind!r})"
    with listening([sys.executable, "-c", code]) as (process, url):
        yield Target(Endpoint.of(url), (process.pid,))


_TABLES = """
CREATE TABLE log (position INTEGER PRIMARY KEY, id TEXT, version INTEGER, topic TEXT, state BLOB, UNIQUE (id, version));
CREATE TABLE images (name TEXT PRIMARY KEY, document BLOB) WITHOUT ROWID;
CREATE TABLE changes (stream INTEGER, tag TEXT, position INTEGER, image TEXT, PRIMARY KEY (stream, tag, position))
    WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, document BLOB) WITHOUT ROWID;
"""


def sqlite_alone(batch: int, seconds: float) -> Outcome:
    """Mappings a second that SQLite stores in one thread, so many in a transaction that is on disk when it ends.

    A mapping is two events, an image, a change and a stream; nothing is decided or encoded.
    """
    with tempfile.TemporaryDirectory() as directory, closing(_connect(Path(directory) / "limit.db")) as database:
        database.executescript(_TABLES)
        position, latencies = 0, array("d")
        clock = _Clock()
        while time.perf_counter() < clock.began + seconds:
            start = time.perf_counter()
            _store(database, range(position, position + batch))
            latencies.extend([time.perf_counter() - start] * batch)
            position += batch
        return clock.outcome(latencies)


def _store(database: sqlite3.Connection, numbers: range) -> None:
    names = [f"sha256:{n * 0x9E3779B97F4A7C15 % 2**64:064x}" for n in numbers]
    images = [(2 * n, name, 1, "image.registered", IMAGE) for n, name in zip(numbers, names, strict=True)]
    moves = [(2 * n + 1, f"benchmark/stream-{n % 1000}", n, "imagestream.image-mapped", STREAM_EVENT) for n in numbers]
    changes = [(n % 1000, "latest", n, name) for n, name in zip(numbers, names, strict=True)]
    database.execute("BEGIN IMMEDIATE")
    database.executemany("INSERT INTO log VALUES (?,?,?,?,?)", images + moves)
    database.executemany("INSERT INTO images VALUES (?,?)", [(name, IMAGE) for name in names])
    database.executemany("INSERT INTO changes VALUES (?,?,?,?)", changes)
    database.executemany("INSERT OR REPLACE INTO streams VALUES (?,?)", [(n % 1000, STREAM_VIEW) for n in numbers])
    database.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    return database


def stock_recorder(callers: int, seconds: float) -> Outcome:
    """Pairs of events a second that the eventsourcing library's own recorder stores, from so many threads."""
    with tempfile.TemporaryDirectory() as directory:
        datastore = SQLiteDatastore(str(Path(directory) / "limit.db"), originator_id_type="text")
        recorder = SQLiteApplicationRecorder(datastore)
        recorder.create_table()
        latencies: list[array[float]] = [array("d") for _ in range(callers)]
        clock = _Clock()

        def call(caller: int) -> None:
            number = 0
            while (start := time.perf_counter()) < clock.began + seconds:
                recorder.insert_events(
                    [
                        StoredEvent(f"image-{caller}-{number}", 1, "image.registered", IMAGE),
                        StoredEvent(f"stream-{caller}", number, "imagestream.image-mapped", STREAM_EVENT),
                    ]
                )
                latencies[caller].append(time.perf_counter() - start)
                number += 1

        threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outcome = clock.outcome(array("d", (one for some in latencies for one in some)))
        datastore.close()
        return outcome


class _Clock:
    """Measures what this process does by itself: there is no generator."""

    def __init__(self) -> None:
        self._cpu, self._busy, self.began = time.process_time(), busy(), time.perf_counter()

    def outcome(self, latencies: array[float]) -> Outcome:
        seconds, cpu = time.perf_counter() - self.began, time.process_time() - self._cpu
        others = max((busy() - self._busy - cpu) / seconds, 0.0)
        return Outcome(seconds, [Answers(Counter({200: len(latencies)}), latencies)], cpu, 0.0, others)

"""What the machine gives without the service: HTTP alone, SQLite alone, the library's stock recorder."""

from __future__ import annotations

from functools import partial

from bench.contest import Contest
from bench.endpoint import Endpoint
from bench.images import mapping_request
from bench.limits import sqlite_alone, stock_recorder
from bench.load import Request
from bench.run import Figures, Run

SUCCESS = "/82"
"""Path of a bare server's answer that is as long as that to a mapping."""

READ = "/700"
"""The same for the answer to a read."""


def bare(endpoint: Endpoint, path: str) -> list[Request]:
    """The request for a bare server's bytes."""
    return [(endpoint.head("GET", path),)]


def bare_mapping(endpoint: Endpoint) -> list[Request]:
    """A mapping that a bare server reads and answers."""
    return [mapping_request(endpoint, "stream-0000", "latest", SUCCESS)]


def limits(run: Run) -> Figures:
    """What the machine gives without the service: HTTP alone, SQLite alone, the library's stock recorder."""
    flask, wsgi = run.limit("flask"), run.limit("wsgi")
    contest = Contest(
        {
            "raw WSGI, 8 clients": wsgi.load(bare(wsgi.endpoint, READ), 8, run.seconds).run,
            "bare Flask, 8 clients": flask.load(bare(flask.endpoint, READ), 8, run.seconds).run,
            **{
                f"SQLite alone, batches of {batch}": partial(sqlite_alone, batch, run.seconds / 2)
                for batch in (1, 8, 32, 128)
            },
            **{
                f"stock recorder, {callers} callers": partial(stock_recorder, callers, run.seconds / 2)
                for callers in (1, 8, 32)
            },
        },
        run.rounds,
        run.say,
    )
    return {name: contest.figures(name) for name in contest.rounds}

"""Pushes: mappings of new images, spread over many streams, to one stream, to one tag."""

from __future__ import annotations

import json
from functools import partial

from bench.contest import Contest
from bench.images import mapping_request
from bench.limits import sqlite_alone
from bench.load import Request
from bench.rows.limits import bare_mapping
from bench.run import Figures, Run
from bench.service import Target

STREAMS = 1000
CLIENTS = 32

SQLITE = "SQLite alone, batches of the same size"


def create_streams(target: Target, names: list[str]) -> None:
    """Make empty streams; those that are there already stay."""
    bodies = [json.dumps({"metadata": {"name": name}}).encode() for name in names]
    endpoint = target.endpoint
    requests: list[Request] = [(endpoint.head("POST", endpoint.streams, len(body)) + body,) for body in bodies]
    outcome = target.load(requests, min(8, len(requests))).run()
    wrong = {code: count for code, count in outcome.groups[0].codes.items() if code not in (201, 409)}
    if wrong:
        target.connect().expect("POST", endpoint.streams, {"metadata": {"name": names[0]}})
        raise RuntimeError(f"streams could not be made: {wrong}")


def mappings(run: Run) -> Figures:
    """New images to 1,000 streams with 32 clients and with 1, to one stream, to one tag."""
    names = [f"stream-{number:04}" for number in range(run.scaled(STREAMS, CLIENTS))]
    flask, wsgi = run.limit("flask"), run.limit("wsgi")
    with run.target() as target:
        endpoint = target.endpoint
        create_streams(target, [*names, "one-stream", "one-tag"])
        spread = [mapping_request(endpoint, name, "latest") for name in names]
        own_tags = [mapping_request(endpoint, "one-stream", f"tag-{number}") for number in range(CLIENTS)]
        one_tag = [mapping_request(endpoint, "one-tag", "latest")]
        run.say("the first mapping of each stream")
        target.load(spread, CLIENTS).run()
        batch = _batch(target) if run.remote is None else CLIENTS
        contest = Contest(
            {
                "many streams": target.load(spread, CLIENTS, run.seconds).run,
                "bare Flask, 32 clients": flask.load(bare_mapping(flask.endpoint), CLIENTS, run.seconds).run,
                "one stream": target.load(own_tags, CLIENTS, run.seconds).run,
                "one tag": target.load(one_tag, CLIENTS, run.seconds).run,
                "raw WSGI, 32 clients": wsgi.load(bare_mapping(wsgi.endpoint), CLIENTS, run.seconds).run,
                "one client": target.load(spread, 1, run.seconds).run,
                "bare Flask, 1 client": flask.load(bare_mapping(flask.endpoint), 1, run.seconds).run,
                SQLITE: partial(sqlite_alone, batch, run.seconds),
            },
            run.rounds,
            run.say,
        )
    figures: Figures = {name: contest.figures(name) for name in contest.rounds}
    for name in ("many streams", "one stream", "one tag"):
        figures[name] |= {
            "by many streams": contest.ratio(name, "many streams"),
            "by bare Flask": contest.ratio(name, "bare Flask, 32 clients"),
            "by raw WSGI": contest.ratio(name, "raw WSGI, 32 clients"),
            "by SQLite alone": contest.ratio(name, SQLITE),
        }
    figures["one client"]["by bare Flask"] = contest.ratio("one client", "bare Flask, 1 client")
    return figures | {"commands committed together": batch, "streams": len(names)}


def _batch(target: Target) -> int:
    """How many commands the service has committed together in the mean."""
    batches, commands = target.batches()
    return max(round(commands / batches), 1)

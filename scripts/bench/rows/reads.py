"""Reads: one stream, one tag, the list of many streams."""

from __future__ import annotations

import json
import statistics

from bench.contest import Contest
from bench.images import mapping_request
from bench.load import Group, Load, Request
from bench.rows.limits import bare
from bench.rows.mappings import STREAMS, create_streams
from bench.run import Figures, Run
from bench.service import Target

CLIENTS = 8


def filled(run: Run, target: Target) -> list[str]:
    """Make as many streams as a list shall have, with a tag each; answers their names."""
    names = [f"stream-{number:04}" for number in range(run.scaled(STREAMS, CLIENTS))]
    run.say(f"making {len(names)} streams")
    create_streams(target, names)
    target.load([mapping_request(target.endpoint, name, "latest") for name in names], CLIENTS).run()
    return names


def gets(target: Target, paths: list[str]) -> list[Request]:
    """Requests that read paths."""
    return [(target.endpoint.head("GET", path),) for path in paths]


def reads(run: Run) -> Figures:
    """GET of image streams and of image stream tags, 8 clients."""
    flask, wsgi = run.limit("flask"), run.limit("wsgi")
    with run.target() as target:
        endpoint = target.endpoint
        names = filled(run, target)
        length = len(target.connect().expect("GET", f"{endpoint.streams}/{names[0]}"))
        tag_length = len(target.connect().expect("GET", f"{endpoint.tags}/{names[0]}:latest"))
        streams = gets(target, [f"{endpoint.streams}/{name}" for name in names])
        tags = gets(target, [f"{endpoint.tags}/{name}:latest" for name in names])
        target.load(streams, CLIENTS).run()
        target.load(tags, CLIENTS).run()
        contest = Contest(
            {
                "stream": target.load(streams, CLIENTS, run.seconds).run,
                "bare Flask": flask.load(bare(flask.endpoint, f"/{length}"), CLIENTS, run.seconds).run,
                "tag": target.load(tags, CLIENTS, run.seconds).run,
                "bare Flask, as long as a tag": flask.load(
                    bare(flask.endpoint, f"/{tag_length}"), CLIENTS, run.seconds
                ).run,
                "raw WSGI": wsgi.load(bare(wsgi.endpoint, f"/{length}"), CLIENTS, run.seconds).run,
            },
            run.rounds,
            run.say,
        )
    figures: Figures = {name: contest.figures(name) for name in contest.rounds}
    figures["stream"] |= {"bytes": length, "by raw WSGI": contest.ratio("stream", "raw WSGI")}
    figures["stream"]["by bare Flask"] = contest.ratio("stream", "bare Flask")
    figures["tag"] |= {"bytes": tag_length, "by bare Flask": contest.ratio("tag", "bare Flask, as long as a tag")}
    return figures


def listing(run: Run) -> Figures:
    """LIST of 1,000 streams, 8 clients: nothing changes meanwhile, or one more client pushes without a pause.

    Or each list comes after a push of the same client. With pushes, the CPU for each list has theirs in it.
    """
    flask = run.limit("flask")
    with run.target() as target:
        endpoint = target.endpoint
        names = filled(run, target)
        lists = gets(target, [endpoint.streams])
        length = len(target.connect().expect("GET", endpoint.streams))
        count = len(json.loads(target.connect().expect("GET", endpoint.streams))["items"])
        pushes = [mapping_request(endpoint, name, "latest") for name in names]
        # As clients take every eighth request, each sends a push and a list by turns.
        by_turns = [
            request
            for first in range(0, len(pushes) - CLIENTS + 1, CLIENTS)
            for request in (*pushes[first : first + CLIENTS], *(lists * CLIENTS))
        ]
        changing = Load(endpoint, [Group(lists, CLIENTS), Group(pushes, 1)], run.seconds, target.pids)
        contest = Contest(
            {
                "unchanged": target.load(lists, CLIENTS, run.seconds).run,
                "after writes": changing.run,
                "push and list": target.load(by_turns, CLIENTS, run.seconds).run,
                "bare Flask": flask.load(bare(flask.endpoint, f"/{length}"), CLIENTS, run.seconds).run,
            },
            run.rounds,
            run.say,
        )
    figures: Figures = {name: contest.figures(name) for name in contest.rounds}
    figures |= {"streams": count, "bytes at first": length}
    for name in ("unchanged", "after writes"):
        figures[name]["by bare Flask"] = contest.ratio(name, "bare Flask")
    beside = statistics.median(one.rate for one in contest.beside["after writes"])
    figures["after writes"]["pushes a second beside it"] = beside
    figures["each after a push of its own, lists a second"] = figures["push and list"]["rate"] / 2
    return figures

"""The table of the README: what was measured beside openshift-apiserver with etcd, and what the machine gave."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Rows = dict[str, Any]

PEER = "openshift-apiserver + etcd"


@dataclass(frozen=True)
class Line:
    """One line: what the load is, what the peer gave, what we give, and how much of which limit that is."""

    load: str
    peer: str
    ours: Callable[[Rows], str]
    limit: Callable[[Rows], str] = lambda _: ""


def number(value: float) -> str:
    """A number as people write it, with as many digits as mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.2f}".rstrip("0").rstrip(".")


def _rate(load: Rows, *more: str) -> str:
    """A rate, with what else is asked for (`p50`, `p99`), its CPU, and what failed."""
    told = [f"{number(load['rate'])}/s", *(f"{name} {_ms(load[f'{name} ms'])}" for name in more)]
    if load["server CPU ms"] is not None:
        told.append(f"{_ms(load['server CPU ms'])} CPU")
    if load["failures"]:
        told.append(f"{load['share that failed']:.0%} fail ({', '.join(load['failures'])})")
    return ", ".join(told)


def _of(load: Rows, *limits: str) -> str:
    """What share of some limits a rate is."""
    return ", ".join(f"{number(load[f'by {limit}'])} of {limit}" for limit in limits)


def _ms(value: float) -> str:
    return f"{number(value)} ms"


def _at_lengths(rows: Rows) -> str:
    lengths = [(int(name.split()[1]), found) for name, found in rows["history"].items() if name.startswith("at ")]
    times = " / ".join(number(found["p50 ms"]) for _, found in lengths)
    return f"{times} ms at {' / '.join(f'{length:,}' for length, _ in lengths)}"


def _long_history(rows: Rows) -> str:
    history = rows["history"]
    longest = history[f"at {history['longest']} entries"]
    return f"{number(longest['p50 by the shortest'])} of the time at 10; memory {number(longest['memory MB'])} MB"


def _entries(rows: Rows) -> str:
    entries = rows["entries"]
    write, start = entries["first read after a write, p50 ms"], entries["first read after a start, p50 ms"]
    return f"{_ms(entries['warm']['p50 ms'])} warm, {_ms(write)} after a write, {_ms(start)} after a start"


def _replay(replay: Rows) -> str:
    return f"{number(replay['seconds'])} s ({number(replay['CPU seconds'])} s CPU), {number(replay['peak MB'])} MB"


def _most_watches(rows: Rows) -> str:
    return str(max(rows["watch"], key=lambda name: int(name.split()[0])))


def _decoding(rows: Rows) -> str:
    decoding = rows["decoding"]
    checked, filled = decoding["decoded and validated, us"], decoding["filled in as well, us"]
    return f"{number(checked)} µs; with what manifest and config tell {number(filled)} µs"


LINES: dict[str, Line] = {
    "mappings": Line(
        "pushes of new images (mappings of 4 kB) to 1,000 streams, 32 clients",
        "535/s, p99 135 ms, 3.3 ms CPU",
        lambda rows: _rate(rows["mappings"]["many streams"], "p99"),
        lambda rows: _of(rows["mappings"]["many streams"], "bare Flask", "raw WSGI", "SQLite alone"),
    ),
    "mappings, one client": Line(
        "the same, 1 client",
        "171/s, p50 4.8 ms",
        lambda rows: _rate(rows["mappings"]["one client"], "p50"),
        lambda rows: _of(rows["mappings"]["one client"], "bare Flask"),
    ),
    "mappings, one stream": Line(
        "to one stream, each client its own tag, 32 clients",
        "33/s, 51% fail (500)",
        lambda rows: _rate(rows["mappings"]["one stream"], "p99"),
        lambda rows: f"{number(rows['mappings']['one stream']['by many streams'])} of the first line",
    ),
    "mappings, one tag": Line(
        "to one tag, 32 clients",
        "29/s, 92% fail (409)",
        lambda rows: _rate(rows["mappings"]["one tag"], "p99"),
        lambda rows: f"{number(rows['mappings']['one tag']['by many streams'])} of the first line",
    ),
    "reads": Line(
        "GET of an image stream, 8 clients",
        "1,842/s (4,171/s from its watch cache), 0.9 ms CPU",
        lambda rows: _rate(rows["reads"]["stream"]),
        lambda rows: _of(rows["reads"]["stream"], "bare Flask", "raw WSGI"),
    ),
    "reads, tag": Line(
        "GET of an image stream tag, 8 clients",
        "1,360/s",
        lambda rows: _rate(rows["reads"]["tag"]),
        lambda rows: _of(rows["reads"]["tag"], "bare Flask"),
    ),
    "list": Line(
        "LIST of 1,000 streams, 8 clients, while another client pushes without a pause",
        "52/s (72/s from its watch cache), 25 ms CPU; nobody pushes",
        lambda rows: (
            f"{_rate(rows['list']['after writes'])}"
            f" beside {number(rows['list']['after writes']['pushes a second beside it'])} pushes/s;"
            f" {number(rows['list']['each after a push of its own, lists a second'])}/s with a push before each"
        ),
        lambda rows: _of(rows["list"]["after writes"], "bare Flask"),
    ),
    "list, unchanged": Line(
        "the same, while nothing changes",
        "the same",
        lambda rows: _rate(rows["list"]["unchanged"]),
        lambda rows: _of(rows["list"]["unchanged"], "bare Flask"),
    ),
    "history": Line(
        "a push at so many entries of its tag, 1 client, p50",
        "6.5 / 15.5 / 45 ms at 10 / 1,000 / 5,000; 14 GB of memory; from 7,083 on every write fails",
        _at_lengths,
        _long_history,
    ),
    "entries": Line(
        "GET of a stream with 5,000 entries, 1 client, p50",
        "10 ms",
        _entries,
        lambda rows: f"warm {_of(rows['entries']['warm'], 'bare Flask')}",
    ),
    "decoding": Line(
        "a mapping of 4 kB decoded and validated",
        "",
        _decoding,
        lambda rows: f"{number(rows['decoding']['orjson alone, us'])} µs for orjson alone",
    ),
    "replay": Line(
        "replay of 1,000,000 moves of tags into fresh views, with the tree",
        "impossible",
        lambda rows: _replay(rows["replay"]),
        lambda rows: f"{number(rows['replay']['seconds for the views'])} s of it the views",
    ),
    "start": Line(
        "from the start to the first answer, with 1,000,000 events",
        "",
        lambda rows: f"{number(rows['start']['seconds'])} s",
        lambda rows: f"{number(rows['start']['seconds on an empty log'])} s on an empty log",
    ),
    "disk": Line(
        "log, tree and views on disk for each move of a tag",
        "224 bytes for each entry, all rewritten at each move",
        lambda rows: f"{number(rows['disk']['bytes a move'])} bytes",
        lambda rows: f"{number(rows['disk']['bytes a move, views'])} of them views",
    ),
    "past": Line(
        "an image stream tag as of a position half the log back, 1,000,000 events",
        "",
        lambda rows: _ms(rows["past"]["as-of read of a tag"]["ms"]),
        lambda rows: (
            f"{number(rows['past']['as-of read of a tag']['by the short one'])} of the time with 10,000 events"
        ),
    ),
    "access": Line(
        "GET with a token, 10,000 role bindings concern the reader, 8 clients",
        "",
        lambda rows: _rate(rows["access"]["with bindings"]),
        lambda rows: (
            f"{_of(rows['access']['with bindings'], 'one binding')}, "
            f"{number(rows['access']['with bindings']['by without credentials'])} of no credentials"
        ),
    ),
    "watch": Line(
        "from the commit to 1,000 watches, while four clients push",
        "",
        lambda rows: ", ".join(
            f"{name} {_ms(rows['watch'][_most_watches(rows)][f'delay {name} ms'])}" for name in ("p50", "p99")
        ),
        lambda rows: f"{number(rows['watch'][_most_watches(rows)]['writes kept'])} of the pushes without watches",
    ),
}


def table(result: Rows) -> str:
    """What a run has measured, as Markdown: the lines whose rows are there, and the machine."""
    rows = result["rows"]
    server = result["url"] or "imagestream-es"
    lines = [f"| load | {PEER} | {server} | beside it, in the same run |", "|---|---|---|---|"]
    lines += [
        f"| {line.load} | {line.peer} | {line.ours(rows)} | {line.limit(rows)} |"
        for name, line in LINES.items()
        if name.partition(",")[0] in rows
    ]
    return "\n".join([*lines, "", _machine(result), *([_limits(rows["limits"])] if "limits" in rows else []), ""])


def _limits(limits: Rows) -> str:
    """What the machine gave without the service."""
    wsgi, flask = limits["raw WSGI, 8 clients"], limits["bare Flask, 8 clients"]
    alone = {"SQLite alone, batches of {}": (1, 8, 32, 128), "stock recorder, {} callers": (1, 8, 32)}
    sqlite, recorder = (
        f"{' / '.join(number(limits[name.format(size)]['rate']) for size in sizes)}/s" for name, sizes in alone.items()
    )
    return (
        f"The limits of that run: raw WSGI {_rate(wsgi)}; a bare route of Flask {_rate(flask)} (8 clients, GET);"
        f" pushes by SQLite alone, 1 / 8 / 32 / 128 in a transaction: {sqlite}; by the eventsourcing library's own"
        f" recorder, 1 / 8 / 32 callers: {recorder}."
    )


def _others(figures: Rows) -> Iterator[float]:
    """How many cores were busy with something else during each load."""
    for name, value in figures.items():
        if name == "cores busy with others":
            yield value
        elif isinstance(value, dict):
            yield from _others(value)


def _machine(result: Rows) -> str:
    machine, others = result["machine"], list(_others(result["rows"]))
    text = (
        f"Measured {machine['time'][:10]} on {machine['cores']} cores ({machine['processor']}) that client and server"
        f" share, {machine['memory GB']} GB, Linux {machine['kernel']}, Python {machine['python']}, SQLite"
        f" {machine['sqlite']}; a page is on disk in {machine['fdatasync ms, median']} ms (median);"
        f" {result['rounds']} rounds of {result['seconds']} s."
    )
    if others:
        text += f" Other programs kept {number(statistics.median(others))} cores busy meanwhile (median)."
    if result["scale"] != 1:
        text += f" Logs and histories were {result['scale']} of the lengths told here."
    return text

#!/usr/bin/env python3
"""Measures the service from outside, each figure beside a limit that was measured in the same run.

    .venv/bin/python scripts/benchmark.py [--only ROW,ROW] [--json FILE]
    .venv/bin/python scripts/benchmark.py --table FILE
    .venv/bin/python scripts/benchmark.py --chart FILE OUT.svg
    .venv/bin/python scripts/benchmark.py --publish FILE

Starts services of its own on fresh logs, with a token and rules as in earnest. Machines are noisy: what is compared is
measured in turns, rates are medians of rounds, and the CPU of each request is told by the operating system. With --url
the same load is put on any server of OpenShift's image API; what needs our own insides is left out then.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chart import chart
from bench.endpoint import Endpoint
from bench.machine import machine
from bench.progress import Told
from bench.publish import publish
from bench.rows.access import access
from bench.rows.decoding import decoding
from bench.rows.history import entries, history
from bench.rows.limits import limits
from bench.rows.mappings import mappings
from bench.rows.past import past
from bench.rows.reads import listing, reads
from bench.rows.replay import disk, replay, start
from bench.rows.watch import watch
from bench.rows.webhook import webhook
from bench.run import Figures, Run
from bench.table import table


@dataclass(frozen=True)
class Row:
    """What measures a row, about how many seconds that takes, and whether it can be asked of another server."""

    measure: Callable[[Run], Figures]
    takes: float
    remote: bool = False


ROWS: dict[str, Row] = {
    "mappings": Row(mappings, 75, remote=True),
    "reads": Row(reads, 45, remote=True),
    "list": Row(listing, 30, remote=True),
    "history": Row(history, 45, remote=True),
    "entries": Row(entries, 25),
    "decoding": Row(decoding, 5),
    "limits": Row(limits, 60),
    "replay": Row(replay, 90),
    "start": Row(start, 15),
    "disk": Row(disk, 1),
    "past": Row(past, 20),
    "access": Row(access, 25),
    "watch": Row(watch, 30, remote=True),
    "webhook": Row(webhook, 20),
}


def main() -> None:
    """Do what is asked for."""
    arguments = _arguments().parse_args()
    if arguments.only - ROWS.keys():
        sys.exit(f"no row is called {', '.join(sorted(arguments.only - ROWS.keys()))}; there are {', '.join(ROWS)}")
    if arguments.table:
        print(table(_read(arguments.table)), end="")
    elif arguments.chart:
        file, out = arguments.chart
        out.write_text(chart(_read(file)))
    elif arguments.publish:
        publish(_read(arguments.publish), Path(__file__).parent.parent)
    else:
        sys.exit(_measure(arguments))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(ROWS)
    parser.add_argument("--only", type=_names, default=set(ROWS), metavar="ROW,ROW", help=f"rows to measure: {names}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="measure nothing; print that file's figures as Markdown"
    )
    parser.add_argument("--chart", type=Path, nargs=2, metavar=("FILE", "OUT"), help="the same as a picture (SVG)")
    parser.add_argument("--publish", type=Path, metavar="FILE", help="put its table and chart into the README")
    parser.add_argument("--seconds", type=float, default=2.5, help="how long a round lasts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how many there are (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1, help="makes logs and histories smaller, for a quick look")
    other = parser.add_argument_group("another server")
    other.add_argument("--url", help="measure this server; the machine's load must be all ours")
    other.add_argument("--token", default="", help="token to show it")
    other.add_argument("--ca-file", help="authority of its certificate (PEM)")
    other.add_argument("--cert", help="certificate to show it (PEM)")
    other.add_argument("--key", help="key of that certificate (PEM)")
    other.add_argument("--namespace", default="benchmark", help="where to write, if it knows namespaces")
    other.add_argument("--pid", type=int, action="append", default=[], help="a process of it on this machine, for CPU")
    return parser


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def _names(text: str) -> set[str]:
    return set(text.split(","))


def _measure(arguments: argparse.Namespace) -> int:
    """Measure the rows, tell the figures, and write those that there are when it ends or is interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way, no server is left behind
    remote = _remote(arguments)
    chosen = {name: row for name, row in ROWS.items() if name in arguments.only and (row.remote or remote is None)}
    if remote is not None:
        left_out = [name for name in ROWS if name in arguments.only and name not in chosen]
        print(f"left out, as they need our own service: {', '.join(left_out) or 'nothing'}", file=sys.stderr)
    told = Told({name: row.takes for name, row in chosen.items()})
    result: dict[str, Any] = {"machine": machine(), "rounds": arguments.rounds, "seconds": arguments.seconds}
    result |= {"scale": arguments.scale, "url": arguments.url, "rows": {}}
    status = 0
    try:
        with (
            told.shown(),
            Run(arguments.seconds, arguments.rounds, arguments.scale, told.step, remote, tuple(arguments.pid)) as run,
        ):
            for name, row in chosen.items():
                told.row(name)
                try:
                    result["rows"][name] = row.measure(run)
                except Exception:
                    print(f"{name} failed:\n{traceback.format_exc()}", file=sys.stderr)
                    status = 1
                told.done()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    for name, figures in result["rows"].items():
        print(f"{name}:")
        _tell(figures, "    ")
    return status


def _remote(arguments: argparse.Namespace) -> Endpoint | None:
    if arguments.url is None:
        return None
    return Endpoint.of(
        arguments.url,
        token=arguments.token,
        namespace=arguments.namespace,
        ca_file=arguments.ca_file,
        cert=arguments.cert,
        key=arguments.key,
    )


def _tell(figures: Figures, indent: str) -> None:
    for name, value in figures.items():
        if isinstance(value, dict) and name != "failures":
            print(f"{indent}{name}:")
            _tell(value, indent + "    ")
        else:
            print(f"{indent}{name}: {value:.3f}" if isinstance(value, float) else f"{indent}{name}: {value}")


if __name__ == "__main__":
    main()

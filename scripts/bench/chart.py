"""A small chart of a run beside the peer's figures: a dot for each, on one scale of powers of ten."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from bench.table import PEER, Rows, number

WIDTH, LEFT, RIGHT, TOP, LINE = 820, 240, 150, 84, 28
LEAST, MOST = 10, 30_000
"""The ends of the scale, in requests a second."""


@dataclass(frozen=True)
class Pair:
    """A load, how many of its requests a second succeed at the peer, and where ours are found."""

    load: str
    peer: float
    ours: Callable[[Rows], float]


PAIRS: dict[str, Pair] = {
    "mappings": Pair("push, 1,000 streams, 32 clients", 535, lambda rows: _rate(rows["mappings"]["many streams"])),
    "mappings, one client": Pair("push, 1 client", 171, lambda rows: _rate(rows["mappings"]["one client"])),
    "mappings, one stream": Pair(
        "push, one stream, 32 clients", 33, lambda rows: _rate(rows["mappings"]["one stream"])
    ),
    "mappings, one tag": Pair("push, one tag, 32 clients", 29, lambda rows: _rate(rows["mappings"]["one tag"])),
    "history": Pair("push, tag with 5,000 entries", 1000 / 45, lambda rows: 1000 / _at_5000(rows)),
    "reads": Pair("read a stream, 8 clients", 1842, lambda rows: _rate(rows["reads"]["stream"])),
    "reads, tag": Pair("read a tag, 8 clients", 1360, lambda rows: _rate(rows["reads"]["tag"])),
    "list": Pair("list 1,000 streams, 8 clients", 52, lambda rows: _rate(rows["list"]["unchanged"])),
    "list, pushes": Pair("the same, while one pushes", 52, lambda rows: _rate(rows["list"]["after writes"])),
    "entries": Pair("read 5,000 entries, 1 client", 100, lambda rows: _rate(rows["entries"]["warm"])),
}


def _rate(load: dict[str, Any]) -> float:
    return float(load["rate"])


def _at_5000(rows: Rows) -> float:
    """Milliseconds of a push where the history is 5,000 entries long, or nearly the longest in a small run."""
    lengths = sorted(int(name.split()[1]) for name in rows["history"] if name.startswith("at "))
    length = max((length for length in lengths if length <= 5000), default=lengths[0])
    return float(rows["history"][f"at {length} entries"]["p50 ms"])


STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.quiet { fill: #59636e; font-size: 12px }
.value { font-size: 12px }
.before { text-anchor: end }
.middle { text-anchor: middle }
.ratio { font-weight: 600; text-anchor: end }
.grid { stroke: #d1d9e0 }
.gain { stroke: #0969da; stroke-opacity: .35; stroke-width: 3 }
.peer { fill: #818b98 }
.ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .quiet { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .gain { stroke: #58a6ff }
  .peer { fill: #9198a1 }
  .ours { fill: #58a6ff }
}
"""


def chart(result: Rows) -> str:
    """The SVG of a run: the loads that were measured, each with both figures and their ratio."""
    rows = result["rows"]
    found = [(pair, pair.ours(rows)) for name, pair in PAIRS.items() if name.partition(",")[0] in rows]
    height = TOP + LINE * len(found) + 42
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" aria-label="Requests a second beside {PEER}">',
        f"<style>{STYLE}</style>",
        _text(16, 26, "Requests that succeed, a second (logarithmic)", "title"),
        _dot(22, 48, "ours"),
        _text(34, 52, "imagestream-es"),
        _dot(160, 48, "peer"),
        _text(172, 52, f"{PEER}, measured on a machine of the same kind at another time"),
        *_grid(height),
    ]
    for index, (pair, ours) in enumerate(found):
        parts += _line(TOP + LINE * index + LINE / 2, pair, ours)
    return "\n".join([*parts, "</svg>", ""])


def _x(rate: float) -> float:
    share = math.log(min(max(rate, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _grid(height: int) -> Iterator[str]:
    rate = LEAST
    while rate <= MOST:
        x, bottom = _x(rate), height - 28
        yield f'<line class="grid" x1="{x:.1f}" y1="{TOP - 10}" x2="{x:.1f}" y2="{bottom}"/>'
        yield _text(x, bottom + 17, f"{rate:,}/s", "quiet middle")
        rate *= 10


def _line(y: float, pair: Pair, ours: float) -> Iterator[str]:
    left, right = _x(pair.peer), _x(ours)
    yield _text(16, y + 4, pair.load)
    yield f'<line class="gain" x1="{left:.1f}" y1="{y}" x2="{right:.1f}" y2="{y}"/>'
    for rate, other, kind in ((pair.peer, ours, "peer"), (ours, pair.peer, "ours")):
        yield _dot(_x(rate), y, kind)
        before = rate < other
        yield _text(_x(rate) + (-10 if before else 10), y + 4, f"{rate:,.0f}", "value before" if before else "value")
    yield _text(WIDTH - 16, y + 4, f"{number(ours / pair.peer)} times", "ratio")


def _dot(x: float, y: float, kind: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="5.5"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'

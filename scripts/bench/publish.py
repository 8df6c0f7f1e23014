"""Makes a run the published one: its figures, the chart of them, and the table in the README."""

from __future__ import annotations

import json
from pathlib import Path

from bench.chart import chart
from bench.table import Rows, table

FIGURES, CHART = "scripts/benchmark.json", "scripts/benchmark.svg"
BEGIN, END = "<!-- benchmark: written by scripts/benchmark.py --publish -->\n", "<!-- end -->\n"


def publish(result: Rows, root: Path) -> None:
    """Write the three files below the project's `root`. Raises ValueError if the README has no place for the table."""
    readme = root / "README.md"
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} has no line {BEGIN.strip()} with a line {END.strip()} behind it")
    (root / FIGURES).write_text(json.dumps(result, indent=1) + "\n")
    (root / CHART).write_text(chart(result))
    readme.write_text(f"{before}{begin}{table(result)}{end}{after}")

"""Tells how far a run is: a bar on a terminal, a line for each row elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Told:
    """Hears of each row and each step; `weights` are the rows and how long each takes beside the others."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._row = ""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress meanwhile."""
        console = Console(stderr=True)
        if not console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(30),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            self._bar = bar
            self._task = bar.add_task("", total=sum(self._weights.values()))
            yield
        self._bar = None

    def row(self, name: str) -> None:
        """A row begins."""
        self._row = name
        if self._bar is None:
            print(f"{name} …", file=sys.stderr, flush=True)
        self.step("")

    def step(self, text: str) -> None:
        """Something within the row begins."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._row}: {text}" if text else self._row)

    def done(self) -> None:
        """The row is over."""
        if self._bar is not None:
            self._bar.advance(self._task, self._weights[self._row])

"""What a person sees: short digests, times in UTC, columns in line; and JSON for programs, one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click


class Table:
    """Rows below one heading, written as they come; columns grow when they must."""

    def __init__(self, *heading: str) -> None:
        self._heading: tuple[str, ...] | None = heading
        self._widths = [len(name) for name in heading]

    def write(self, rows: Iterable[Sequence[str]]) -> None:
        """Write some rows."""
        shown: list[Sequence[str]] = [[printable(value) for value in row] for row in rows]
        if self._heading and shown:
            shown, self._heading = [self._heading, *shown], None
        self._widths = [max(map(len, column)) for column in zip(self._blanks(), *shown, strict=True)]
        for row in shown:
            cells = (value.ljust(width) for value, width in zip(row, self._widths, strict=True))
            click.echo("  ".join(cells).rstrip())

    def _blanks(self) -> list[str]:
        return [" " * width for width in self._widths]


def write_json(items: Iterable[Any]) -> None:
    """Write objects, one a line."""
    for item in items:
        click.echo(json.dumps(item, ensure_ascii=False, separators=(",", ":")))


def printable(text: str) -> str:
    """What others chose, such that it does nothing to a terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]


def short(target: dict[str, Any] | None) -> str:
    """What a tag names, in few letters."""
    if not target:
        return ""
    image = str(target.get("image", ""))
    return image[: len("sha256:") + 12] if image else str(target.get("dockerImageReference", ""))


def moment(time: str) -> str:
    """A time of the service's to the second."""
    return time[:19] + "Z" if time[10:11] == "T" and time.endswith("Z") else time

"""Writes the changes of all tags at once, when a whole log is folded.

They go to a temporary table that hides the view, without any order, and from there into the view in its order. Which
moves go back to an image that the tag had before is known from memory, as long as that takes little of it; after
that, the database finds it at the end, which takes longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import filterfalse
from pathlib import Path

from imagestream_es.domain.actions import MOVED, REVERTED
from imagestream_es.persistence.read_model import CHANGE, COLUMNS, KEYS, NO_IMAGE, USUAL, is_usual
from imagestream_es.persistence.store import Row, Rows

ROOM = 1_000_000
"""How many images of tags are remembered, at some 100 bytes each."""

_TAG = 4
"""A tag of its own takes as much memory as so many images."""

HALF = "half"
"""Under which name there is a database with views of what is not folded here."""

_APART = ("streams", "tags", "snapshots", "images")
"""Views of which each row tells of one stream or image alone, beside that of the changes."""

_COLUMNS = CHANGE.split(", ")
_USUAL = ",".join([*"?" * (len(_COLUMNS) - len(USUAL)), *("NULL" if value is None else str(value) for value in USUAL)])
_ALL = ",".join("?" * len(_COLUMNS))
_OF_HALF = f" UNION ALL SELECT {CHANGE} FROM {HALF}.tag_changes"
_ORDERED = " ORDER BY stream, tag, position, slot"
_AS_ADDED = f"SELECT {CHANGE} FROM added_changes"
_SEARCHED = (
    f"SELECT {CHANGE.replace('action', 'CASE WHEN action = ? AND image <> ? AND nth > 1 THEN ? ELSE action END')}"
    f" FROM (SELECT {CHANGE}, ROW_NUMBER() OVER (PARTITION BY stream, tag, image, slot >= 0"
    " ORDER BY position, slot) AS nth FROM added_changes) AS numbered"
)


class Changes:
    """All changes of all tags, of which there must be none before: from when this is made until its `end`."""

    def __init__(self, rows: Rows, room: int = ROOM) -> None:
        rows.run("CREATE TEMP TABLE IF NOT EXISTS tag_changes AS SELECT * FROM tag_changes LIMIT 0")
        rows.run("DELETE FROM tag_changes")  # those of one that came to no end
        self._rows = rows
        self._images: dict[tuple[int, str], set[bytes]] = {}
        self._room = room

    def told(self, place: tuple[int, str], change: Row) -> Row:
        """The `change_row` as it is to be added, if it is the next of the tag at this place: a revert says so."""
        image = change[4]
        if image is None or image == NO_IMAGE or self._room < 0:
            return change
        before = self._images.get(place)
        if before is None:
            self._images[place] = {image}
            self._take(_TAG)
        elif image not in before:
            before.add(image)
            self._take(1)
        elif change[3] == MOVED:
            return (*change[:3], REVERTED, *change[4:])
        return change

    def _take(self, room: int) -> None:
        self._room -= room
        if self._room < 0:
            self._images = {}

    def add(self, rows: Rows, changes: Sequence[Row]) -> None:
        """Write `change_row`s."""
        for values, some in ((_USUAL, filter(is_usual, changes)), (_ALL, filterfalse(is_usual, changes))):
            rows.many(f"INSERT INTO tag_changes ({CHANGE}) VALUES ({values})", some)

    def order(self) -> None:
        """Have the changes of one tag found soon."""
        self._rows.run("CREATE INDEX IF NOT EXISTS added_changes_tag ON tag_changes (stream, tag)")

    def end(self, half: Path | None = None) -> None:
        """Put what was added into the view, in its order; and into all views the rows of those in the file `half`."""
        source, values = (_AS_ADDED, ()) if self._room >= 0 else (_SEARCHED, (MOVED, NO_IMAGE, REVERTED))
        if half is not None:
            self._rows.attach(half, HALF)
            source += _OF_HALF
            for view in _APART:
                columns = ", ".join((*KEYS[view], *COLUMNS[view]))
                self._rows.run(f"INSERT INTO {view} ({columns}) SELECT {columns} FROM {HALF}.{view}")
        self._rows.run("ALTER TABLE tag_changes RENAME TO added_changes")
        with self._rows.without_indexes("tag_changes"):
            self._rows.run(f"INSERT INTO tag_changes ({CHANGE}) {source}{_ORDERED}", *values)
        self._rows.run("DROP TABLE added_changes")

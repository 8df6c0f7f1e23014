"""Turns what events did to streams and images into rows of the views.

The writer stages what it decided, a rebuild stages what it read from the log; both end here, so there is
one way from an event to a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from imagestream_es.domain.actions import action_of
from imagestream_es.domain.events import Origin
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import (
    DROPPED,
    FOLLOWED,
    IMPORTED,
    PUT,
    REPLACED,
    ImageStream,
    Tag,
    TagChange,
)
from imagestream_es.persistence import read_model
from imagestream_es.persistence.bulk import Changes
from imagestream_es.persistence.store import Row, Rows

_SHOWN = frozenset((PUT, FOLLOWED, IMPORTED))
"""What puts an entry on the history that OpenShift shows."""


class Staging:
    """Rows that wait to be written, in the order in which they must be.

    They are made at once: streams and images go on changing before the rows are written.
    """

    def __init__(self, bulk: Changes | None = None) -> None:
        self._insert_changes = read_model.insert_changes if bulk is None else bulk.add
        self._bulk = bulk
        self._streams: dict[int, Row] = {}
        self._moved: dict[int, Row] = {}
        self._tags: dict[tuple[int, str], Tag | None] = {}
        self._snapshots: list[Row] = []
        self._images: dict[str, Row] = {}
        self._moments: list[Row] = []
        self._keys: list[Row] = []
        self._steps: list[Row | Callable[[Rows], None]] = []

    def stream(self, stream: ImageStream, changes: Sequence[TagChange], time: int) -> None:
        """Stage a stream as it is after the event at its position, and what that did to its tags.

        `time` is that of the log at the position, in milliseconds.
        """
        number, position, base = stream.number, stream.position, stream.repository
        if read_model.snapshot_due(stream):
            self._snapshots.append(read_model.snapshot_row(stream))
        if stream.written == position:
            self._streams[number] = read_model.stream_row(stream)
            self._moved.pop(number, None)
        else:  # what a push leaves as it is may be much
            self._moved[number] = (stream.version, position, number)
        for slot, change in enumerate(changes):
            tag, kind, action = change.tag, change.kind, action_of(change)
            place = (number, tag)
            self._tags[place] = stream.tags.get(tag)
            if kind == REPLACED:
                items = change.items or ()
                self._steps.append(
                    partial(
                        read_model.replace_entries, number=number, tag=tag, position=position, items=items, base=base
                    )
                )
            elif kind == DROPPED or change.folded:
                hide = read_model.hide_all if kind == DROPPED else read_model.hide_newest
                self._steps.append(partial(hide, number=number, tag=tag, position=position))
            if action is not None:
                shown = kind in _SHOWN
                row = read_model.change_row(
                    number, tag, position, action, change.head, base, time, slot, folded=change.folded, shown=shown
                )
                self._steps.append(row if self._bulk is None else self._bulk.told(place, row))

    def moment(self, position: int, time: int) -> None:
        """Stage the time of the log at a position."""
        self._moments.append((position, time))

    def key(self, by: Origin, position: int) -> None:
        """Stage that the event at a position was made under an idempotency key."""
        self._keys.append((by.actor, by.key, by.fingerprint, position, position))

    def image(self, image: Image) -> None:
        """Stage an image as it is now."""
        self._images[image.name] = read_model.image_row(image)

    def flush(self, rows: Rows) -> None:
        """Write what is staged, with one statement for each kind of row where order allows."""
        if self._streams:
            read_model.save_streams(rows, self._streams.values())
        if self._moved:
            read_model.move_streams(rows, self._moved.values())
        if self._tags:
            read_model.save_tags(rows, [(*place, tag) for place, tag in self._tags.items()])
        self._streams, self._moved, self._tags = {}, {}, {}
        self.spill(rows)

    @property
    def changing(self) -> int:
        """How many rows are staged that most often change again: those of streams and tags."""
        return len(self._streams) + len(self._moved) + len(self._tags)

    def spill(self, rows: Rows) -> None:
        """Write all other rows that are staged."""
        if self._snapshots:
            read_model.insert_snapshots(rows, self._snapshots)
        if self._images:
            read_model.save_images(rows, self._images.values())
        if self._moments:
            read_model.insert_moments(rows, self._moments)
        if self._keys:
            read_model.save_keys(rows, self._keys)
        waiting: list[Row] = []
        for step in self._steps:
            if isinstance(step, tuple):
                waiting.append(step)
                continue
            if waiting:
                self._insert_changes(rows, waiting)
                waiting = []
            if self._bulk is not None:
                self._bulk.order()
            step(rows)
        if waiting:
            self._insert_changes(rows, waiting)
        self._snapshots, self._images, self._moments, self._keys, self._steps = [], {}, [], [], []

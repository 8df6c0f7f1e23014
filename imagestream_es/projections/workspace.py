"""Streams and images at hand inside one writing transaction: loaded once, changed, staged, written.

Both the writer, which decides, and a rebuild, which only folds, work on one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from imagestream_es.domain.events import DomainEvent, ImageEvent, Origin, StreamEvent
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import ImageStream, stream_id
from imagestream_es.persistence import read_model
from imagestream_es.persistence.bulk import Changes
from imagestream_es.persistence.store import Rows
from imagestream_es.projections.staging import Staging

Streams = OrderedDict[str, ImageStream]

CAPACITY = 10_000
"""How many streams are kept at hand from one transaction to the next."""

CHANGING = 50_000
"""How many rows that change again may wait."""


class Workspace:
    """The present state, as the transaction `rows` sees it with what is staged on top.

    `streams` is a cache that may outlive the transaction if it commits, and must be cleared if it does not. `log` is
    needed where it is not in the same database.
    """

    def __init__(
        self,
        rows: Rows,
        streams: Streams,
        log: read_model.Registrations | None = None,
        *,
        time: int | None = None,
        bulk: Changes | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        self.rows = rows
        self.staging = Staging(bulk)
        self._streams = streams
        self._images: dict[str, Image] = {}
        self._log = log
        self._capacity = capacity
        self.time = read_model.folded_time(rows) if time is None else time
        """The time of the log where it ends now, in milliseconds: the latest of all its events."""

    def tick(self, position: int, by: Origin) -> None:
        """Take in that the log goes on at `position` with an event that came about in this way."""
        self.time = max(self.time, by.at)
        if position % read_model.MOMENTS == 0:
            self.staging.moment(position, self.time)
        if by.key:
            self.staging.key(by, position)

    def stream_of(self, namespace: str, name: str) -> ImageStream:
        """The stream of that name, existing or not."""
        return self._stream(stream_id(namespace, name))

    def _stream(self, key: str) -> ImageStream:
        stream = self._streams.get(key)
        if stream is None:
            namespace, _, name = key.partition("/")
            stream = read_model.load_stream(self.rows, namespace, name) or ImageStream(namespace, name)
            self._streams[key] = stream
        else:
            self._streams.move_to_end(key)
        return stream

    def image_of(self, name: str) -> Image:
        """The image of that name, existing or not."""
        if name not in self._images:
            self.fetch([name])
        return self._images[name]

    def fetch(self, images: Sequence[str]) -> None:
        """Have images of these names at hand: that costs one query for all of them."""
        found = read_model.load_images(self.rows, images, self._log) if images else {}
        self._images |= {name: found.get(name) or Image(name) for name in images}

    def fold(self, originator: str, event: DomainEvent, position: int) -> None:
        """Fold a stored event in and stage what follows from it."""
        self.tick(position, event.by)
        if isinstance(event, StreamEvent):
            stream = self._stream(originator)
            changes = stream.apply(event)
            stream.place(event, position)
            self.staging.stream(stream, changes, self.time)
        elif isinstance(event, ImageEvent):
            image = self.image_of(originator)
            image.apply(event)
            image.position = position
            self.staging.image(image)

    def flush(self) -> None:
        """Write what is staged, so that queries in this transaction see it; forget what is too much to keep."""
        self.staging.flush(self.rows)
        self._images.clear()
        while len(self._streams) > self._capacity:
            self._streams.popitem(last=False)

    def spill(self) -> None:
        """Write what is staged but rows that most often change again, while those are not too many to keep."""
        if len(self._streams) > self._capacity or self.staging.changing > CHANGING:
            self.flush()
        else:
            self.staging.spill(self.rows)
            self._images.clear()

    def forget(self, aggregate: ImageStream | Image) -> None:
        """Drop an aggregate that went wrong; it is loaded again when it is next asked for."""
        self.flush()
        self._streams.pop(aggregate.id, None)
        self._images.pop(aggregate.id, None)

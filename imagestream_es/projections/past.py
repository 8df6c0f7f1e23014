"""Streams and images as they were: the same fold, stopped earlier.

A stream's state comes from its last snapshot before the moment and the few events since; its histories are
rows that say from when until when they were shown.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar, cast

from eventsourcing.persistence import StoredEvent

from imagestream_es.domain.events import ImageEvent, StreamEvent
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import (
    DROPPED,
    FOLLOWED,
    IMPORTED,
    PUT,
    REPLACED,
    ImageStream,
    TagChange,
    stream_id,
)
from imagestream_es.domain.tags import TagEvent
from imagestream_es.persistence import read_model
from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.persistence.store import Rows

T = TypeVar("T")

Pieces = Mapping[str, Sequence[T]]
Histories = Pieces[TagEvent]

NO_HISTORY: Histories = {}

_mapper = EventMapper()


@dataclass(frozen=True)
class StreamView:
    """A stream and the histories of its tags, newest entry first."""

    stream: ImageStream
    items: Histories


View = StreamView | Image
"""What watches tell of."""


def stream_at(rows: Rows, namespace: str, name: str, until: int) -> ImageStream | None:
    """The stream as it was at position `until`, deleted or not; None if it had not begun."""
    stream = read_model.load_snapshot(rows, namespace, name, until)
    if stream is None:
        return None
    for position, stored in rows.history(stream.id, stream.version, until):
        event = _mapper.decode(stored.topic, stored.state)
        assert isinstance(event, StreamEvent)
        stream.apply(event)
        stream.place(event, position)
    return stream


def view_at(rows: Rows, stream: ImageStream) -> StreamView:
    """A stream with its histories, as they were at the stream's own position."""
    if not stream.exists:
        return StreamView(stream, NO_HISTORY)
    histories = read_model.shown_histories(rows, {stream.number: stream.repository}, stream.position)
    return StreamView(stream, histories.get(stream.number, NO_HISTORY))


def image_at(rows: Rows, name: str, until: int) -> Image | None:
    """The image as it was at position `until`, deleted or not; None if it was not known yet."""
    image = Image(name)
    for position, stored in rows.history(name, 0, until):
        event = _mapper.decode(stored.topic, stored.state)
        assert isinstance(event, ImageEvent)
        image.apply(event)
        image.position = position
    return image if image.version else None


@dataclass(frozen=True, eq=False)
class Change:
    """One event, and its stream or image before and after it; None where that was not there.

    `size` is about how many bytes it takes to keep this.
    """

    position: int
    before: View | None
    after: View | None
    size: int = 0
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` makes of this change: the first who asks under a key makes it for all others."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return cast("T", self._made[key])


class Replay:
    """Goes through the log and tells each change of a stream or image with the object before and after.

    Keeps the objects that it met, about `capacity` bytes of them, so that a change costs one fold. It must be
    shown every event of an object that it keeps; `forget` drops one whose events were passed over.
    """

    def __init__(self, capacity: int = 8 << 20) -> None:
        self._capacity = capacity
        self._views: dict[str, View] = {}
        self._size = 0

    def change(self, rows: Rows, position: int, stored: StoredEvent) -> Change | None:
        """The change that the event at `position` made; None for one of the log itself."""
        originator, event = str(stored.originator_id), _mapper.decode(stored.topic, stored.state)
        before = self.forget(originator)
        after: View
        if isinstance(event, StreamEvent):
            if not isinstance(before, StreamView):
                before = _load_stream(rows, originator, position - 1)
            after = _evolve(before, event, position)
        elif isinstance(event, ImageEvent):
            if not isinstance(before, Image):
                before = image_at(rows, originator, position - 1) or Image(originator)
            after = before.copy()
            after.apply(event)
            after.position = position
        else:
            return None
        self._views[originator] = after
        self._size += _size(after)
        while self._size > self._capacity:
            self.forget(next(iter(self._views)))
        return Change(position, _there(before), _there(after), max(_size(before), _size(after)) + len(stored.state))

    def forget(self, originator: str) -> View | None:
        """Drop what is kept of an object, and answer it."""
        view = self._views.pop(originator, None)
        if view is not None:
            self._size -= _size(view)
        return view

    def changes(self, rows: Rows, after: int, until: int, concerns: Callable[[str], bool]) -> Iterator[Change]:
        """Every change behind position `after` up to `until` of the objects whose id `concerns` accepts."""
        for position, stored in rows.log(after, until):
            if concerns(str(stored.originator_id)):
                change = self.change(rows, position, stored)
                if change is not None:
                    yield change


def _size(view: View) -> int:
    if isinstance(view, StreamView):
        entries, notes = sum(map(len, view.items.values())), sum(map(len, view.stream.annotations.values()))
        return 4096 + 250 * entries + notes
    return 4096 + sum(len(bytes(value)) for value in view.document.values())


def _there(view: View) -> View | None:
    exists = view.stream.exists if isinstance(view, StreamView) else view.exists
    return view if exists else None


def _load_stream(rows: Rows, originator: str, until: int) -> StreamView:
    namespace, _, name = originator.partition("/")
    assert stream_id(namespace, name) == originator
    stream = stream_at(rows, namespace, name, until)
    return StreamView(ImageStream(namespace, name), NO_HISTORY) if stream is None else view_at(rows, stream)


def _evolve(view: StreamView, event: StreamEvent, position: int) -> StreamView:
    stream = view.stream.copy()
    changes = stream.apply(event)
    stream.place(event, position)
    return StreamView(stream, evolve_histories(view.items, changes, _as_it_is))


def _as_it_is(entry: TagEvent) -> TagEvent:
    return entry


def evolved(
    rows: Rows, stream: ImageStream, items: Pieces[T], until: int, draw: Callable[[TagEvent], T]
) -> tuple[ImageStream, Pieces[T]]:
    """A stream and the pieces of its histories, as they are at position `until` if they have not been there yet.

    The first piece of a history is its newest entry alone.
    """
    stream = stream.copy()
    for position, stored in rows.history(stream.id, stream.version, until):
        event = _mapper.decode(stored.topic, stored.state)
        assert isinstance(event, StreamEvent)
        items = evolve_histories(items, stream.apply(event), draw)
        stream.place(event, position)
    return stream, items


def evolve_histories(items: Pieces[T], changes: Sequence[TagChange], draw: Callable[[TagEvent], T]) -> Pieces[T]:
    """The histories after an event did `changes` to the tags, new entries drawn; those before stay as they are."""
    result = dict(items)
    for change in changes:
        tag, head = change.tag, change.head
        if change.kind in (PUT, FOLLOWED, IMPORTED):
            assert head is not None
            result[tag] = (draw(head), *result.get(tag, ())[1 if change.folded else 0 :])
        elif change.kind == REPLACED and change.items:
            result[tag] = tuple(draw(entry) for entry in change.items)
        elif change.kind in (DROPPED, REPLACED):
            result.pop(tag, None)
    return result

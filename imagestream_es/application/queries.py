"""Questions: each answers from the views, in one snapshot, about now or about a position in the past."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from eventsourcing.persistence import PersistenceError

from imagestream_es.application.writer import Unavailable
from imagestream_es.domain.idempotency import Done
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import ImageStream
from imagestream_es.domain.references import image_matches
from imagestream_es.domain.tags import TagEvent
from imagestream_es.persistence import idempotency, read_model
from imagestream_es.persistence.store import Rows, Store
from imagestream_es.projections.past import NO_HISTORY, StreamView, image_at, stream_at, view_at

T = TypeVar("T")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TagView:
    """One tag of a stream: its shown history, newest first, and the image of the newest entry, None if gone.

    The newest entry alone stands with the stream; `items` is empty where the history was not asked for.
    """

    stream: ImageStream
    tag: str
    items: Sequence[TagEvent]
    image: Image | None


@dataclass(frozen=True)
class Listed(Generic[T]):
    """Found objects, in order, and the position at which they were read."""

    found: Sequence[T]
    position: int


def view_tag(rows: Rows, stream: ImageStream, tag: str, *, history: bool, at: int | None = None) -> TagView:
    """A tag as it was at the stream's own position, with its `history` if wanted, and its image as it was `at`."""
    head = stream.tags[tag].head if tag in stream.tags else None
    items = read_model.shown_entries(rows, stream.number, tag, stream.repository, stream.position) if history else ()
    return TagView(stream, tag, items, _image(rows, head.image, at) if head is not None and head.image else None)


class Queries:
    """What can be asked. `at` is a position in the past; None is now. Each raises Unavailable if the store fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @contextmanager
    def _reading(self) -> Iterator[Rows]:
        try:
            with self._store.reading() as rows:
                yield rows
        except PersistenceError as error:
            _logger.error("the store could not be read: %s", error)
            message = "the store can't be read now"
            raise Unavailable(message, may_be_stored=False) from error

    def position(self) -> int:
        """The position of the log's last event."""
        with self._reading() as rows:
            return rows.head()

    def done(self, actor: str, key: str) -> Done | None:
        """What an actor did under an idempotency key, None if nothing."""
        with self._reading() as rows:
            return idempotency.find(rows, [(actor, key)]).get((actor, key))

    def progress(self) -> tuple[int, int]:
        """The position of the log's last event, and that of the last one which the views show."""
        with self._reading() as rows:
            return rows.head(), read_model.folded_until(rows)

    def image_stream(self, namespace: str, name: str, at: int | None = None) -> StreamView | None:
        """The stream of that name with its histories."""
        with self._reading() as rows:
            stream = _stream(rows, namespace, name, at)
            return None if stream is None else view_at(rows, stream)

    def image_streams(self, namespace: str | None, at: int | None = None) -> Listed[StreamView]:
        """The streams of a namespace, or of all, with their histories, by namespace and name."""
        with self._reading() as rows:
            streams = _streams(rows, namespace, at)
            bases = {stream.number: stream.repository for stream in streams}
            histories = read_model.shown_histories(rows, bases, _until(at))
            views = [StreamView(stream, histories.get(stream.number, NO_HISTORY)) for stream in streams]
            return Listed(views, rows.head() if at is None else at)

    def namespaces(self, at: int | None = None) -> Listed[str]:
        """The namespaces that have streams, in order."""
        listed = self.streams_with_heads(None, at)
        return Listed(sorted({stream.namespace for stream in listed.found}), listed.position)

    def tag(self, namespace: str, name: str, tag: str, *, history: bool, at: int | None = None) -> TagView | None:
        """A tag of a stream, with its `history` if wanted; None without that stream. The tag need not be there."""
        with self._reading() as rows:
            stream = _stream(rows, namespace, name, at)
            return None if stream is None else view_tag(rows, stream, tag, history=history, at=at)

    def streams_with_heads(self, namespace: str | None, at: int | None = None) -> Listed[ImageStream]:
        """The streams of a namespace, or of all, with the newest entries of their tags only."""
        with self._reading() as rows:
            return Listed(_streams(rows, namespace, at), rows.head() if at is None else at)

    def stream_image(
        self, namespace: str, name: str, wanted: str, at: int | None = None
    ) -> tuple[ImageStream, Image | None] | None:
        """The image of a stream's histories, or part of a manifest list there, that `wanted` names.

        None without that stream; no image if the stream shows none, or none that still exists.
        """
        with self._reading() as rows:
            stream = _stream(rows, namespace, name, at)
            if stream is None:
                return None
            names = list(read_model.find_images(rows, stream, wanted, _until(at)))
            names = names or _parts(rows, stream, wanted, at)
            return stream, _image(rows, names[0], at) if names else None

    def stream_images(self, namespace: str, name: str) -> tuple[ImageStream, dict[str, Image | None]] | None:
        """Every image that a stream's histories name, and every part of those that are lists."""
        with self._reading() as rows:
            stream = _stream(rows, namespace, name, None)
            if stream is None:
                return None
            names = list(read_model.find_images(rows, stream, ""))
            found = read_model.images_named(rows, names)
            parts = [part for image in found.values() for part in image.parts if part not in found]
            return stream, {
                **{name: found.get(name) for name in names},
                **read_model.images_named(rows, parts),
            }

    def image(self, name: str, at: int | None = None) -> Image | None:
        """The image of that name."""
        with self._reading() as rows:
            return _image(rows, name, at)

    def images(self, at: int | None = None) -> Listed[Image]:
        """Every image, by name."""
        with self._reading() as rows:
            return Listed(_images(rows, at), rows.head() if at is None else at)

    def reading(self, answer: Callable[[Rows], T]) -> T:
        """What `answer` makes of one snapshot."""
        with self._reading() as rows:
            return answer(rows)


def _stream(rows: Rows, namespace: str, name: str, at: int | None) -> ImageStream | None:
    stream = read_model.load_stream(rows, namespace, name)
    if stream is not None and at is not None and stream.position > at:
        stream = stream_at(rows, namespace, name, at)
    return stream if stream is not None and stream.exists else None


def _streams(rows: Rows, namespace: str | None, at: int | None) -> list[ImageStream]:
    streams = read_model.streams(rows, namespace)
    if at is None:
        return streams
    now = {(stream.namespace, stream.name): stream for stream in streams}
    found = []
    for space, name, position in read_model.stream_names(rows, namespace, at):
        # What did not change since then is as it is now.
        stream = now.get((space, name)) if position <= at else stream_at(rows, space, name, at)
        if stream is not None and stream.exists:
            found.append(stream)
    return found


def _image(rows: Rows, name: str, at: int | None) -> Image | None:
    image = read_model.load_image(rows, name)
    if image is not None and at is not None and image.position > at:
        image = image_at(rows, name, at)
    return image if image is not None and image.exists else None


def _images(rows: Rows, at: int | None) -> list[Image]:
    images = list(read_model.images(rows))
    if at is None:
        return images
    now = {image.name: image for image in images}
    found = []
    for name, position in read_model.image_names(rows):
        image = now.get(name) if position <= at else image_at(rows, name, at)
        if image is not None and image.exists:
            found.append(image)
    return found


def _parts(rows: Rows, stream: ImageStream, wanted: str, at: int | None) -> list[str]:
    images = (_image(rows, name, at) for name in read_model.find_images(rows, stream, "", _until(at)))
    return sorted(part for image in images if image for part in image.parts if image_matches(part, wanted))


def _until(at: int | None) -> int:
    return read_model.NOW if at is None else at

"""Questions: each answers from the views, in one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import ImageStream
from imagestream_es.domain.references import image_matches
from imagestream_es.domain.tags import TagEvent
from imagestream_es.persistence import read_model
from imagestream_es.persistence.store import Rows, Store

NO_HISTORY: Mapping[str, Sequence[TagEvent]] = {}


@dataclass(frozen=True)
class StreamView:
    """A stream and the histories of its tags, newest entry first."""

    stream: ImageStream
    items: Mapping[str, Sequence[TagEvent]]


@dataclass(frozen=True)
class TagView:
    """One tag of a stream: the stream, the tag's name, its shown history (the newest alone where that will do)
    and the image of the newest entry, None if that is not there."""

    stream: ImageStream
    tag: str
    items: Sequence[TagEvent]
    image: Image | None


@dataclass(frozen=True)
class Listed:
    """Found objects and the position at which they were read."""

    found: Sequence[StreamView]
    position: int


def view_stream(rows: Rows, stream: ImageStream) -> StreamView:
    """A stream with its histories, as they were at the stream's own position."""
    bases = {stream.number: stream.repository}
    histories = read_model.shown_histories(rows, bases, stream.position)
    return StreamView(stream, histories.get(stream.number, NO_HISTORY))


def view_tag(rows: Rows, stream: ImageStream, tag: str) -> TagView:
    """A tag with its history and image, as they were at the stream's own position."""
    items = view_stream(rows, stream).items.get(tag, ())
    image = read_model.load_image(rows, items[0].image) if items and items[0].image else None
    return TagView(stream, tag, items, image if image is not None and image.exists else None)


class Queries:
    """What can be asked about the present."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def position(self) -> int:
        """The position of the log's last event."""
        with self._store.reading() as rows:
            return rows.head()

    def image_stream(self, namespace: str, name: str) -> StreamView | None:
        """The stream of that name with its histories."""
        with self._store.reading() as rows:
            stream = _present(rows, namespace, name)
            return None if stream is None else view_stream(rows, stream)

    def image_streams(self, namespace: str | None) -> Listed:
        """The streams of a namespace, or of all, with their histories."""
        with self._store.reading() as rows:
            streams = read_model.streams(rows, namespace)
            histories = read_model.shown_histories(rows, {stream.number: stream.repository for stream in streams})
            views = [StreamView(stream, histories.get(stream.number, NO_HISTORY)) for stream in streams]
            return Listed(views, rows.head())

    def tag(self, namespace: str, name: str, tag: str) -> TagView | None:
        """A tag of a stream; None without that stream. The tag itself need not be there."""
        with self._store.reading() as rows:
            stream = _present(rows, namespace, name)
            return None if stream is None else view_tag(rows, stream, tag)

    def streams_with_heads(self, namespace: str | None) -> list[ImageStream]:
        """The streams of a namespace, or of all, with the newest entries of their tags only."""
        with self._store.reading() as rows:
            return read_model.streams(rows, namespace)

    def stream_image(self, namespace: str, name: str, wanted: str) -> tuple[ImageStream, Image | None] | None:
        """The image of a stream's histories, or part of a manifest list there, that `wanted` names.

        None without that stream; no image if the stream shows none, or none that still exists.
        """
        with self._store.reading() as rows:
            stream = _present(rows, namespace, name)
            if stream is None:
                return None
            names = list(read_model.find_images(rows, stream, wanted)) or _parts(rows, stream, wanted)
            image = read_model.load_image(rows, names[0]) if names else None
            return stream, image if image is not None and image.exists else None

    def stream_images(self, namespace: str, name: str) -> tuple[ImageStream, dict[str, Image | None]] | None:
        """Every image that a stream's histories name, and every part of those that are lists."""
        with self._store.reading() as rows:
            stream = _present(rows, namespace, name)
            if stream is None:
                return None
            names = _image_names(rows, stream)
            found = read_model.images_named(rows, names)
            parts = [part for image in found.values() for part in image.parts if part not in found]
            return stream, {
                **{name: found.get(name) for name in names},
                **read_model.images_named(rows, parts),
            }

    def image(self, name: str) -> Image | None:
        """The image of that name."""
        with self._store.reading() as rows:
            image = read_model.load_image(rows, name)
            return image if image is not None and image.exists else None

    def images(self) -> tuple[list[Image], int]:
        """Every image, and the position at which they were read."""
        with self._store.reading() as rows:
            return list(read_model.images(rows)), rows.head()


def _present(rows: Rows, namespace: str, name: str) -> ImageStream | None:
    stream = read_model.load_stream(rows, namespace, name)
    return stream if stream is not None and stream.exists else None


def _image_names(rows: Rows, stream: ImageStream) -> list[str]:
    return list(read_model.find_images(rows, stream, ""))


def _parts(rows: Rows, stream: ImageStream, wanted: str) -> list[str]:
    found = read_model.images_named(rows, _image_names(rows, stream))
    parts = (part for image in found.values() for part in image.parts)
    return sorted(part for part in parts if image_matches(part, wanted))

"""Image streams drawn as text, and kept: as long as the position of a stream stays, so does its text.

A history may be long, and grows by one entry at a time. So of a long one the stream itself is kept too, with its
histories in few pieces: what happened since is folded in, as everywhere else, and the pieces that were are not read
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from imagestream_es.application.queries import Listed, Queries
from imagestream_es.application.recent import Recent
from imagestream_es.domain.image_stream import ImageStream
from imagestream_es.domain.past import EntryRow
from imagestream_es.domain.tags import TagEvent
from imagestream_es.persistence import read_model
from imagestream_es.persistence.read_model import StreamPlace
from imagestream_es.persistence.store import Rows
from imagestream_es.projections.past import Pieces, evolved

LONG = 16 * 1024
"""From how many bytes on a text is worth growing instead of drawing it anew."""
PLACE = 256
"""About how many bytes a place and its index take."""
FARTHEST = 64
"""Events that are folded in at most, and pieces that a history has at most."""


@dataclass(frozen=True)
class Pen:
    """How something is drawn: entries of histories of a stream, the newest first, and a stream with its histories."""

    entries: Callable[[str, Iterable[EntryRow]], bytes]
    stream: Callable[[ImageStream, Mapping[str, bytes]], bytes]


@dataclass(frozen=True, slots=True)
class Drawing:
    """The text of a stream at its position, and what it can be grown from."""

    position: int
    text: bytes
    stream: ImageStream | None = None
    pieces: Pieces[bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """About how many bytes this takes."""
        return len(self.text) + sum(len(piece) for some in self.pieces.values() for piece in some)


@dataclass(frozen=True, slots=True)
class Places:
    """The places of all streams of a list in its order, as they were at a head of the log, and the index of each."""

    head: int
    places: Sequence[StreamPlace]
    index: Mapping[int, int]

    @classmethod
    def read(cls, rows: Rows, namespace: str | None, head: int) -> Places:
        """Read all of them."""
        places = read_model.stream_places(rows, namespace)
        return cls(head, places, {number: index for index, (number, *_) in enumerate(places)})

    def moved(self, rows: Rows, namespace: str | None, head: int) -> Places | None:
        """The places at a later head; None if the list has other streams in it then, or the head is no later one."""
        if head < self.head:
            return None
        changed = read_model.places_behind(rows, namespace, self.head)
        if not all(is_there and place[0] in self.index for place, is_there in changed):
            return None
        places = list(self.places)
        for place, _ in changed:
            places[self.index[place[0]]] = place
        return Places(head, places, self.index)


class Drawings:
    """Draws streams; what was drawn is kept in `memory`."""

    def __init__(self, queries: Queries, memory: Recent) -> None:
        self._queries = queries
        self._memory = memory

    def one(self, namespace: str, name: str, pen: Pen) -> bytes | None:
        """The stream of that name as it is now. Raises Unavailable."""
        found = self._read(pen, namespace, name).found
        return found[0] if found else None

    def all(self, namespace: str | None, pen: Pen) -> Listed[bytes]:
        """The streams of a namespace, or of all, as they are now, by namespace and name. Raises Unavailable."""
        return self._read(pen, namespace)

    def _read(self, pen: Pen, namespace: str | None, name: str | None = None) -> Listed[bytes]:
        def answer(rows: Rows) -> Listed[bytes]:
            head, replays = read_model.standing(rows)
            places = (
                read_model.stream_places(rows, namespace, name)
                if name
                else self._places(rows, namespace, head, replays)
            )
            return Listed(self._drawn(rows, pen, places, replays), head)

        return self._queries.reading(answer)

    def _places(self, rows: Rows, namespace: str | None, head: int, replays: int) -> Sequence[StreamPlace]:
        key = (replays, "places", namespace)
        kept: Places | None = self._memory.get(key)
        now = None if kept is None else kept.moved(rows, namespace, head)
        if now is None:
            now = Places.read(rows, namespace, head)
        if kept is None or now.head >= kept.head:
            self._memory.put(key, now, PLACE * len(now.places))
        return now.places

    def _drawn(self, rows: Rows, pen: Pen, places: Sequence[StreamPlace], replays: int) -> list[bytes]:
        texts: dict[int, bytes] = {}
        new: dict[int, Drawing] = {}
        missing = []
        drawings: list[Drawing | None] = self._memory.get_all([(replays, number) for number, _, _ in places])
        for (number, position, version), kept in zip(places, drawings, strict=True):
            if kept is not None and kept.position == position:
                texts[number] = kept.text
            elif kept is not None and kept.stream is not None and 0 < version - kept.stream.version <= FARTHEST:
                new[number] = self._grown(rows, pen, kept.stream, kept.pieces, position)
            else:
                missing.append(number)
        for some in read_model.chunks(missing):
            new |= self._anew(rows, pen, some)
        for number, drawing in new.items():
            texts[number] = drawing.text
            self._memory.put((replays, number), drawing, drawing.size)
        return [texts[number] for number, _, _ in places]

    def _anew(self, rows: Rows, pen: Pen, numbers: Sequence[int]) -> dict[int, Drawing]:
        streams = read_model.streams_numbered(rows, numbers)
        pieces: dict[int, dict[str, Sequence[bytes]]] = {number: {} for number in numbers}
        for number, tag, entries in read_model.shown_rows(rows, numbers):
            base = streams[number].repository
            pieces[number][tag] = pen.entries(base, entries[:1]), pen.entries(base, entries[1:])
        return {number: _draw(pen, stream, pieces[number]) for number, stream in streams.items()}

    def _grown(self, rows: Rows, pen: Pen, stream: ImageStream, pieces: Pieces[bytes], position: int) -> Drawing:
        def draw(entry: TagEvent) -> bytes:
            return pen.entries("", [(entry.created, entry.reference, entry.image, entry.generation)])

        return _draw(pen, *evolved(rows, stream, pieces, position, draw))


def _draw(pen: Pen, stream: ImageStream, pieces: Pieces[bytes]) -> Drawing:
    text = pen.stream(stream, {tag: _joined(some) for tag, some in pieces.items()})
    if len(text) < LONG:
        return Drawing(stream.position, text)
    few = {tag: (some[0], _joined(some[1:])) if len(some) > FARTHEST else some for tag, some in pieces.items()}
    return Drawing(stream.position, text, stream, few)


def _joined(pieces: Sequence[bytes]) -> bytes:
    return b",".join(filter(None, pieces))

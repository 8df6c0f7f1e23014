"""Image streams drawn as text, and kept: as long as the position of a stream stays, so does its text.

A history may be long, and grows by one entry at a time. So of a long one the stream itself is kept too, with its
histories in few pieces: what happened since is folded in, as everywhere else, and the pieces that were are neither read
nor copied again. A list is kept in the same way: only what has changed of its streams is drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from itertools import islice

from imagestream_es.application.queries import Queries
from imagestream_es.application.recent import Recent
from imagestream_es.domain.image_stream import ImageStream
from imagestream_es.domain.past import EntryRow
from imagestream_es.domain.tags import TagEvent
from imagestream_es.persistence import read_model
from imagestream_es.persistence.read_model import StreamPlace
from imagestream_es.persistence.store import Rows
from imagestream_es.projections.past import Pieces, evolved

_logger = logging.getLogger(__name__)

LONG = 16 * 1024
"""From how many bytes on a text is worth growing instead of drawing it anew."""
PLACE = 256
"""About how many bytes a place and its index take."""
FARTHEST = 64
"""Events that are folded in at most, and pieces that a history has at most."""
TOGETHER = 1000
"""Entries of a history that are drawn at once."""
LONGEST, EARLY = 500, 20_000
"""Events of a stream that is drawn before anybody asks for it, and of all of these: they take some 50 milliseconds."""
GAP = b"\0"
"""What no JSON holds: between two of them stands a tag where its history is to be put."""


@dataclass(frozen=True)
class Pen:
    """How something is drawn: entries of histories of a stream, the newest first, and a stream with its histories."""

    entries: Callable[[str, Iterable[EntryRow]], bytes]
    stream: Callable[[ImageStream, Mapping[str, bytes]], bytes]


@dataclass(frozen=True, slots=True)
class Drawing:
    """The text of a stream at its position, in parts; its digest; and what it can be grown from."""

    position: int
    parts: Sequence[bytes]
    digest: bytes
    stream: ImageStream | None = None
    pieces: Pieces[bytes] = field(default_factory=dict)

    @property
    def text(self) -> bytes:
        """All of it."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    @property
    def size(self) -> int:
        """About how many bytes this takes."""
        return sum(map(len, self.parts))


@dataclass(frozen=True, slots=True)
class Sheet:
    """The streams of a list in its order, as they were at a head of the log: drawn each, and together.

    `index` tells where each is, by its number. The digest is made from theirs.
    """

    head: int
    drawings: Sequence[Drawing]
    index: Mapping[int, int]
    text: bytes
    digest: bytes

    @classmethod
    def of(cls, head: int, drawings: Sequence[Drawing], index: Mapping[int, int]) -> Sheet:
        """Put a list together."""
        text = b",".join([drawing.text for drawing in drawings])
        digest = sha256(b"".join([drawing.digest for drawing in drawings])).digest()
        return cls(head, drawings, index, text, digest)

    @property
    def size(self) -> int:
        """About how many bytes this takes."""
        return 2 * len(self.text) + PLACE * len(self.drawings)


class Drawings:
    """Draws streams; what was drawn is kept in `memory`."""

    def __init__(self, queries: Queries, memory: Recent) -> None:
        self._queries = queries
        self._memory = memory

    def prepare(self, pen: Pen) -> None:
        """Draw the longest streams, so that nobody waits for that. Where it fails, whoever asks for them is told."""

        def draw(rows: Rows) -> None:
            _, replays = read_model.standing(rows)
            self._drawn(rows, pen, read_model.longest_places(rows, LONGEST, EARLY), replays)

        try:
            self._queries.reading(draw)
        except Exception:  # whatever is wrong with one stream: the others can be read
            _logger.warning("the longest streams could not be drawn before they are asked for", exc_info=True)

    def one(self, namespace: str, name: str, pen: Pen) -> Drawing | None:
        """The stream of that name as it is now. Raises Unavailable."""

        def answer(rows: Rows) -> Drawing | None:
            _, replays = read_model.standing(rows)
            return next(iter(self._drawn(rows, pen, read_model.stream_places(rows, namespace, name), replays)), None)

        return self._queries.reading(answer)

    def all(self, namespace: str | None, pen: Pen) -> Sheet:
        """The streams of a namespace, or of all, as they are now, by namespace and name. Raises Unavailable."""

        def answer(rows: Rows) -> Sheet:
            head, replays = read_model.standing(rows)
            key = (replays, "list", namespace)
            kept: Sheet | None = self._memory.get(key)
            if kept is not None and kept.head == head:
                return kept
            now = None if kept is None else self._moved(rows, pen, kept, namespace, head, replays)
            if now is None:
                places = read_model.stream_places(rows, namespace)
                index = {number: index for index, (number, *_) in enumerate(places)}
                now = Sheet.of(head, self._drawn(rows, pen, places, replays), index)
            if kept is None or kept.head < head:
                self._memory.put(key, now, now.size)
            return now

        return self._queries.reading(answer)

    def _moved(
        self, rows: Rows, pen: Pen, sheet: Sheet, namespace: str | None, head: int, replays: int
    ) -> Sheet | None:
        """A list at a later head; None if it has other streams in it then, or the head is no later one."""
        if head < sheet.head:
            return None
        changed = read_model.places_behind(rows, namespace, sheet.head)
        if not changed:
            return replace(sheet, head=head)
        if not all(is_there and place[0] in sheet.index for place, is_there in changed):
            return None
        places = [place for place, _ in changed]
        drawings = list(sheet.drawings)
        for (number, *_), drawing in zip(places, self._drawn(rows, pen, places, replays), strict=True):
            drawings[sheet.index[number]] = drawing
        return Sheet.of(head, drawings, sheet.index)

    def _drawn(self, rows: Rows, pen: Pen, places: Sequence[StreamPlace], replays: int) -> list[Drawing]:
        found: dict[int, Drawing] = {}
        new: dict[int, Drawing] = {}
        missing = []
        drawings: list[Drawing | None] = self._memory.get_all([(replays, number) for number, _, _ in places])
        for (number, position, version), kept in zip(places, drawings, strict=True):
            if kept is not None and kept.position == position:
                found[number] = kept
            elif kept is not None and kept.stream is not None and 0 < version - kept.stream.version <= FARTHEST:
                new[number] = self._grown(rows, pen, kept.stream, kept.pieces, position)
            else:
                missing.append(number)
        for some in read_model.chunks(missing):
            new |= self._anew(rows, pen, some)
        for number, drawing in new.items():
            self._memory.put((replays, number), drawing, drawing.size)
        found |= new
        return [found[number] for number, _, _ in places]

    def _anew(self, rows: Rows, pen: Pen, numbers: Sequence[int]) -> dict[int, Drawing]:
        streams = read_model.streams_numbered(rows, numbers)
        pieces: dict[int, dict[str, Sequence[bytes]]] = {number: {} for number in numbers}
        for number, tag, entries in read_model.shown_rows(rows, numbers):
            pieces[number][tag] = tuple(_pieces(partial(pen.entries, streams[number].repository), entries))
        return {number: _draw(pen, stream, pieces[number]) for number, stream in streams.items()}

    def _grown(self, rows: Rows, pen: Pen, stream: ImageStream, pieces: Pieces[bytes], position: int) -> Drawing:
        def draw(entry: TagEvent) -> bytes:
            return pen.entries("", [(entry.created, entry.reference, entry.image, entry.generation)])

        return _draw(pen, *evolved(rows, stream, pieces, position, draw))


def _pieces(draw: Callable[[Iterable[EntryRow]], bytes], entries: Iterator[EntryRow]) -> Iterator[bytes]:
    """A history in pieces: the newest entry, and many together of the others, but not all: so it takes less memory."""
    many = 1
    while text := draw(islice(entries, many)):
        yield text
        many = TOGETHER


def _draw(pen: Pen, stream: ImageStream, pieces: Pieces[bytes]) -> Drawing:
    few = {tag: (some[0], b",".join(some[1:])) if len(some) > FARTHEST else some for tag, some in pieces.items()}
    texts = pen.stream(stream, {tag: GAP + tag.encode() + GAP for tag in few}).split(GAP)
    parts = texts[:1]
    for tag, text in zip(texts[1::2], texts[2::2], strict=True):
        parts += (*_with_commas(few[tag.decode()]), text)
    digest = sha256()
    for part in parts:
        digest.update(part)
    if sum(map(len, parts)) < LONG:
        return Drawing(stream.position, (b"".join(parts),), digest.digest())
    return Drawing(stream.position, parts, digest.digest(), stream, few)


def _with_commas(pieces: Sequence[bytes]) -> list[bytes]:
    return [part for piece in pieces for part in (b",", piece)][1:]

"""Questions about what became of tags: who moved which, when, why, from what to what.

Each is answered in one snapshot, of all the log has or of what it had at a position.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from imagestream_es.application.queries import Listed, Queries
from imagestream_es.domain.events import DomainEvent, StreamEvent
from imagestream_es.domain.past import Place, Scope, Target
from imagestream_es.persistence import moments, read_model, tag_history
from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.persistence.store import Rows
from imagestream_es.persistence.tag_history import ChangeRow, UsageRow

CHUNK = 1000
"""How many changes are read at once."""

T = TypeVar("T")
Names = Callable[[Collection[str]], Mapping[str, str]]


class Actor(Struct, frozen=True):
    """Who did something: the opaque id, and the name while it is known, else the id again."""

    id: str
    name: str


class Cause(Struct, frozen=True):
    """What made a change: the event, the kind of entrance, the id of the request, and the tag that was followed."""

    event: str
    door: str
    request: str
    leader: str


class PastChange(Struct, frozen=True):
    """One change of a tag; `time` is in milliseconds since the epoch."""

    place: Place
    time: int
    namespace: str
    stream: str
    tag: str
    action: str
    before: Target | None
    after: Target | None
    actor: Actor
    impersonator: Actor | None
    reason: str
    cause: Cause
    folded: bool


class Edge(Struct, frozen=True):
    """Where a time began or ended: position, its time in milliseconds, and who made the change."""

    place: Place
    time: int
    actor: Actor


class Usage(Struct, frozen=True):
    """A time in which a tag named an image; `until` is None while it lasts."""

    image: str
    namespace: str
    stream: str
    tag: str
    since: Edge
    until: Edge | None


class Difference(Struct, frozen=True):
    """What a tag named at one moment and at another, and the changes between them."""

    namespace: str
    stream: str
    tag: str
    before: Target | None
    after: Target | None
    changes: Sequence[PastChange]


class Window(Struct, frozen=True):
    """Which part of a list is wanted: from behind which place, in which order, how many at most."""

    behind: Place | None = None
    newest_first: bool = True
    limit: int | None = None


class History:
    """What can be asked of the past of tags. Each question raises Unavailable if the store fails."""

    def __init__(self, queries: Queries, names: Names) -> None:
        self._queries = queries
        self._names = names
        self._mapper = EventMapper()

    def head(self) -> tuple[int, int]:
        """The position of the log's last event, and the time of the log there in milliseconds."""
        return self._queries.reading(lambda rows: (rows.head(), read_model.folded_time(rows)))

    def position_at(self, time: int) -> int:
        """The position of the last event that is not after `time`, in milliseconds; 0 if there is none."""
        return self._queries.reading(lambda rows: moments.position_at(rows, time))

    def changes(
        self, scope: Scope, window: Window, take: Callable[[PastChange], T | None], at: int | None = None
    ) -> Listed[T]:
        """What `take` makes of the first changes in the window; None passes one over.

        `at` is the position at which the list is read; None is now.
        """

        def answer(rows: Rows) -> Listed[T]:
            position = rows.head() if at is None else at
            bounded = replace(scope, until=min(scope.until, position))
            return Listed(list(islice(self._taken(rows, bounded, window, take), window.limit)), position)

        return self._queries.reading(answer)

    def usages(self, images: Iterable[str], scope: Scope, at: int | None = None) -> Listed[Usage]:
        """Where and when each image was named, the first first."""

        def answer(rows: Rows) -> Listed[Usage]:
            position = rows.head() if at is None else at
            bounded = replace(scope, until=min(scope.until, position))
            found = [row for image in images for row in tag_history.usages(rows, image, bounded)]
            actors = self._actors(rows, {end[0] for row in found for end in (row.since, row.until) if end})
            told = [_usage(row, actors) for row in sorted(found, key=lambda row: row.since)]
            return Listed(told, position)

        return self._queries.reading(answer)

    def differences(self, scope: Scope) -> Listed[Difference]:
        """The tags that name something else at the end of the scope than where it begins."""

        def answer(rows: Rows) -> Listed[Difference]:
            changes: dict[tuple[str, str, str], list[PastChange]] = {}
            for change in self._taken(rows, scope, Window(newest_first=False), lambda change: change):
                changes.setdefault((change.namespace, change.stream, change.tag), []).append(change)
            found = [
                Difference(*name, between[0].before, between[-1].after, between)
                for name, between in sorted(changes.items())
                if between[0].before != between[-1].after
            ]
            return Listed(found, rows.head())

        return self._queries.reading(answer)

    def _actors(self, rows: Rows, positions: set[int]) -> dict[int, Actor]:
        """Who made the events at these positions."""
        found = tag_history.events(rows, positions)
        ids = {position: self._mapper.decode(*event).by.actor for position, event in found.items()}
        names = self._names(set(ids.values())) if ids else {}
        return {position: _actor(one, names) for position, one in ids.items()}

    def _taken(self, rows: Rows, scope: Scope, window: Window, take: Callable[[PastChange], T | None]) -> Iterator[T]:
        behind, size = window.behind, min(window.limit or CHUNK, CHUNK)
        while True:
            read = tag_history.changes(rows, scope, behind=behind, newest_first=window.newest_first, limit=size)
            yield from (taken for taken in map(take, self._told(read)) if taken is not None)
            if len(read) < size:
                return
            behind, size = read[-1].place, CHUNK

    def _told(self, read: Sequence[ChangeRow]) -> list[PastChange]:
        events = {row.place[0]: self._mapper.decode(row.topic, row.state) for row in read}
        ids = {name for event in events.values() for name in (event.by.actor, event.by.impersonator) if name}
        names = self._names(ids) if ids else {}
        return [_told(row, events[row.place[0]], names) for row in read]


def _told(row: ChangeRow, event: DomainEvent, names: Mapping[str, str]) -> PastChange:
    assert isinstance(event, StreamEvent)
    by = event.by
    leader = next((put.tag for put in event.put if row.tag in put.followers), "")
    return PastChange(
        row.place,
        row.time,
        row.where.namespace,
        row.where.stream,
        row.tag,
        row.action,
        row.before,
        row.after,
        _actor(by.actor, names),
        _actor(by.impersonator, names) if by.impersonator else None,
        by.reason,
        Cause(type(event).__name__, by.door, by.request, leader),
        row.folded,
    )


def _usage(row: UsageRow, actors: Mapping[int, Actor]) -> Usage:
    since = Edge(row.since, row.since_time, actors[row.since[0]])
    until = None if row.until is None else Edge(row.until, row.until_time, actors[row.until[0]])
    return Usage(row.image, row.where.namespace, row.where.stream, row.tag, since, until)


def _actor(name: str, names: Mapping[str, str]) -> Actor:
    return Actor(name, names.get(name, name))

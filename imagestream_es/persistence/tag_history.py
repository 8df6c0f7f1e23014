"""What is asked of the histories of tags across all the log. They are written in `read_model`.

A page costs what it holds: rows come in the order of an index, and what stood before each of them, and the event
that made it, are found by keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from imagestream_es.domain.actions import (
    CREATED,
    DELETED,
    FROM_OUTSIDE,
    MOVED,
    REFRESHED,
    REVERTED,
    WITH_LEADER,
)
from imagestream_es.domain.past import Place, Scope, Target
from imagestream_es.persistence.digests import is_name, packed, sought, unpacked
from imagestream_es.persistence.read_model import chunks, marks
from imagestream_es.persistence.store import Row, Rows


class Where(Struct, frozen=True):
    """A stream's namespace, name, and default repository."""

    namespace: str
    stream: str
    repository: str


class ChangeRow(Struct, frozen=True):
    """A change of a tag, with the newest entry before and after it, and the event that made it."""

    where: Where
    tag: str
    place: Place
    action: str
    before: Target | None
    after: Target | None
    time: int
    folded: bool
    topic: str
    state: bytes


def changes(rows: Rows, scope: Scope, *, behind: Place | None, newest_first: bool, limit: int) -> list[ChangeRow]:
    """The first changes behind a place, `limit` at most, against the order of the log or in it."""
    after, until = scope.after, scope.until
    if behind is not None:  # one bound on each side: databases begin at it, and filter by all others
        after, until = (after, min(until, behind[0])) if newest_first else (max(after, behind[0] - 1), until)
    terms: list[tuple[str, tuple[Any, ...]]] = [
        ("slot >= 0 AND position > ? AND position <= ?", (after, until)),
        *_of_streams(scope),
    ]
    terms += [(f"{name} = ?", (value,)) for name, value in (("tag", scope.tag), ("action", scope.action)) if value]
    if behind is not None:
        less = "<" if newest_first else ">"
        terms.append((f"(position <> ? OR slot {less} ?)", behind))
    image = () if scope.image is None else sought(packed(scope.image))
    source = f"({_TOUCHING}) t" if image else "tag_changes"
    order = "DESC" if newest_first else "ASC"
    wanted = (
        f"SELECT {_CHANGE} FROM {source} WHERE {' AND '.join(term for term, _ in terms)}"
        f" ORDER BY position {order}, slot {order} LIMIT ?"
    )
    values = [value for _, values in terms for value in values]
    found = rows.all(
        f"SELECT {_of('c')}, b.image, b.reference, e.topic, e.state"
        f" FROM ({wanted}) c JOIN stored_events e ON e.{rows.POSITION} = c.position"
        f" LEFT JOIN tag_changes b ON b.stream = c.stream AND b.tag = c.tag AND (b.position, b.slot) = ({_PREVIOUS})"
        f" ORDER BY c.position {order}, c.slot {order}",
        *image,
        *image,
        *values,
        limit,
    )
    streams = places(rows, {row[0] for row in found})
    return [_change(streams[row[0]], row) for row in found]


def _of_streams(scope: Scope) -> list[tuple[str, tuple[Any, ...]]]:
    # Many streams are looked at change by change: collecting all that is theirs, to sort it, would cost more.
    match scope.namespace, scope.stream:
        case None, None:
            return []
        case None, stream:
            return [("EXISTS (SELECT 1 FROM streams WHERE id = stream AND name = ?)", (stream,))]
        case namespace, None:
            return [("EXISTS (SELECT 1 FROM streams WHERE id = stream AND namespace = ?)", (namespace,))]
        case both:
            return [("stream = (SELECT id FROM streams WHERE namespace = ? AND name = ?)", both)]


def _of(table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in _CHANGE.split(", "))


_CHANGE = "stream, tag, position, slot, action, image, reference, time, folded"
_SAME_TAG = "n.stream = c.stream AND n.tag = c.tag AND n.slot >= 0 AND (n.position, n.slot)"
_PREVIOUS = (
    f"SELECT n.position, n.slot FROM tag_changes n WHERE {_SAME_TAG} < (c.position, c.slot)"
    " ORDER BY n.position DESC, n.slot DESC LIMIT 1"
)
_NEXT = (
    f"SELECT n.position, n.slot FROM tag_changes n WHERE {_SAME_TAG} > (c.position, c.slot)"
    " ORDER BY n.position, n.slot LIMIT 1"
)
_TOUCHING = (
    f"SELECT {_of('c')} FROM tag_changes c WHERE {is_name('c.image')} UNION"
    f" SELECT {_of('b')} FROM tag_changes c CROSS JOIN tag_changes b WHERE {is_name('c.image')} AND c.slot >= 0"
    f" AND b.stream = c.stream AND b.tag = c.tag AND (b.position, b.slot) = ({_NEXT})"
)
"""The changes after which an image was the newest entry, and those right behind them."""


def _change(where: Where, row: Row) -> ChangeRow:
    _, tag, position, slot, action, image, reference, time, folded, old_image, old_reference, topic, state = row
    before, after = target(where, old_image, old_reference), target(where, image, reference)
    return ChangeRow(where, tag, (position, slot), action, before, after, time, bool(folded), topic, bytes(state))


def target(where: Where, name: bytes | None, reference: str | None) -> Target | None:
    """What a tag of a stream names, from its columns; None for nothing."""
    if name is None:
        return None
    image = unpacked(name)
    return Target(image, f"{where.repository}@{image}" if reference is None else reference)


class UsageRow(Struct, frozen=True):
    """A time in which a tag named an image: from one change until another, each with the time of its position.

    `until` is None while it lasts.
    """

    where: Where
    tag: str
    image: str
    since: Place
    since_time: int
    until: Place | None
    until_time: int


def usages(rows: Rows, image: str, scope: Scope) -> list[UsageRow]:
    """Where and when an image was the newest entry of a tag, as it was known at the end of the scope."""
    named = f"{is_name('image')} AND slot >= 0 AND position <= ?"
    terms = [(named, (*sought(packed(image)), scope.until)), *_of_streams(scope)]
    if scope.tag:
        terms.append(("tag = ?", (scope.tag,)))
    found = rows.all(
        f"SELECT stream, tag, position, slot, time FROM tag_changes WHERE {' AND '.join(term for term, _ in terms)}"
        " ORDER BY stream, tag, position, slot",
        *(value for _, values in terms for value in values),
    )
    streams = places(rows, {row[0] for row in found})
    result, of, end = [], None, None
    for number, tag, *since, time in found:
        place = (since[0], since[1])
        if of == (number, tag) and (end is None or place < end):
            continue  # it was the newest entry before, and still is
        last = rows.one(_END, number, tag, *place, scope.until, packed(image))
        of, end = (number, tag), None if last is None else (last[0], last[1])
        if end is None or end[0] > place[0]:  # what one event put and took away was never seen
            result.append(UsageRow(streams[number], tag, image, place, time, end, last[2] if last else 0))
    return result


_END = (
    "SELECT position, slot, time FROM tag_changes WHERE stream = ? AND tag = ? AND slot >= 0"
    " AND (position, slot) > (?, ?) AND position <= ? AND (image IS NULL OR image <> ?)"
    " ORDER BY position, slot LIMIT 1"
)


def events(rows: Rows, positions: Iterable[int]) -> dict[int, tuple[str, bytes]]:
    """Topic and state of the events at these positions."""
    found = {}
    for some in chunks(sorted(positions)):
        query = f"SELECT {rows.POSITION}, topic, state FROM stored_events WHERE {rows.POSITION} IN ({marks(some)})"
        found.update({position: (topic, bytes(state)) for position, topic, state in rows.all(query, *some)})
    return found


class _Repository(Struct):
    repository: str


_decode_repository = msgspec.json.Decoder(_Repository).decode


def places(rows: Rows, numbers: Iterable[int]) -> dict[int, Where]:
    """The streams of these numbers."""
    found = {}
    for some in chunks(sorted(numbers)):
        query = f"SELECT id, namespace, name, document FROM streams WHERE id IN ({marks(some)})"
        for number, namespace, name, document in rows.all(query, *some):
            found[number] = Where(namespace, name, _decode_repository(document).repository)
    return found


def heads(
    rows: Rows, number: int, tag: str, repository: str, *, until: int, image: str | None = None
) -> Iterator[tuple[int, Target | None]]:
    """What a tag of a stream named up to a position, newest first, each with the position since when.

    None is nothing. With an `image`, only that one is looked for.
    """
    only, values = ("", ()) if image is None else (" AND image = ?", (packed(image),))
    found = rows.each(
        "SELECT position, image, reference FROM tag_changes WHERE stream = ? AND tag = ? AND slot >= 0"
        f" AND position <= ? AND action IN ({marks(_MOVES)}){only} ORDER BY position DESC, slot DESC",
        *(number, tag, until, *_MOVES, *values),
    )
    where = Where("", "", repository)
    for position, name, reference in found:
        yield position, target(where, name, reference)


_MOVES = (CREATED, MOVED, REVERTED, REFRESHED, WITH_LEADER, FROM_OUTSIDE, DELETED)
"""The actions after which a tag may name something else."""

"""Fills an empty store from the events of a log: the same positions, the same tree, the same views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from itertools import islice

import msgspec
from eventsourcing.persistence import StoredEvent
from msgspec import Struct

from imagestream_es.persistence.merkle import Checkpoint
from imagestream_es.persistence.store import Rows, Store
from imagestream_es.projections import projector
from imagestream_es.recovery.wholeness import Refusal


class _Origin(Struct):
    at: int


class _Timed(Struct):
    by: _Origin


_decode = msgspec.json.Decoder(_Timed).decode


def time_of(event: StoredEvent) -> int:
    """When the request of an event came in, in milliseconds since the epoch. Raises msgspec.MsgspecError."""
    return _decode(event.state).by.at


def fill(rows: Rows, events: Iterable[tuple[int, StoredEvent]], total: int, progress: projector.Progress) -> Checkpoint:
    """Append events to an empty log and fold the views; answers size and root of the tree.

    Raises PersistenceError for events that are none, or out of order.
    """
    for batch in _batches(events):
        rows.append(batch)
        progress(batch[-1][0], max(total, batch[-1][0]))
    projector.fold(rows, rows, 0, rows.head(), progress, bulk=True)
    return rows.tree().checkpoint()


def go_on(
    store: Store, begun: Checkpoint, events: Iterable[tuple[int, StoredEvent]], total: int, progress: projector.Progress
) -> Checkpoint:
    """Append events to a log that has begun, in many transactions; answers size and root. The views are as they were.

    Raises PersistenceError for events that are none, or out of order.
    """
    tree = begun
    for batch in _batches(events):
        with store.writing() as rows:
            rows.append(batch)
            tree = rows.tree().checkpoint()
        progress(tree.size, max(total, tree.size))
    return tree


def _batches(events: Iterable[tuple[int, StoredEvent]]) -> Iterator[list[tuple[int, StoredEvent]]]:
    waiting = iter(events)
    while batch := list(islice(waiting, projector.BATCH)):
        yield batch


def position_at(rows: Rows, until: str) -> int:
    """The position that a position or a time names: that of the last event not after it.

    The time of a place is the latest time of an event up to there. Raises Refusal.
    """
    head = rows.head()
    if until.isascii() and until.isdecimal():
        if not 0 < int(until) <= head:
            raise Refusal(f"there is no position {until}: the log runs from 1 to {head}")
        return int(until)
    moment = _moment(until)
    with closing(rows.log(0, head)) as events:
        last = next((position - 1 for position, event in events if time_of(event) > moment), head)
    if last == 0:
        raise Refusal(f"the log began after {until}: name a later time")
    return last


def _moment(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Refusal(f"{text!r} is neither a position nor a time as 2026-03-01T12:00Z") from None

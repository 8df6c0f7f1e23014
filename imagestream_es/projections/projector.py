"""Brings the views up to the log: at start, and from nothing for a rebuild or a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from eventsourcing.persistence import DatabaseError, MapperDeserialisationError

from imagestream_es.persistence import halves, read_model
from imagestream_es.persistence.bulk import Changes
from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.persistence.merkle import Record
from imagestream_es.persistence.store import Rows, Store
from imagestream_es.projections.workspace import CAPACITY, Streams, Workspace

BATCH = 2000
"""How many events are folded before rows are written."""

STREAMS = 20_000
"""How many streams are kept at hand in bulk: so long, a row is written once however often its stream changes."""

Progress = Callable[[int, int], None]


class Log(read_model.Registrations, Protocol):
    """What gives the events behind one position up to another; `Rows` do."""

    def records(self, after: int, until: int) -> Iterator[Record]:
        """The events in order."""


def _quiet(done: int, total: int) -> None:
    pass


def catch_up(store: Store, progress: Progress = _quiet) -> int:
    """Fold what the views lack of the log, all of it if they are of another shape; answers how many events.

    One transaction: readers keep the old views until it commits. Raises DatabaseError for a log that ends before
    the views do: it has lost events.
    """
    with store.reading() as rows:
        folded, head = read_model.folded_until(rows), rows.head()
        if folded == head > 0:
            return 0
        if folded > head:
            message = (
                f"the views show events up to position {folded}, but the log ends at {head}: what came behind is lost. "
                "Restore the log; or, to go on without it, run replay"
            )
            raise DatabaseError(message)
    with store.writing() as rows:
        if read_model.folded_until(rows) < 0:
            read_model.clear(rows)
        folded = read_model.folded_until(rows)
        return fold(rows, rows, folded, rows.head(), progress) if folded else fold_whole(rows, progress)


def rebuild(store: Store, progress: Progress = _quiet) -> int:
    """Empty the views and fold the whole log again; answers how many events."""
    with store.writing() as rows:
        read_model.clear(rows)
        return fold_whole(rows, progress)


def fold_whole(rows: Rows, progress: Progress) -> int:
    """Fold a log that was committed into its views, which must be empty; answers how many events.

    Raises DatabaseError for one that can't be read.
    """
    until = rows.head()
    with halves.other_half(rows.file(), until) as half:
        if half is not None:
            try:
                return fold(rows, rows, 0, until, progress, bulk=True, mine=halves.is_ours, half=half)
            except halves.HalfMissing:
                read_model.clear(rows)
    return fold(rows, rows, 0, until, progress, bulk=True)


def fold(
    log: Log,
    views: Rows,
    after: int,
    until: int,
    progress: Progress,
    streams: Streams | None = None,
    *,
    bulk: bool = False,
    mine: Callable[[object], bool] | None = None,
    half: halves.OtherHalf | None = None,
) -> int:
    """Fold the events of `log` behind position `after` up to `until` into `views`; answers how many.

    `streams` are those at hand from the call before, in the same transaction. With `bulk` the views must be empty;
    then their largest one is written at the end, in its order: that is much faster for a long log. With `mine` only
    some aggregates are folded, and the others by `half`.

    Raises DatabaseError for one that can't be read.
    """
    mapper = EventMapper()
    changes = Changes(views) if bulk else None
    kept, capacity = Streams() if streams is None else streams, STREAMS if bulk else CAPACITY
    workspace = Workspace(views, kept, log, bulk=changes, capacity=capacity)
    write = workspace.spill if bulk else workspace.flush
    done = 0
    for position, originator, _, topic, state in log.records(after, until):
        try:
            if mine is None or mine(originator):
                event = mapper.decode(topic, state)
            else:
                event, by = None, mapper.origin(topic, state)
        except MapperDeserialisationError as error:
            message = f"the event at position {position} of the log can't be read: {error}"
            raise DatabaseError(message) from error
        if event is None:
            workspace.tick(position, by)
        else:
            workspace.fold(str(originator), event, position)
        done += 1
        if done % BATCH == 0:
            write()
            progress(done, until - after)
    workspace.flush()
    if changes is not None:
        changes.end(None if half is None else half.file())
    read_model.set_folded_until(views, until, workspace.time)
    progress(done, until - after)
    return done

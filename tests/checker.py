"""Checks what clients were told against the log, and the views against a fold of it.

The log is the only order there is, so nothing has to be searched: every check is one pass over sorted lists.
Times are readings of one monotonic clock, taken by the clients before they ask and after they are answered.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import accumulate, pairwise
from typing import Any

from imagestream_es.persistence import read_model
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Rows, Store
from imagestream_es.projections.projector import fold

NONE = 0
"""The position of a stream that was never written."""


class Outcome(Enum):
    """What a client was told."""

    DONE = "done"
    REFUSED = "refused"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One request of a client about one stream.

    `key` names a write in the log, "" a read; several of one key are one write that was asked for again and again, in
    this order. `expected` is the position at which the stream had to be for the
    write, None if that did not matter. `seen` is the position that the answer showed: that of the write, or that
    of the stream as it was read; None if it did not show one. `end` is infinite without an answer.
    """

    stream: str
    key: str = ""
    start: float
    end: float = math.inf
    outcome: Outcome = Outcome.DONE
    expected: int | None = None
    seen: int | None = None


@dataclass(frozen=True, order=True)
class Logged:
    """One event of the log, with the key of the write that made it."""

    position: int
    stream: str
    version: int
    key: str


def problems(operations: Iterable[Operation], log: Sequence[Logged]) -> list[str]:
    """Everything in which the answers do not agree with the log, which holds the streams' events in its order."""
    asked = [_timeless(one) if one.outcome is Outcome.UNKNOWN else one for one in operations]
    writes: dict[str, Operation] = {}
    for one in asked:
        if one.key:
            writes[one.key] = _again(writes[one.key], one) if one.key in writes else one
    reads = [one for one in asked if not one.key]
    return [
        *_of_retries(asked),
        *_of_the_log(log, writes),
        *_of_writes(writes.values(), log),
        *_of_real_time(log, writes),
        *_of_conflicts(log, writes),
        *_of_reads(reads, log, writes),
    ]


def _timeless(operation: Operation) -> Operation:
    """What is unknown may yet happen: it stays so for ever, whenever the client stopped waiting."""
    return replace(operation, end=math.inf, seen=None)


def _again(before: Operation, retry: Operation) -> Operation:
    """A write that was asked for again, as one: the last answer says what became of it."""
    ends = [one.end for one in (before, retry) if one.outcome is Outcome.DONE]
    seen = retry.seen if before.seen is None else before.seen
    start, end = min(before.start, retry.start), min(ends, default=math.inf)
    return replace(before, start=start, end=end, outcome=retry.outcome, seen=seen)


def _of_retries(asked: Iterable[Operation]) -> Iterator[str]:
    """Whoever asks again for what was done is told the same."""
    first: dict[str, Operation] = {}
    for one in asked:
        done = first.get(one.key)
        if done is not None and one.outcome is not Outcome.UNKNOWN:
            if one.outcome is not Outcome.DONE:
                yield f"{one.key} was acknowledged, and when it was asked for again it was not"
            elif one.seen != done.seen:
                yield f"{one.key} was acknowledged at position {done.seen} and then at {one.seen}"
        elif one.key and one.outcome is Outcome.DONE:
            first[one.key] = one


def _of_the_log(log: Sequence[Logged], writes: Mapping[str, Operation]) -> Iterator[str]:
    for before, after in pairwise(log):
        if before.position >= after.position:
            yield f"position {after.position} comes after {before.position}"
    versions: Counter[str] = Counter()
    for event in log:
        versions[event.stream] += 1
        if event.version != versions[event.stream]:
            yield f"{event.stream} has version {event.version} where {versions[event.stream]} is due"
    for key, count in Counter(event.key for event in log).items():
        if count > 1:
            yield f"{key} is stored {count} times"
        if key not in writes:
            yield f"{key} is stored and was never asked for"


def _of_writes(writes: Iterable[Operation], log: Sequence[Logged]) -> Iterator[str]:
    stored = {event.key: event for event in log}
    before = _positions_before(log)
    for write in writes:
        event = stored.get(write.key)
        if event is None:
            if write.outcome is Outcome.DONE:
                yield f"{write.key} was acknowledged and is lost"
            continue
        if write.outcome in (Outcome.REFUSED, Outcome.CONFLICT):
            yield f"{write.key} was refused and is stored"
        if event.stream != write.stream:
            yield f"{write.key} was for {write.stream} and is stored with {event.stream}"
        if write.seen not in (None, event.position):
            yield f"{write.key} was acknowledged at position {write.seen} and is stored at {event.position}"
        if write.expected not in (None, before[event.position]):
            yield f"{write.key} expected position {write.expected} and was stored behind {before[event.position]}"


def _positions_before(log: Sequence[Logged]) -> dict[int, int]:
    """For the position of each event, that of the event of its stream before it."""
    newest: dict[str, int] = {}
    before: dict[int, int] = {}
    for event in log:
        before[event.position] = newest.get(event.stream, NONE)
        newest[event.stream] = event.position
    return before


def _of_real_time(log: Sequence[Logged], writes: Mapping[str, Operation]) -> Iterator[str]:
    """What was answered before something else was asked is before it in the log."""
    earliest, first = math.inf, ""
    for event in reversed(log):
        write = writes.get(event.key)
        if write is None:
            continue
        if write.start > earliest:
            yield f"{event.key} was asked for after {first} was answered, and is stored before it"
        if write.end < earliest:
            earliest, first = write.end, event.key


def _of_conflicts(log: Sequence[Logged], writes: Mapping[str, Operation]) -> Iterator[str]:
    """Of a true conflict the other side was asked for before the refusal came."""
    before = _positions_before(log)
    after = {(event.stream, before[event.position]): event for event in log}
    for write in writes.values():
        if write.outcome is not Outcome.CONFLICT:
            continue
        rival = after.get((write.stream, write.expected or NONE))
        if rival is None or (rival.key in writes and writes[rival.key].start >= write.end):
            yield f"{write.key} was refused for a conflict at position {write.expected} that was none"


def _of_reads(reads: Sequence[Operation], log: Sequence[Logged], writes: Mapping[str, Operation]) -> Iterator[str]:
    """A read shows a prefix of the log: nothing from the future, and nothing less than was known before it."""
    written = {(event.stream, event.position): writes.get(event.key) for event in log}
    known = defaultdict(list)
    for event in log:
        write = writes.get(event.key)
        if write is not None and write.outcome is Outcome.DONE:
            known[event.stream].append((write.end, event.position))
    for read in reads:
        if read.outcome is Outcome.DONE and read.seen is not None:
            known[read.stream].append((read.end, read.seen))
    floors = {stream: _Floor(answers) for stream, answers in known.items()}
    for read in reads:
        if read.outcome is not Outcome.DONE or read.seen is None:
            continue
        if read.seen != NONE and (read.stream, read.seen) not in written:
            yield f"{read.stream} was read at position {read.seen}, which is not in the log"
            continue
        write = written.get((read.stream, read.seen))
        if write is not None and write.start >= read.end:
            yield f"{read.stream} was read at position {read.seen} before {write.key} was asked for"
        floor = floors[read.stream].at(read.start)
        if read.seen < floor:
            yield f"{read.stream} was read at position {read.seen} when {floor} was known"


class _Floor:
    """The newest position that had been answered at any time."""

    def __init__(self, answers: Iterable[tuple[float, int]]) -> None:
        ordered = sorted(answers)
        self._times = [time for time, _ in ordered]
        self._newest = list(accumulate((position for _, position in ordered), max))

    def at(self, time: float) -> int:
        """The newest position answered before `time`."""
        count = bisect_left(self._times, time)
        return self._newest[count - 1] if count else NONE


def views(rows: Rows) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every view, in the order of keys."""
    return {
        table: rows.all(
            f"SELECT {', '.join((*key, *read_model.COLUMNS[table]))} FROM {table} ORDER BY {', '.join(key)}"
        )
        for table, key in read_model.KEYS.items()
    }


def folded_anew(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """What the views would be if they were folded from the log now."""
    fresh = SQLiteStore(None)
    try:
        fresh.create_tables()
        with store.reading() as live, fresh.writing() as copy:
            fold(live, copy, 0, live.head(), lambda done, total: None)  # noqa: ARG005
            return views(copy)
    finally:
        fresh.close()

"""What a check of the whole log reads: the log event by event against everything that remembers it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from eventsourcing.persistence import DatabaseError, StoredEvent

from imagestream_es.persistence.merkle import Checkpoint, Record, Tree
from imagestream_es.persistence.store import LANDMARK, Row, Rows

TREE = "the Merkle tree beside the log"


@dataclass(frozen=True, order=True)
class Memory:
    """That the log was another one, or not: at `size` it had to have this tree, or this root."""

    size: int
    name: str
    holds: Callable[[Tree], bool] = field(compare=False)


def of_checkpoint(checkpoint: Checkpoint, name: str) -> Memory:
    """What a checkpoint remembers, called by a name."""
    return Memory(checkpoint.size, name, lambda tree: tree.root() == checkpoint.root)


def of_trees(rows: Rows) -> Iterator[Memory]:
    """What the trees beside the log remember. One that should be there and is not holds for no log."""
    end, due = max(rows.head(), rows.grown()), 0
    for size, peaks in rows.trees():
        if not isinstance(size, int):
            break
        while (due := _next(due, end)) < size:
            yield Memory(due, TREE, lambda _: False)
        yield Memory(size, TREE, partial(_is, peaks))
        due = size
    while due < end:
        due = _next(due, end)
        yield Memory(due, TREE, lambda _: False)


def _next(size: int, end: int) -> int:
    """The next size behind `size` at which a tree is kept of a log of `end` events."""
    return min((size // LANDMARK + 1) * LANDMARK, end)


def _is(peaks: object, tree: Tree) -> bool:
    return tree.write() == peaks


class Audit:
    """One walk through the log in order, that notes in `findings` what is wrong; `tree` is the one over what was read.

    `memories` come in the order of their sizes.
    """

    def __init__(self, rows: Rows, memories: Iterable[Iterable[Memory]]) -> None:
        self.findings: list[str] = []
        self.tree = Tree()
        self._head = rows.head()
        self._rows = rows
        self._memories = heapq.merge(*memories)
        self._held: dict[str, int] = {}
        self._failed: set[str] = set()
        self._events = self._walk()

    def records(self, after: int, until: int) -> Iterator[Record]:
        """The events that were not read yet, up to the first that is missing or no event."""
        if (after, until) != (self.tree.size, self._head):
            raise ValueError("an audit walks through the whole log once")
        return self._events

    def event_at(self, position: int) -> StoredEvent | None:
        """The event at a position, None without one."""
        return self._rows.event_at(position)

    def finish(self) -> None:
        """Read what is left."""
        for _ in self._events:
            pass

    def _walk(self) -> Iterator[Record]:
        tree, memory = self.tree, next(self._memories, None)
        while memory is not None and memory.size == 0:
            self._hold(memory)
            memory = next(self._memories, None)
        try:
            for record in self._rows.records(0, self._head):
                tree.extend((record,))
                while memory is not None and memory.size == tree.size:
                    self._hold(memory)
                    memory = next(self._memories, None)
                yield record
        except ValueError as error:
            self.findings.append(f"{error}: what comes behind position {tree.size} can't be vouched for")
        except DatabaseError as error:
            self.findings.append(f"the log can't be read behind position {tree.size}: {error}")
        else:
            self._missing(memory)

    def _hold(self, memory: Memory) -> None:
        name = memory.name
        if memory.holds(self.tree):
            self._held[name] = memory.size
        elif name not in self._failed:
            self._failed.add(name)
            good = self._held.get(name, 0)
            self.findings.append(f"the events behind position {good} up to {memory.size} are not those of {name}")

    def _missing(self, memory: Memory | None) -> None:
        """Tell of memories of a longer log."""
        longest: dict[str, int] = {}
        while memory is not None:
            longest[memory.name] = memory.size
            memory = next(self._memories, None)
        for name, size in longest.items():
            lost = f"the events behind position {self._head} up to {size} are lost"
            self.findings.append(f"the log ends at position {self._head}; by {name}, {lost}")


def missing_version(rows: Rows) -> Row | None:
    """The first aggregate whose versions do not run from 1 without gaps: id, number of events, first and last one."""
    return rows.one(
        "SELECT originator_id, COUNT(*), MIN(originator_version), MAX(originator_version) FROM stored_events"
        " GROUP BY originator_id HAVING MIN(originator_version) <> 1 OR MAX(originator_version) <> COUNT(*)"
        " ORDER BY originator_id LIMIT 1"
    )

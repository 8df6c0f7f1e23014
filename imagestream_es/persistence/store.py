"""What the two databases have in common: one log, some views, transactions over both.

A store hands out transactions. A reading one sees a single snapshot; there is one writing one at a time in
the whole world, so positions are given out in the order of commits and without gaps. SQL is written once,
with `?` for values, and each store translates the little that differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol

from eventsourcing.persistence import (
    ApplicationRecorder,
    DatabaseError,
    OperationalError,
    PersistenceError,
    StoredEvent,
)

from imagestream_es.persistence.merkle import Checkpoint, Record, Tree, record

Row = tuple[Any, ...]

TREE = "CREATE TABLE IF NOT EXISTS tree (size BIGINT PRIMARY KEY, peaks BLOB NOT NULL) {clustered}"

HISTORY = 128
"""How many events of one aggregate are read at once."""

LANDMARK = 256
"""The tree is kept as it was whenever it had grown by so many events: its root at any size is soon computed."""


class OutcomeUnknown(PersistenceError):
    """The database failed while it committed: the transaction may be stored or not."""


class DiskFull(OperationalError):
    """There is no room for what was to be written."""


class NotErased(PersistenceError):
    """What was deleted is gone from the tables, but its bytes may be left somewhere in the database's files."""


class TreeLost(OperationalError):
    """The tree beside the log is not there, or not to be read: nothing can be appended until the log is whole again."""


class Growth:
    """What a store remembers from one transaction to the next: the tree that grew last, committed or not."""

    def __init__(self) -> None:
        self.tree = Tree()


class Rows(ABC):
    """A transaction, as those see it who read and write rows in it."""

    _growth: Growth

    POSITION: ClassVar[str]
    """Name of the column that holds an event's position."""

    @abstractmethod
    def all(self, sql: str, *values: Any) -> list[Row]:
        """Every row of a query."""

    @abstractmethod
    def one(self, sql: str, *values: Any) -> Row | None:
        """The first row of a query, None without one."""

    @abstractmethod
    def each(self, sql: str, *values: Any) -> Iterator[Row]:
        """The rows of a query one after another, without holding them all."""

    @abstractmethod
    def run(self, sql: str, *values: Any) -> int:
        """Run one statement; answers how many rows it touched."""

    @abstractmethod
    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of the rows of values."""

    @abstractmethod
    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""

    def without_indexes(self, table: str) -> AbstractContextManager[None]:  # noqa: ARG002 (not every store has to)
        """Have a table without indexes in a block that writes all of it."""
        return nullcontext()

    def file(self) -> str | None:
        """The file that other processes can read, None without one."""
        return None

    def attach(self, file: Path, name: str) -> None:
        """Have the tables of another file under a name until the transaction ends; only where there is a `file`."""
        raise NotImplementedError

    def head(self) -> int:
        """Position of the last event of the log, 0 if it is empty."""
        row = self.one(f"SELECT MAX({self.POSITION}) FROM stored_events")
        return (row and row[0]) or 0

    def append(self, events: Iterable[tuple[int, StoredEvent]]) -> None:
        """Append events at their positions, which follow the head without gaps.

        Raises IntegrityError if a position or a version of an aggregate is taken, TreeLost if the tree over the log is
        not there to grow.
        """
        new = [record(position, event) for position, event in events]
        if not new:
            return
        self.many(f"INSERT INTO stored_events ({self._columns}) VALUES (?,?,?,?,?)", new)
        self.grow(new)

    def grow(self, new: Sequence[Record]) -> None:
        """Grow the tree by events that the log has and the tree has not. Raises TreeLost, DatabaseError."""
        before = new[0][0] - 1
        known = self._growth.tree
        # What grew last here has most often been committed and is still the last: it need not be read again.
        if known.size != before or before % LANDMARK == 0 or not self._grow(known, new):
            known = self._tree(before)
            if not self._grow(known, new):
                raise TreeLost("the Merkle tree beside the log can't be written: run verify")

    def _grow(self, tree: Tree, new: Sequence[Record]) -> bool:
        """Grow `tree` by events, if it is the one that is kept at its size."""
        grown: list[tuple[int, bytes]] = []
        before, tree = tree, Tree(tree.size, tree.peaks)
        done = 0
        while done < len(new):
            until = done + LANDMARK - tree.size % LANDMARK
            _extend(tree, new[done:until])
            grown.append((tree.size, tree.write()))
            done = until
        if before.size % LANDMARK:
            first, *grown = grown
            statement = "UPDATE tree SET size = ?, peaks = ? WHERE size = ? AND peaks = ?"
            if not self.run(statement, *first, before.size, before.write()):
                return False
        if grown:
            self.many("INSERT INTO tree (size, peaks) VALUES (?,?)", grown)
        self._growth.tree = tree
        return True

    def regrow(self) -> Checkpoint:
        """Drop the tree and grow another over the whole log; answers size and root.

        Whatever the tree could have proved is gone then. Raises DatabaseError if events are missing.
        """
        self.run("DELETE FROM tree")
        with closing(self.records(0, self.head())) as records:
            while batch := list(islice(records, 16 * LANDMARK)):
                self.grow(batch)
        return self.tree().checkpoint()

    def tree(self) -> Tree:
        """The tree as it is kept. Raises TreeLost if that is none."""
        return self._tree(self.grown())

    def grown(self) -> int:
        """Over how many events the tree is kept: as many as the log has, or something is wrong.

        Raises TreeLost if it is no number.
        """
        row = self.one("SELECT MAX(size) FROM tree")
        size = (row and row[0]) or 0
        if not isinstance(size, int):
            raise TreeLost("the Merkle tree can't be read: run verify")
        return size

    def tree_at(self, size: int) -> Tree:
        """The tree over the first `size` events, computed from the last one kept before that and the events since.

        Raises DatabaseError if that can't be read or the log has fewer events.
        """
        row = self.one("SELECT MAX(size) FROM tree WHERE size < ?", size)
        tree = self._tree((row and row[0]) or 0)
        _extend(tree, self.records(tree.size, size))
        if tree.size != size:
            raise DatabaseError(f"the log has no {size} events")
        return tree

    def trees(self) -> Iterator[Row]:
        """Every tree that is kept, by size, as `Tree.write` gave it; not checked."""
        return self.each("SELECT size, peaks FROM tree ORDER BY size")

    def damage(self) -> list[str]:
        """What the database itself finds wrong with its file; nothing where it is not asked."""
        return []

    def interrupt(self) -> None:  # noqa: B027 (not every kind of store has what takes long)
        """Let what another thread is doing with this, such as `damage`, fail at once."""

    def _tree(self, size: int) -> Tree:
        if size == 0:
            return Tree()
        row = self.one("SELECT peaks FROM tree WHERE size = ?", size)
        if row is None:
            raise TreeLost(f"no Merkle tree is kept over the first {size} events: run verify")
        try:
            return Tree.read(size, row[0])
        except (TypeError, ValueError) as error:
            raise TreeLost(f"the Merkle tree over the first {size} events can't be read: run verify") from error

    def log(self, after: int, until: int) -> Generator[tuple[int, StoredEvent], None, None]:
        """The events behind position `after` up to `until`, in order, each with its position."""
        for position, *event in self.records(after, until):
            yield position, StoredEvent(*event)

    def records(self, after: int, until: int) -> Generator[Record, None, None]:
        """What `log` gives, as rows: for those who read much."""
        condition = f"{self.POSITION} > ? AND {self.POSITION} <= ? ORDER BY {self.POSITION}"
        yield from self.each(f"{self._select} WHERE {condition}", after, until)

    def event_at(self, position: int) -> StoredEvent | None:
        """The event at a position, None without one."""
        return next((event for _, event in self.log(position - 1, position)), None)

    def touched(self, after: int, until: int, topics: Sequence[str]) -> list[str]:
        """The ids of aggregates with events of certain topics behind position `after` up to `until`."""
        condition = f"{self.POSITION} > ? AND {self.POSITION} <= ? AND topic IN ({','.join('?' * len(topics))})"
        found = self.all(f"SELECT DISTINCT originator_id FROM stored_events WHERE {condition}", after, until, *topics)
        return [str(originator) for (originator,) in found]

    def originators(self, after: int, until: int) -> list[tuple[str, int]]:
        """Of the events behind position `after` up to `until` the aggregate's id, and its version after each."""
        condition = f"{self.POSITION} > ? AND {self.POSITION} <= ?"
        found = self.all(f"SELECT originator_id, originator_version FROM stored_events WHERE {condition}", after, until)
        return [(str(originator), version) for originator, version in found]

    def history(self, originator: str, after: int, until: int) -> Iterator[tuple[int, StoredEvent]]:
        """The events of one aggregate behind version `after` up to position `until`, each with its position."""
        # Its events come in the order of positions: those behind the last one wanted are not even looked at.
        query = f"{self._select} WHERE originator_id = ? AND originator_version > ? ORDER BY originator_version LIMIT ?"
        while found := self.all(query, originator, after, HISTORY):
            for position, *event in found:
                if position > until:
                    return
                yield position, StoredEvent(*event)
            after = found[-1][2]

    @property
    def _columns(self) -> str:
        return f"{self.POSITION}, originator_id, originator_version, topic, state"

    @property
    def _select(self) -> str:
        return f"SELECT {self._columns} FROM stored_events"


def _extend(tree: Tree, records: Iterable[Record]) -> None:
    try:
        tree.extend(records)
    except ValueError as error:
        raise DatabaseError(str(error)) from error


class Store(Protocol):
    """A database with the log and the views."""

    @property
    def recorder(self) -> ApplicationRecorder:
        """The library's door to the log."""

    def create_tables(self) -> None:
        """Make what tables are missing."""

    def reading(self) -> AbstractContextManager[Rows]:
        """A transaction that sees one snapshot and writes nothing. Raises PersistenceError."""

    def glancing(self) -> AbstractContextManager[Rows]:
        """No transaction: each statement sees what is committed by then, and costs little. Raises PersistenceError."""

    def writing(self) -> AbstractContextManager[Rows]:
        """The one transaction that writes; durable when its block ends. Raises PersistenceError, OutcomeUnknown."""

    def erasing(self, table: str) -> AbstractContextManager[Rows]:
        """A writing transaction that leaves no bytes of what it deletes from `table` in the database's files.

        Other processes may use the database meanwhile. Raises PersistenceError, NotErased.
        """

    def turn(self) -> float:
        """Seconds that a transaction on the shadow may well take: as long as others wait for it."""

    def alone(self, task: str) -> AbstractContextManager[None]:
        """Be the only one at a task, as `replay`. Raises InUse if somebody else is at it."""

    def has_shadow(self) -> bool:
        """Whether a shadow was begun and not finished."""

    def make_shadow(self) -> None:
        """Drop what is left of a shadow, and make one with nothing in it."""

    def shadow(self) -> AbstractContextManager[Rows]:
        """A transaction that writes, and to which the views are the shadow's. Raises PersistenceError."""

    def shadow_alone(self) -> AbstractContextManager[Rows | None]:
        """Like `shadow`, for as long as it takes: no service can begin meanwhile. None if one may run."""

    def swapping(self, views: Sequence[str]) -> AbstractContextManager[Rows]:
        """Like `shadow`, while nobody else writes; when its block ends, `views` are those of the shadow.

        Others see them all at once, and those who read go on with what they saw. Raises OperationalError, with no
        effect, if others would have to wait too long for this; PersistenceError, OutcomeUnknown.
        """

    def drop_shadow(self) -> None:
        """Drop what is left of a shadow, and of the views whose place it took."""

    def save(self, path: str, progress: Callable[[int, int], None]) -> None:
        """Write all that must be kept, as it is at one moment, to a new SQLite file; others may go on writing.

        Raises PersistenceError.
        """

    def close(self) -> None:
        """Let go of all connections."""


def make_tree(store: Store) -> Checkpoint | None:
    """Grow the whole tree over a log that has none; answers size and root, None if nothing was to be done.

    So is a log that an earlier version of this program began. Raises PersistenceError.
    """
    with store.reading() as rows:
        if rows.grown() or not rows.head():
            return None
    with store.writing() as rows:
        return None if rows.grown() else rows.regrow()

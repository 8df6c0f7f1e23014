"""What the two databases have in common: one log, some views, transactions over both.

A store hands out transactions. A reading one sees a single snapshot; there is one writing one at a time in
the whole world, so positions are given out in the order of commits and without gaps. SQL is written once,
with `?` for values, and each store translates the little that differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

from eventsourcing.persistence import ApplicationRecorder, PersistenceError, StoredEvent

Row = tuple[Any, ...]


class OutcomeUnknown(PersistenceError):
    """The database failed while it committed: the transaction may be stored or not."""


class Rows(ABC):
    """A transaction, as those see it who read and write rows in it."""

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

    def head(self) -> int:
        """Position of the last event of the log, 0 if it is empty."""
        row = self.one(f"SELECT MAX({self.POSITION}) FROM stored_events")
        return (row and row[0]) or 0

    def append(self, events: Iterable[tuple[int, StoredEvent]]) -> None:
        """Append events at their positions, which follow the head without gaps.

        Raises IntegrityError if a position or a version of an aggregate is taken.
        """
        self.many(
            f"INSERT INTO stored_events ({self._columns}) VALUES (?,?,?,?,?)",
            [(at, e.originator_id, e.originator_version, e.topic, e.state) for at, e in events],
        )

    def log(self, after: int, until: int) -> Iterator[tuple[int, StoredEvent]]:
        """The events behind position `after` up to `until`, in order, each with its position."""
        condition = f"{self.POSITION} > ? AND {self.POSITION} <= ? ORDER BY {self.POSITION}"
        for position, *event in self.each(f"{self._select} WHERE {condition}", after, until):
            yield position, StoredEvent(*event)

    def touched(self, after: int, until: int, topics: Sequence[str]) -> list[str]:
        """The ids of aggregates with events of certain topics behind position `after` up to `until`."""
        condition = f"{self.POSITION} > ? AND {self.POSITION} <= ? AND topic IN ({','.join('?' * len(topics))})"
        found = self.all(f"SELECT DISTINCT originator_id FROM stored_events WHERE {condition}", after, until, *topics)
        return [str(originator) for (originator,) in found]

    def history(self, originator: str, after: int, until: int) -> Iterator[tuple[int, StoredEvent]]:
        """The events of one aggregate behind version `after` up to position `until`, each with its position."""
        condition = f"originator_id = ? AND originator_version > ? AND {self.POSITION} <= ? ORDER BY originator_version"
        for position, *event in self.each(f"{self._select} WHERE {condition}", originator, after, until):
            yield position, StoredEvent(*event)

    @property
    def _columns(self) -> str:
        return f"{self.POSITION}, originator_id, originator_version, topic, state"

    @property
    def _select(self) -> str:
        return f"SELECT {self._columns} FROM stored_events"


class Store(Protocol):
    """A database with the log and the views."""

    @property
    def recorder(self) -> ApplicationRecorder:
        """The library's door to the log."""

    def create_tables(self) -> None:
        """Make what tables are missing."""

    def reading(self) -> AbstractContextManager[Rows]:
        """A transaction that sees one snapshot and writes nothing. Raises PersistenceError."""

    def writing(self) -> AbstractContextManager[Rows]:
        """The one transaction that writes; durable when its block ends. Raises PersistenceError, OutcomeUnknown."""

    def close(self) -> None:
        """Let go of all connections."""

"""Every table of a store, on one page: whoever makes, copies or empties a store goes by these names.

A new module with tables of its own joins one of the tuples below; backups then hold its tables by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice

from imagestream_es.persistence import idempotency, inbox, principals, read_model
from imagestream_es.persistence.store import TREE, Rows

LOG = "stored_events"

_BATCH = 2000


def _names(statements: Iterable[str]) -> tuple[str, ...]:
    found = (re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", statement) for statement in statements)
    return tuple(match[1] for match in found if match)


VIEW_STATEMENTS = read_model.TABLES
"""What makes the views and their indexes."""

STATEMENTS = (TREE, *VIEW_STATEMENTS, *inbox.TABLES, *principals.TABLES, *idempotency.TABLES)
"""What makes all tables beside the log, and their indexes."""

VIEWS = _names(VIEW_STATEMENTS)
"""Tables that can be folded again from the log."""

PEOPLE = _names(principals.TABLES)
"""Tables that say who is named in the log."""

KEPT = (LOG, *(name for name in _names(STATEMENTS) if name not in VIEWS))
"""Tables that nothing could bring back: what a backup must hold."""


def copy(source: Rows, target: Rows, table: str, copied: Callable[[int], None]) -> None:
    """Copy all rows of a table from one store to another, of whatever kind; `copied` hears how many came over."""
    columns = source.columns(table)
    into = [target.POSITION if column == source.POSITION else column for column in columns]
    insert = f"INSERT INTO {table} ({', '.join(into)}) VALUES ({','.join('?' * len(into))})"
    rows = source.each(f"SELECT {', '.join(columns)} FROM {table}")
    while batch := list(islice(rows, _BATCH)):
        target.many(insert, batch)
        copied(len(batch))


def count(rows: Rows, names: Iterable[str]) -> int:
    """How many rows some tables have together."""
    found = [rows.one(f"SELECT COUNT(*) FROM {name}") for name in names]
    return sum(row[0] for row in found if row)

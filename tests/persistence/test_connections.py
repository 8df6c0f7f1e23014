"""Which connection to SQLite's file somebody gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from eventsourcing.persistence import PersistenceError

from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Rows


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(str(tmp_path / "test.db"))
    store.create_tables()
    with store.writing() as rows:
        rows.run("CREATE TEMP TABLE mark (value)")  # which this connection alone has
    yield store
    store.close()


def is_marked(rows: Rows) -> bool:
    return rows.one("SELECT 1 FROM sqlite_temp_master WHERE name = 'mark'") is not None


def test_who_writes_has_always_the_same_connection_and_no_reader_has_it(store: SQLiteStore) -> None:
    with store.reading() as rows, store.glancing() as others:
        assert not is_marked(rows)
        assert not is_marked(others)
    for _ in range(2):
        with store.writing() as rows:
            assert is_marked(rows)


def test_a_connection_that_failed_is_thrown_away(store: SQLiteStore) -> None:
    with pytest.raises(PersistenceError), store.writing() as rows:
        rows.run("INSERT INTO nothing VALUES (1)")
    with store.writing() as rows:
        assert not is_marked(rows)


def test_what_was_set_in_order_to_erase_holds_for_nothing_else(store: SQLiteStore) -> None:
    with store.erasing("principals"):
        pass
    with store.writing() as rows:
        assert rows.one("PRAGMA busy_timeout") == (5000,)

"""What is known of requests that were done under a key, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagestream_es.domain.idempotency import Claim, Done
from imagestream_es.persistence import read_model
from imagestream_es.persistence.idempotency import KEPT, find, remember
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Rows, Store

FIRST = Claim("u-1", "k", "f-1", 1000)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        found: Store = SQLiteStore(str(tmp_path / "log.db"))
    else:
        from imagestream_es.persistence.postgres import PostgresStore  # noqa: PLC0415 (its driver is heavy)

        found = PostgresStore(str(request.getfixturevalue("postgres_url")))
    found.create_tables()
    yield found
    found.close()


@pytest.fixture
def rows(store: Store) -> Iterator[Rows]:
    with store.writing() as rows:
        yield rows


def test_nothing_is_known_of_a_new_key(rows: Rows) -> None:
    assert find(rows, [("u-1", "k")]) == {}
    assert find(rows, []) == {}


def test_what_the_log_tells_is_from_before_the_first_event_to_the_last(rows: Rows) -> None:
    read_model.save_keys(rows, [("u-1", "k", "f-1", 5, 5), ("u-1", "k", "f-1", 6, 6), ("u-2", "k", "f-2", 9, 9)])
    assert find(rows, [("u-1", "k")]) == {("u-1", "k"): Done("f-1", 4, 6)}
    both = find(rows, [("u-1", "k"), ("u-2", "k"), ("u-3", "k"), ("u-1", "K")])
    assert both == {("u-1", "k"): Done("f-1", 4, 6), ("u-2", "k"): Done("f-2", 8, 9)}


def test_a_request_that_changed_nothing_is_remembered_where_it_was_done(rows: Rows) -> None:
    remember(rows, FIRST, 7, b"")
    assert find(rows, [FIRST.id]) == {FIRST.id: Done("f-1", 7, 7)}


def test_what_the_log_can_not_tell_goes_with_what_it_tells(rows: Rows) -> None:
    remember(rows, FIRST, 6, b"more" * 1000)
    read_model.save_keys(rows, [(*FIRST.id, "f-1", 5, 6)])
    assert find(rows, [FIRST.id]) == {FIRST.id: Done("f-1", 4, 6, b"more" * 1000)}


def test_what_was_remembered_is_dropped_when_it_is_old(rows: Rows) -> None:
    remember(rows, FIRST, 7, b"")
    remember(rows, Claim("u-1", "later", "f", FIRST.at + KEPT), 8, b"")
    assert FIRST.id in find(rows, [FIRST.id])
    remember(rows, Claim("u-1", "last", "f", FIRST.at + KEPT + 1), 9, b"")
    assert set(find(rows, [FIRST.id, ("u-1", "later"), ("u-1", "last")])) == {("u-1", "later"), ("u-1", "last")}


def test_many_keys_are_looked_up_at_once(rows: Rows) -> None:
    keys = [("u-1", f"key {number} ~!%?'\"") for number in range(1200)]
    read_model.save_keys(rows, [(*key, "f", at, at) for at, key in enumerate(keys[::2], 1)])
    assert list(find(rows, keys)) == keys[::2]


def test_a_look_up_does_not_go_through_the_table() -> None:
    store = SQLiteStore(None)
    store.create_tables()
    asked: list[str] = []
    try:
        with store.reading() as rows:
            everything = rows.all

            def spy(sql: str, *values: object) -> list[tuple[object, ...]]:
                asked.extend(row[3] for row in everything(f"EXPLAIN QUERY PLAN {sql}", *values))
                return everything(sql, *values)

            rows.all = spy  # type: ignore[method-assign]
            find(rows, [("u-1", "a"), ("u-1", "b"), ("u-2", "c")])
    finally:
        store.close()
    for table in ("answers", "idempotency_keys"):
        (plan,) = [line for line in asked if table in line]
        assert plan.startswith(f"SEARCH {table} USING PRIMARY KEY (actor=? AND key=?)")

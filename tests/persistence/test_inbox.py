"""The inbox on both databases: order, ids that come again, and what was settled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagestream_es.persistence import inbox
from imagestream_es.persistence.inbox import Arrival, Pushed
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Store


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


def arrival(name: str, repository: str = "team/app") -> Arrival:
    return Arrival(name, repository, "webhook", 1000, name.encode() + b"\x00\xff")


def add(store: Store, *arrivals: Arrival) -> int:
    with store.writing() as rows:
        return inbox.add(rows, arrivals)


def test_pushes_wait_in_the_order_of_their_arrival(store: Store) -> None:
    assert add(store, arrival("z"), arrival("y", "team/other")) == 2
    assert add(store, arrival("x")) == 1
    with store.writing() as rows:
        assert inbox.repositories(rows) == ["team/app", "team/other"]
        first = inbox.oldest(rows, "team/app")
        assert first is not None
        assert (first.body, first.door) == (b"z\x00\xff", "webhook")
        inbox.settle(rows, first.number, "mapped", 2000)
        second = inbox.oldest(rows, "team/app")
        assert second is not None
        assert second.body == b"x\x00\xff"
        assert inbox.repositories(rows) == ["team/other", "team/app"]
        inbox.settle(rows, second.number, "late", 2000)
        assert inbox.oldest(rows, "team/app") is None
        assert inbox.repositories(rows) == ["team/other"]


def test_an_id_that_is_known_is_not_kept_again(store: Store) -> None:
    assert add(store, arrival("a"), arrival("a"), arrival("b")) == 2
    assert add(store, arrival("b", "team/other"), arrival("c")) == 1
    with store.reading() as rows:
        assert inbox.repositories(rows) == ["team/app"]


def test_an_id_stays_known_until_it_was_settled_long_ago(store: Store) -> None:
    add(store, arrival("a"), arrival("b"))
    with store.writing() as rows:
        waiting = inbox.oldest(rows, "team/app")
        assert waiting is not None
        assert inbox.waits(rows, waiting.number)
        inbox.settle(rows, waiting.number, "mapped", 2000)
        assert not inbox.waits(rows, waiting.number)
        assert inbox.forget(rows, 2000) == 0
        assert inbox.add(rows, [arrival("a")]) == 0
        assert inbox.forget(rows, 2001) == 1
        assert inbox.add(rows, [arrival("a"), arrival("b")]) == 1


def test_the_last_push_of_a_tag_is_remembered(store: Store) -> None:
    with store.writing() as rows:
        inbox.remember(rows, "team/app", "v1", Pushed(1, "sha256:a"))
        inbox.remember(rows, "team/app", "v1", Pushed(1_800_000_000_000_000_000, "sha256:b"))
        inbox.remember(rows, "team/app", "v2", Pushed(3, "sha256:c"))
    with store.reading() as rows:
        assert inbox.newest(rows, "team/app", "v1") == Pushed(1_800_000_000_000_000_000, "sha256:b")
        assert inbox.newest(rows, "team/other", "v1") is None
        assert {tag: push.digest for tag, push in inbox.pushed(rows, "team/app").items()} == {
            "v1": "sha256:b",
            "v2": "sha256:c",
        }

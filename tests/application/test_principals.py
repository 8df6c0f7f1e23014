"""The ids by which events name users: opaque, durable before they are used, and gone when somebody is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import OperationalError
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.access.identity import ANONYMOUS, LONGEST_NAME, UNSECURED, User
from imagestream_es.application import principals as principals_module
from imagestream_es.application.principals import LEASE, SEEN_EVERY, Principals, forget, new_id
from imagestream_es.application.writer import Unavailable
from imagestream_es.persistence import principals as table
from imagestream_es.persistence import read_model
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Rows, Store

ALICE, BOB = User("alice", issuer="token-file"), User("bob", issuer="token-file")


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


class Watched:
    """A store that counts what is asked of it, and fails when told to."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.transactions = 0
        self.broken = False

    @contextmanager
    def _counted(self, transaction: Any) -> Iterator[Rows]:
        self.transactions += 1
        if self.broken:
            raise OperationalError("no disk")
        with transaction as rows:
            yield rows

    def reading(self) -> Any:
        return self._counted(self.store.reading())

    def writing(self) -> Any:
        return self._counted(self.store.writing())


class Known:
    """Principals over a store, with clocks that stand still until they are moved."""

    def __init__(self, store: Store) -> None:
        self.store = Watched(store)
        self.seconds = 1000.0
        watched: Any = self.store
        self.principals = Principals(watched, lambda: int(self.seconds * 1000), lambda: self.seconds)

    def forget(self, name: str) -> int:
        """As another process does it, while this one runs."""
        return forget(self.store.store, name, 1, lambda seconds: setattr(self, "seconds", self.seconds + seconds))


@pytest.fixture
def known(store: Store) -> Known:
    return Known(store)


def rows_of(store: Store) -> list[table.Principal]:
    with store.reading() as rows:
        return table.everybody(rows)


def test_a_user_has_one_id_for_ever_and_it_tells_nothing(known: Known, store: Store) -> None:
    first = known.principals.id_of(ALICE)
    assert known.principals.id_of(User("alice", "other uid", ("group",), issuer="token-file")) == first
    assert Known(store).principals.id_of(ALICE) == first
    assert "alice" not in first
    assert known.principals.names([first, "unknown"]) == {first: "alice"}


def test_the_row_is_durable_before_the_id_can_be_used(known: Known, store: Store) -> None:
    given_id = known.principals.id_of(ALICE)
    assert rows_of(store) == [table.Principal(given_id, "token-file", "alice", 1_000_000, 1_000_000)]


def test_without_a_durable_row_there_is_no_id(known: Known) -> None:
    known.store.broken = True
    with pytest.raises(Unavailable) as refused:
        known.principals.id_of(ALICE)
    assert not refused.value.may_be_stored
    with pytest.raises(Unavailable):
        known.principals.names(["some"])
    with pytest.raises(Unavailable):
        known.principals.ids("alice")


def test_users_of_one_name_but_of_other_issuers_are_others(known: Known) -> None:
    one, other = known.principals.id_of(ALICE), known.principals.id_of(User("alice", issuer="oidc:https://idp"))
    assert one != other
    assert sorted(known.principals.ids("alice")) == sorted([one, other])
    assert known.principals.ids("nobody") == []


def test_who_said_nothing_and_the_service_itself_need_no_row(known: Known, store: Store) -> None:
    assert known.principals.id_of(UNSECURED) == "system:unsecured"
    assert known.principals.id_of(ANONYMOUS) == "system:anonymous"
    assert rows_of(store) == []
    own = "system:import-controller"
    assert known.principals.names([own]) == {own: own}
    assert known.principals.ids(own) == [own]


@pytest.mark.parametrize("name", ["system:serviceaccount:ns:sa", "system:unsecured", "system:imagestream-es"])
def test_a_client_with_a_name_like_the_services_own_is_a_client(known: Known, name: str) -> None:
    found = known.principals.id_of(User(name, issuer="certificate"))
    assert not found.startswith("system:")
    assert known.principals.names([found]) == {found: name}
    assert known.principals.ids(name) == [name, found]


def test_an_id_is_never_like_a_name_of_the_service() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert not [one for one in ids if ":" in one]


def test_many_writes_at_once_of_a_new_user_have_one_id(store: Store) -> None:
    many = [Principals(store, lambda: 1) for _ in range(3)]
    found: list[str] = []
    threads = [threading.Thread(target=lambda one=one: found.append(one.id_of(ALICE))) for one in many * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert len(set(found)) == 1


def test_a_write_of_a_known_user_asks_the_store_nothing(known: Known) -> None:
    known.principals.id_of(ALICE)
    before = known.store.transactions
    for _ in range(1000):
        known.principals.id_of(ALICE)
    assert known.store.transactions == before
    known.seconds += LEASE
    known.principals.id_of(ALICE)
    assert known.store.transactions == before + 1


def test_users_are_remembered_within_bounds(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principals_module, "MOST", 3)
    users = [User(f"user-{number}", issuer="token-file") for number in range(8)]
    ids = [known.principals.id_of(user) for user in users]
    assert [known.principals.id_of(user) for user in users] == ids


# --- who pushes to the registry


def test_the_registrys_user_is_a_principal_of_its_own(known: Known) -> None:
    found = known.principals.pusher("alice")
    assert known.principals.names([found]) == {found: "alice"}
    assert found != known.principals.id_of(ALICE)


@pytest.mark.parametrize("name", ["", "x" * (LONGEST_NAME + 1), "a\x00b", "a\nb", "\x1b[2J"])
def test_a_name_that_cannot_be_one_is_the_registry_itself(known: Known, store: Store, name: str) -> None:
    assert known.principals.pusher(name) == "system:registry"
    assert rows_of(store) == []


# --- when they were seen


def test_when_users_were_seen_is_written_at_most_once_a_minute_and_together(known: Known, store: Store) -> None:
    for user in (ALICE, BOB):
        known.principals.id_of(user)
    known.seconds += SEEN_EVERY - 1
    for user in (ALICE, BOB):
        known.principals.id_of(user)
    assert {one.last_seen for one in rows_of(store)} == {1_000_000}
    known.seconds += 1
    before = known.store.transactions
    known.principals.id_of(ALICE)
    assert known.store.transactions == before + 2  # one for the lease
    assert {one.name: one.last_seen for one in rows_of(store)} == {"alice": 1_060_000, "bob": 1_059_000}
    assert {one.first_seen for one in rows_of(store)} == {1_000_000}


def test_when_users_were_seen_is_written_at_the_end(known: Known, store: Store) -> None:
    known.principals.id_of(ALICE)
    known.seconds += 5
    known.principals.id_of(ALICE)
    known.principals.close()
    assert [one.last_seen for one in rows_of(store)] == [1_005_000]


def test_that_it_cannot_be_written_hurts_nobody(known: Known) -> None:
    found = known.principals.id_of(ALICE)
    known.store.broken = True
    known.principals.close()
    assert known.principals.id_of(ALICE) == found


# --- forgetting


def test_who_was_forgotten_is_unknown_and_gets_another_id_when_they_come_back(known: Known, store: Store) -> None:
    first, other = known.principals.id_of(ALICE), known.principals.id_of(BOB)
    known.principals.id_of(User("alice", issuer="certificate"))
    assert known.forget("alice") == 2
    assert known.principals.names([first, other]) == {other: "bob"}
    assert known.principals.ids("alice") == []
    second = known.principals.id_of(ALICE)
    assert second != first
    assert known.principals.names([first, second]) == {second: "alice"}
    assert known.principals.id_of(BOB) == other


def test_a_running_service_uses_no_forgotten_id_once_forgetting_is_done(known: Known) -> None:
    first = known.principals.id_of(ALICE)
    with known.store.store.erasing(table.TABLE) as rows:
        table.forget(rows, "alice", 1)
    assert known.principals.id_of(ALICE) == first  # as long as the lease: so long forgetting waits
    known.seconds += LEASE
    assert known.principals.id_of(BOB) != first
    assert known.principals.id_of(ALICE) != first


def test_that_a_forgotten_user_was_seen_does_not_bring_them_back(known: Known, store: Store) -> None:
    known.principals.id_of(ALICE)
    known.forget("alice")
    known.principals.close()
    assert rows_of(store) == []


def test_nobody_can_be_forgotten_again_and_again(known: Known, store: Store) -> None:
    known.principals.id_of(BOB)
    before = rows_of(store)
    assert known.forget("alice") == 0
    assert known.forget("alice") == 0
    assert rows_of(store) == before


def test_a_replay_forgets_nobody(known: Known, store: Store) -> None:
    known.principals.id_of(ALICE)
    before = rows_of(store)
    with store.writing() as rows:
        read_model.clear(rows)
        rows.run("UPDATE projection SET value = -1 WHERE name = 'shape'")
    store.create_tables()
    assert rows_of(store) == before


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=300), max_size=20))
def test_any_name_is_kept_and_told_as_it_is(names: list[str]) -> None:
    store = SQLiteStore(None)
    try:
        store.create_tables()
        known = Known(store).principals
        ids = {known.id_of(User(name, issuer="oidc:x")): name for name in names}
        assert len(ids) == len(set(names))
        assert known.names(ids) == ids
    finally:
        store.close()

"""Stamps: they hold from before a read until something of what was read is changed, and are not given meanwhile."""

from __future__ import annotations

import pytest
from eventsourcing.persistence import OperationalError

from imagestream_es.application import freshness
from imagestream_es.application.freshness import (
    IMAGES,
    KNOWN_IMAGES,
    LOOK_EVERY,
    STREAMS,
    Freshness,
    Stamps,
    changed_by,
)
from imagestream_es.persistence import read_model
from imagestream_es.persistence.sqlite import SQLiteStore


@pytest.fixture
def fresh() -> Freshness:
    return Freshness()


def stamps(fresh: Freshness, *subjects: str) -> Stamps:
    found = fresh.stamps(subjects)
    assert found is not None
    return found


def test_stamps_hold_while_nothing_changes(fresh: Freshness) -> None:
    first, second = stamps(fresh, "shop/web", KNOWN_IMAGES), stamps(fresh, "shop/web")
    assert fresh.holds_at(first) == fresh.holds_at(second) == 0
    with fresh.changing(["shop/other"], 7):
        pass
    assert fresh.holds_at(first) == fresh.holds_at(second) == 7


def test_a_change_of_one_subject_is_enough(fresh: Freshness) -> None:
    both, other = stamps(fresh, "a", "b"), stamps(fresh, "b")
    with fresh.changing(["a"], 7):
        pass
    assert fresh.holds_at(both) is None
    assert fresh.holds_at(other) == 7


def test_what_is_being_changed_has_no_stamps_and_older_ones_hold_no_more(fresh: Freshness) -> None:
    before = stamps(fresh, "a")
    with fresh.changing(["a"], 7):
        assert fresh.holds_at(before) is None
        assert fresh.stamps(["b", "a"]) is None
        assert fresh.stamps(["b"]) is not None
    assert fresh.holds_at(before) is None
    assert fresh.holds_at(stamps(fresh, "a")) == 7


def test_a_commit_that_fails_moves_nothing_but_costs_the_stamps(fresh: Freshness) -> None:
    before = stamps(fresh, "a")
    with pytest.raises(RuntimeError), fresh.changing(["a"], 7):
        raise RuntimeError
    assert fresh.holds_at(before) is None
    assert fresh.holds_at(stamps(fresh, "a")) == 0


def test_what_nothing_can_be_called_has_no_stamps(fresh: Freshness) -> None:
    assert fresh.stamps([f"shop/{'x' * 10_000}"]) is None


def test_stamps_of_too_many_subjects_are_forgotten(fresh: Freshness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "MOST", 10)
    first = stamps(fresh, "first")
    for number in range(11):
        stamps(fresh, str(number))
    assert fresh.holds_at(first) is None


def test_views_that_a_replay_replaced_are_noticed() -> None:
    store = SQLiteStore(None)
    store.create_tables()
    seconds = 0.0
    fresh = Freshness(store, now=lambda: seconds)
    assert fresh.holds_at(stamps(fresh, "a")) is None  # the first look costs all stamps
    before = stamps(fresh, "a")
    with store.writing() as rows:
        read_model.replaced(rows, 0, 0)
    assert fresh.holds_at(before) == 0
    seconds = LOOK_EVERY
    assert fresh.holds_at(before) is None
    assert fresh.holds_at(stamps(fresh, "a")) == 0
    store.close()


def test_while_the_store_cannot_be_read_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SQLiteStore(None)
    store.create_tables()
    fresh = Freshness(store, shared=True)
    fresh.holds_at(())
    before = stamps(fresh, "a")

    def fail() -> None:
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(store, "glancing", fail)
        assert fresh.holds_at(before) is None
    assert fresh.holds_at(before) == 0
    store.close()


@pytest.mark.parametrize(
    ("originator", "version", "expected"),
    [
        ("shop/web", 1, {"shop/web", "shop/", STREAMS}),
        ("shop/web", 9, {"shop/web", "shop/", STREAMS}),
        ("sha256:a", 1, {"sha256:a", IMAGES}),
        ("sha256:a", 2, {"sha256:a", IMAGES, KNOWN_IMAGES}),
    ],
)
def test_what_an_event_changes(originator: str, version: int, expected: set[str]) -> None:
    assert set(changed_by(originator, version)) == expected

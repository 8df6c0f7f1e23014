"""What one user may ask for: so many requests a second, so many at once, whatever others do."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.application import limits as limits_module
from imagestream_es.application.limits import Limits, TooMany


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def asked(limits: Limits, user: str, times: int) -> int:
    """How many of so many requests, one after another, were let in."""
    found = 0
    for _ in range(times):
        try:
            limits.begin(user)()
            found += 1
        except TooMany:
            pass
    return found


def test_without_limits_everything_is_let_in(clock: Clock) -> None:
    limits = Limits(None, None, clock)
    assert [limits.begin("alice") for _ in range(1000)]


def test_who_was_idle_may_ask_for_a_seconds_worth_at_once(clock: Clock) -> None:
    limits = Limits(5, None, clock)
    assert asked(limits, "alice", 20) == 5
    clock.seconds += 0.4
    assert asked(limits, "alice", 20) == 2
    clock.seconds += 3600
    assert asked(limits, "alice", 20) == 5


def test_one_user_takes_nothing_from_another(clock: Clock) -> None:
    limits = Limits(5, 1, clock)
    assert asked(limits, "alice", 20) == 5
    limits.begin("bob")
    assert asked(limits, "carol", 20) == 5


def test_it_is_told_when_to_come_again(clock: Clock) -> None:
    limits = Limits(2, None, clock)
    asked(limits, "alice", 2)
    with pytest.raises(TooMany, match="2 a second") as refused:
        limits.begin("alice")
    assert refused.value.retry_after == 1
    clock.seconds += refused.value.retry_after
    limits.begin("alice")


def test_only_so_many_requests_are_under_way(clock: Clock) -> None:
    limits = Limits(None, 2, clock)
    first, _ = limits.begin("alice"), limits.begin("alice")
    with pytest.raises(TooMany, match="2 under way") as refused:
        limits.begin("alice")
    assert refused.value.retry_after == 1
    first()
    limits.begin("alice")


def test_a_refused_request_costs_nothing(clock: Clock) -> None:
    limits = Limits(10, 1, clock)
    end = limits.begin("alice")
    assert asked(limits, "alice", 50) == 0
    end()
    assert asked(limits, "alice", 50) == 9


def test_users_who_are_idle_are_forgotten_and_no_others(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "MOST", 10)
    limits = Limits(1, 1, clock)
    limits.begin("busy")
    for number in range(100):
        clock.seconds += 0.5
        limits.begin(f"user-{number}")()
        assert len(limits._users) <= 12
    assert asked(limits, "busy", 1) == 0


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=100))
def test_in_no_time_are_more_let_in_than_the_rate_allows(rate: int, pauses: list[float]) -> None:
    clock = Clock()
    limits = Limits(rate, None, clock)
    let_in = []
    for pause in pauses:
        clock.seconds += pause
        let_in += [clock.seconds] * asked(limits, "alice", 3)
    for start in range(len(let_in)):
        for end in range(start, len(let_in)):
            assert end - start + 1 <= rate + (let_in[end] - let_in[start]) * rate + 1e-6


def test_threads_do_not_come_in_between(clock: Clock) -> None:
    limits = Limits(100, None, clock)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(asked(limits, "alice", 50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == 100

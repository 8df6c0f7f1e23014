"""What holds for the schedule of imports whatever happens: limits are kept, nothing is lost, waits are right."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.application.import_schedule import Attempt, Bucket, Ended, Schedule
from imagestream_es.domain.import_needs import Need
from imagestream_es.domain.tags import TagReference

INTERVAL = 100.0
REGISTRIES = ("one", "two")

needs = st.builds(
    lambda registry, generation, kind: Need(
        f"{registry}/web", registry, TagReference(name="t", generation=generation), **{kind: True}
    ),
    st.sampled_from(REGISTRIES),
    st.integers(1, 3),
    st.sampled_from(["pending", "scheduled", "failed"]),
)
steps = st.one_of(
    st.tuples(st.just("update"), st.sampled_from("abc"), st.dictionaries(st.sampled_from("vwxyz"), needs)),
    st.tuples(st.just("pass"), st.floats(0, 20), st.none()),
    st.tuples(st.just("settle"), st.integers(0, 9), st.sampled_from(Ended)),
)


def met(need: Need, how: Ended) -> Need:
    """What is needed after an attempt."""
    return Need(need.source, need.registry, need.spec, scheduled=need.scheduled, failed=how is Ended.FAILED_FOR_NOW)


class World:
    """A schedule, and what is known besides of what it should do."""

    def __init__(self) -> None:
        self.schedule = Schedule(INTERVAL, Random(0))
        self.now = 0.0
        self.needs: dict[str, dict[str, Need]] = {}
        self.running: list[Attempt] = []
        self.asked: dict[str, list[tuple[float, int]]] = {registry: [] for registry in REGISTRIES}

    def update(self, stream: str, wanted: dict[str, Need]) -> None:
        self.needs[stream] = wanted
        self.schedule.update(stream, wanted, self.now)

    def settle(self, attempt: Attempt, how: Ended) -> None:
        self.running.remove(attempt)
        current = self.needs[attempt.stream]
        for name, need in attempt.needs.items():
            if current.get(name) == need:
                current[name] = met(need, how)
        current = {name: need for name, need in current.items() if need.pending or need.scheduled or need.failed}
        self.needs[attempt.stream] = current
        self.schedule.settle(attempt, dict.fromkeys(attempt.needs, how), current, self.now)

    def take(self) -> int:
        taken = 0
        while (attempt := self.schedule.take(self.now)) is not None:
            self.check(attempt)
            self.running.append(attempt)
            taken += 1
        return taken

    def check(self, attempt: Attempt) -> None:
        assert 0 < len(attempt.needs) <= 3
        for name, need in attempt.needs.items():
            assert self.needs[attempt.stream][name] == need
            assert need.registry == attempt.registry
        assert not [one for one in self.running if (one.stream, one.registry) == (attempt.stream, attempt.registry)]
        assert len([one for one in self.running if one.registry == attempt.registry]) < 2
        asked = self.asked[attempt.registry]
        asked.append((self.now, len(attempt.needs)))
        for begin in range(len(asked)):
            seconds = self.now - asked[begin][0]
            assert sum(number for _, number in asked[begin:]) <= 3 + 2 * seconds + 1e-6


@given(st.lists(steps, max_size=60))
def test_limits_are_kept_and_nothing_that_is_pending_is_lost(history) -> None:
    world = World()
    for what, subject, value in history:
        if what == "update":
            world.update(subject, dict(value))
        elif what == "pass":
            world.now += subject
        elif world.running:
            world.settle(world.running[subject % len(world.running)], value)
        world.take()
    for _ in range(400):
        if world.running:
            world.settle(world.running[0], Ended.DONE)
        elif not any(need.pending for wanted in world.needs.values() for need in wanted.values()):
            return
        else:
            world.now += max(world.schedule.wait(world.now), 1e-6)
        world.take()
    raise AssertionError("something pending is never imported")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.dictionaries(st.sampled_from("vwxyz"), needs)), max_size=10))
def test_nothing_can_be_taken_before_the_wait_is_over(updates) -> None:
    world = World()
    for stream, wanted in updates:
        world.update(stream, dict(wanted))
    for _ in range(30):
        world.take()
        wait = world.schedule.wait(world.now)
        if wait > 0.01 and math.isfinite(wait):
            world.now += wait - 0.005
            assert world.take() == 0
            world.now += 0.006
        if world.running:
            world.settle(world.running[0], Ended.FAILED_FOR_NOW)


def test_what_nobody_needs_is_forgotten() -> None:
    world = World()
    world.update("a", {"x": Need("one/web", "one", scheduled=True)})
    assert len(world.schedule) == 1
    assert math.isfinite(world.schedule.wait(world.now))
    world.update("a", {})
    assert len(world.schedule) == 0
    world.now += 2 * INTERVAL
    assert world.take() == 0
    assert world.schedule.wait(world.now) == math.inf


def test_a_charge_beyond_the_limit_is_waited_for() -> None:
    bucket = Bucket(2, 3)
    assert bucket.wait(3, 0.0) == 0
    bucket.take(13, 0.0)
    assert bucket.wait(1, 0.0) == pytest.approx(5.5)
    assert bucket.wait(3, 100.0) == 0


def test_what_becomes_pending_while_it_waits_goes_ahead() -> None:
    world = World()
    for stream in "abcdef":
        world.update(stream, {"x": Need("one/web", "one", scheduled=True)})
    world.now += 2 * INTERVAL
    assert world.take() == 1  # the others wait: one in a second
    world.update("f", {"x": Need("one/web", "one", pending=True)})
    assert world.take() == 1
    assert world.running[-1].stream == "f"

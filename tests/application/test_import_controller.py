"""The import controller over a running writer, a registry of the test's own, and a clock that the test turns."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_registry import FakeRegistry, Page, fake_registry

from imagestream_es.application.commands import NOTHING_EXPECTED, Caller
from imagestream_es.application.fetching import ImageImport, Policy
from imagestream_es.application.import_controller import INSECURE, ImportController
from imagestream_es.application.imports import IMPORTS_AT_ONCE, ImportRequest
from imagestream_es.bootstrap import Services, build
from imagestream_es.domain.events import Origin
from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.domain.imports import CHECKED
from imagestream_es.domain.tags import ObjectReference, TagReference
from imagestream_es.settings import Settings

NOW = 1_700_000_000_000
CALLER = Caller(by=Origin(at=NOW, actor="system:test", door="test"))
INTERVAL = 900
LATER = INTERVAL * 1.1 + 1


class NoJitter(Random):
    """Chance that always comes out lowest."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Bench:
    """A service over a log, and a controller that runs when the test says so, on the test's clock."""

    def __init__(self, directory: Path, registry: FakeRegistry) -> None:
        self.registry = registry
        self.directory = directory
        self.now = 1000.0
        self.open()

    def open(self, random: Random | None = None) -> None:
        self.services: Services = build(
            Settings(data_dir=self.directory, import_allow=("127.0.0.1",), import_controller="off"), lambda: NOW
        )
        self.controller = ImportController(
            self.services.queries,
            self.services.hub,
            self.services.imports,
            INTERVAL,
            lambda: self.now,
            random or NoJitter(),
        )

    def reopen(self) -> None:
        self.services.close()
        self.open()

    def run(self) -> int:
        """Let the controller find out what to do, and do what may be done now."""
        self.controller.look()
        return self.controller.run_due()

    def advance(self, seconds: float) -> int:
        """Let time go by, and what is due happen."""
        self.now += seconds
        return self.run()

    def settle(self, seconds: float = 60.0) -> int:
        """Let a minute go by in small steps; answers how many attempts there were."""
        attempts = self.run()
        end = self.now + seconds
        while self.now < end:
            attempts += self.advance(0.5)
        return attempts

    def tag(self, name: str = "latest", source: Any = "shop/web:latest", **spec: Any) -> TagReference:
        """A tag of an image of the registry, or of any other source."""
        if isinstance(source, str):
            source = ObjectReference("DockerImage", f"{self.registry.host}/{source}")
        return TagReference(**{"name": name, "source": source, "insecure": True} | spec)

    def create(self, *tags: TagReference, name: str = "web", **more: Any) -> None:
        self.services.commands.create_image_stream(CALLER, "shop", name, DesiredStream(tags=tags, **more))

    def update(self, *tags: TagReference, name: str = "web") -> None:
        desired = DesiredStream(tags=tags)
        self.services.commands.update_image_stream(CALLER, "shop", name, desired, NOTHING_EXPECTED)

    def images(self, tag: str = "latest", name: str = "web") -> list[str]:
        """The images of a tag, newest first."""
        view = self.services.queries.image_stream("shop", name)
        return [] if view is None else [item.image for item in view.items.get(tag, ())]

    def conditions(self, tag: str = "latest") -> list[tuple[str, str]]:
        view = self.services.queries.image_stream("shop", "web")
        return [] if view is None else [(one.status, one.reason) for one in view.stream.tag(tag).conditions]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log."""
        with sqlite3.connect(self.directory / "imagestream.db") as database:
            found = database.execute("SELECT topic, state FROM stored_events ORDER BY rowid")
            return [{"topic": topic, **json.loads(state)} for topic, state in found]

    @property
    def asked(self) -> int:
        """How many times a manifest was asked for by its tag."""
        return sum("/manifests/" in path and "sha256:" not in path for path in self.registry.paths)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as one:
        yield one


@pytest.fixture
def bench(tmp_path: Path, registry: FakeRegistry) -> Iterator[Bench]:
    bench = Bench(tmp_path, registry)
    yield bench
    bench.services.close()


def break_down(registry: FakeRegistry) -> None:
    # An error that the client does not try again by itself.
    registry.guard = lambda handler: None if handler.path == "/v2/" else Page(418)


def waits(bench: Bench, seconds: int) -> list[int]:
    """How long each attempt waited for the one before, counted in seconds."""
    found, before = [], bench.now
    for _ in range(seconds):
        if bench.advance(1):
            found.append(round(bench.now - before))
            before = bench.now
    return found


# --- pending imports


def test_a_pending_tag_is_imported(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(bench.tag())
    assert bench.run() == 1
    assert bench.images() == [digest]
    assert bench.services.queries.image(digest) is not None
    assert bench.conditions() == []
    assert bench.controller.outcomes.counts() == {"imported": 1}
    event = bench.events[-1]
    assert (event["by"]["actor"], event["by"]["door"]) == ("system:import-controller", "import")


def test_tags_of_one_stream_from_one_registry_are_imported_in_one_event(bench: Bench, registry: FakeRegistry) -> None:
    digests = [registry.push("shop/web", tag, made=tag) for tag in ("1", "2", "3")]
    bench.create(*(bench.tag(tag, f"shop/web:{tag}") for tag in ("1", "2", "3")))
    before = len(bench.events)
    assert bench.run() == 1
    assert [bench.images(tag) for tag in ("1", "2", "3")] == [[digest] for digest in digests]
    assert [event["topic"] for event in bench.events[before:]].count("imagestream.images-imported") == 1


def test_what_has_its_image_is_not_asked_for_again(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag())
    bench.run()
    asked, events = bench.asked, bench.events
    assert bench.advance(10 * INTERVAL) == 0
    assert (bench.asked, bench.events) == (asked, events)


@pytest.mark.parametrize(
    "spec",
    [
        {"reference": True},
        {"reference": True, "scheduled": True},
        {"source": ObjectReference("ImageStreamTag", "other")},
        {"source": None},
    ],
)
def test_a_tag_that_asks_no_registry_is_left_alone(bench: Bench, spec: dict[str, Any]) -> None:
    bench.create(bench.tag(**spec))
    assert bench.run() == 0
    assert bench.advance(LATER) == 0


def test_a_tag_with_another_source_is_imported_again(bench: Bench, registry: FakeRegistry) -> None:
    one, two = registry.push("shop/web", "1", made=1), registry.push("shop/web", "2", made=2)
    bench.create(bench.tag(source="shop/web:1"))
    bench.run()
    bench.update(bench.tag(source="shop/web:2"))
    assert bench.run() == 1
    assert bench.images() == [two, one]


def test_generation_0_asks_for_another_import(bench: Bench, registry: FakeRegistry) -> None:
    one = registry.push("shop/web", "latest", made=1)
    bench.create(bench.tag())
    bench.run()
    two = registry.push("shop/web", "latest", made=2)
    bench.update(bench.tag(generation=0))
    assert bench.run() == 1
    assert bench.images() == [two, one]


def test_an_import_by_a_client_leaves_nothing_to_do(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag())
    image = ImageImport(f"{registry.host}/shop/web:latest", "latest", Policy(insecure=True))
    bench.services.imports.run(CALLER, "shop", "web", ImportRequest([image]), NOTHING_EXPECTED)
    assert bench.run() == 0


def test_a_push_that_came_first_leaves_nothing_to_import(bench: Bench, registry: FakeRegistry) -> None:
    bench.create(bench.tag())
    bench.controller.look()
    digest = registry.push("other", "latest")
    bench.services.commands.map_image(CALLER, "shop", "web", "latest", digest, {}, "", managed=True).outcome()
    assert bench.run() == 1
    assert bench.asked == 0
    assert bench.images() == [digest]


def test_an_insecure_repository_is_imported_once(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest", "1.0")
    source = f"{registry.host}/shop/web"
    bench.create(source_repository=source, annotations={INSECURE: "true"})
    assert bench.run() == 1
    assert bench.images() == bench.images("1.0") == [digest]
    view = bench.services.queries.image_stream("shop", "web")
    assert view is not None
    assert CHECKED in view.stream.annotations
    assert bench.advance(10 * INTERVAL) == 0


def test_the_tags_of_a_repository_count_for_what_its_registry_may_be_asked(
    bench: Bench, registry: FakeRegistry
) -> None:
    registry.push("shop/web", *(str(number) for number in range(10)))
    bench.create(source_repository=f"{registry.host}/shop/web", annotations={INSECURE: "true"})
    bench.run()
    bench.create(bench.tag(source="shop/web:1"), name="other")
    assert waits(bench, 10) == [5]


def test_a_repository_that_can_not_be_listed_now_is_tried_again(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(source_repository=f"{registry.host}/shop/web", annotations={INSECURE: "true"})
    before = bench.events
    break_down(registry)
    assert bench.run() == 1
    assert bench.events == before
    registry.guard = None
    assert bench.advance(5) == 1
    assert bench.images() == [digest]


def test_a_repository_that_is_not_there_is_asked_for_once(bench: Bench, registry: FakeRegistry) -> None:
    bench.create(source_repository=f"{registry.host}/shop/web", annotations={INSECURE: "true"})
    assert bench.run() == 1
    assert bench.settle() == 0


# --- failures


def test_a_failure_is_a_condition_and_is_written_once(bench: Bench, registry: FakeRegistry) -> None:
    break_down(registry)
    bench.create(bench.tag())
    bench.run()
    assert bench.conditions() == [("False", "InternalError")]
    events = bench.events
    assert bench.settle(300) >= 4
    assert bench.events == events
    assert bench.controller.outcomes.counts()["failed"] >= 5


def test_what_failed_for_now_is_tried_again_until_it_goes_well(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    break_down(registry)
    bench.create(bench.tag())
    bench.run()
    registry.guard = None
    assert bench.advance(5) == 1
    assert bench.images() == [digest]
    assert bench.conditions() == []
    assert bench.advance(10 * INTERVAL) == 0


def test_an_image_that_is_not_there_is_asked_for_once(bench: Bench) -> None:
    bench.create(bench.tag())
    assert bench.run() == 1
    assert bench.conditions() == [("False", "NotFound")]
    assert bench.settle() == 0
    assert bench.advance(10 * INTERVAL) == 0


def test_a_name_that_is_none_fails_once(bench: Bench) -> None:
    tag = TagReference(name="latest", source=ObjectReference("DockerImage", "localhost:5000"), insecure=True)
    bench.create(tag)
    bench.run()
    assert bench.conditions() == [("False", "Invalid")]
    assert bench.settle() == 0


def test_the_wait_after_failures_doubles_up_to_an_hour(bench: Bench, registry: FakeRegistry) -> None:
    break_down(registry)
    bench.create(bench.tag())
    bench.run()
    assert waits(bench, 3 * 3600)[:11] == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]


def test_the_wait_of_a_scheduled_tag_does_not_grow_beyond_the_interval(bench: Bench, registry: FakeRegistry) -> None:
    break_down(registry)
    bench.create(bench.tag(scheduled=True))
    bench.run()
    assert waits(bench, 3600) == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


def test_a_failed_import_of_a_scheduled_tag_keeps_its_history(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(bench.tag(scheduled=True))
    bench.run()
    registry.pages = {"/v2/": Page(body=b"{}")}
    assert bench.advance(LATER) == 1
    assert bench.images() == [digest]
    assert bench.conditions() == [("False", "NotFound")]
    events = bench.events
    assert bench.advance(LATER) == 1
    assert bench.events == events


# --- scheduled imports


def test_a_scheduled_tag_follows_its_source(bench: Bench, registry: FakeRegistry) -> None:
    one = registry.push("shop/web", "latest", made=1)
    bench.create(bench.tag(scheduled=True))
    bench.run()
    two = registry.push("shop/web", "latest", made=2)
    assert bench.advance(INTERVAL - 1) == 0
    assert bench.advance(1) == 1
    assert bench.images() == [two, one]


def test_an_unchanged_poll_leaves_no_event(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag(scheduled=True))
    bench.run()
    events = bench.events
    for _ in range(3):
        assert bench.advance(LATER) == 1
    assert bench.events == events
    assert bench.controller.outcomes.counts() == {"imported": 1, "unchanged": 3}


def test_what_is_named_by_its_digest_is_never_looked_at_again(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(bench.tag(source=f"shop/web@{digest}", scheduled=True))
    assert bench.run() == 1
    assert bench.images() == [digest]
    assert bench.advance(10 * INTERVAL) == 0


def test_a_tag_that_is_not_scheduled_any_more_is_left_alone(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag(scheduled=True))
    bench.run()
    bench.update(bench.tag())
    assert bench.advance(10 * INTERVAL) == 0


def test_a_tag_that_becomes_scheduled_is_looked_at_after_an_interval(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag())
    bench.run()
    bench.update(bench.tag(scheduled=True))
    assert bench.run() == 0
    assert bench.advance(INTERVAL) == 1


def test_a_scheduled_tag_with_another_source_does_not_wait(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "1", made=1)
    two = registry.push("shop/web", "2", made=2)
    bench.create(bench.tag(source="shop/web:1", scheduled=True))
    bench.run()
    bench.update(bench.tag(source="shop/web:2", scheduled=True))
    assert bench.run() == 1
    assert bench.images()[0] == two


def test_a_stream_that_is_being_deleted_is_left_alone(bench: Bench, registry: FakeRegistry) -> None:
    bench.create(bench.tag(), finalizers=("test/hold",))
    bench.services.commands.delete_image_stream(CALLER, "shop", "web", NOTHING_EXPECTED)
    assert bench.services.queries.image_stream("shop", "web") is not None
    assert bench.run() == 0


def test_a_deleted_stream_is_forgotten(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag(scheduled=True))
    bench.run()
    bench.services.commands.delete_image_stream(CALLER, "shop", "web", NOTHING_EXPECTED)
    events = bench.events
    assert bench.advance(LATER) == 0
    assert bench.events == events


def test_jitter_keeps_streams_apart_and_never_makes_them_early(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.services.close()
    bench.open(Random(1))
    for number in range(20):
        bench.create(bench.tag(scheduled=True), name=f"web-{number}")
    bench.settle(60)
    bench.advance(INTERVAL - 61)
    times = []
    for second in range(160):
        times += [second] * bench.advance(1)
    assert len(times) == 20
    assert times[-1] - times[0] > 40  # a second apart at least, whatever chance says


# --- what registries may be asked for


def test_a_registry_is_asked_for_three_manifests_at_once_and_two_a_second(bench: Bench, registry: FakeRegistry) -> None:
    tags = [str(number) for number in range(12)]
    registry.push("shop/web", *tags)
    for tag in tags:
        bench.create(bench.tag(tag, f"shop/web:{tag}"), name=f"web-{tag}")
    bench.run()
    asked = [bench.asked]
    for _ in range(5):
        bench.advance(1)
        asked.append(bench.asked)
    assert asked == [3, 5, 7, 9, 11, 12]


def test_many_tags_of_one_stream_keep_to_the_limit(bench: Bench, registry: FakeRegistry) -> None:
    tags = [str(number) for number in range(9)]
    registry.push("shop/web", *tags)
    bench.create(*(bench.tag(tag, f"shop/web:{tag}") for tag in tags))
    bench.run()
    assert bench.asked == 3
    bench.settle(6)
    assert bench.asked == 9
    assert all(bench.images(tag) for tag in tags)


def test_registries_are_limited_each_by_itself(bench: Bench, registry: FakeRegistry) -> None:
    with fake_registry() as other:
        for one in (registry, other):
            one.push("shop/web", "latest")
            for number in range(5):
                source = ObjectReference("DockerImage", f"{one.host}/shop/web:latest")
                bench.create(bench.tag(source=source), name=f"web-{one.port}-{number}")
        bench.run()
        assert len([path for path in other.paths if path.endswith("manifests/latest")]) == 3
        assert bench.asked == 3


def test_60_scheduled_streams_a_minute_are_looked_at_again(bench: Bench) -> None:
    sources = [ObjectReference("DockerImage", f"127.0.0.{number}:1/shop/web:latest") for number in range(2, 102)]
    for number, source in enumerate(sources):
        bench.create(bench.tag(source=source, scheduled=True), name=f"web-{number}")
    bench.run()
    bench.now += 100_000
    assert bench.settle(60) == 61


def test_a_registry_that_fails_is_left_alone_for_longer_and_longer(bench: Bench, registry: FakeRegistry) -> None:
    break_down(registry)
    for number in range(50):
        bench.create(bench.tag(), name=f"web-{number}")
    bench.run()
    assert waits(bench, 40) == [1, 2, 4, 8, 16]
    registry.guard = None
    digest = registry.push("shop/web", "latest")
    bench.settle(60)
    assert all(bench.images(name=f"web-{number}") == [digest] for number in range(50))
    break_down(registry)
    for number in range(4):
        bench.create(bench.tag(), name=f"new-{number}")
    bench.run()
    assert waits(bench, 4) == [1, 2]


def test_what_is_pending_goes_before_what_is_scheduled(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    for number in range(20):
        bench.create(bench.tag(scheduled=True), name=f"web-{number}")
    bench.settle()
    bench.now += 2 * INTERVAL
    bench.run()
    bench.create(bench.tag(), name="new")
    bench.advance(1)
    assert bench.images(name="new") == [digest]


# --- changes while an import is under way


def meanwhile(registry: FakeRegistry, change: Callable[[], None]) -> None:
    """Do something while the registry is asked for the first manifest."""

    def guard(handler: Any) -> None:
        if "/manifests/" in handler.path:
            registry.guard = None
            change()

    registry.guard = guard


def test_a_source_that_is_changed_during_its_import_stays_changed(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "1", made=1)
    two = registry.push("shop/web", "2", made=2)
    bench.create(bench.tag(source="shop/web:1"))
    meanwhile(registry, lambda: bench.update(bench.tag(source="shop/web:2")))
    assert bench.run() == 2
    assert bench.images() == [two]
    assert bench.controller.outcomes.counts() == {"superseded": 1, "imported": 1}


def test_a_stream_that_is_deleted_during_its_import_stays_deleted(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag())
    delete = bench.services.commands.delete_image_stream
    meanwhile(registry, lambda: delete(CALLER, "shop", "web", NOTHING_EXPECTED) and None)
    assert bench.run() == 1
    assert bench.services.queries.image_stream("shop", "web") is None
    assert len(bench.services.queries.images().found) == 0


def test_a_stream_that_begins_anew_during_its_import_is_imported_anew(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(bench.tag())

    def begin_anew() -> None:
        bench.services.commands.delete_image_stream(CALLER, "shop", "web", NOTHING_EXPECTED)
        bench.create(bench.tag())

    meanwhile(registry, begin_anew)
    assert bench.run() == 2
    assert bench.images() == [digest]
    assert bench.controller.outcomes.counts() == {"superseded": 1, "imported": 1}


def test_a_tag_that_is_asked_for_anew_during_its_import_is_imported_anew(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag())

    def ask_anew() -> None:
        bench.update(bench.tag(generation=0))
        bench.controller.look()

    meanwhile(registry, ask_anew)
    assert bench.run() == 2
    assert len(bench.images()) == 1


def test_a_push_during_an_import_hinders_nothing(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(bench.tag())
    pushed = registry.push("other", "latest", made=2)
    push = bench.services.commands.map_image
    meanwhile(registry, lambda: push(CALLER, "shop", "web", "other", pushed, {}, "", managed=True))
    bench.run()
    assert (bench.images(), bench.images("other")) == ([digest], [pushed])


def test_an_import_that_ends_after_the_stop_is_not_stored(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag())
    events = bench.events
    meanwhile(registry, bench.controller.stop)
    bench.run()
    assert bench.events == events


# --- restarts, and what can be seen


def test_what_is_pending_at_a_restart_is_imported_after_it(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(bench.tag())
    bench.reopen()
    assert bench.run() == 1
    assert bench.images() == [digest]


def test_after_a_restart_scheduled_tags_are_looked_at_within_an_interval(bench: Bench, registry: FakeRegistry) -> None:
    registry.push("shop/web", "latest")
    for number in range(20):
        bench.create(bench.tag(scheduled=True), name=f"web-{number}")
    bench.settle()
    bench.services.close()
    bench.open(Random(1))
    attempts = [bench.run()]
    attempts += [bench.advance(INTERVAL / 10) for _ in range(10)]
    attempts.append(bench.settle(10))
    assert sum(attempts) == 20
    assert len([number for number in attempts if number]) > 5


def test_what_failed_for_now_before_a_restart_is_tried_again_after_it(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    break_down(registry)
    bench.create(bench.tag())
    bench.run()
    bench.reopen()
    registry.guard = None
    assert bench.run() == 1
    assert bench.images() == [digest]


def test_each_attempt_is_logged(bench: Bench, registry: FakeRegistry, caplog: pytest.LogCaptureFixture) -> None:
    registry.push("shop/web", "latest")
    bench.create(bench.tag(), bench.tag("missing", "shop/web:missing"))
    with caplog.at_level(logging.INFO):
        bench.run()
    told = {record.tag: record for record in caplog.records if record.message == "import"}
    assert {tag: record.result for tag, record in told.items()} == {"latest": "imported", "missing": "failed"}
    assert told["missing"].stream == "shop/web"
    assert told["missing"].source == f"{registry.host}/shop/web:missing"
    assert (told["missing"].reason, "not found" in told["missing"].detail) == ("NotFound", True)


def test_an_accident_is_told_and_the_import_tried_again(
    bench: Bench, registry: FakeRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(bench.tag())
    monkeypatch.setattr(type(bench.services.imports), "refresh", lambda *_: 1 / 0)
    bench.run()
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert bench.advance(5) == 1
    assert bench.images() == [digest]


def test_clients_that_import_do_not_keep_it_waiting(bench: Bench, registry: FakeRegistry) -> None:
    imports = bench.services.imports
    digest = registry.push("shop/web", "latest")
    for _ in range(IMPORTS_AT_ONCE):
        assert imports._turns.acquire(blocking=False)  # clients have taken every turn
    bench.create(bench.tag())
    bench.run()
    assert bench.images() == [digest]


def test_off_there_is_no_controller(bench: Bench) -> None:
    assert bench.services.import_controller is None


# --- the real thing: threads, processes


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_it_runs_beside_the_service_by_itself(tmp_path: Path, registry: FakeRegistry, bench: Bench) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(bench.tag())
    bench.services.close()
    bench.services = build(Settings(data_dir=bench.directory, import_allow=("127.0.0.1",), import_controller="on"))
    until(lambda: bench.images() == [digest])  # of before
    bench.create(bench.tag(), name="other")
    until(lambda: bench.images(name="other") == [digest])  # of now


def test_on_postgresql_it_learns_of_what_another_process_wrote(registry: FakeRegistry, postgres_url: str) -> None:
    digest = registry.push("shop/web", "latest")
    tag = TagReference(
        name="latest", source=ObjectReference("DockerImage", f"{registry.host}/shop/web:latest"), insecure=True
    )

    def settings(switch: str) -> Settings:
        return Settings(database_url=postgres_url, import_allow=("127.0.0.1",), import_controller=switch)

    def has_image(name: str) -> bool:
        view = writing.queries.image_stream("shop", name)
        return view is not None and [item.image for item in view.items.get("latest", ())] == [digest]

    writing = build(settings("off"))
    writing.commands.create_image_stream(CALLER, "shop", "before", DesiredStream(tags=(tag,)))
    importing = build(settings("on"))
    try:
        until(lambda: has_image("before"))
        writing.commands.create_image_stream(CALLER, "shop", "after", DesiredStream(tags=(tag,)))
        until(lambda: has_image("after"))
    finally:
        importing.close()
        writing.close()


def test_it_ends_at_once_though_a_registry_hangs(bench: Bench, registry: FakeRegistry) -> None:
    asked, end = threading.Event(), threading.Event()

    def hang(handler: Any) -> None:
        asked.set()
        end.wait(30)

    registry.guard = hang
    bench.create(bench.tag())
    bench.services.close()
    services = build(Settings(data_dir=bench.directory, import_allow=("127.0.0.1",), import_controller="on"))
    assert asked.wait(20)
    began = time.monotonic()
    services.drain()
    services.close()
    took = time.monotonic() - began
    end.set()
    assert took < 5
    bench.open()


def call(service: Any, method: str, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    status, answer = service.request(
        f"/apis/image.openshift.io/v1/namespaces/shop/{path}", method, content, {"Content-Type": "application/json"}
    )
    assert status < 300, answer
    return json.loads(answer)


def test_a_real_service_imports_and_follows_by_itself(start_service: Any, registry: FakeRegistry) -> None:
    one = registry.push("shop/web", "latest", made=1)
    service = start_service("--import-controller", "on", "--import-interval", "1s", "--import-allow", "127.0.0.1")
    policy = {"insecure": True, "scheduled": True}
    source = {"kind": "DockerImage", "name": f"{registry.host}/shop/web:latest"}
    missing = {"kind": "DockerImage", "name": f"{registry.host}/shop/web:missing"}
    tags = [
        {"name": "latest", "from": source, "importPolicy": policy},
        {"name": "missing", "from": missing, "importPolicy": policy},
    ]
    call(service, "POST", "imagestreams", {"metadata": {"name": "web"}, "spec": {"tags": tags}})

    def stream() -> Any:
        return call(service, "GET", "imagestreams/web")

    def images() -> list[str]:
        found = {tag["tag"]: tag["items"] or [] for tag in stream()["status"].get("tags", [])}
        return [item["image"] for item in found.get("latest", [])]

    until(lambda: images() == [one])
    found = {tag["tag"]: tag for tag in stream()["status"]["tags"]}
    assert found["missing"]["items"] is None
    assert [one["reason"] for one in found["missing"]["conditions"]] == ["NotFound"]
    position, asked = stream()["metadata"]["resourceVersion"], len(registry.paths)
    until(lambda: len(registry.paths) > asked + 6)  # two polls at least
    assert stream()["metadata"]["resourceVersion"] == position
    two = registry.push("shop/web", "latest", made=2)
    until(lambda: images() == [two, one])
    assert "result=imported" in service.log
    assert "result=unchanged" in service.log
    assert service.stop()[0] == 0


def test_a_real_service_stops_at_once_though_a_registry_hangs(start_service: Any, registry: FakeRegistry) -> None:
    asked, end = threading.Event(), threading.Event()

    def hang(handler: Any) -> None:
        asked.set()
        end.wait(60)

    registry.guard = hang
    service = start_service("--import-controller", "on", "--import-allow", "127.0.0.1")
    source = {"kind": "DockerImage", "name": f"{registry.host}/shop/web:latest"}
    tags = [{"name": "latest", "from": source, "importPolicy": {"insecure": True}}]
    call(service, "POST", "imagestreams", {"metadata": {"name": "web"}, "spec": {"tags": tags}})
    assert asked.wait(20)
    began = time.monotonic()
    assert service.stop()[0] == 0
    took = time.monotonic() - began
    end.set()
    assert took < 5

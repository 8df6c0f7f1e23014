"""The import controller over a running writer, a registry of the test's own, and a clock that the test turns."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_registry import FakeRegistry, Page, fake_registry, problem

from imagestream_es.application.commands import NOTHING_EXPECTED, Caller
from imagestream_es.application.fetching import ImageImport, Policy
from imagestream_es.application.import_controller import INSECURE, ImportController
from imagestream_es.application.imports import ImportRequest
from imagestream_es.bootstrap import Services, build
from imagestream_es.domain.events import Origin
from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.domain.imports import CHECKED
from imagestream_es.domain.tags import ObjectReference, TagReference
from imagestream_es.settings import Duration, Settings

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

    def tag(self, name: str = "latest", source: str = "shop/web:latest", **spec: Any) -> TagReference:
        reference = ObjectReference("DockerImage", f"{self.registry.host}/{source}")
        return TagReference(**{"name": name, "source": reference, "insecure": True} | spec)

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
    registry.guard = lambda _: Page(418)  # an error that the client does not try again by itself


# --- pending imports


def test_a_pending_tag_is_imported(bench: Bench, registry: FakeRegistry) -> None:
    digest = registry.push("shop/web", "latest")
    bench.create(bench.tag())
    assert bench.run() == 1
    assert bench.images() == [digest]
    assert bench.services.queries.image(digest) is not None
    assert bench.conditions() == []
    assert bench.controller.outcomes == {"imported": 1}
    event = bench.events[-1]
    assert (event["by"]["actor"], event["by"]["door"]) == ("system:import-controller", "import")

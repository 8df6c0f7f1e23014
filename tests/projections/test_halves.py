"""Views that two processes have folded are those that one folds."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import checker
import pytest
from eventsourcing.persistence import DatabaseError
from histories import Step, World, histories
from hypothesis import given, settings

from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.persistence import halves, shadow
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.projections import projector
from imagestream_es.recovery import replay

Views = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def whatever_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "LONG", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@contextmanager
def a_store(world: World, path: Path) -> Iterator[tuple[SQLiteStore, Views]]:
    """The log of a world in a file without views, and the views of that world."""
    with closing(SQLiteStore(str(path))) as store:
        store.create_tables()
        with world.store.reading() as rows, store.writing() as target:
            target.append(list(rows.log(0, rows.head())))
            views = checker.views(rows)
        yield store, views


def folded(store: SQLiteStore) -> Views:
    with store.reading() as rows:
        return checker.views(rows)


@settings(max_examples=8)
@given(histories)
def test_whatever_was_commanded_two_processes_give_the_same_views(steps: list[Step]) -> None:
    with closing(World()) as world, tempfile.TemporaryDirectory() as directory:
        for _ in world.live_through(steps):
            pass
        with a_store(world, Path(directory) / "log.db") as (store, views):
            projector.catch_up(store)
            assert folded(store) == views
            replay.refold(store, shadow.chosen(()), lambda *_: None)
            assert folded(store) == views


@pytest.fixture
def pushed() -> Iterator[World]:
    """A world of five streams to which images were pushed."""
    with closing(World()) as world:
        for number in range(5):
            world.commands.create_image_stream(world.caller(None), "shop", f"s{number}", DesiredStream())
        for number in range(200):
            image = f"sha256:{number % 7:064}"
            world.commands.map_image(
                world.caller(None), "shop", f"s{number % 5}", "t", image, {}, f"r@{image}", managed=False
            )
        yield world


def test_each_process_has_something_to_fold_and_reverts_of_both_are_told(pushed: World, tmp_path: Path) -> None:
    with a_store(pushed, tmp_path / "log.db") as (store, views):
        assert {halves.is_ours(f"shop/s{number}") for number in range(5)} == {True, False}
        projector.catch_up(store)
        assert folded(store) == views
        assert {row[4] for row in views["tag_changes"]} == {"Created", "Moved", "Reverted"}


@pytest.mark.parametrize("missing", ["program", "interpreter", "room"])
def test_what_the_other_process_can_not_fold_is_folded_here(
    missing: str, pushed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match missing:
        case "program":
            monkeypatch.setattr(halves, "_PROGRAM", "imagestream_es.recovery.nothing")
        case "interpreter":
            monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        case _:
            monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with a_store(pushed, tmp_path / "log.db") as (store, views):
        projector.catch_up(store)
        assert folded(store) == views


@pytest.mark.parametrize("ours", [True, False])
def test_an_event_that_can_not_be_read_is_named_whoever_folds_it(ours: bool, pushed: World, tmp_path: Path) -> None:
    name = next(f"shop/s{number}" for number in range(5) if halves.is_ours(f"shop/s{number}") == ours)
    with a_store(pushed, tmp_path / "log.db") as (store, _):
        with store.writing() as rows:
            broken = rows.one("SELECT MAX(rowid) FROM stored_events WHERE originator_id = ?", name)
            assert broken is not None
            rows.run("UPDATE stored_events SET topic = 'unknown' WHERE rowid = ?", *broken)
        with pytest.raises(DatabaseError, match=f"position {broken[0]} of the log can't be read"):
            projector.catch_up(store)
        assert not any(folded(store).values())

"""Whatever was commanded: views that grew with the commands are those that the log gives from nothing."""

from __future__ import annotations

from collections import Counter

import checker
from histories import TAGS, Step, World, a_world, histories, thoroughly
from hypothesis import given

from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.persistence import read_model
from imagestream_es.persistence.store import Rows
from imagestream_es.projections import projector


@thoroughly
@given(histories)
def test_views_that_grew_with_the_commands_are_those_folded_from_the_log(steps: list[Step]) -> None:
    with a_world() as world:
        for _ in world.live_through(steps):
            pass
        with world.store.reading() as rows:
            live = checker.views(rows)
            assert read_model.folded_until(rows) == rows.head()
            _check_numbers(rows)
        assert live == checker.folded_anew(world.store)
        projector.rebuild(world.store)
        with world.store.reading() as rows:
            assert checker.views(rows) == live
            assert read_model.folded_until(rows) == rows.head()


def _check_numbers(rows: Rows) -> None:
    """Positions, and the versions of each aggregate, count from 1 without gaps."""
    versions: Counter[object] = Counter()
    for count, (position, stored) in enumerate(rows.log(0, rows.head()), 1):
        versions[stored.originator_id] += 1
        assert (position, stored.originator_version) == (count, versions[stored.originator_id])


def test_a_snapshot_is_the_same_whether_the_stream_was_kept_in_memory_or_read_from_the_views() -> None:
    with a_world() as world:
        for number, tag in enumerate(["v2", "v1", "latest", "v1", "v2"]):
            image = f"sha256:{number:064}"
            world.commands.map_image(
                world.caller(None), "shop", "web", tag, image, {}, f"quay.io/o/x@{image}", managed=False
            ).outcome()
            world.restart()
        with world.store.reading() as rows:
            live = checker.views(rows)
        assert len(live["snapshots"]) == 2
        assert live == checker.folded_anew(world.store)


def test_a_log_with_more_events_than_one_batch_is_folded_whole() -> None:
    """And a stream that changed often enough for snapshots is the same with and without a restart in between."""
    world = World()
    try:
        world.commands.create_image_stream(world.caller(None), "shop", "web", DesiredStream())
        for number in range(projector.BATCH // 2 + 10):
            image = f"sha256:{number:064}"
            world.commands.map_image(
                world.caller(None), "shop", "web", TAGS[number % 3], image, {}, f"quay.io/o/x@{image}", managed=False
            ).outcome()
            if number == 300:
                world.restart()
        with world.store.reading() as rows:
            live = checker.views(rows)
        assert len(live["snapshots"]) > 5
        assert live == checker.folded_anew(world.store)
    finally:
        world.close()

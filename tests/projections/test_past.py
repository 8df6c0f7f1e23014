"""The past is what was once the present: at every position, however it is asked for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from unittest.mock import Mock

import pytest
from histories import IMAGES, NAMES, SPACES, TAGS, Step, World, a_world, histories, id_of, plain, raw, shown, thoroughly
from hypothesis import given

from imagestream_es.application.commands import NOTHING_EXPECTED
from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.projections import past
from imagestream_es.projections.past import Change, Replay, image_at, stream_at

Shown = dict[str, Any]


def lived(world: World, steps: list[Step]) -> dict[int, Shown]:
    """What was shown when the log ended at each position from the present one on.

    A command makes one event at most for an image and then one for a stream. Between the two nobody can ask: the
    image is new there, and the streams are as they were.
    """
    seen = {world.queries.position(): shown(world)}
    for position in world.live_through(steps):
        then, now = seen[max(seen)], shown(world)
        streams = {key: one for key, one in then.items() if "/" in key}
        images = {key: one for key, one in now.items() if "/" not in key}
        for between in range(max(seen) + 1, position):
            seen[between] = streams | images
        assert seen.setdefault(position, now) == now
    return seen


@thoroughly
@given(histories)
def test_at_every_position_lists_and_single_reads_show_what_was_there_when_the_log_ended_there(
    steps: list[Step],
) -> None:
    with a_world() as world:
        for position, then in lived(world, steps).items():
            assert shown(world, position) == then
            streams = [world.queries.image_stream(space, name, position) for space in SPACES for name in NAMES]
            images = [world.queries.image(name, position) for name in IMAGES]
            assert {id_of(view): plain(view) for view in (*streams, *images) if view is not None} == then


@thoroughly
@given(histories)
def test_every_change_has_its_object_as_it_was_before_and_after(steps: list[Step]) -> None:
    with a_world() as world:
        seen = lived(world, steps)
        for capacity in (0, 10_000, 1 << 20):
            told = {change.position: change for change in changes(world, Replay(capacity), min(seen))}
            assert told.keys() == seen.keys() - {min(seen)}
            for position, change in told.items():
                before, after = seen[position - 1], seen[position]
                (concerned,) = (key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
                assert plain_or_none(change.before) == before.get(concerned)
                assert plain_or_none(change.after) == after.get(concerned)


@thoroughly
@given(histories)
def test_tags_and_images_seen_through_a_stream_were_what_they_were_then(steps: list[Step]) -> None:
    with a_world() as world:
        seen = {position: seen_through(world) for position in world.live_through(steps)}
        for position, then in seen.items():
            assert seen_through(world, position) == then


def seen_through(world: World, at: int | None = None) -> list[Any]:
    """The tags of a stream, and which images it shows for names and parts of names."""
    tags = [world.queries.tag("shop", "web", tag, history=True, at=at) for tag in TAGS]
    images = [world.queries.stream_image("shop", "web", name, at) for name in (IMAGES[0], "sha256:aa", "b", "")]
    return [
        *((view.tag, tuple(view.items), plain_or_none(view.image)) for view in tags if view is not None),
        *((found[0].position, plain_or_none(found[1])) for found in images if found is not None),
    ]


def changes(world: World, replay: Replay, after: int) -> list[Change]:
    with world.store.reading() as rows:
        return list(replay.changes(rows, after, rows.head(), lambda _: True))


def plain_or_none(view: Any) -> Shown | None:
    return None if view is None else plain(view)


def test_nothing_was_there_before_it_began() -> None:
    with a_world() as world:
        began = world.queries.image_stream("tools", "web")
        assert began is not None
        before = began.stream.position - 1
        with world.store.reading() as rows:
            assert stream_at(rows, "tools", "web", before) is None
            assert image_at(rows, IMAGES[0], before) is None
        assert world.queries.image_stream("tools", "web", before) is None
        assert [view.stream.namespace for view in world.queries.image_streams(None, before).found] == ["shop"]


def test_a_stream_that_began_again_has_nothing_of_its_earlier_life() -> None:
    with a_world() as world:
        caller = world.caller(None)
        world.commands.map_image(
            caller, "shop", "web", "v1", IMAGES[0], {}, f"quay.io/o/x@{IMAGES[0]}", managed=False
        ).outcome()
        first = world.queries.position()
        world.commands.delete_image_stream(caller, "shop", "web", NOTHING_EXPECTED)
        gone = world.queries.position()
        world.commands.create_image_stream(caller, "shop", "web", DesiredStream())
        again = world.queries.position()
        lives = [world.queries.image_stream("shop", "web", at) for at in (first, gone, again)]
        assert [life and [*life.items] for life in lives] == [["v1"], None, []]
        first_life, _, second_life = lives
        assert first_life is not None
        assert second_life is not None
        assert first_life.stream.uid != second_life.stream.uid


# --- how much a replay keeps


def pushed(world: World, stream: str, count: int) -> list[Change]:
    """The changes of a stream that `count` images were pushed to, one after another."""
    world.commands.create_image_stream(world.caller(None), "many", stream, DesiredStream())
    for number in range(count):
        image = f"sha256:{number:064}"
        reference = f"quay.io/o/x@{image}"
        world.commands.map_image(
            world.caller(None), "many", stream, "v1", image, {}, reference, managed=False
        ).outcome()
    return [
        change for change in changes(world, Replay(), 0) if change.after and id_of(change.after) == f"many/{stream}"
    ]


def test_a_change_is_larger_with_long_histories_and_large_images() -> None:
    with a_world() as world:
        sizes = [change.size for change in pushed(world, "web", 100)]
        assert sizes == sorted(sizes)
        assert sizes[-1] - sizes[0] > 10_000
        for name, text in zip(IMAGES, ("small", "large" * 1000), strict=False):
            world.commands.create_image(world.caller(None), name, raw({"dockerImageManifest": text}))
        small, large = changes(world, Replay(), world.queries.position() - 2)
        assert large.size - small.size > 4000


def test_a_replay_keeps_fewer_objects_the_longer_their_histories_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_world() as world:
        pushed(world, "web", 100)  # each push tells of an image first
        load = Mock(wraps=past._load_stream)
        monkeypatch.setattr(past, "_load_stream", load)

        def loads(capacity: int) -> int:
            load.reset_mock()
            changes(world, Replay(capacity), 0)
            return load.call_count

        assert loads(40_000) == 3  # each stream once
        assert 3 < loads(30_000) < 30  # the long history does not fit beside an image in the end
        assert loads(5_000) > 100


def test_what_is_made_of_a_change_is_made_once_though_many_ask_at_a_time() -> None:
    change, together = Change(1, None, None), Barrier(8)
    make = Mock(side_effect=lambda key: f"{key} was made")

    def ask(key: str) -> str:
        together.wait()
        return change.once(key, lambda: str(make(key)))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, "aabbaabb"))
    assert make.call_count == 2
    assert answers == [f"{key} was made" for key in "aabbaabb"]

"""Every way to ask for the past gives one answer: changes, usages and differences agree with reads as of a moment."""

from __future__ import annotations

from typing import Any

from histories import IMAGES, SPACES, Step, World, a_world, histories, thoroughly
from hypothesis import given
from image_api import client_of, create, delete, get, push

from imagestream_es.application.history import PastChange, Window
from imagestream_es.domain.actions import ACTIONS
from imagestream_es.domain.past import Scope, Target
from imagestream_es.persistence.sqlite import SQLiteStore

Name = tuple[str, str, str]
Heads = dict[Name, Target]

OLDEST_FIRST = Window(newest_first=False)


def heads(world: World, at: int) -> Heads:
    """What the tags named as of a position."""
    return {
        (stream.namespace, stream.name, name): Target(tag.head.image, tag.head.reference)
        for stream in world.queries.streams_with_heads(None, at).found
        for name, tag in stream.tags.items()
        if tag.head is not None
    }


def all_changes(world: World) -> list[PastChange]:
    return list(world.history.changes(Scope(), OLDEST_FIRST, lambda change: change).found)


def put(after: Heads, name: Name, target: Target | None) -> None:
    if target is None:
        after.pop(name, None)
    else:
        after[name] = target


def lived(world: World, steps: list[Step]) -> list[int]:
    """Where the log ended at first and after each step."""
    return sorted({world.queries.position(), *world.live_through(steps)})


@thoroughly
@given(histories)
def test_the_changes_one_after_another_lead_to_what_was_there_at_every_position(steps: list[Step]) -> None:
    with a_world() as world:
        lived(world, steps)
        changes = all_changes(world)
        assert [change.place for change in changes] == sorted({change.place for change in changes})
        now: Heads = {}
        for position in range(1, world.queries.position() + 1):
            for change in (one for one in changes if one.place[0] == position):
                name = change.namespace, change.stream, change.tag
                assert change.before == now.get(name)
                put(now, name, change.after)
            assert now == heads(world, position)


@thoroughly
@given(histories)
def test_what_differs_between_two_moments_leads_from_the_one_to_the_other(steps: list[Step]) -> None:
    with a_world() as world:
        places = lived(world, steps)
        for first, last in [*zip(places, places[3:], strict=False), (places[0], places[-1])]:
            then = heads(world, first)
            for found in world.history.differences(Scope(after=first, until=last)).found:
                name = found.namespace, found.stream, found.tag
                assert found.before == then.get(name)
                assert found.before != found.after
                assert {(one.namespace, one.stream, one.tag) for one in found.changes} == {name}
                put(then, name, found.after)
            assert then == heads(world, last)


@thoroughly
@given(histories)
def test_an_image_was_in_use_when_reads_as_of_that_moment_show_it(steps: list[Step]) -> None:
    with a_world() as world:
        lived(world, steps)
        usages = world.history.usages(IMAGES, Scope()).found
        for position in range(1, world.queries.position() + 1):
            used = sorted(
                (usage.namespace, usage.stream, usage.tag, usage.image)
                for usage in usages
                if usage.since.place[0] <= position and (usage.until is None or position < usage.until.place[0])
            )
            shown = heads(world, position)
            assert used == sorted((*name, target.image) for name, target in shown.items() if target.image)


@thoroughly
@given(histories)
def test_an_action_says_what_was_there_before_and_afterwards(steps: list[Step]) -> None:
    with a_world() as world:
        lived(world, steps)
        past: dict[Name, set[str]] = {}
        for change in all_changes(world):
            had = past.setdefault((change.namespace, change.stream, change.tag), set())
            before = None if change.before is None else change.before.image
            after = None if change.after is None else change.after.image
            assert change.action in ACTIONS
            assert {
                "Created": before is None and after is not None,
                "Moved": before is not None and (after not in had or after == ""),
                "Reverted": before != after and after in had and before is not None,
                "Refreshed": before == after is not None,
                "Followed": before != after and change.cause.leader != "",
                "Deleted": after is None,
            }.get(change.action, change.before == change.after), change
            if after is not None:
                had.add(after)


def asked(world: World) -> list[Any]:
    """All sorts of questions about a short life, and the answers."""
    for image in (*IMAGES, IMAGES[0]):
        push(world, "shop", "web", "latest", image)
    push(world, "tools", "web", "latest", IMAGES[0])
    delete(world, "shop", "web")
    last = create(world, "shop", "web")
    scopes = [
        Scope(),
        Scope(namespace="shop"),
        Scope(stream="web", tag="latest"),
        Scope(namespace="shop", stream="web", tag="latest"),
        Scope(action="Reverted"),
        Scope(image=IMAGES[0]),
        Scope(namespace="shop", image=IMAGES[1], after=3, until=last - 1),
    ]
    windows = [Window(), Window(newest_first=False, limit=2), Window(behind=(last - 2, 0), limit=3)]
    return [
        *(world.history.changes(one, window, lambda change: change).found for one in scopes for window in windows),
        *(world.history.usages(IMAGES, one).found for one in scopes[:4]),
        *(world.history.differences(Scope(after=first, until=last - 2)).found for first in (2, 4, 6)),
        [world.history.position_at(world.clock() - back) for back in (0, 700, 2100, 10**6)],
        [answer.json for answer in (get(client_of(world), "imagestreams", asOf=at) for at in range(1, last))],
    ]


def test_postgresql_gives_the_same_answers(postgres_url: str) -> None:
    from imagestream_es.persistence.postgres import PostgresStore  # noqa: PLC0415 (its driver is heavy)

    answers = []
    for store in (SQLiteStore(None), PostgresStore(postgres_url)):
        world = World(store=store)  # type: ignore[arg-type]
        try:
            for space in SPACES:
                create(world, space, "web")
            answers.append(asked(world))
        finally:
            world.close()
    assert answers[0] == answers[1]
    assert all(answers[0])

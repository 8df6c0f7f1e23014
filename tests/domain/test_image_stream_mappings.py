"""What a push to a tag does: entries of its history, and when there is none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenario import A, B, Scenario, at, created, docker, entry, istag, own, push, put, spec

from imagestream_es.domain.events import ImageMapped, ImagesImported, StreamUpdated
from imagestream_es.domain.tags import TagEvent, TagEventCondition

OUTSIDE = f"quay.io/team/web@{A}"
FAILED = TagEventCondition("ImportSuccess", "False", 9, "NotFound", "no such image", 2)


def test_a_push_puts_an_image_on_a_new_tag(web: Scenario) -> None:
    web.given(created())
    web.when(push("latest", A, 20))
    web.then(ImageMapped(by=at(20), put=(put("latest", A),)))
    assert web.shown == {"latest": (entry(A, 20),)}


def test_a_push_needs_no_spec_tag_and_makes_none(web: Scenario) -> None:
    web.given(created(spec("latest", docker("quay.io/team/base:1"))))
    web.when(push("latest", A))
    web.when(push("other", A))
    assert list(web.stream.spec_tags) == ["latest"]
    assert web.stream.generation == 1


def test_an_entry_gets_the_present_generation_of_the_stream(web: Scenario) -> None:
    web.given(created(), StreamUpdated(by=at(2), generation=7, local_lookup=True))
    web.when(push("latest", A, 20))
    web.then(ImageMapped(by=at(20), put=(put("latest", A, 7),)))


def test_only_a_pull_spec_that_is_not_the_default_is_told(web: Scenario) -> None:
    web.given(created())
    web.when(push("latest", A, 20, own(A)))
    web.then(ImageMapped(by=at(20), put=(put("latest", A),)))
    web.when(push("latest", B, 30, OUTSIDE))
    web.then(ImageMapped(by=at(30), put=(put("latest", B, reference=OUTSIDE),)))
    assert web.shown["latest"] == (entry(B, 30, reference=OUTSIDE), entry(A, 20))


def test_the_default_is_the_repository_with_which_the_stream_began(web: Scenario) -> None:
    web.given(created(repository="old.example.com/shop/web"))
    web.when(push("latest", A, 20, "old.example.com/shop/web@" + A))
    web.then(ImageMapped(by=at(20), put=(put("latest", A),)))
    web.when(push("latest", B, 30, own(B)))
    web.then(ImageMapped(by=at(30), put=(put("latest", B, reference=own(B)),)))


def test_the_newest_tag_event_is_first(web: Scenario) -> None:
    web.given(created())
    for second, image in enumerate([A, B, A], 10):
        web.when(push("latest", image, second))
    assert web.shown["latest"] == (entry(A, 12), entry(B, 11), entry(A, 10))


def test_a_second_mapping_of_the_same_image_changes_nothing(web: Scenario) -> None:
    web.given(created())
    web.when(push("latest", A, 20))
    web.when(push("latest", A, 30))
    web.then_nothing()
    assert web.shown["latest"] == (entry(A, 20),)


def test_the_same_image_at_a_new_generation_is_an_event_and_shown_in_place(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(20), put=(put("latest", A),)))
    web.given(StreamUpdated(by=at(25), generation=2, local_lookup=True))
    web.when(push("latest", A, 30))
    web.then(ImageMapped(by=at(30), put=(put("latest", A, 2),)))
    assert web.shown["latest"] == (entry(A, 20, 2),)


def test_another_image_under_the_same_pull_spec_is_an_event_and_shown_in_place(web: Scenario) -> None:
    web.given(created())
    web.when(push("latest", A, 20, "quay.io/team/web:1"))
    web.when(push("latest", B, 30, "quay.io/team/web:1"))
    web.then(ImageMapped(by=at(30), put=(put("latest", B, reference="quay.io/team/web:1"),)))
    assert web.shown["latest"] == (entry(B, 20, reference="quay.io/team/web:1"),)


def test_the_same_image_under_another_pull_spec_is_an_event_and_shown_in_place(web: Scenario) -> None:
    web.given(created())
    web.when(push("latest", A, 20))
    web.when(push("latest", A, 30, OUTSIDE))
    web.then(ImageMapped(by=at(30), put=(put("latest", A, reference=OUTSIDE),)))
    assert web.shown["latest"] == (entry(A, 20, reference=OUTSIDE),)


def test_what_is_shown_in_place_leaves_older_entries_alone(web: Scenario) -> None:
    web.given(created())
    web.when(push("latest", B, 10))
    web.when(push("latest", A, 20))
    web.when(push("latest", A, 30, OUTSIDE))
    assert web.shown["latest"] == (entry(A, 20, reference=OUTSIDE), entry(B, 10))


@pytest.mark.parametrize("history", [(), (entry(B, 2),), (entry(A, 2, 0),)], ids=["first", "on top", "in place"])
def test_an_entry_clears_the_conditions_of_its_tag(web: Scenario, history: Sequence[TagEvent]) -> None:
    web.given(created())
    web.given(*(ImageMapped(by=at(2), put=(put("latest", old.image, old.generation),)) for old in history))
    web.given(ImagesImported(by=at(3), conditions={"latest": (FAILED,), "other": (FAILED,)}))
    web.when(push("latest", A))
    assert web.stream.tag("latest").conditions == ()
    assert web.stream.tag("other").conditions == (FAILED,)


def test_a_mapping_that_changes_nothing_leaves_the_conditions(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("latest", A),)))
    web.given(ImagesImported(by=at(3), conditions={"latest": (FAILED,)}))
    web.when(push("latest", A))
    web.then_nothing()
    assert web.stream.tag("latest").conditions == (FAILED,)


# --- direct followers


def test_direct_followers_move_with_the_tag_in_one_event(web: Scenario) -> None:
    follower_names = ("b", "c", "a")
    sources = (istag("latest"), istag("web:latest"), istag("latest", "shop"))
    web.given(created(*map(spec, follower_names, sources)))
    web.when(push("latest", A, 20))
    web.then(ImageMapped(by=at(20), put=(put("latest", A, followers=("a", "b", "c")),)))
    assert web.shown == dict.fromkeys(("latest", "a", "b", "c"), (entry(A, 20),))


@pytest.mark.parametrize(
    "source",
    [
        istag("other"),
        istag("base:latest"),
        istag("latest", "other"),
        istag("web:latest", "other"),
        docker("latest"),
        docker("web:latest"),
        {},
    ],
)
def test_a_tag_that_follows_something_else_stays(web: Scenario, source: dict[str, object]) -> None:
    web.given(created(spec("a", source)))
    web.when(push("latest", A, 20))
    web.then(ImageMapped(by=at(20), put=(put("latest", A),)))


def test_followers_of_followers_wait_for_the_next_write_of_a_tag(web: Scenario) -> None:
    web.given(created(spec("b", istag("latest")), spec("c", istag("b"))))
    web.when(push("latest", A, 20))
    web.then(ImageMapped(by=at(20), put=(put("latest", A, followers=("b",)),)))
    assert web.stream.newest("c") is None


def test_a_tag_that_names_itself_does_not_follow_itself(web: Scenario) -> None:
    web.given(created(spec("latest", istag("latest"))))
    web.when(push("latest", A, 20))
    web.then(ImageMapped(by=at(20), put=(put("latest", A),)))


def test_a_follower_that_shows_the_entry_already_does_not_move(web: Scenario) -> None:
    web.given(created(spec("a", istag("latest")), spec("b", istag("latest"))))
    web.given(ImageMapped(by=at(2), put=(put("a", A),)))
    web.when(push("latest", A, 20))
    web.then(ImageMapped(by=at(20), put=(put("latest", A, followers=("b",)),)))


def test_a_mapping_that_moves_nothing_moves_no_follower_that_went_its_own_way(web: Scenario) -> None:
    web.given(created(spec("a", istag("latest"))))
    web.when(push("latest", A, 20))
    web.when(push("a", B, 30))
    web.when(push("latest", A, 40))
    web.then_nothing()
    assert web.shown["a"] == (entry(B, 30), entry(A, 20))


def test_an_entry_may_be_on_top_of_a_tag_and_in_place_of_its_follower_s(web: Scenario) -> None:
    web.given(created(spec("a", istag("latest"))), ImageMapped(by=at(2), put=(put("a", A, reference=OUTSIDE),)))
    web.when(push("latest", A, 20))
    assert web.shown == {"a": (entry(A, 2),), "latest": (entry(A, 20),)}


@pytest.mark.parametrize("spec_tags", [(), ("a",)])
def test_followers_are_those_of_the_spec_as_it_is_now(web: Scenario, spec_tags: tuple[str, ...]) -> None:
    web.given(created(spec("gone", istag("latest"))))
    assert list(web.stream.followers("latest")) == ["gone"]
    new = {name: spec(name, istag("latest"), 2) for name in spec_tags}
    web.given(StreamUpdated(by=at(2), generation=2, tags={"gone": None, **new}))
    assert list(web.stream.followers("latest")) == list(spec_tags)


# --- the rule of histories, whatever is pushed


def record(history: list[TagEvent], new: TagEvent) -> list[TagEvent]:
    """A history after `new`, by the book: put in front if pull spec and image are both others, else in place."""
    if history and (history[0].reference == new.reference or history[0].image == new.image):
        return [TagEvent(history[0].created, new.reference, new.image, new.generation), *history[1:]]
    return [new, *history]


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
references = st.sampled_from([own(A), own(B), OUTSIDE, "quay.io/team/web:1"])


@unhurried
@given(st.lists(st.tuples(st.sampled_from([A, B]), references, st.booleans()), max_size=12))
def test_whatever_is_pushed_the_shown_history_is_that_of_openshift(
    pushes: list[tuple[str, str, bool]],
) -> None:
    web, generation, expected = Scenario(), 1, list[TagEvent]()
    web.given(created())
    for second, (image, reference, spec_changes) in enumerate(pushes, 10):
        if spec_changes:
            generation += 1
            web.given(StreamUpdated(by=at(second), generation=generation))
        new = TagEvent(second, reference, image, generation)
        known = bool(expected) and (expected[0].reference, expected[0].image, expected[0].generation) == (
            reference,
            image,
            generation,
        )
        web.when(push("latest", image, second, reference))
        assert len(web.events) == (0 if known else 1)
        expected = record(expected, new)
        assert list(web.shown["latest"]) == expected

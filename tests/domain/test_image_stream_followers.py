"""Tags that follow others of their stream: whenever a spec is written, they show what those show in the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenario import (
    A,
    B,
    Scenario,
    at,
    created,
    desired,
    docker,
    entry,
    isimage,
    istag,
    put,
    set_tag,
    spec,
    update,
)

from imagestream_es.domain.events import ImageMapped, StreamUpdated, TagSet
from imagestream_es.domain.tags import TagReference

OUTSIDE = "quay.io/team/base:1"
REFERENCE = docker(OUTSIDE, reference=True)


@pytest.mark.parametrize("order", ["abcd", "dcba", "bdac"])
def test_a_write_of_one_tag_moves_followers_and_their_followers(web: Scenario, order: str) -> None:
    source, first, second, third = list(order)
    follower_tags = (
        spec(first, istag(source)),
        spec(second, istag(f"web:{first}")),
        spec(third, istag(second, "shop")),
    )
    web.given(created(spec(source, docker(OUTSIDE)), *follower_tags))
    web.when(set_tag(source, spec(source, REFERENCE)))
    web.then(
        TagSet(
            by=at(100),
            generation=2,
            tags={source: spec(source, REFERENCE, 2)},
            put=tuple(put(name, "", 2, reference=OUTSIDE) for name in order),
        )
    )


def test_a_write_of_the_whole_stream_moves_followers_too(web: Scenario) -> None:
    follower = spec("a", istag("latest"))
    web.given(created(spec("latest", docker(OUTSIDE)), follower))
    web.when(update(desired(spec("latest", REFERENCE), follower)))
    web.then(
        StreamUpdated(
            by=at(100),
            generation=2,
            tags={"latest": spec("latest", REFERENCE, 2)},
            put=(put("latest", "", 2, reference=OUTSIDE), put("a", "", 2, reference=OUTSIDE)),
        )
    )
    assert web.stream.spec_tags["a"].generation == 1


def test_a_follower_stays_when_the_tag_it_follows_does(web: Scenario) -> None:
    web.given(created(spec("a", istag("latest"))), ImageMapped(by=at(2), put=(put("latest", A),)))
    web.when(set_tag("latest", spec("latest", docker(OUTSIDE))))
    web.then(TagSet(by=at(100), generation=2, tags={"latest": spec("latest", docker(OUTSIDE), 2)}))


def test_a_copy_of_a_tag_of_another_stream_does_not_follow_it(web: Scenario) -> None:
    web.world.streams["shop", "base"] = {"1": [entry(A, 3, reference=OUTSIDE)]}
    web.given(created(spec("copy", istag("base:1")), put=(put("copy", A, reference=OUTSIDE, created=3),)))
    web.world.streams["shop", "base"] = {"1": [entry(B, 4, reference=OUTSIDE)]}
    web.when(set_tag("other", spec("other", docker(OUTSIDE))))
    web.then(TagSet(by=at(100), generation=2, tags={"other": spec("other", docker(OUTSIDE), 2)}))


def test_a_new_follower_shows_at_once_what_its_tag_shows(web: Scenario) -> None:
    web.given(created(spec("late", istag("next"))), ImageMapped(by=at(2), put=(put("latest", A),)))
    web.when(set_tag("next", spec("next", istag("latest"))))
    web.then(
        TagSet(
            by=at(100),
            generation=2,
            tags={"next": spec("next", istag("latest"), 2)},
            put=(put("next", A, 2, created=2), put("late", A, 2, created=2)),
        )
    )


def test_tags_written_together_show_the_same_in_the_end_whatever_their_names(web: Scenario) -> None:
    web.given(created(spec("c", docker(OUTSIDE)), spec("b", istag("c"))))
    web.given(ImageMapped(by=at(2), put=(put("c", A, followers=("b",)),)))
    web.when(update(desired(spec("a", istag("b")), spec("b", istag("c")), spec("c", REFERENCE))))
    (event,) = web.events
    assert event.put == tuple(put(name, "", 2, reference=OUTSIDE) for name in "cba")


def test_a_follower_gets_the_time_that_the_tag_it_follows_shows(web: Scenario) -> None:
    web.given(created(spec("a", istag("latest"))), ImageMapped(by=at(2), put=(put("latest", A),)))
    web.when(set_tag("latest", spec("latest", isimage(A))))
    assert web.shown == {"latest": (entry(A, 2, 2),), "a": (entry(A, 2, 2),)}


def test_a_tag_that_names_itself_moves_the_generation_of_its_newest_entry(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("latest", A),)))
    web.when(set_tag("latest", spec("latest", istag("latest"))))
    assert web.shown["latest"] == (entry(A, 2, 2),)


def test_tags_that_follow_each_other_come_to_rest(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("a", A), put("b", B))))
    web.when(update(desired(spec("a", istag("b")), spec("b", istag("c")), spec("c", istag("a")))))
    assert len(web.events) == 1
    web.when(set_tag("b", spec("b", REFERENCE)))
    assert {name: items[0].reference for name, items in web.shown.items()} == dict.fromkeys("abc", OUTSIDE)


def test_a_long_chain_of_followers_moves(web: Scenario) -> None:
    length = 3000
    chain = [spec(f"t{number:04}", istag(f"t{number + 1:04}")) for number in range(length)]
    web.given(created(*chain))
    web.when(set_tag(f"t{length:04}", spec(f"t{length:04}", REFERENCE)))
    assert len(web.shown) == length + 1


NAMES = "abcde"
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def chains(followed: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The pairs of a tag and the one that it follows, without those that lead into a ring."""
    for follower, source in followed.items():
        seen, name = {follower}, source
        while name in followed and name not in seen:
            seen.add(name)
            name = followed[name]
        if name not in followed:
            yield follower, source


def sources(names: str) -> st.SearchStrategy[TagReference]:
    kinds = st.one_of(st.sampled_from(names).map(istag), st.sampled_from([OUTSIDE, "x/y:2"]).map(reference_to))
    return st.builds(spec, st.sampled_from(names), kinds)


def reference_to(name: str) -> dict[str, object]:
    return docker(name, reference=True)


@unhurried
@given(st.lists(st.lists(sources(NAMES), min_size=1, max_size=4), max_size=5))
def test_after_any_write_every_follower_shows_what_its_tag_shows(writes: list[list[TagReference]]) -> None:
    web = Scenario()
    web.given(created())
    for second, write in enumerate(writes, 10):
        wanted = web.stream.spec_tags | {tag.name: tag for tag in write}
        web.when(update(desired(*wanted.values()), second))
        followed = {
            name: tag.source.name
            for name, tag in web.stream.spec_tags.items()
            if tag.source is not None and tag.source.kind == "ImageStreamTag"
        }
        for follower, source in chains(followed):
            theirs, own = web.stream.newest(source), web.stream.newest(follower)
            if theirs is not None:
                assert own is not None
                assert (own.reference, own.image) == (theirs.reference, theirs.image)

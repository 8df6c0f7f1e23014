"""One tag written or deleted through an image stream tag or an image tag."""

from __future__ import annotations

from typing import Any

import pytest
from scenario import (
    A,
    B,
    Scenario,
    at,
    created,
    delete_tag,
    docker,
    entry,
    isimage,
    istag,
    put,
    set_tag,
    spec,
)

from imagestream_es.domain.errors import NotFound
from imagestream_es.domain.events import ImageMapped, ImagesImported, StreamUpdated, TagDeleted, TagSet
from imagestream_es.domain.image_stream import DROPPED, NO_TAG, SPEC_REMOVED, SPEC_SET, Tag, TagChange
from imagestream_es.domain.tags import TagEventCondition

OUTSIDE = docker("quay.io/team/base:1")
FAILED = TagEventCondition("ImportSuccess", "False", 9, "NotFound", "no such image", 1)


def test_a_tag_is_written_and_the_rest_of_the_stream_stays(web: Scenario) -> None:
    rest: dict[str, Any] = {
        "labels": {"app": "web"},
        "annotations": {"note": "x"},
        "finalizers": ("hold",),
        "owners": ({"uid": "u"},),
        "local_lookup": True,
        "source_repository": "quay.io/team/web",
    }
    web.given(created(spec("other", OUTSIDE), **rest))
    web.when(set_tag("latest", spec("latest", OUTSIDE)))
    web.then(TagSet(by=at(100), generation=2, tags={"latest": spec("latest", OUTSIDE, 2)}))
    assert {field: getattr(web.stream, field) for field in rest} == rest
    assert web.changes == [TagChange("latest", SPEC_SET, None, None)]


def test_a_tag_that_is_as_desired_does_not_change(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE)))
    web.when(set_tag("latest", spec("latest", OUTSIDE, 9)))
    web.then_nothing()


def test_annotations_alone_keep_the_generation_of_the_tag(web: Scenario) -> None:
    annotated = OUTSIDE | {"annotations": {"note": "x"}}
    web.given(created(spec("latest", OUTSIDE)))
    web.when(set_tag("latest", spec("latest", annotated)))
    web.then(TagSet(by=at(100), generation=2, tags={"latest": spec("latest", annotated, 1)}))


def test_a_spec_tag_can_be_removed_and_its_history_kept(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE)), ImageMapped(by=at(2), put=(put("latest", A),)))
    web.when(set_tag("latest", None))
    web.then(TagSet(by=at(100), generation=2, tags={"latest": None}))
    assert web.shown == {"latest": (entry(A, 2),)}
    assert web.changes == [TagChange("latest", SPEC_REMOVED, entry(A, 2), entry(A, 2))]


@pytest.mark.parametrize("name", ["never", "pushed"])
def test_a_spec_tag_that_is_not_there_needs_no_removal(web: Scenario, name: str) -> None:
    web.given(created(spec("latest", OUTSIDE)), ImageMapped(by=at(2), put=(put("pushed", A),)))
    web.when(set_tag(name, None))
    web.then_nothing()


def test_a_tag_that_only_has_a_history_gets_a_spec(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("pushed", A), put("latest", B))))
    web.when(set_tag("pushed", spec("pushed", isimage(B))))
    web.then(
        TagSet(by=at(100), generation=2, tags={"pushed": spec("pushed", isimage(B), 2)}, put=(put("pushed", B, 2),))
    )
    assert web.shown["pushed"] == (entry(B, 100, 2), entry(A, 2))


# --- deletion


def test_a_deleted_tag_loses_spec_history_and_conditions(web: Scenario) -> None:
    web.given(
        created(spec("latest", OUTSIDE)),
        ImageMapped(by=at(2), put=(put("latest", A),)),
        ImagesImported(by=at(3), conditions={"latest": (FAILED,)}),
    )
    web.when(delete_tag("latest"))
    web.then(TagDeleted(by=at(100), generation=2, tags={"latest": None}, dropped=("latest",)))
    assert (web.stream.tags, web.shown) == ({}, {})
    assert web.changes == [TagChange("latest", DROPPED, entry(A, 2), None)]


def test_a_tag_without_spec_is_deleted_without_a_new_generation(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("pushed", A),)))
    web.when(delete_tag("pushed"))
    web.then(TagDeleted(by=at(100), dropped=("pushed",)))
    assert web.stream.generation == 1


def test_a_tag_without_history_is_deleted_with_its_spec(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE)))
    web.when(delete_tag("latest"))
    web.then(TagDeleted(by=at(100), generation=2, tags={"latest": None}))


def test_a_tag_that_only_has_conditions_can_be_deleted(web: Scenario) -> None:
    web.given(created(), ImagesImported(by=at(3), conditions={"latest": (FAILED,)}))
    web.when(delete_tag("latest"))
    web.then(TagDeleted(by=at(100), dropped=("latest",)))


def test_a_tag_with_neither_spec_nor_history_is_not_found(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE)))
    web.when(delete_tag("never"))
    web.then_refused(NotFound("imagestreamtags", "web:never"))


def test_a_tag_that_was_deleted_is_not_found(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE)), TagDeleted(by=at(2), generation=2, tags={"latest": None}))
    web.when(delete_tag("latest"))
    web.then_refused(NotFound("imagestreamtags", "web:latest"))


def test_followers_of_a_deleted_tag_keep_spec_and_history(web: Scenario) -> None:
    follower = spec("a", istag("latest"), 1)
    web.given(created(follower), ImageMapped(by=at(2), put=(put("latest", A, followers=("a",)),)))
    web.when(delete_tag("latest"))
    assert web.stream.tags == {"a": Tag(follower, entry(A, 2))}


def test_a_deleted_tag_begins_a_new_history(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("latest", A),)), TagDeleted(by=at(3), dropped=("latest",)))
    web.given(ImageMapped(by=at(4), put=(put("latest", B),)))
    assert web.shown == {"latest": (entry(B, 4),)}


def test_what_is_known_of_a_tag_that_never_was_is_nothing(web: Scenario) -> None:
    web.given(created(), StreamUpdated(by=at(2), labels={"app": "web"}))
    assert web.stream.tag("never") == NO_TAG
    assert web.stream.newest("never") is None

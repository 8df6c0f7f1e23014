"""What a new spec changes, and which generations move with it."""

from typing import Any

import pytest
from scenario import (
    A,
    B,
    C,
    Scenario,
    at,
    created,
    desired,
    docker,
    entry,
    isimage,
    istag,
    own,
    put,
    spec,
    update,
)

from imagestream_es.domain.events import ImageMapped, ImagesImported, StreamUpdated
from imagestream_es.domain.image_stream import Tag
from imagestream_es.domain.tags import PRESERVE_ORIGINAL, TagEventCondition, TagReference

OUTSIDE = docker("quay.io/team/base:1")
OTHER = docker("quay.io/team/base:2")


def test_a_stream_that_is_as_desired_does_not_change(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE), labels={"app": "web"}, local_lookup=True))
    web.when(update(desired(spec("latest", OUTSIDE), labels={"app": "web"}, local_lookup=True)))
    web.then_nothing()


METADATA: list[dict[str, Any]] = [
    {"labels": {"app": "web"}},
    {"annotations": {"note": "x"}},
    {"finalizers": ("example.com/hold",)},
    {"owners": ({"uid": "u"},)},
]


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata_changes_without_a_new_generation(web: Scenario, metadata: dict[str, Any]) -> None:
    web.given(created(spec("latest", OUTSIDE)))
    web.when(update(desired(spec("latest", OUTSIDE), **metadata)))
    web.then(StreamUpdated(by=at(100), **metadata))
    assert web.stream.generation == 1


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata_can_be_taken_away_again(web: Scenario, metadata: dict[str, Any]) -> None:
    web.given(created(**metadata))
    web.when(update(desired()))
    web.then(StreamUpdated(by=at(100), **{field: type(value)() for field, value in metadata.items()}))


@pytest.mark.parametrize(
    "wanted",
    [{"local_lookup": True}, {"source_repository": "quay.io/team/web"}],
)
def test_spec_fields_of_the_stream_raise_its_generation_and_no_tag_s(web: Scenario, wanted: dict[str, Any]) -> None:
    web.given(created(spec("latest", OUTSIDE)))
    web.when(update(desired(spec("latest", OUTSIDE), **wanted)))
    web.then(StreamUpdated(by=at(100), generation=2, **wanted))


def test_spec_fields_of_the_stream_can_be_taken_back(web: Scenario) -> None:
    web.given(created(local_lookup=True, source_repository="quay.io/team/web"))
    web.when(update(desired()))
    web.then(StreamUpdated(by=at(100), generation=2, local_lookup=False, source_repository=""))


def test_a_new_tag_gets_the_new_generation_and_the_others_keep_theirs(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE)))
    web.when(update(desired(spec("latest", OUTSIDE), spec("next", OTHER, 5), spec("bare"))))
    web.then(
        StreamUpdated(by=at(100), generation=2, tags={"bare": spec("bare", None, 2), "next": spec("next", OTHER, 2)})
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (docker("quay.io/team/base:1"), docker("quay.io/team/base:2")),
        (docker("quay.io/team/base:1"), docker("quay.io/team/base:1", reference=True)),
        (docker("quay.io/team/base:1", reference=True), docker("quay.io/team/base:1")),
        (docker("quay.io/team/base:1"), docker("quay.io/team/base:1", import_mode=PRESERVE_ORIGINAL)),
        (istag("web:1"), istag("web:1", "other")),
        (istag("web:1", "other"), istag("web:1")),
        ({}, docker("quay.io/team/base:1")),
    ],
    ids=["name", "reference", "no reference", "import mode", "namespace", "own namespace", "first source"],
)
def test_a_tag_that_is_changed_gets_the_new_generation(
    web: Scenario, before: dict[str, Any], after: dict[str, Any]
) -> None:
    web.world.streams["other", "web"] = {}
    web.given(created(spec("changed", before), spec("same", OUTSIDE)))
    web.when(update(desired(spec("changed", after), spec("same", OUTSIDE))))
    assert web.stream.generation == 2
    assert {name: tag.generation for name, tag in web.stream.spec_tags.items()} == {"changed": 2, "same": 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (docker("web"), istag("web")),
        (istag("1"), istag("1", "shop")),
        (OUTSIDE, OUTSIDE | {"reference_policy": "Local"}),
        (OUTSIDE, OUTSIDE | {"scheduled": True}),
        (OUTSIDE, OUTSIDE | {"insecure": True}),
        (OUTSIDE, OUTSIDE | {"annotations": {"note": "x"}}),
        (OUTSIDE, {}),
    ],
    ids=["kind", "namespace told", "reference policy", "scheduled", "insecure", "annotations", "no source any more"],
)
def test_what_does_not_change_where_a_tag_comes_from_raises_the_generation_of_the_stream_alone(
    web: Scenario, before: dict[str, Any], after: dict[str, Any]
) -> None:
    web.given(created(spec("latest", before)))
    web.when(update(desired(spec("latest", after))))
    web.then(StreamUpdated(by=at(100), generation=2, tags={"latest": spec("latest", after, 1)}))


@pytest.mark.parametrize("sent", [None, 1, 9])
def test_generations_that_clients_send_do_not_count(web: Scenario, sent: int | None) -> None:
    web.given(created(spec("latest", OUTSIDE)))
    web.when(update(desired(spec("latest", OUTSIDE, sent))))
    web.then_nothing()


def test_generation_0_asks_for_another_import(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE), spec("next", OTHER)))
    web.when(update(desired(spec("latest", OUTSIDE, 0), spec("next", OTHER))))
    web.then(StreamUpdated(by=at(100), generation=2, tags={"latest": spec("latest", OUTSIDE, 2)}))


def test_generation_0_copies_nothing_again(web: Scenario) -> None:
    web.world.streams["shop", "base"] = {"1": [entry(A, 3, reference="quay.io/team/base:1")]}
    web.given(created(spec("latest", istag("base:1")), put=(put("latest", A, reference="quay.io/team/base:1"),)))
    web.world.streams["shop", "base"] = {"1": [entry(B, 4, reference="quay.io/team/base:2")]}
    web.when(update(desired(spec("latest", istag("base:1"), 0))))
    web.then(StreamUpdated(by=at(100), generation=2, tags={"latest": spec("latest", istag("base:1"), 2)}))


def test_a_tag_without_a_generation_gets_one_with_the_next_change(web: Scenario) -> None:
    tag = spec("latest", OUTSIDE, 0)
    web.given(created(), ImagesImported(by=at(2), generation=2, tags={"latest": tag}))
    web.when(update(desired(spec("latest", OUTSIDE), local_lookup=True)))
    web.then(StreamUpdated(by=at(100), generation=3, local_lookup=True, tags={"latest": spec("latest", OUTSIDE, 3)}))


def test_a_removed_spec_tag_leaves_history_and_conditions(web: Scenario) -> None:
    failed = TagEventCondition("ImportSuccess", "False", 9, "NotFound", "no such image", 2)
    web.given(
        created(spec("latest", OUTSIDE), spec("never", OUTSIDE)),
        ImageMapped(by=at(2), put=(put("latest", A),)),
        ImagesImported(by=at(3), conditions={"latest": (failed,)}),
    )
    web.when(update(desired()))
    web.then(StreamUpdated(by=at(100), generation=2, tags={"latest": None, "never": None}))
    assert web.stream.tags == {"latest": Tag(None, entry(A, 2), (failed,))}


def test_of_spec_tags_of_one_name_the_last_one_counts(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE)))
    web.when(update(desired(spec("latest", OTHER), spec("latest", OUTSIDE))))
    web.then_nothing()


def test_only_changed_tags_are_resolved(web: Scenario) -> None:
    image = docker("quay.io/team/base:1")
    web.given(
        created(spec("copy", istag("base:1")), put=(put("copy", A, reference="quay.io/team/base@" + A, created=3),))
    )
    web.world.streams["shop", "base"] = {"1": [entry(B, 4, reference="quay.io/team/base@" + B)]}
    web.when(update(desired(spec("copy", istag("base:1")), spec("new", image))))
    web.then(StreamUpdated(by=at(100), generation=2, tags={"new": spec("new", image, 2)}))


def test_a_changed_tag_and_its_new_entry_come_with_one_event(web: Scenario) -> None:
    web.given(created(spec("latest", isimage(A))), ImageMapped(by=at(2), put=(put("pushed", B),)))
    web.when(update(desired(spec("latest", isimage(B)), labels={"app": "web"})))
    web.then(
        StreamUpdated(
            by=at(100),
            generation=2,
            labels={"app": "web"},
            tags={"latest": spec("latest", isimage(B), 2)},
            put=(put("latest", B, 2),),
        )
    )
    assert web.shown["latest"] == (entry(B, 100, 2),)


def test_a_source_that_shows_the_same_image_moves_the_generation_of_the_newest_entry(web: Scenario) -> None:
    web.given(created(spec("latest", isimage(A))), ImageMapped(by=at(2), put=(put("latest", A), put("also", A))))
    web.when(update(desired(spec("latest", istag("also")))))
    web.then(
        StreamUpdated(
            by=at(100),
            generation=2,
            tags={"latest": spec("latest", istag("also"), 2)},
            put=(put("latest", A, 2, created=2),),
        )
    )
    assert web.shown["latest"] == (entry(A, 2, 2),)


def test_the_histories_of_tags_that_do_not_change_stay(web: Scenario) -> None:
    web.given(
        created(),
        ImageMapped(by=at(2), put=(put("latest", A),)),
        ImageMapped(by=at(3), put=(put("latest", C),)),
    )
    web.when(update(desired(spec("latest", OUTSIDE))))
    assert web.shown["latest"] == (entry(C, 3), entry(A, 2))
    assert own(C) == entry(C, 3).reference


MANAGED = {
    "manager": "kubectl",
    "operation": "Update",
    "apiVersion": "v1",
    "time": "1970-01-01T00:01:40Z",
    "fieldsType": "FieldsV1",
    "fieldsV1": {"f:spec": {}},
}
TOLD = {"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "gained": {"f:spec": {}}}


def test_managed_fields_join_the_event_that_was_just_decided(web: Scenario) -> None:
    def label_and_own(stream: Any, world: Any, _: Any) -> None:
        stream.update(at(100), desired(labels={"app": "web"}), world)
        stream.own(at(100), [MANAGED])

    web.given(created())
    web.when(label_and_own)
    web.then(StreamUpdated(by=at(100), labels={"app": "web"}, managed=(TOLD,)))
    assert web.stream.managed == (MANAGED,)


def test_managed_fields_alone_are_an_event_and_the_same_ones_are_none(web: Scenario) -> None:
    web.given(created())
    web.when(lambda stream, _, __: stream.own(at(100), [MANAGED]))
    web.then(StreamUpdated(by=at(100), managed=(TOLD,)))
    web.when(lambda stream, _, __: stream.own(at(101), [MANAGED]))
    web.then_nothing()


def test_a_spec_tag_is_written_as_it_was_sent(web: Scenario) -> None:
    tag = TagReference(
        name="latest",
        annotations={"a": "1"},
        insecure=True,
        scheduled=True,
        reference_policy="Local",
        generation=2,
        **OUTSIDE,
    )
    web.given(created())
    web.when(update(desired(tag)))
    web.then(StreamUpdated(by=at(100), generation=2, tags={"latest": tag}))

"""How a stream ends, and begins anew under the same name."""

from __future__ import annotations

import pytest
from scenario import (
    NAME,
    NAMESPACE,
    REPOSITORY,
    A,
    B,
    Scenario,
    at,
    create,
    created,
    delete,
    desired,
    docker,
    entry,
    isimage,
    istag,
    push,
    put,
    set_tag,
    spec,
    update,
)

from imagestream_es.domain.errors import Conflict, FieldProblem, Invalid, Problem
from imagestream_es.domain.events import (
    ImageMapped,
    StreamDeleted,
    StreamDeletionRequested,
    StreamRecreated,
    StreamUpdated,
    TagSet,
)
from imagestream_es.domain.image_stream import DROPPED, ImageStream, TagChange

OUTSIDE = docker("quay.io/team/base:1")
HOLD = ("example.com/hold",)


def test_a_deleted_stream_is_gone_with_all_its_tags(web: Scenario) -> None:
    web.given(created(spec("b", OUTSIDE), spec("a", istag("b"))), ImageMapped(by=at(2), put=(put("b", A),)))
    web.when(delete())
    web.then(StreamDeleted(by=at(100)))
    assert not web.stream.exists
    assert (web.stream.tags, web.shown) == ({}, {})
    assert web.changes == [TagChange("a", DROPPED, None, None), TagChange("b", DROPPED, entry(A, 2), None)]
    assert list(web.stream.followers("b")) == []


def test_finalizers_hold_a_stream(web: Scenario) -> None:
    web.given(created(finalizers=HOLD))
    web.when(delete(20))
    web.then(StreamDeletionRequested(by=at(20)))
    assert web.stream.exists
    assert web.stream.deletion == 20


def test_a_deletion_is_requested_once(web: Scenario) -> None:
    web.given(created(finalizers=HOLD), StreamDeletionRequested(by=at(20)))
    web.when(delete(30))
    web.then_nothing()
    assert web.stream.deletion == 20


def test_a_stream_that_is_held_goes_on(web: Scenario) -> None:
    web.given(created(finalizers=HOLD), StreamDeletionRequested(by=at(20)))
    web.when(push("latest", A, 30))
    web.then(ImageMapped(by=at(30), put=(put("latest", A),)))
    web.when(set_tag("next", spec("next", OUTSIDE), 31))
    web.then(TagSet(by=at(31), generation=2, tags={"next": spec("next", OUTSIDE, 2)}))


def test_a_stream_goes_with_its_last_finalizer(web: Scenario) -> None:
    web.given(created(finalizers=("a", "b")), StreamDeletionRequested(by=at(20)))
    web.when(update(desired(finalizers=("b",)), 30))
    web.then(StreamUpdated(by=at(30), finalizers=("b",)))
    web.when(update(desired(), 40))
    web.then(StreamDeleted(by=at(40), finalizers=()))


def test_what_else_the_last_write_said_stands_in_the_deletion(web: Scenario) -> None:
    web.given(created(finalizers=("a",)), StreamDeletionRequested(by=at(20)))
    web.when(update(desired(labels={"last": "1"}), 30))
    web.then(StreamDeleted(by=at(30), finalizers=(), labels={"last": "1"}))


def test_a_stream_that_is_going_takes_no_new_finalizer(web: Scenario) -> None:
    web.given(created(finalizers=("a",)), StreamDeletionRequested(by=at(20)))
    web.when(update(desired(finalizers=("a", "b")), 30))
    problem = FieldProblem(
        Problem.FORBIDDEN,
        "metadata.finalizers",
        "no new finalizers can be added if the object is being deleted",
    )
    web.then_refused(Invalid("ImageStream", NAME, [problem]))


def test_finalizers_can_go_without_the_stream(web: Scenario) -> None:
    web.given(created(finalizers=HOLD))
    web.when(update(desired()))
    web.then(StreamUpdated(by=at(100), finalizers=()))


# --- again


@pytest.fixture
def gone(web: Scenario) -> Scenario:
    """The stream had tags, labels and more, and was deleted."""
    web.given(
        created(
            spec("latest", OUTSIDE),
            spec("a", istag("latest")),
            labels={"app": "web"},
            annotations={"note": "x"},
            generate_name="we",
            owners=({"uid": "u"},),
            finalizers=HOLD,
            local_lookup=True,
            source_repository="quay.io/team/web",
            managed=({"manager": "m", "operation": "Update", "fieldsV1": {}},),
        ),
        ImageMapped(by=at(2), put=(put("latest", A, followers=("a",)),)),
        StreamDeletionRequested(by=at(3)),
        StreamDeleted(by=at(4)),
    )
    return web


def test_a_stream_of_a_deleted_name_begins_anew_and_its_log_goes_on(gone: Scenario) -> None:
    gone.when(create(desired(), 50, uid="uid-2"))
    gone.then(StreamRecreated(by=at(50), namespace=NAMESPACE, name=NAME, uid="uid-2", generation=1))
    assert gone.stream.version == 5


def test_nothing_of_the_deleted_stream_comes_back(gone: Scenario) -> None:
    gone.when(create(desired(), 50, uid="uid-2"))
    fresh = ImageStream(NAMESPACE, NAME)
    fresh.apply(created(second=50))
    fields = set(fresh.__slots__) - {"version", "uid", "pending", "_followers"}
    assert {field: getattr(gone.stream, field) for field in fields} == {
        field: getattr(fresh, field) for field in fields
    }
    assert gone.stream.uid == "uid-2"
    assert list(gone.stream.followers("latest")) == []


def test_the_default_pull_spec_stays_that_of_the_first_beginning(gone: Scenario) -> None:
    gone.world.registry = "new.example.com"
    gone.world.streams["shop", "base"] = {"1": [entry(A, 30), entry(B, 20, reference=f"new.example.com/shop/base@{B}")]}
    gone.when(create(desired(spec("a", istag("base:1")), spec("b", isimage(f"base@{B}"))), 50))
    assert gone.events[0].put == (
        put("a", A, created=30),
        put("b", B, reference=f"new.example.com/shop/web@{B}"),
    )
    assert gone.stream.repository == REPOSITORY


def test_images_of_the_deleted_stream_are_not_there_for_the_new_one(gone: Scenario) -> None:
    gone.when(create(desired(spec("latest", isimage(A)))))
    detail = f'error generating tag event: imagestreamimage.image.openshift.io "{A}" not found'
    gone.then_invalid(unresolved=[FieldProblem(Problem.INVALID, "spec.tags[latest].from.name", detail, A)])
    assert not gone.stream.exists


# --- what the caller saw


def test_a_caller_who_saw_this_very_stream_may_go_on(web: Scenario) -> None:
    web.given(created())
    web.stream.position = 12
    for position, uid in [(None, None), (12, None), (None, "uid-1"), (12, "uid-1"), (12, "")]:
        web.stream.check_position(position, uid, "imagestreams", NAME)


def test_a_caller_who_saw_another_position_is_refused(web: Scenario) -> None:
    web.given(created())
    web.stream.position = 12
    for position in (0, 11, 13):
        with pytest.raises(Conflict) as refused:
            web.stream.check_position(position, "uid-1", "imagestreamtags", "web:latest")
        assert (refused.value.resource, refused.value.name) == ("imagestreamtags", "web:latest")
        assert "the object has been modified" in refused.value.detail


def test_a_caller_who_means_another_stream_is_refused_whatever_the_position(web: Scenario) -> None:
    web.given(created())
    with pytest.raises(Conflict) as refused:
        web.stream.check_position(11, "uid-0", "imagestreams", NAME)
    assert refused.value.detail == (
        "the UID in the precondition (uid-0) does not match the UID in record (uid-1). "
        "The object might have been deleted and then recreated"
    )

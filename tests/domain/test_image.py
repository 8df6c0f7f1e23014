"""What happens to an image: made known once, changed but for its content, deleted and made known again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from imagestream_es.domain.errors import AlreadyExists, Conflict
from imagestream_es.domain.events import (
    ImageDeleted,
    ImageDeletionRequested,
    ImageEvent,
    ImageRegistered,
    ImageUpdated,
    Origin,
)
from imagestream_es.domain.image import Document, Image

DIGEST = "sha256:" + "a" * 64
HELD = {"metadata": {"finalizers": ["example.com/hold"]}, "dockerImageReference": "quay.io/a/b"}


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def at(second: int) -> Origin:
    return Origin(at=second * 1000, actor="somebody", door="api")


def document(fields: Mapping[str, Any]) -> Document:
    return {key: Raw(json.dumps(value).encode()) for key, value in fields.items()}


def fields_of(image: Image) -> dict[str, Any]:
    return {key: msgspec.json.decode(value) for key, value in image.document.items()}


def decided(image: Image) -> list[ImageEvent]:
    """The events that a command made; nothing is pending afterwards."""
    events, image.pending = image.pending, []
    assert len(events) <= 1
    return events


@pytest.fixture
def image() -> Image:
    """An image with an annotation, a pull spec and a manifest."""
    image = Image(DIGEST)
    image.register(
        at(1),
        "uid-1",
        document(
            {
                "metadata": {"annotations": {"a": "1"}},
                "dockerImageReference": "quay.io/a/b",
                "dockerImageManifest": "{}",
            }
        ),
    )
    decided(image)
    return image


def test_an_image_without_events_does_not_exist() -> None:
    image = Image(DIGEST)
    assert (image.id, image.name, image.exists, image.version) == (DIGEST, DIGEST, False, 0)


def test_an_image_becomes_known_with_its_document() -> None:
    image = Image(DIGEST)
    image.register(at(7), "uid-1", document({"dockerImageReference": "quay.io/a/b"}))
    assert decided(image) == [
        ImageRegistered(by=at(7), uid="uid-1", changes=document({"dockerImageReference": "quay.io/a/b"}))
    ]
    assert (image.exists, image.uid, image.created, image.version) == (True, "uid-1", 7, 1)
    assert fields_of(image) == {"dockerImageReference": "quay.io/a/b"}


def test_an_image_that_is_known_is_not_made_known_again(image: Image) -> None:
    with pytest.raises(AlreadyExists) as refused:
        image.register(at(2), "uid-2", document({"dockerImageReference": "other"}))
    assert refused.value == AlreadyExists("images", DIGEST)
    assert (decided(image), image.uid, image.version) == ([], "uid-1", 1)


def test_only_fields_that_change_are_told(image: Image) -> None:
    wanted = fields_of(image) | {"dockerImageReference": "quay.io/a/c", "signatures": [{"type": "x"}]}
    image.update(at(2), document(wanted))
    assert decided(image) == [
        ImageUpdated(by=at(2), changes=document({"dockerImageReference": "quay.io/a/c", "signatures": [{"type": "x"}]}))
    ]
    assert fields_of(image) == wanted


def test_fields_that_are_gone_are_told_as_null(image: Image) -> None:
    wanted = {"dockerImageReference": "quay.io/a/b"}
    image.update(at(2), document(wanted))
    assert decided(image) == [
        ImageUpdated(by=at(2), changes=document({"metadata": None, "dockerImageManifest": None})),
    ]
    assert fields_of(image) == wanted


def test_a_document_that_says_the_same_changes_nothing(image: Image) -> None:
    same = {key: Raw(b" " + bytes(value)) for key, value in image.document.items()}
    image.update(at(2), dict(reversed(same.items())))
    assert (decided(image), image.version) == ([], 1)


def test_null_is_no_value(image: Image) -> None:
    image.update(at(2), image.document | document({"signatures": None}))
    assert decided(image) == []
    image.update(at(2), image.document | document({"dockerImageManifest": None}))
    assert decided(image) == [ImageUpdated(by=at(2), changes=document({"dockerImageManifest": None}))]
    assert "dockerImageManifest" not in image.document
    image.update(at(3), document({"metadata": None}))
    assert image.document == {}
    image.delete(at(4))
    assert not image.exists


def test_a_deleted_image_is_gone(image: Image) -> None:
    image.delete(at(2))
    assert decided(image) == [ImageDeleted(by=at(2))]
    assert (image.exists, image.document, image.version) == (False, {}, 2)


def test_finalizers_hold_an_image_and_its_deletion_is_requested_once() -> None:
    image = Image(DIGEST)
    image.register(at(1), "uid-1", document(HELD))
    decided(image)
    image.delete(at(20))
    assert decided(image) == [ImageDeletionRequested(by=at(20))]
    image.delete(at(30))
    assert decided(image) == []
    assert (image.exists, image.deletion, fields_of(image)) == (True, 20, HELD)


def test_an_image_goes_with_its_last_finalizer() -> None:
    image = Image(DIGEST)
    image.register(at(1), "uid-1", document(HELD))
    image.delete(at(20))
    image.pending.clear()
    image.update(at(30), document(HELD | {"dockerImageReference": "quay.io/a/c"}))
    assert [type(event) for event in decided(image)] == [ImageUpdated]
    image.update(at(40), document(HELD | {"metadata": {"finalizers": None}}))
    assert decided(image) == [ImageDeleted(by=at(40))]
    assert not image.exists


def test_finalizers_can_go_without_the_image() -> None:
    image = Image(DIGEST)
    image.register(at(1), "uid-1", document(HELD))
    decided(image)
    image.update(at(2), document(HELD | {"metadata": {}}))
    assert [type(event) for event in decided(image)] == [ImageUpdated]
    assert image.exists


def test_an_image_of_a_deleted_name_begins_anew_and_its_log_goes_on() -> None:
    image = Image(DIGEST)
    image.register(at(1), "uid-1", document(HELD))
    image.delete(at(2))
    image.update(at(3), document({}))
    image.pending.clear()
    image.register(at(9), "uid-2", document({"dockerImageReference": "quay.io/a/c"}))
    assert [type(event) for event in decided(image)] == [ImageRegistered]
    assert (image.exists, image.uid, image.created, image.deletion, image.version) == (True, "uid-2", 9, None, 4)
    assert fields_of(image) == {"dockerImageReference": "quay.io/a/c"}


def test_the_parts_of_an_image_are_those_of_its_manifest_list(image: Image) -> None:
    assert image.parts == []
    image.update(at(2), document({"dockerImageManifests": [{"digest": "sha256:1"}, {"digest": "sha256:2"}]}))
    assert image.parts == ["sha256:1", "sha256:2"]


def test_a_caller_who_saw_this_very_image_may_go_on(image: Image) -> None:
    image.position = 12
    for position, uid in [(None, None), (12, None), (None, "uid-1"), (12, "uid-1"), (12, "")]:
        image.check_position(position, uid)


def test_a_caller_who_saw_another_position_or_means_another_image_is_refused(image: Image) -> None:
    image.position = 12
    for position in (0, 11, 13):
        with pytest.raises(Conflict, check=lambda refused: "has been modified" in refused.detail):
            image.check_position(position, "uid-1")
    with pytest.raises(Conflict) as refused:
        image.check_position(12, "uid-0")
    assert "the UID in the precondition (uid-0) does not match the UID in record (uid-1)" in refused.value.detail


def test_a_copy_and_its_image_go_their_own_ways(image: Image) -> None:
    twin = image.copy()
    image.update(at(2), document({}))
    assert (twin.version, twin.pending) == (1, [])
    assert fields_of(twin)["dockerImageReference"] == "quay.io/a/b"
    twin.delete(at(3))
    assert image.exists


values = st.one_of(st.none(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
documents = st.dictionaries(st.sampled_from(["dockerImageReference", "signatures", "dockerImageConfig"]), values)
HOLDING = st.sampled_from([{}, {"metadata": {"finalizers": ["x"]}}, {"metadata": {"labels": {"a": "b"}}}])


@unhurried
@given(st.lists(st.tuples(st.sampled_from(["register", "update", "delete"]), documents, HOLDING), max_size=12))
def test_stored_events_give_the_same_image_again(commands: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
    image, events = Image(DIGEST), list[ImageEvent]()
    for second, (command, fields, metadata) in enumerate(commands, 1):
        wanted = document(fields | metadata)
        if command == "register":
            if not image.exists:
                image.register(at(second), f"uid-{second}", wanted)
        elif image.exists and command == "update":
            image.update(at(second), wanted)
            if image.exists:
                assert fields_of(image) == {
                    key: value for key, value in (fields | metadata).items() if value is not None
                }
        elif image.exists:
            image.delete(at(second))
        events += decided(image)
    again = Image(DIGEST)
    for event in events:
        again.apply(msgspec.json.decode(msgspec.json.encode(event), type=type(event)))
    assert image.version == again.version == len(events)
    assert fields_of(again) == fields_of(image)
    rest = set(image.__slots__) - {"document"}
    assert {slot: getattr(again, slot) for slot in rest} == {slot: getattr(image, slot) for slot in rest}

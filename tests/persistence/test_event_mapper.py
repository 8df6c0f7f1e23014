"""How events are stored. The texts here are frozen: logs full of them exist, and each must be readable for ever.

A test of this file that fails means that the code is to be changed back, and never the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest
from eventsourcing.persistence import MapperDeserialisationError, StoredEvent
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from imagestream_es.domain.events import (
    EVENTS,
    DomainEvent,
    ImageDeleted,
    ImageDeletionRequested,
    ImageEvent,
    ImageMapped,
    ImageRegistered,
    ImagesImported,
    ImageUpdated,
    LogStarted,
    Origin,
    Put,
    Restored,
    StatusReplaced,
    StreamCreated,
    StreamDeleted,
    StreamDeletionRequested,
    StreamEvent,
    StreamRecreated,
    StreamUpdated,
    TagDeleted,
    TagRolledBack,
    TagSet,
)
from imagestream_es.domain.tags import ObjectReference, TagEvent, TagEventCondition, TagReference
from imagestream_es.persistence.event_mapper import EventMapper, Recorded

DIGEST = "sha256:" + "4" * 64
SHORT = Origin(at=1700000000123, actor="u-1", door="api")
FULL = Origin(
    at=1700000000123,
    actor="u-1",
    door="webhook",
    request="r-1",
    reason="because",
    impersonator="u-2",
    key="k-1",
    fingerprint="f-1",
)
WHOLE_TAG = TagReference(
    name="latest",
    source=ObjectReference("ImageStreamTag", "base:1", "tools"),
    annotations={"a": "b"},
    reference=True,
    generation=2,
    insecure=True,
    scheduled=True,
    import_mode="PreserveOriginal",
    reference_policy="Local",
)
CONDITION = TagEventCondition("ImportSuccess", "False", 1700000000, "Unauthorized", "no", 3)

BY = '"by":{"at":1700000000123,"actor":"u-1","door":"api"}'
BY_FULL = (
    '"by":{"at":1700000000123,"actor":"u-1","door":"webhook","request":"r-1","reason":"because",'
    '"impersonator":"u-2","key":"k-1","fingerprint":"f-1"}'
)
WHOLE_TAG_TEXT = (
    '{"name":"latest","from":{"kind":"ImageStreamTag","name":"base:1","namespace":"tools"},'
    '"annotations":{"a":"b"},"reference":true,"generation":2,"insecure":true,"scheduled":true,'
    '"importMode":"PreserveOriginal","referencePolicy":"Local"}'
)
CONDITION_TEXT = (
    '{"type":"ImportSuccess","status":"False","time":1700000000,"reason":"Unauthorized","message":"no","generation":3}'
)
ENTRY_TEXT = '{"created":1700000000,"reference":"r","image":"' + DIGEST + '","generation":2}'

STORED: list[tuple[DomainEvent, str, str]] = [
    (
        StreamCreated(by=SHORT, namespace="shop", name="web", uid="u", generation=1),
        "imagestream.created",
        "{" + BY + ',"generation":1,"namespace":"shop","name":"web","uid":"u"}',
    ),
    (
        StreamCreated(
            by=FULL,
            namespace="shop",
            name="web",
            uid="u",
            repository="172.30.56.218:5000/shop/web",
            generate_name="we",
            generation=1,
            labels={"b": "1", "a": "ü"},
            annotations={"n": ""},
            finalizers=("f",),
            owners=({"kind": "App", "controller": True},),
            local_lookup=True,
            source_repository="quay.io/o/web",
            tags={"latest": WHOLE_TAG, "plain": TagReference(name="plain")},
            put=(Put(tag="latest", image=DIGEST, generation=1, reference="r", created=1699999999, followers=("x",)),),
        ),
        "imagestream.created",
        "{" + BY_FULL + ',"labels":{"b":"1","a":"ü"},"annotations":{"n":""},"finalizers":["f"],'
        '"owners":[{"kind":"App","controller":true}],"generation":1,"localLookup":true,'
        '"sourceRepository":"quay.io/o/web","tags":{"latest":' + WHOLE_TAG_TEXT + ',"plain":{"name":"plain"}},'
        '"put":[{"tag":"latest","image":"' + DIGEST + '","generation":1,"reference":"r","created":1699999999,'
        '"followers":["x"]}],"namespace":"shop","name":"web","uid":"u",'
        '"repository":"172.30.56.218:5000/shop/web","generateName":"we"}',
    ),
    (
        StreamRecreated(
            by=SHORT, namespace="shop", name="web", uid="u2", repository="", generate_name="we", generation=1
        ),
        "imagestream.recreated",
        "{" + BY + ',"generation":1,"namespace":"shop","name":"web","uid":"u2","repository":"","generateName":"we"}',
    ),
    (
        StreamUpdated(
            by=SHORT,
            labels={},
            local_lookup=False,
            source_repository="",
            tags={"old": None},
            managed=({"manager": "kubectl", "fieldsV1": {"f:spec": {}}}, {"manager": "oc"}),
        ),
        "imagestream.updated",
        "{" + BY + ',"labels":{},"localLookup":false,"sourceRepository":"","tags":{"old":null},'
        '"managedFields":[{"manager":"kubectl","fieldsV1":{"f:spec":{}}},{"manager":"oc"}]}',
    ),
    (
        ImageMapped(by=SHORT, put=(Put(tag="latest", image=DIGEST, generation=1),)),
        "imagestream.image-mapped",
        "{" + BY + ',"put":[{"tag":"latest","image":"' + DIGEST + '","generation":1}]}',
    ),
    (
        TagSet(by=SHORT, generation=2, tags={"latest": WHOLE_TAG}),
        "imagestream.tag-set",
        "{" + BY + ',"generation":2,"tags":{"latest":' + WHOLE_TAG_TEXT + "}}",
    ),
    (
        TagDeleted(by=SHORT, generation=2, tags={"old": None}, dropped=("old",)),
        "imagestream.tag-deleted",
        "{" + BY + ',"generation":2,"tags":{"old":null},"dropped":["old"]}',
    ),
    (
        ImagesImported(by=SHORT, put=(Put(tag="t", generation=2, reference="r"),), conditions={"u": (CONDITION,)}),
        "imagestream.images-imported",
        "{" + BY + ',"put":[{"tag":"t","generation":2,"reference":"r"}],"conditions":{"u":[' + CONDITION_TEXT + "]}}",
    ),
    (
        TagRolledBack(
            by=SHORT,
            put=(Put(tag="t", generation=2, reference="r"),),
            restores=Restored(position=7, image=DIGEST, reference="r"),
        ),
        "imagestream.rolled-back",
        "{" + BY + ',"put":[{"tag":"t","generation":2,"reference":"r"}],'
        '"restores":{"position":7,"image":"' + DIGEST + '","reference":"r"}}',
    ),
    (
        StatusReplaced(
            by=SHORT,
            items={"t": (TagEvent(1700000000, "r", DIGEST, 2), TagEvent(None, "s", "", 0)), "gone": ()},
            conditions={"t": ()},
        ),
        "imagestream.status-replaced",
        "{" + BY + ',"conditions":{"t":[]},"items":{"t":[' + ENTRY_TEXT + ","
        '{"created":null,"reference":"s","image":"","generation":0}],"gone":[]}}',
    ),
    (StreamDeletionRequested(by=SHORT), "imagestream.deletion-requested", "{" + BY + "}"),
    (StreamDeleted(by=SHORT), "imagestream.deleted", "{" + BY + "}"),
    (
        ImageRegistered(by=SHORT, uid="u", changes={"dockerImageReference": Raw(b'"r"'), "n": Raw(b"1.50")}),
        "image.registered",
        "{" + BY + ',"changes":{"dockerImageReference":"r","n":1.50},"uid":"u"}',
    ),
    (
        ImageUpdated(by=SHORT, changes={"signatures": Raw(b"null")}),
        "image.updated",
        "{" + BY + ',"changes":{"signatures":null}}',
    ),
    (ImageDeletionRequested(by=SHORT), "image.deletion-requested", "{" + BY + "}"),
    (ImageDeleted(by=SHORT), "image.deleted", "{" + BY + "}"),
    (LogStarted(by=SHORT, log="an-id"), "log.started", "{" + BY + ',"log":"an-id"}'),
]

every_stored = pytest.mark.parametrize(("event", "topic", "text"), STORED, ids=lambda value: str(value)[:30])


def stored(event: DomainEvent) -> StoredEvent:
    return EventMapper().to_stored_event(Recorded("shop/web", 3, event))


def read(topic: str, text: str | bytes) -> Any:
    return EventMapper().decode(topic, text.encode() if isinstance(text, str) else text)


def test_every_event_has_its_text_here() -> None:
    assert {type(event) for event, _, _ in STORED} == set(EVENTS)
    assert len({event.TOPIC for event in EVENTS}) == len(EVENTS)


def test_every_field_of_every_event_has_its_text_here() -> None:
    for event_class in EVENTS:
        written = {key for event, _, text in STORED if type(event) is event_class for key in json.loads(text)}
        names = {field.encode_name for field in msgspec.structs.fields(event_class)}
        assert names - written <= _shared(event_class), event_class


def _shared(event_class: type[DomainEvent]) -> set[str]:
    """The fields that an event has because all of its kind do, and whose text is shown with another one."""
    kind = next((kind for kind in (StreamEvent, ImageEvent) if issubclass(event_class, kind)), None)
    if kind is None:
        return set()
    written = {key for event, _, text in STORED if isinstance(event, kind) for key in json.loads(text)}
    return written & {field.encode_name for field in msgspec.structs.fields(kind)}


@every_stored
def test_an_event_is_stored_as_this_text(event: DomainEvent, topic: str, text: str) -> None:
    assert stored(event) == StoredEvent("shop/web", 3, topic, text.encode())


@every_stored
def test_this_text_is_read_as_the_event(event: DomainEvent, topic: str, text: str) -> None:
    found = EventMapper().to_domain_event(StoredEvent("shop/web", 3, topic, text.encode()))
    assert found == Recorded("shop/web", 3, event)
    assert type(found.event) is type(event)


@every_stored
def test_fields_of_the_future_are_passed_over(event: DomainEvent, topic: str, text: str) -> None:
    future = '{"later":{"deep":[1,null]},' + text[1:-1] + ',"class":"x"}'
    future = future.replace('"at":', '"tomorrow":true,"at":').replace('"generation":1', '"generation":1,"mood":"fine"')
    assert read(topic, future) == event


@every_stored
def test_an_event_with_nothing_but_what_it_must_have_takes_defaults(event: DomainEvent, topic: str, text: str) -> None:
    required = {field.encode_name for field in msgspec.structs.fields(type(event)) if field.required}
    least = {key: value for key, value in json.loads(text).items() if key in required}
    found = read(topic, json.dumps(least))
    for field in msgspec.structs.fields(type(event)):
        if not field.required:
            assert getattr(found, field.name) == (
                field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            )


def test_null_takes_a_field_for_one_that_stayed() -> None:
    assert read("imagestream.updated", "{" + BY + ',"labels":null}') == StreamUpdated(by=SHORT)


@pytest.mark.parametrize(
    "state",
    [b"", b"{", b"[]", b"null", b"{}", b'{"by":{}}', b'{"by":1}', b"\xff", b'{"by":{"at":"1","actor":"","door":""}}'],
)
def test_bytes_that_are_no_event_are_told_as_such(state: bytes) -> None:
    with pytest.raises(MapperDeserialisationError, match=re.escape("imagestream.deleted")):
        read("imagestream.deleted", state)


@pytest.mark.parametrize("topic", ["imagestream.unheard-of", "", "os:system", "json", "imagestream_es.domain.tags:Tag"])
def test_a_topic_that_is_no_event_is_told_as_such(topic: str) -> None:
    with pytest.raises(MapperDeserialisationError):
        read(topic, "{" + BY + "}")


def test_a_mapper_reads_the_same_event_again_and_again() -> None:
    mapper = EventMapper()
    event, topic, text = STORED[4]
    assert [mapper.decode(topic, text.encode()) for _ in range(3)] == [event] * 3


# --- events of older classes


class Shipped(DomainEvent, frozen=True, omit_defaults=True, kw_only=True):
    """As `cups` in version 1, as `pints` in version 2, and with `glass` from version 3 on."""

    TOPIC: ClassVar[str] = "test.shipped"
    class_version: ClassVar[int] = 3

    pints: int
    glass: str
    rest: Raw = Raw(b"null")

    @staticmethod
    def upcast_v1_v2(fields: dict[str, Any]) -> None:
        fields["pints"] = fields.pop("cups") // 2

    @staticmethod
    def upcast_v2_v3(fields: dict[str, Any]) -> None:
        fields["glass"] = "tall" if fields["pints"] > 1 else "small"


def read_shipped(text: str | bytes) -> Any:
    return EventMapper([Shipped]).decode(Shipped.TOPIC, text.encode() if isinstance(text, str) else text)


def test_older_events_are_lifted_step_by_step() -> None:
    tall = Shipped(by=SHORT, pints=4, glass="tall", rest=Raw(b'{"a":[1.5,"\xc3\xbc"]}'))
    assert read_shipped("{" + BY + ',"cups":8,"rest":{"a":[1.5,"ü"]}}') == tall
    assert read_shipped("{" + BY + ',"class_version":2,"pints":4,"rest":{"a":[1.5,"ü"]}}') == tall
    newest = "{" + BY + ',"class_version":3,"pints":1,"glass":"wide"}'
    assert read_shipped(newest) == Shipped(by=SHORT, pints=1, glass="wide")


def test_an_event_of_a_later_class_version_tells_it() -> None:
    event = Shipped(by=SHORT, pints=1, glass="wide")
    state = stored(event).state
    assert state == b'{"class_version":3,' + BY.encode() + b',"pints":1,"glass":"wide"}'
    assert read_shipped(state) == event


def test_an_older_event_that_can_not_be_lifted_is_told_as_such() -> None:
    for text in ("{" + BY + "}", "{" + BY + ',"class_version":2}', "[]", '{"class_version":"2"}'):
        with pytest.raises(MapperDeserialisationError, match=re.escape(Shipped.TOPIC)):
            read_shipped(text)


# --- what is in the log, and what is not


def test_an_event_of_a_version_that_is_not_known_yet_is_not_read_as_an_older_one() -> None:
    event = b'{"class_version":2,' + BY.encode() + b',"log":"one"}'
    with pytest.raises(MapperDeserialisationError, match="version 2, and this program knows 1: update it"):
        EventMapper().decode("log.started", event)


def test_a_first_version_does_not_tell_its_class_version() -> None:
    for event, _, _ in STORED:
        assert type(event).class_version == 1
        assert b"class_version" not in stored(event).state


def test_no_event_has_a_place_for_a_person() -> None:
    """Who did something is an opaque id; names, addresses and such are nowhere but in what clients send as data."""
    personal = re.compile("user|mail|login|address|phone|group|token|secret|password|display", re.IGNORECASE)
    shapes: list[type[Any]] = [*EVENTS, Origin, Put, TagReference, ObjectReference, TagEvent, TagEventCondition]
    names = {field.encode_name for shape in shapes for field in msgspec.structs.fields(shape)}
    assert [name for name in names if personal.search(name)] == []
    told = {field.encode_name for field in msgspec.structs.fields(Origin)}
    assert told == {"at", "actor", "door", "request", "reason", "impersonator", "key", "fingerprint"}


def test_a_push_takes_few_bytes() -> None:
    """The event of a push to the internal registry, which is nearly all of a log, and its ids in full length."""
    origin = Origin(at=1700000000123, actor="0f" * 16, door="webhook", request="1e" * 16)
    event = ImageMapped(by=origin, put=(Put(tag="latest", image=DIGEST, generation=1),))
    found = EventMapper().to_stored_event(Recorded("namespace/stream", 1000, event))
    assert len(found.state) <= 256
    assert len(found.state) + len(found.topic) + len(str(found.originator_id)) <= 300


texts = st.text(max_size=12)
origins = st.builds(
    Origin,
    at=st.integers(0, 2**53),
    actor=texts,
    door=st.sampled_from(["api", "webhook", "import"]),
    request=texts,
    reason=texts,
    impersonator=texts,
    key=texts,
    fingerprint=texts,
)
_numbers = st.integers(-(2**63), 2**63 - 1)
_optional: Callable[[st.SearchStrategy[Any]], st.SearchStrategy[Any]] = lambda inner: st.none() | inner  # noqa: E731
_maps = st.dictionaries(texts, texts, max_size=3)
_references = st.builds(
    TagReference,
    name=texts,
    source=_optional(st.builds(ObjectReference, texts, texts, texts)),
    annotations=_optional(_maps),
    reference=st.booleans(),
    generation=_optional(_numbers),
    insecure=st.booleans(),
    scheduled=st.booleans(),
    import_mode=texts,
    reference_policy=texts,
)
_entries = st.builds(TagEvent, _optional(_numbers), texts, texts, _numbers)
_conditions = st.builds(TagEventCondition, texts, texts, _optional(_numbers), texts, texts, _numbers)
_puts = st.builds(
    Put,
    tag=texts,
    image=texts,
    generation=_numbers,
    reference=_optional(texts),
    created=_optional(_numbers),
    followers=st.lists(texts, max_size=2).map(tuple),
)
_updates = st.builds(
    StreamUpdated,
    by=origins,
    labels=_optional(_maps),
    annotations=_optional(_maps),
    finalizers=_optional(st.lists(texts, max_size=2).map(tuple)),
    owners=_optional(st.lists(st.dictionaries(texts, texts | st.booleans(), max_size=2), max_size=2).map(tuple)),
    generation=_optional(_numbers),
    local_lookup=_optional(st.booleans()),
    source_repository=_optional(texts),
    tags=_optional(st.dictionaries(texts, _optional(_references), max_size=2)),
    dropped=st.lists(texts, max_size=2).map(tuple),
    put=st.lists(_puts, max_size=2).map(tuple),
    conditions=_optional(st.dictionaries(texts, st.lists(_conditions, max_size=2).map(tuple), max_size=2)),
    items=_optional(st.dictionaries(texts, st.lists(_entries, max_size=2).map(tuple), max_size=2)),
)


@given(_updates)
def test_whatever_is_in_an_event_comes_back(event: StreamUpdated) -> None:
    found = stored(event)
    assert read(found.topic, found.state) == event

"""Watches: told from any position on, every change is told once, and what is told adds up to the lists."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
from flask.testing import FlaskClient
from histories import IMAGES, REGISTRY, Step, World, a_world, histories, thoroughly
from hypothesis import given
from hypothesis import strategies as st
from image_api import (
    TABLE,
    Watching,
    client_of,
    create,
    delete,
    get,
    listed,
    names,
    push,
    refused,
    update,
    version,
    watch,
)

from api import create_app, listing
from api import watch as watching
from api.resources import image_streams
from api.schemas.image_stream import image_stream_json
from imagestream_es.application import hub
from imagestream_es.application.commands import NOTHING_EXPECTED, Caller
from imagestream_es.application.limits import TooMany
from imagestream_es.bootstrap import build
from imagestream_es.domain.events import Origin
from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.projections.past import Replay
from imagestream_es.settings import Settings

PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
STREAMS = "namespaces/shop/imagestreams"
INITIAL = {"sendInitialEvents": "true", "match": "NotOlderThan"}
MARKED = {"allowWatchBookmarks": "true"}

Event = dict[str, Any]


@pytest.fixture
def world() -> Iterator[World]:
    """A world with the streams shop/web and tools/web, at positions 2 and 3, whose hub runs."""
    with a_world() as world:
        world.hub.start()
        yield world


@pytest.fixture
def client(world: World) -> FlaskClient:
    return client_of(world)


def told(events: list[Event]) -> list[tuple[str, str, int]]:
    """Type, name and version of events."""
    return [(event["type"], event["object"]["metadata"].get("name", ""), version(event)) for event in events]


def dispatched(world: World) -> None:
    """Wait until the hub has handed out all that there is."""
    while world.hub.position < world.queries.position():
        time.sleep(0.001)


# --- what is told adds up

CHOICES: list[dict[str, str]] = [
    {},
    {"labelSelector": "x"},
    {"labelSelector": "!x"},
    {"labelSelector": "x=1"},
    {"labelSelector": "y notin (1),z"},
    {"fieldSelector": "metadata.name=web"},
    {"fieldSelector": "metadata.name!=web"},
    {"fieldSelector": "metadata.namespace=tools"},
    {"fieldSelector": f"metadata.name={IMAGES[0]}"},
    {"labelSelector": "x", "fieldSelector": "metadata.name=web"},
    {"fieldSelector": "spec.dockerImageRepository=quay.io/o/r"},
    {"fieldSelector": f"status.dockerImageRepository={REGISTRY}/shop/web"},
]
WATCHED = [
    *((path, choice) for path in ("imagestreams", STREAMS) for choice in CHOICES),
    *(("images", choice) for choice in CHOICES[:6]),
    *(("images", choice) for choice in CHOICES[8:9] * 3),
    ("/oapi/v1/imagestreams", {}),
]


class Follower:
    """A client that keeps the objects of a list by what a watch tells it, and checks that this makes sense."""

    def __init__(self, client: FlaskClient, path: str, choice: dict[str, str]) -> None:
        self._client, self._path, self._choice = client, path, choice
        self.state: dict[str, Event] = {}
        self.past: dict[int, dict[str, Event]] = {}
        self.seen = 0

    def listed(self, **query: object) -> dict[str, Event]:
        """The objects of the list itself."""
        found = listed(self._client, self._path, **self._choice, **query)
        kind = {"kind": found["kind"].removesuffix("List"), "apiVersion": found["apiVersion"]}
        return {name: item | kind for name, item in zip(names(found), found["items"], strict=True)}

    def watch(self, **query: object) -> Watching:
        return watch(self._client, self._path, **self._choice, **query)

    def begin(self, version: str) -> Watching:
        """Watch from a version on: from a list of it, or with what is there first."""
        if version not in ("", "0", "1"):
            self.state = self.listed(version=version, match="Exact")
        self.seen = int(version or 0)
        return self.watch(version=version, **MARKED)

    def tell(self, event: Event) -> None:
        """Take in an event."""
        kind, item = event["type"], event["object"]
        position = version(event)
        if kind == "BOOKMARK":
            assert position >= self.seen
            if not self.seen:  # all that was there at the beginning is told now
                self.past = {position: dict(self.state)}
            self.seen = position
            return
        name = "/".join(filter(None, (item["metadata"].get("namespace"), item["metadata"]["name"])))
        assert (kind == "ADDED") is (name not in self.state)
        if kind == "DELETED":
            last = self.state.pop(name)
            assert item == last | {"metadata": last["metadata"] | {"resourceVersion": str(position)}}
        else:
            assert kind in ("ADDED", "MODIFIED")
            self.state[name] = item
        self.past[position] = dict(self.state)

    def take(self, event: Event) -> None:
        """Take in the next event of a watch."""
        if event["type"] != "BOOKMARK" and self.seen:
            assert version(event) > max([self.seen, *self.past])
        self.tell(event)

    def follow(self, events: Watching, until: int) -> None:
        """Take in events until all up to a position are known to be told."""
        while self.seen < until:
            self.take(next(events))


ALL = 99
versions = st.sampled_from(["", "0", "1", "1", "1", "2", "3"])
reads = st.lists(st.sampled_from([0, 0, 1, 2, 3, ALL]), min_size=30)
chunks = st.sampled_from([1, 2, 5, 256])
sizes = st.sampled_from([1, 10_000, 30_000, 1 << 20])


@thoroughly
@given(histories, st.sampled_from(WATCHED), versions, st.integers(0, 10), reads, sizes, chunks)
def test_whatever_happens_what_is_told_adds_up_to_the_list_of_every_position(
    steps: list[Step],
    watched: tuple[str, dict[str, str]],
    since: str,
    before: int,
    reads: list[int],
    waiting: int,
    chunk: int,
) -> None:
    """The watch begins somewhere in the history, from somewhere in the log, and is read now and then in part."""
    with pytest.MonkeyPatch.context() as patch, a_world() as world:
        patch.setattr(watching, "BOOKMARKS", 0.0)
        patch.setattr(watching, "CHUNK", chunk)
        patch.setattr(watching, "CHUNK_BYTES", 100 * chunk)
        patch.setattr(hub, "WAITING", waiting)
        world.hub.start()
        follower = Follower(client_of(world), *watched)
        for _ in world.live_through(steps[:before]):
            pass
        events = follower.begin(since)
        for head, read in zip(world.live_through(steps[before:]), reads, strict=False):
            if read == ALL:
                follower.follow(events, head)
                assert follower.state == follower.listed()
            else:
                for event in events.take(read):
                    follower.take(event)
        head = world.queries.position()
        follower.follow(events, head)
        events.close()
        assert world.hub.count == 0
        began = min(follower.past, default=head) if since in ("", "0") else int(since)
        state = follower.listed(version=began, match="Exact")
        for position in range(began, head + 1):
            state = follower.past.get(position, state)
            assert state == follower.listed(version=position, match="Exact")


@thoroughly
@given(histories, st.sampled_from(WATCHED), reads, st.sampled_from([0.0, 0.002, 0.01]), sizes)
def test_a_client_that_comes_again_from_the_last_version_it_saw_misses_nothing(
    steps: list[Step], watched: tuple[str, dict[str, str]], reads: list[int], seconds: float, waiting: int
) -> None:
    """Watches end after a moment; the last version is that of an event or of the bookmark at the end."""
    with pytest.MonkeyPatch.context() as patch, a_world() as world:
        patch.setattr(watching, "_seconds", lambda _: seconds)
        patch.setattr(hub, "WAITING", waiting)
        world.hub.start()
        follower = Follower(client_of(world), *watched)
        follower.seen = 1
        for _, read in zip(world.live_through(steps), reads, strict=False):
            if read:
                for event in follower.watch(version=max([follower.seen, *follower.past]), **MARKED):
                    follower.tell(event)
        patch.setattr(watching, "_seconds", lambda _: 60.0)
        patch.setattr(watching, "BOOKMARKS", 0.0)
        last = follower.watch(version=max([follower.seen, *follower.past]), **MARKED)
        follower.follow(last, world.queries.position())
        assert follower.state == follower.listed()
        last.close()


# --- what a watch begins with


@pytest.mark.parametrize("query", [{}, {"version": ""}, {"version": "0"}])
def test_without_a_version_or_with_0_all_that_is_there_comes_first(
    world: World, client: FlaskClient, query: Any
) -> None:
    events = watch(client, "imagestreams", **query)
    assert told(events.take(2)) == [("ADDED", "web", 2), ("ADDED", "web", 3)]
    update(world, "tools", "web", labels={"a": "b"})
    assert told(events.take(1)) == [("MODIFIED", "web", 4)]


def test_from_a_version_on_come_the_changes_behind_it(world: World, client: FlaskClient) -> None:
    create(world, "shop", "new")
    update(world, "shop", "web", labels={"a": "b"})
    delete(world, "shop", "new")
    history = [
        ("ADDED", "web", 2),
        ("ADDED", "web", 3),
        ("ADDED", "new", 4),
        ("MODIFIED", "web", 5),
        ("DELETED", "new", 6),
    ]
    for since in range(1, 7):
        events = watch(client, "imagestreams", version=since)
        assert told(events.take(6 - max(since, 1))) == history[since - 1 :]
        events.close()


@pytest.mark.parametrize("positions", [1, 2, 5, 99])
@pytest.mark.parametrize("size", [1, 500, 1 << 20])
def test_the_past_is_told_whole_in_whatever_portions_it_is_read(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, positions: int, size: int
) -> None:
    monkeypatch.setattr(watching, "CHUNK", positions)
    monkeypatch.setattr(watching, "CHUNK_BYTES", size)
    for number in range(10):
        push(world, "shop", "web", "v1", f"sha256:{number:064}")
    dispatched(world)
    events = watch(client, STREAMS, version=1)
    assert [at for _, _, at in told(events.take(11))] == [2, *range(5, 25, 2)]


@pytest.mark.parametrize("version", ["", "0", "2"])
def test_initial_events_can_be_asked_for_with_a_bookmark_at_their_end(
    world: World, client: FlaskClient, version: str
) -> None:
    create(world, "shop", "a")
    events = watch(client, STREAMS, version=version, **INITIAL, **MARKED)
    assert told(events.take(2)) == [("ADDED", "a", 4), ("ADDED", "web", 2)]
    (mark,) = events.take(1)
    assert mark == {
        "type": "BOOKMARK",
        "object": {
            "kind": "ImageStream",
            "apiVersion": "image.openshift.io/v1",
            "metadata": {
                "resourceVersion": "4",
                "creationTimestamp": None,
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        },
    }
    delete(world, "shop", "a")
    assert told(events.take(1)) == [("DELETED", "a", 5)]


def test_initial_events_of_nothing_end_at_once(world: World, client: FlaskClient) -> None:
    events = watch(client, "namespaces/empty/imagestreams", **INITIAL, **MARKED)
    (mark,) = events.take(1)
    assert (mark["type"], version(mark)) == ("BOOKMARK", 3)


def test_the_end_of_initial_events_is_not_told_to_those_who_allow_no_bookmarks(
    world: World, client: FlaskClient
) -> None:
    events = watch(client, STREAMS, **INITIAL)
    assert told(events.take(1)) == [("ADDED", "web", 2)]
    create(world, "shop", "new")
    assert told(events.take(1)) == [("ADDED", "new", 4)]


@pytest.mark.parametrize(("version", "first"), [("", 6), ("0", 6), ("4", 5)])
def test_initial_events_can_be_left_out(world: World, client: FlaskClient, version: str, first: int) -> None:
    create(world, "shop", "a")
    create(world, "shop", "b")
    dispatched(world)
    events = watch(client, STREAMS, version=version, sendInitialEvents="false", match="NotOlderThan")
    create(world, "shop", "c")
    assert told(events.take(7 - first)) == [("ADDED", "b", 5), ("ADDED", "c", 6)][first - 5 :]


@pytest.mark.parametrize(
    ("query", "reason", "field"),
    [
        ({"sendInitialEvents": "true"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"sendInitialEvents": "false", "version": "2"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"match": "NotOlderThan"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"match": "NotOlderThan", "version": "2"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({"match": "Exact", "version": "2"}, "FieldValueForbidden", "resourceVersionMatch"),
        ({**INITIAL, "match": "Exact"}, "FieldValueNotSupported", "resourceVersionMatch"),
        ({**INITIAL, "match": "newest"}, "FieldValueNotSupported", "resourceVersionMatch"),
        ({"continue": "token"}, "FieldValueForbidden", "continue"),
    ],
)
def test_options_that_break_the_rules_are_invalid(
    world: World, client: FlaskClient, query: Any, reason: str, field: str
) -> None:
    status = refused(get(client, "imagestreams", watch="true", **query), 422, "Invalid")
    assert status["message"].startswith(f'ListOptions.meta.k8s.io "" is invalid: {field}: ')
    assert [(cause["reason"], cause["field"]) for cause in status["details"]["causes"]] == [(reason, field)]
    assert world.hub.count == 0


@pytest.mark.parametrize(
    "query",
    [
        {"version": "x"},
        {"version": "-1"},
        {"timeoutSeconds": "soon"},
        {"timeoutSeconds": "-5"},
        {"timeoutSeconds": "1" * 10},
        {"sendInitialEvents": "maybe", "match": "NotOlderThan"},
        {"labelSelector": "a b"},
        {"fieldSelector": "status.phase=x"},
        {"accept": TABLE, "includeObject": "Everything"},
    ],
)
def test_what_cannot_be_read_is_a_bad_request(world: World, client: FlaskClient, query: Any) -> None:
    refused(get(client, "imagestreams", watch="true", **query), 400, "BadRequest")
    assert world.hub.count == 0


def test_a_version_that_does_not_come_is_a_timeout(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "WAIT", 0.02)
    status = refused(get(client, "imagestreams", watch="true", version=4), 504, "Timeout")
    assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert world.hub.count == 0


def test_no_more_watches_begin_than_there_is_room_for(world: World) -> None:
    for _ in range(3):
        world.hub.subscribe((None, None), most=3)
    with pytest.raises(TooMany):
        world.hub.subscribe((None, None), most=3)
    assert world.hub.count == 3


@pytest.mark.parametrize("value", ["true", "1", "True", "t", ""])
def test_a_watch_is_asked_for_in_several_ways(client: FlaskClient, value: str) -> None:
    assert told(watch(client, STREAMS, watch=value).take(1)) == [("ADDED", "web", 2)]


@pytest.mark.parametrize("value", ["false", "0", "False"])
def test_a_watch_that_is_not_wanted_is_a_list(client: FlaskClient, value: str) -> None:
    assert names(listed(client, STREAMS, watch=value)) == ["shop/web"]


@pytest.mark.parametrize("path", ["imagestreamtags", "namespaces/shop/imagetags", "/api/v1/namespaces"])
def test_what_cannot_be_watched_says_so(client: FlaskClient, path: str) -> None:
    refused(get(client, path, watch="true"), 405, "MethodNotAllowed")


# --- what is watched


def test_the_streams_of_one_namespace_are_watched(world: World, client: FlaskClient) -> None:
    events = watch(client, STREAMS, version=3)
    create(world, "tools", "other")
    create(world, "shop", "ours")
    assert told(events.take(1)) == [("ADDED", "ours", 5)]


def test_one_stream_is_watched_by_its_name(world: World, client: FlaskClient) -> None:
    events = watch(client, STREAMS, version=0, fieldSelector="metadata.name=web")
    everywhere = watch(client, "imagestreams", version=3, fieldSelector="metadata.name=web")
    assert told(events.take(1)) == [("ADDED", "web", 2)]
    create(world, "shop", "other")
    update(world, "tools", "web", labels={"a": "b"})
    update(world, "shop", "web", labels={"a": "b"})
    assert told(events.take(1)) == [("MODIFIED", "web", 6)]
    assert told(everywhere.take(2)) == [("MODIFIED", "web", 5), ("MODIFIED", "web", 6)]


def test_a_name_that_is_asked_for_twice_is_watched_for_nothing(world: World, client: FlaskClient) -> None:
    selector = "metadata.name=web,metadata.name=other"
    events = watch(client, "imagestreams", version=1, fieldSelector=selector, timeoutSeconds=1)
    create(world, "shop", "other")
    assert list(events) == []


def test_images_are_watched(world: World, client: FlaskClient) -> None:
    one = watch(client, "images", version=1, fieldSelector=f"metadata.name={IMAGES[1]}")
    events = watch(client, "images", version=1)
    push(world, "shop", "web", "v1", IMAGES[0])  # two events in one commit, the image's first
    push(world, "shop", "web", "v1", IMAGES[1])
    world.commands.delete_image(world.caller(None), IMAGES[1], NOTHING_EXPECTED)
    assert told(events.take(3)) == [("ADDED", IMAGES[0], 4), ("ADDED", IMAGES[1], 6), ("DELETED", IMAGES[1], 8)]
    assert told(one.take(2)) == [("ADDED", IMAGES[1], 6), ("DELETED", IMAGES[1], 8)]
    stream = watch(client, STREAMS, version=3)
    assert told(stream.take(2)) == [("MODIFIED", "web", 5), ("MODIFIED", "web", 7)]


def test_events_are_whole_objects_as_single_reads_show_them(world: World, client: FlaskClient) -> None:
    events, legacy = watch(client, STREAMS, version=2), watch(client, "/oapi/v1/" + STREAMS, version=2, **MARKED)
    push(world, "shop", "web", "v1")
    assert next(events) == {"type": "MODIFIED", "object": listed(client, STREAMS + "/web")}
    old = listed(client, "/oapi/v1/" + STREAMS + "/web")
    assert next(legacy) == {"type": "MODIFIED", "object": old}
    assert (old["apiVersion"], old["metadata"]["selfLink"]) == ("v1", "/oapi/v1/" + STREAMS + "/web")


def test_what_is_deleted_is_told_as_it_was_with_the_version_of_its_end(world: World, client: FlaskClient) -> None:
    push(world, "shop", "web", "v1")
    last = listed(client, STREAMS + "/web")
    events = watch(client, STREAMS, version=5)
    delete(world, "shop", "web")
    create(world, "shop", "web")
    gone, again = events.take(2)
    last["metadata"]["resourceVersion"] = "6"
    assert gone == {"type": "DELETED", "object": last}
    assert (again["type"], version(again)) == ("ADDED", 7)


def test_an_object_that_finalizers_hold_is_told_twice_of_its_end(world: World, client: FlaskClient) -> None:
    create(world, "shop", "held", finalizers=("wait",))
    events = watch(client, STREAMS, version=4)
    delete(world, "shop", "held")
    update(world, "shop", "held")
    asked, gone = events.take(2)
    assert told([asked, gone]) == [("MODIFIED", "held", 5), ("DELETED", "held", 6)]
    for event in (asked, gone):
        assert event["object"]["metadata"]["deletionTimestamp"]
        assert event["object"]["metadata"]["finalizers"] == ["wait"]


@pytest.mark.parametrize("since", [2, 9])
def test_what_starts_to_match_is_added_and_what_stops_is_deleted(world: World, client: FlaskClient, since: int) -> None:
    def change() -> None:
        update(world, "shop", "web", labels={"tier": "front"})
        update(world, "shop", "web", labels={"tier": "front", "more": "1"})
        update(world, "shop", "web", labels={"tier": "back", "more": "1"})
        update(world, "shop", "web", labels={"tier": "other"})
        delete(world, "shop", "web")
        create(world, "shop", "web")

    change()
    events = watch(client, STREAMS, version=since, labelSelector="tier=front")
    if since == 9:
        change()
    added, modified, deleted = events.take(3)
    first = 4 if since == 2 else 10
    assert told([added, modified, deleted]) == [
        ("ADDED", "web", first),
        ("MODIFIED", "web", first + 1),
        ("DELETED", "web", first + 2),
    ]
    assert deleted["object"]["metadata"]["labels"] == {"tier": "front", "more": "1"}
    assert {**deleted["object"]["metadata"], "resourceVersion": ""} == {
        **modified["object"]["metadata"],
        "resourceVersion": "",
    }


def test_fields_can_start_and_stop_to_match_too(world: World, client: FlaskClient) -> None:
    events = watch(client, STREAMS, version=3, fieldSelector="spec.dockerImageRepository=quay.io/team/web")
    update(world, "shop", "web", source_repository="quay.io/team/web")
    update(world, "shop", "web", source_repository="quay.io/team/other")
    assert told(events.take(2)) == [("ADDED", "web", 4), ("DELETED", "web", 5)]


# --- forms


def test_each_event_of_a_table_is_a_table_of_one_row(world: World, client: FlaskClient) -> None:
    events = watch(client, STREAMS, accept=TABLE, version=1)
    push(world, "shop", "web", "v1")
    delete(world, "shop", "web")
    seen = events.take(3)
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    for event, position, tags in zip(seen, (2, 5, 6), ("", "v1", "v1"), strict=True):
        table = event["object"]
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert table["metadata"] == {"resourceVersion": str(position)}
        assert table["columnDefinitions"][0]["name"] == "Name"
        (row,) = table["rows"]
        assert row["cells"][:3] == ["web", f"{REGISTRY}/shop/web", tags]
        assert row["object"]["kind"] == "PartialObjectMetadata"
        assert row["object"]["metadata"]["resourceVersion"] == str(position)


@pytest.mark.parametrize(("include", "kind"), [("Object", "ImageStream"), ("Metadata", "PartialObjectMetadata")])
def test_the_rows_of_a_table_have_the_object_that_is_asked_for(client: FlaskClient, include: str, kind: str) -> None:
    events = watch(client, STREAMS, accept=TABLE, version=1, includeObject=include)
    assert next(events)["object"]["rows"][0]["object"]["kind"] == kind


def test_watches_of_different_forms_do_not_mix(world: World, client: FlaskClient) -> None:
    forms: list[dict[str, str]] = [
        {},
        {"accept": TABLE},
        {"accept": TABLE, "includeObject": "None"},
        {"accept": PARTIAL},
    ]
    watches = [watch(client, STREAMS, version=3, **form) for form in forms]
    update(world, "shop", "web", labels={"a": "b"})
    plain, table, bare, partial = (next(one)["object"] for one in watches)
    assert plain == listed(client, STREAMS + "/web")
    assert table["rows"][0]["object"]["metadata"] == plain["metadata"]
    assert bare["rows"][0]["object"] is None
    assert partial == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": plain["metadata"]}


def test_of_partial_objects_the_bookmarks_are_partial_too(client: FlaskClient) -> None:
    events = watch(client, STREAMS, accept=PARTIAL, **INITIAL, **MARKED)
    added, mark = events.take(2)
    assert added["object"].keys() == {"kind", "apiVersion", "metadata"}
    assert (mark["type"], mark["object"]["kind"]) == ("BOOKMARK", "PartialObjectMetadata")
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_change_is_shown_once_for_all_who_watch_it_alike(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = [watch(client, path, version=3) for path in (STREAMS, "imagestreams") for _ in range(20)]
    show = Mock(wraps=image_stream_json)
    monkeypatch.setattr(image_streams, "image_stream_json", show)
    update(world, "shop", "web", labels={"a": "b"})
    assert {version(next(one)) for one in watches} == {4}
    assert show.call_count == 1


# --- bookmarks and ends


def test_bookmarks_tell_how_far_the_log_was_followed(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BOOKMARKS", 0.0)
    events = watch(client, STREAMS, version=3, **MARKED)
    assert next(events) == {
        "type": "BOOKMARK",
        "object": {
            "kind": "ImageStream",
            "apiVersion": "image.openshift.io/v1",
            "metadata": {"resourceVersion": "3", "creationTimestamp": None},
        },
    }
    create(world, "elsewhere", "a")
    dispatched(world)
    assert told(events.take(1)) == [("BOOKMARK", "", 4)]
    create(world, "shop", "b")
    create(world, "elsewhere", "c")
    dispatched(world)
    assert told(events.take(2)) == [("ADDED", "b", 5), ("BOOKMARK", "", 6)]


def test_no_bookmark_is_ahead_of_a_watcher_that_lags(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "WAITING", 1)
    monkeypatch.setattr(watching, "BOOKMARKS", 0.0)
    events = watch(client, STREAMS, version=3, **MARKED)
    create(world, "shop", "a")
    dispatched(world)
    assert told(events.take(2)) == [("BOOKMARK", "", 3), ("ADDED", "a", 4)]
    for name in "bcd":
        create(world, "shop", name)
    dispatched(world)
    seen = told(events.take(6))
    assert [one for one in seen if one != ("BOOKMARK", "", 4)] == [
        ("ADDED", "b", 5),
        ("ADDED", "c", 6),
        ("ADDED", "d", 7),
        ("BOOKMARK", "", 7),
    ]


def test_a_watch_ends_at_its_timeout_with_a_bookmark(world: World, client: FlaskClient) -> None:
    begun = time.monotonic()
    marked = watch(client, STREAMS, version=1, timeoutSeconds=1, **MARKED)
    plain = watch(client, STREAMS, version=1, timeoutSeconds=1)
    create(world, "elsewhere", "a")
    assert told(list(marked)) == [("ADDED", "web", 2), ("BOOKMARK", "", 4)]
    assert told(list(plain)) == [("ADDED", "web", 2)]
    assert time.monotonic() - begun >= 1
    assert world.hub.count == 0


def test_a_timeout_is_kept_while_the_past_is_told(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "CHUNK", 1)
    monkeypatch.setattr(watching, "_seconds", lambda _: 0.2)
    for name in "abcdef":
        create(world, "shop", name)
    dispatched(world)
    events = watch(client, STREAMS, version=1, **MARKED)
    first = next(events)
    time.sleep(0.2)
    assert told([first, *events]) == [("ADDED", "web", 2), ("BOOKMARK", "", 2)]


@pytest.mark.parametrize("given_seconds", ["", "0"])
def test_without_a_timeout_a_watch_ends_within_an_hour(given_seconds: str) -> None:
    seconds = {watching._seconds(given_seconds) for _ in range(50)}
    assert len(seconds) > 10  # not all clients come again at one moment
    assert min(seconds) >= 1800
    assert max(seconds) <= 3600


def test_an_idle_watch_without_bookmarks_says_nothing_and_sleeps(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BOOKMARKS", 0.01)
    ask = create_autospec(hub.Subscription.next, side_effect=hub.Subscription.next)
    monkeypatch.setattr(hub.Subscription, "next", ask)
    assert list(watch(client, STREAMS, version=3, timeoutSeconds=1)) == []
    assert ask.call_count <= 3


def test_when_the_hub_closes_watches_end(world: World, client: FlaskClient) -> None:
    events = watch(client, STREAMS, version=1, **MARKED)
    assert told(events.take(1)) == [("ADDED", "web", 2)]
    threading.Timer(0.05, world.hub.close).start()
    assert list(events) == []
    assert told(list(watch(client, STREAMS, version=3))) == []  # and so do those that come later


def test_a_client_that_goes_away_leaves_nothing_behind(world: World, client: FlaskClient) -> None:
    before, after = watch(client, STREAMS, version=1), watch(client, STREAMS, version=1)
    after.take(1)
    assert world.hub.count == 2
    before.close()  # before it took anything
    after.close()
    assert world.hub.count == 0


# --- many watches


def test_few_watches_read_the_log_at_a_time(world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hub.turns = threading.BoundedSemaphore(2)
    reading, most, read = [], [], world.queries.reading

    def counted(answer: Any) -> Any:
        reading.append(1)
        most.append(len(reading))
        time.sleep(0.01)
        try:
            return read(answer)
        finally:
            reading.pop()

    monkeypatch.setattr(world.queries, "reading", counted)
    watches = [watch(client, "imagestreams", version=1) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert (
            list(pool.map(lambda one: told(one.take(2)), watches)) == [[("ADDED", "web", 2), ("ADDED", "web", 3)]] * 8
        )
    assert max(most) == 2


def test_a_watch_that_waits_for_its_turn_keeps_its_timeout_and_tells_no_lies(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TURN", 0.01)
    for _ in range(hub.TURNS):
        world.hub.turns.acquire()
    assert told(list(watch(client, STREAMS, version=1, timeoutSeconds=1, **MARKED))) == [("BOOKMARK", "", 1)]


def test_what_a_quick_watcher_has_taken_is_not_kept_for_long(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "WAITING", 20_000)
    subscribe = Mock(wraps=world.hub.subscribe)
    monkeypatch.setattr(world.hub, "subscribe", subscribe)
    quick, slow = watch(client, STREAMS, version=3), watch(client, STREAMS, version=3)
    for number in range(20):
        at = update(world, "shop", "web", labels={"number": str(number)})
        assert told(quick.take(1)) == [("MODIFIED", "web", at)]
    assert subscribe.call_count == 2
    dispatched(world)
    assert [at for _, _, at in told(slow.take(20))] == [*range(4, 24)]
    assert subscribe.call_count == 3  # the slow one lost its place and found it again in the log


# --- failures


def failing(*_: object) -> Any:
    raise RuntimeError("the secret reason")


@pytest.mark.parametrize("since", [1, 3])
def test_an_error_in_the_middle_of_a_stream_is_told_and_ends_it(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, since: int
) -> None:
    events = watch(client, STREAMS, version=since)
    monkeypatch.setattr(image_streams, "image_stream_json", failing)
    update(world, "shop", "web", labels={"a": "b"})
    with caplog.at_level(logging.ERROR):
        (error,) = list(events)
    assert error["type"] == "ERROR"
    status = error["object"]
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", 500)
    assert status["reason"] == "InternalError"
    assert "secret" not in str(error)
    assert "the secret reason" in caplog.text
    assert world.hub.count == 0


def test_after_a_failure_of_the_hub_nothing_is_missed_or_old(
    world: World, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    events = watch(client, STREAMS, version=3)
    update(world, "shop", "web", labels={"a": "b"})
    dispatched(world)
    monkeypatch.setattr(Replay, "change", failing)
    push(world, "shop", "web", "v1")
    while "the hub failed" not in caplog.text:
        time.sleep(0.001)
    monkeypatch.undo()
    assert told(events.take(2)) == [("MODIFIED", "web", 4), ("MODIFIED", "web", 6)]
    update(world, "shop", "web", labels={"c": "d"})
    assert next(events) == {"type": "MODIFIED", "object": listed(client, STREAMS + "/web")}


@pytest.mark.parametrize("others", [0, 1])
def test_what_happened_while_nobody_watched_is_not_forgotten(world: World, client: FlaskClient, others: int) -> None:
    somewhere = [watch(client, "namespaces/tools/imagestreams", version=3) for _ in range(others)]
    first = watch(client, STREAMS, version=3)
    update(world, "shop", "web", labels={"a": "b"})
    first.take(1)
    first.close()
    push(world, "shop", "web", "v1")
    dispatched(world)
    second = watch(client, STREAMS, version=6)
    update(world, "shop", "web", labels={"c": "d"})
    assert next(second) == {"type": "MODIFIED", "object": listed(client, STREAMS + "/web")}
    assert world.hub.count == 1 + len(somewhere)


# --- other processes


def test_what_other_processes_write_is_told_too(postgres_url: str) -> None:
    with ExitStack() as stack:
        services = [build(Settings(database_url=postgres_url, import_controller="off")) for _ in range(2)]
        for one in services:
            stack.callback(one.close)
        here, there = (create_app(one.settings, one).test_client() for one in services)
        caller = Caller(by=Origin(at=0, actor="u", door="test"))
        for name in "ab":
            services[0].commands.create_image_stream(caller, "shop", name, DesiredStream())
        found = listed(there, STREAMS, version=3)  # it waits until it has seen what the other wrote
        assert names(found) == ["shop/a", "shop/b"]
        watches = [watch(one, STREAMS, version=2) for one in (here, there)]
        for number, name in enumerate("cdef"):
            services[number % 2].commands.create_image_stream(caller, "shop", name, DesiredStream())
        for events in watches:
            assert told(events.take(5)) == [("ADDED", name, at) for at, name in enumerate("bcdef", 3)]
            events.close()

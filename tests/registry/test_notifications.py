"""What registries post, read as it was captured and as anybody may make it up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.registry.notifications import MANY, read_notifications

CAPTURED = Path(__file__).parents[1] / "data" / "registry" / "notifications"
DIGEST = "sha256:" + "a" * 64
NOW = 1_700_000_000_000_000_000
OCI = "application/vnd.oci.image.manifest.v1+json"


def event(**changes: Any) -> dict[str, Any]:
    """A push of team/app:v1; what is named like a field of `target` goes there."""
    target = {"mediaType": OCI, "digest": DIGEST, "repository": "team/app", "tag": "v1"}
    told = {"id": "id-1", "timestamp": "2026-11-23T04:24:04.960482542Z", "action": "push"}
    told |= {key: value for key, value in changes.items() if key not in target}
    return told | {"target": target | {key: value for key, value in changes.items() if key in target}}


def read(*events: Any):
    return read_notifications(json.dumps({"events": events}).encode(), NOW)


def reason(**changes: Any) -> str:
    (found,) = read(event(**changes))
    assert (found.push is None) == bool(found.reason)
    return found.reason


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("delete-manifest", "delete"),
        ("delete-tag", "delete"),
        ("mount-blob", "mount"),
        ("pull-blob-head", "pull"),
        ("pull-manifest-digest-get", "pull"),
        ("pull-manifest-tag-head", "pull"),
        ("push-artifact-tag", "golden/hello:sha256-sig"),
        ("push-bare-tag", "golden/bare:latest"),
        ("push-blob", "no manifest"),
        ("push-docker-list-tag", "golden/list:latest"),
        ("push-index-attested-tag", "golden/attested:latest"),
        ("push-index-tag", "golden/multi:latest"),
        ("push-index-without-platform-tag", "golden/attested:noplat"),
        ("push-legacy-tag", "golden/legacy:1.0"),
        ("push-manifest-untagged", "untagged"),
        ("push-oci-tag", "golden/hello:latest"),
        ("push-schema2-tag", "golden/docker:latest"),
        ("push-with-actor-without-references", "demo/hello:latest"),
        ("push-zstd-tag", "golden/zstd:latest"),
    ],
)
def test_a_captured_notification_is_a_push_or_says_why_not(file: str, told: str) -> None:
    body = (CAPTURED / f"{file}.json").read_bytes()
    (found,) = read_notifications(body, NOW)
    (sent,) = json.loads(body)["events"]
    assert json.loads(found.raw) == sent
    assert found.instance == sent["source"]["instanceID"]
    if found.push is None:
        assert found.reason == told
    else:
        assert f"{found.push.repository}:{found.push.tag}" == told
        assert (found.push.id, found.push.digest) == (sent["id"], sent["target"]["digest"])
        assert found.push.actor == sent["actor"].get("name", "")


def test_every_captured_file_is_read() -> None:
    named = {path.name for path in CAPTURED.glob("*.json")} - {"headers.json"}
    assert len(named) == 20


def test_several_events_in_one_body_keep_their_order() -> None:
    found = read_notifications((CAPTURED / "several-events-in-one-envelope.made-up.json").read_bytes(), NOW)
    assert [one.push and one.push.repository for one in found] == ["golden/legacy", "golden/bare", "golden/list"]


def test_a_whole_captured_run_is_read() -> None:
    lines = (CAPTURED / "whole-make-images-run.jsonl").read_bytes().splitlines()
    found = [one for line in lines for one in read_notifications(line, NOW)]
    pushes = [one.push for one in found if one.push]
    assert len(found) >= len(lines) > 20
    assert [push.tag for push in pushes if push.repository == "demo/hello"][:3] == ["latest", "v2", "latest"]
    assert [push.time for push in pushes] == sorted(push.time for push in pushes)


def test_a_time_is_read_to_the_nanosecond() -> None:
    (found,) = read(event(timestamp="1970-01-01T01:00:01.000000007+01:00"))
    assert found.push
    assert found.push.time == 1_000_000_007


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "9999-99-99T99:99:99Z"])
def test_what_tells_no_time_came_now(text: str) -> None:
    (found,) = read(event(timestamp=text))
    assert found.push
    assert found.push.time == NOW


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"action": "frobnicate"}, "unknown action"),
        ({"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, "schema 1"),
        ({"tag": ""}, "untagged"),
        ({"tag": "a b"}, "bad tag"),
        ({"tag": "x" * 129}, "bad tag"),
        ({"digest": "latest"}, "bad digest"),
        ({"digest": "sha512:" + "a" * 128}, "bad digest"),
        ({"id": ""}, "no id"),
        ({"id": "a\x00b"}, "no id"),
        ({"id": 7}, "unreadable"),
        ({"target": []}, "unreadable"),
        ({"repository": "app"}, "repository name"),
        ({"repository": "team/sub/app"}, "repository name"),
        ({"repository": "te_am/app"}, "repository name"),
        ({"repository": "te.am/app"}, "repository name"),
        ({"repository": "team/a__b"}, "repository name"),
        ({"repository": "team/a--b"}, "repository name"),
        ({"repository": "team/.."}, "repository name"),
        ({"repository": "team/"}, "repository name"),
        ({"repository": "team/a.b_c-d"}, ""),
    ],
)
def test_what_is_of_no_use_says_why(changes: dict[str, Any], expected: str) -> None:
    if "target" in changes:
        assert read(event() | changes)[0].reason == expected
    else:
        assert reason(**changes) == expected


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"{}", b'{"events": {}}', b"\xff", b'{"events":' + b"[" * 100_000, b'{"events": null}']
)
def test_a_body_that_is_none_is_unreadable(body: bytes) -> None:
    assert [one.reason for one in read_notifications(body, NOW)] == ["unreadable"]


def test_a_flood_in_one_body_is_not_taken_apart() -> None:
    assert [one.reason for one in read(*[{}] * (MANY + 1))] == ["too many"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["id", "timestamp", "action", "target", "actor", "source"]), JSON))
def test_whatever_an_event_holds_it_is_a_push_or_says_why_not(changes: dict[str, Any]) -> None:
    (found,) = read_notifications(msgspec.json.encode({"events": [event() | changes]}), NOW)
    assert (found.push is None) == bool(found.reason)

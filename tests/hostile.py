"""What the tests of hostile input share: bodies made from the schemas, ways to spoil them, and what any answer owes."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from marshmallow import Schema
from werkzeug.test import TestResponse

from api.call import Door
from api.groups import GROUPS
from api.resource import Resource
from api.schemas import fields

Path = tuple[str | int, ...]

IMAGE_API = "/apis/image.openshift.io/v1"
NAMESPACE = f"{IMAGE_API}/namespaces/fuzz"
STREAMS = f"{NAMESPACE}/imagestreams"
DIGEST = "sha256:" + "0123456789abcdef" * 4

SLOWEST = 20.0
"""Seconds that one answer may take: far more than it needs, far less than a denial of service would."""

SEED_VARIABLE = "IMAGESTREAM_FUZZ_SEED"

JSON = "application/json"
PATCHES = tuple(f"application/{kind}" for kind in ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json"))
APPLY = "application/apply-patch+yaml"


def random_seed() -> int:
    """Another one in every run, or that of a failed run, which its report tells."""
    return int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(2**32))


# --- what every answer owes


def ask(client: FlaskClient, method: str, path: str, body: Any = None, **more: Any) -> TestResponse:
    """The answer to a request, which must come in time and be none of an error of the server.

    `body` is sent as JSON unless it is bytes. A refusal must be a Status that says the same as the code.
    """
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    begun = time.monotonic()
    answer = client.open(path, method=method, data=data, **({"content_type": JSON} | more))
    content = answer.data
    took = time.monotonic() - begun
    told = f"{method} {path[:200]}: {answer.status_code} after {took:.1f} s: {content[:300]!r}"
    assert took < SLOWEST, told
    if answer.status_code >= 400 and answer.content_type == JSON and method != "HEAD":
        check_status(answer.get_json(), answer.status_code)
    ahead = answer.status_code == 504 and "Too large resource version" in answer.get_json()["message"]
    assert answer.status_code < 500 or ahead, told
    return answer


def check_status(body: Any, code: int) -> None:
    """A body is the Status of a refusal with that code."""
    assert body["kind"] == "Status", body
    assert body["apiVersion"] == "v1"
    assert body["status"] == "Failure"
    assert body["code"] == code
    assert body["message"]
    assert body["reason"]


# --- bodies


@dataclass(frozen=True)
class Kind:
    """A resource, or subresource, that takes bodies."""

    door: Door
    resource: Resource
    sub: str = ""

    @property
    def target(self) -> Resource:
        return self.resource.subresources[self.sub] if self.sub else self.resource

    @property
    def collection(self) -> str:
        scope = "/namespaces/fuzz" if self.resource.namespaced else ""
        return f"{self.door.prefix}{scope}/{self.resource.name}"

    def item(self, name: str) -> str:
        return f"{self.collection}/{name}" + (f"/{self.sub}" if self.sub else "")

    def __str__(self) -> str:
        return f"{self.door.prefix.strip('/').replace('/', '.')}.{self.resource.name}" + (
            f".{self.sub}" * bool(self.sub)
        )


def kinds() -> list[Kind]:
    """Everything that takes bodies; what several doors lead to is there once."""
    doors = sorted(GROUPS, key=lambda door: not door.group)
    found = [Kind(door, resource) for door in doors for resource in GROUPS[door]]
    found += [Kind(one.door, one.resource, sub) for one in found for sub in one.resource.subresources]
    unlike: dict[Any, Kind] = {}
    for one in found:
        unlike.setdefault((one.target.create, one.target.update), one)
    return [one for handlers, one in unlike.items() if any(handlers)]


def full(schema: Schema) -> dict[str, Any]:
    """A body of a schema's kind in which every field is set to something of its type."""
    return {field.data_key or name: _sample(field) for name, field in schema.fields.items()}


def _sample(field: Any) -> Any:
    words = [word for word in field.metadata.get("enum", ()) if word]
    match field:
        case fields.One():
            return full(field.schema)
        case fields.ManyByName():
            return {"key": full(field.schema)}
        case fields.Many():
            return [full(field.schema)]
        case fields.Time() | fields.TimeText():
            return "2026-01-02T03:04:05Z"
        case fields.Base64():
            return "aGVsbG8="
        case fields.Text():
            return words[0] if words else "word"
        case fields.Flag():
            return True
        case fields.Whole():
            return 1
        case fields.TextMap():
            return {"key": "value"}
        case fields.TextList():
            return ["example.com/word"]
        case fields.AnyObject():
            return {"f:spec": {}}
    raise NotImplementedError(field)


# What the rules ask of single fields, by the last steps of their paths.
_FITTING: dict[tuple[str, ...], Any] = {
    ("kind",): "",
    ("apiVersion",): "",
    ("metadata", "namespace"): "",
    ("metadata", "uid"): "",
    ("metadata", "resourceVersion"): "",
    ("managedFields", "apiVersion"): "v1",
    ("managedFields", "fieldsType"): "FieldsV1",
    ("managedFields", "operation"): "Update",
    ("managedFields", "subresource"): "",
    ("ownerReferences", "apiVersion"): "v1",
    ("ownerReferences", "kind"): "Owner",
    ("from", "kind"): "DockerImage",
    ("from", "name"): "127.0.0.1:1/team/web:1",  # nobody is asked: it is an address that imports keep away from
    ("from", "namespace"): "",
    ("repository", "from", "name"): "127.0.0.1:1/team/web",
    ("spec", "dockerImageRepository"): "127.0.0.1:1/team/web",
    ("dockerImageReference",): f"quay.io/team/web@{DIGEST}",
    ("dockerImageManifests",): [],  # an image has these or layers
    ("dockerImageManifest",): "{}",
    ("dockerImageConfig",): "{}",
    ("tags", "tag"): "latest",
    ("tags", "name"): "latest",
    ("spec", "name"): "latest",
    ("items", "image"): DIGEST,
    ("signatures", "metadata"): {"name": f"{DIGEST}@one"},
    ("image", "metadata"): {"name": DIGEST},
}


def fitting(value: Any, path: Path = ()) -> Any:
    """A full body, with the fields that have rules of their own set as these want them."""
    steps = [step for step in path if isinstance(step, str)]
    for first in range(len(steps)):
        if tuple(steps[first:]) in _FITTING:
            return _FITTING[tuple(steps[first:])]
    if isinstance(value, dict):
        return {key: fitting(member, (*path, key)) for key, member in value.items()}
    if isinstance(value, list):
        return [fitting(member, (*path, index)) for index, member in enumerate(value)]
    return value


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value in a body."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, member in members:
        yield (*path, step)
        yield from places(member, (*path, step))


def at(value: Any, path: Path) -> Any:
    """The value at a path."""
    for step in path:
        value = value[step]
    return value


def spoilt(body: Any, path: Path, wrong: Any) -> Any:
    """A copy of a body with another value at a path."""
    if not path:
        return wrong
    copy = dict(body) if isinstance(body, dict) else list(body)
    copy[path[0]] = spoilt(copy[path[0]], path[1:], wrong)
    return copy


def only(path: Path, wrong: Any) -> Any:
    """A merge patch that changes one place; lists are written whole."""
    for step in reversed(path):
        wrong = {step: wrong} if isinstance(step, str) else [wrong]
    return wrong

"""The API over a world: commands in a word, and questions over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from histories import IMAGES, REGISTRY, World, raw
from werkzeug.test import TestResponse

from api import create_app
from imagestream_es.application.commands import NOTHING_EXPECTED
from imagestream_es.bootstrap import access
from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.settings import Settings

BASE = "/apis/image.openshift.io/v1"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


class _Present:
    """What the API takes for the service: the world that is looked at now."""

    settings = Settings(internal_registry=REGISTRY, access_log="off")
    imports = None
    witness = SimpleNamespace(check=lambda: None)
    gate = access(settings)[0]

    def __init__(self, world: World) -> None:
        self.world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)


_apps: list[Flask] = []


def client_of(world: World) -> FlaskClient:
    """A client of the API over a world. There is one API, for its routes take long to make: it shows one world."""
    if not _apps:
        services: Any = _Present(world)
        _apps.append(create_app(services.settings, services))
    _apps[0].extensions["imagestream"].world = world
    return _apps[0].test_client()


# --- commands; each answers where the log ends then


def create(world: World, namespace: str, name: str, **desired: Any) -> int:
    world.commands.create_image_stream(world.caller(None), namespace, name, DesiredStream(**desired))
    return world.queries.position()


def update(world: World, namespace: str, name: str, **desired: Any) -> int:
    wanted = DesiredStream(**desired)
    world.commands.update_image_stream(world.caller(None), namespace, name, wanted, NOTHING_EXPECTED)
    return world.queries.position()


def push(world: World, namespace: str, name: str, tag: str, image: str = IMAGES[0], **document: Any) -> int:
    """Takes two positions if the image is new."""
    reference = f"registry:5000/{namespace}/{name}@{image}"
    content = raw({"dockerImageReference": reference} | document)
    world.commands.map_image(
        world.caller(None), namespace, name, tag, image, content, reference, managed=True
    ).outcome()
    return world.queries.position()


def delete(world: World, namespace: str, name: str) -> int:
    world.commands.delete_image_stream(world.caller(None), namespace, name, NOTHING_EXPECTED)
    return world.queries.position()


# --- questions


def get(client: FlaskClient, path: str, accept: str = "application/json", **query: Any) -> TestResponse:
    """GET a path, or one below the image API; `match` and `version` stand for the long parameters."""
    long = {"version": "resourceVersion", "match": "resourceVersionMatch"}
    args = {long.get(name, name): str(value) for name, value in query.items()}
    where = path if path.startswith("/") else f"{BASE}/{path}"
    return client.get(where, query_string=args, headers={"Accept": accept})


def listed(client: FlaskClient, path: str, **query: Any) -> dict[str, Any]:
    answer = get(client, path, **query)
    assert answer.status_code == 200, answer.text
    return body(answer)


def body(answer: TestResponse) -> dict[str, Any]:
    found = answer.json
    assert isinstance(found, dict)
    return found


def names(found: dict[str, Any]) -> list[str]:
    return [
        "/".join(filter(None, (one["metadata"].get("namespace"), one["metadata"]["name"]))) for one in found["items"]
    ]


def refused(answer: TestResponse, code: int, reason: str) -> dict[str, Any]:
    """The Status of a refusal."""
    status = body(answer)
    told = (answer.status_code, status["kind"], status["status"], status["code"], status["reason"])
    assert told == (code, "Status", "Failure", code, reason)
    return status


class Watching:
    """A watch: its lines, each an event, as far as they are taken."""

    def __init__(self, answer: TestResponse) -> None:
        self.answer = answer
        self._chunks: Iterator[Any] = iter(answer.response)
        assert next(self._chunks) == b""  # the headers go out before anything happens

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        line = next(self._chunks)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        event: dict[str, Any] = json.loads(line)
        assert event.keys() == {"type", "object"}
        return event

    def take(self, count: int) -> list[dict[str, Any]]:
        """The next events."""
        return [next(self) for _ in range(count)]

    def close(self) -> None:
        """Go away, as a client does."""
        self.answer.close()


def watch(client: FlaskClient, path: str, **query: Any) -> Watching:
    """Watch a path, until the end of time unless `timeoutSeconds` is given."""
    answer = get(client, path, **{"watch": "true"} | query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-cache, private"
    return Watching(answer)


def version(event: dict[str, Any]) -> int:
    """The position that an event tells."""
    return int(event["object"]["metadata"]["resourceVersion"])

"""Every field of every kind, set to what it must not be: refused or not, never an error of the server."""

from __future__ import annotations

import json
import logging
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hostile import APPLY, DIGEST, IMAGE_API, PATCHES, STREAMS, Kind, ask, at, fitting, full, kinds, only, places, spoilt

from api import create_app
from imagestream_es.maintenance import verify
from imagestream_es.settings import Settings

SIGNED = "sha256:" + "f" * 64
NAMES = {
    "images": DIGEST,
    "imagesignatures": f"{SIGNED}@two",
    "imagestreamimports": "imported",
    "imagestreammappings": "web",
    "imagestreamtags": "web:latest",
    "imagetags": "web:latest",
}
JSON_PATCH, MERGE, _ = PATCHES
WRONG = (None, True, 7, -0.5, "word", ["word"], {"key": "value"})
"""One value of each JSON type, and both kinds of number."""

KINDS = [kind for kind in kinds() if kind.target.schema is not None]
CREATED = [pytest.param(kind, id=str(kind)) for kind in KINDS if kind.target.create]
UPDATED = [pytest.param(kind, id=str(kind)) for kind in KINDS if kind.target.update]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("hostile") / "data")


@pytest.fixture(scope="module")
def no_network() -> Iterator[None]:
    """No registry is looked for: imports find out at once that there is none."""

    def nowhere(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "nobody has a name here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", nowhere)
        yield


@pytest.fixture(scope="module")
def client(settings: Settings, no_network: None) -> Iterator[FlaskClient]:
    """A client of one application for all that is done to it here; in the end its log and its views must agree."""
    app = create_app(settings)
    client = app.test_client()
    prepare(client)
    yield client
    app.extensions["imagestream"].close()
    assert verify(settings, lambda *_: None).differences == []


def prepare(client: FlaskClient) -> None:
    """Make what the bodies refer to."""
    ask(client, "POST", STREAMS, {"metadata": {"name": "web"}})
    signed = {"metadata": {"name": SIGNED}, "dockerImageReference": f"quay.io/team/web@{SIGNED}"}
    ask(client, "POST", f"{IMAGE_API}/images", signed)


@pytest.fixture(autouse=True)
def works_afterwards(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing was logged as an error, and what is created can be read, listed and deleted as ever."""
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []
    made = ask(client, "POST", STREAMS, {"metadata": {"name": "afterwards", "labels": {"still": "alive"}}})
    assert made.status_code == 201
    assert ask(client, "GET", f"{STREAMS}/afterwards").get_json() == made.get_json()
    assert len(ask(client, "GET", f"{STREAMS}?labelSelector=still=alive").get_json()["items"]) == 1
    assert ask(client, "DELETE", f"{STREAMS}/afterwards").status_code == 200


def body_of(kind: Kind) -> dict[str, Any]:
    """A body of the kind with every field set, which is accepted as it stands."""
    assert kind.target.schema is not None
    body = fitting(full(kind.target.schema))
    if "metadata" in body:
        body["metadata"]["name"] = NAMES.get(kind.resource.name, "spoilt")
    match kind.resource.name:
        case "imagesignatures":
            body["metadata"] |= {"labels": {}, "annotations": {}}
        case "imagestreamtags" | "imagetags":
            body["metadata"] |= {"labels": {}, "annotations": body["tag"]["annotations"] if "tag" in body else {}}
        case "imagestreamimports":
            body["status"] = None  # it holds other kinds, which have their turn by themselves
    return body


def create(client: FlaskClient, kind: Kind, body: Any, query: str = "") -> int:
    """The code of a POST; what it creates is deleted again, so that the next does not meet it."""
    answer = ask(client, "POST", f"{kind.collection}{query}", body)
    if answer.status_code == 201 and kind.target.delete and "dryRun" not in query:
        item = kind.item(answer.get_json()["metadata"]["name"])
        ask(client, "PATCH", item, {"metadata": {"finalizers": None}}, content_type=MERGE)
        ask(client, "DELETE", item)
    return answer.status_code


@pytest.mark.parametrize("kind", CREATED)
def test_the_body_that_gets_spoilt_is_accepted_itself(client: FlaskClient, kind: Kind) -> None:
    assert create(client, kind, body_of(kind)) == 201


@pytest.mark.parametrize("kind", CREATED)
def test_no_field_of_the_wrong_type_breaks_a_creation(client: FlaskClient, kind: Kind) -> None:
    body = body_of(kind)
    codes = {create(client, kind, spoilt(body, path, wrong)) for path in ((), *places(body)) for wrong in WRONG}
    assert codes >= {201, 400}


@pytest.fixture
def written(client: FlaskClient) -> Iterator[None]:
    """The objects that updates and patches are for."""
    made = [kind for kind in KINDS if kind.target.create and kind.target.update]
    for kind in made:
        body = body_of(kind)
        body["metadata"]["finalizers"] = []
        assert ask(client, "POST", kind.collection, body).status_code in (201, 409)
    yield
    for kind in made:
        ask(client, "DELETE", kind.item(NAMES.get(kind.resource.name, "spoilt")))


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("kind", UPDATED)
def test_no_field_of_the_wrong_type_breaks_an_update(client: FlaskClient, kind: Kind) -> None:
    body = body_of(kind)
    item = kind.item(body["metadata"]["name"])
    live = ask(client, "GET", item).get_json()
    body["metadata"]["resourceVersion"] = live["metadata"].get("resourceVersion", "")
    if kind.resource.name == "imagetags":
        body["status"] = live["status"]
    codes = {
        ask(client, "PUT", f"{item}?dryRun=All", spoilt(body, path, wrong)).status_code
        for path in ((), *places(body))
        for wrong in WRONG
    }
    assert codes >= {200, 400}


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("kind", UPDATED)
@pytest.mark.parametrize("media_type", [JSON_PATCH, APPLY])
def test_no_field_of_the_wrong_type_breaks_a_patch(client: FlaskClient, kind: Kind, media_type: str) -> None:
    body = body_of(kind)
    item = f"{kind.item(body['metadata']['name'])}?dryRun=All&fieldManager=fuzz" + "&force=true" * (media_type == APPLY)
    del body["metadata"]["managedFields"]  # an apply must not have them
    codes = set()
    for path in places(body):
        for wrong in WRONG:
            patch: Any = spoilt(body, path, wrong)
            if media_type == JSON_PATCH:
                patch = [{"op": "replace", "path": "".join(f"/{step}" for step in path), "value": wrong}]
            codes.add(ask(client, "PATCH", item, patch, content_type=media_type).status_code)
    assert codes >= {200, 400}


# --- text that is no name


LONG = random.Random(7).randbytes(2500).hex()  # too long for an index, and nothing can compress it
TEXTS = ("a\0b\x1b[2J\r\nc", "../%2e%2e%2f..", LONG, "\u202e\u00e9\ufffe\U0001f600", "9" * 30)


@pytest.mark.parametrize("kind", CREATED)
def test_no_text_breaks_a_creation(client: FlaskClient, kind: Kind) -> None:
    body = body_of(kind)
    for path in places(body):
        if isinstance(at(body, path), str):
            for text in TEXTS:
                create(client, kind, spoilt(body, path, text))


def test_no_text_breaks_a_creation_in_postgresql(postgres_url: str, tmp_path: Path, no_network: None) -> None:
    """It knows no NUL, and its indexes no long text: either would be an error of the server, or fail others' writes."""
    app = create_app(Settings(data_dir=tmp_path / "data", database_url=postgres_url))
    client = app.test_client()
    prepare(client)
    for kind in KINDS:
        body = body_of(kind)
        for path in places(body):
            if isinstance(at(body, path), str):
                for text in ("a\0b", LONG):
                    if kind.target.create:
                        create(client, kind, spoilt(body, path, text))
                    else:
                        ask(client, "PATCH", kind.item("web"), only(path, text), content_type=MERGE)
    app.extensions["imagestream"].close()


NUMBERS = ("1e400", "-1e400", "NaN", "-Infinity", "1" * 5000, "9223372036854775808", "-0", "1e-400", '"\\ud800"')


@pytest.mark.parametrize("kind", CREATED)
def test_no_number_and_no_half_character_breaks_a_creation(client: FlaskClient, kind: Kind) -> None:
    body = body_of(kind)
    for path in places(body):
        if not isinstance(at(body, path), dict | list | str):
            for number in NUMBERS:
                text = json.dumps(spoilt(body, path, "@")).replace('"@"', number)
                create(client, kind, text.encode())

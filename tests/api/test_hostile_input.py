"""Every field of every kind, set to what it must not be: refused or not, never an error of the server."""

from __future__ import annotations

import json
import logging
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hostile import (
    APPLY,
    DIGEST,
    IMAGE_API,
    JSON,
    PATCHES,
    SEED_VARIABLE,
    STREAMS,
    Kind,
    ask,
    at,
    fitting,
    full,
    kinds,
    only,
    places,
    random_seed,
    spoilt,
)
from hypothesis import HealthCheck, given, note, seed
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from api import create_app
from imagestream_es.settings import Settings
from imagestream_es.verification import verify

SIGNED = "sha256:" + "f" * 64
FRESH = "sha256:" + "a" * 64
"""An image that nobody creates for good."""
NAMES = {
    "images": DIGEST,
    "imagesignatures": f"{SIGNED}@two",
    "imagestreamimports": "imported",
    "imagestreammappings": "web",
    "imagestreamtags": "web:latest",
    "imagetags": "web:latest",
}
MERGE = PATCHES[1]
WRONG = (None, True, 7, "word", ["word"], {"key": "value"})
"""One value of each JSON type."""

KINDS = [kind for kind in kinds() if kind.target.schema is not None]
CREATED = [pytest.param(kind, id=str(kind)) for kind in KINDS if kind.target.create]
UPDATED = [pytest.param(kind, id=str(kind)) for kind in KINDS if kind.target.update]


ROLLED_BACK = "sha256:" + "f0" * 32
"""The image of a tag's history that rollbacks go back to."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("hostile") / "data", import_controller="off")


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
    ask(client, "POST", STREAMS, {"metadata": {"name": "rolled"}})
    for image in (ROLLED_BACK, "sha256:" + "f1" * 32):
        pushed = {"metadata": {"name": image}, "dockerImageReference": f"quay.io/team/rolled@{image}"}
        mapping = {"metadata": {"name": "rolled"}, "tag": "pushed", "image": pushed}
        ask(client, "POST", STREAMS.replace("imagestreams", "imagestreammappings"), mapping)


@pytest.fixture(autouse=True)
def works_afterwards(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing was logged as an error, and what is created can be read, listed and deleted as ever."""
    yield
    assert [
        record.getMessage() for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR
    ] == []
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
        case "rollbacks":
            # Only one of the ways to say how far may be given.
            body["spec"] = {"stream": "rolled", "tag": "pushed", "toImage": ROLLED_BACK, "reason": "it crashes"}
    return body


def create(client: FlaskClient, kind: Kind, body: Any, query: str = "", media_type: str = JSON) -> int:
    """The code of a POST; what it creates is deleted again, so that the next does not meet it."""
    answer = ask(client, "POST", f"{kind.collection}{query}", body, content_type=media_type)
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
    codes = {
        ask(client, "POST", f"{kind.collection}?dryRun=All", spoilt(body, path, wrong)).status_code
        for path in ((), *places(body))
        for wrong in WRONG
    }
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
def test_no_field_of_the_wrong_type_breaks_an_apply(client: FlaskClient, kind: Kind) -> None:
    body = body_of(kind)
    del body["metadata"]["managedFields"]  # an apply must not have them
    item = f"{kind.item(body['metadata']['name'])}?dryRun=All&fieldManager=fuzz&force=true"
    codes = {
        ask(client, "PATCH", item, spoilt(body, path, wrong), content_type=APPLY).status_code
        for path in places(body)
        for wrong in WRONG
    }
    assert codes >= {200, 400}


# --- text that is no name


LONG = random.Random(7).randbytes(2500).hex()  # too long for an index, and nothing can compress it
TEXTS = ("../%2e%2e%2f..", LONG, "a\x1b[2J\r\nb\u202e\u00e9\ufffe\U0001f600")


@pytest.mark.parametrize("kind", CREATED)
def test_no_text_breaks_a_creation(client: FlaskClient, kind: Kind) -> None:
    body = body_of(kind)
    for path in places(body):
        if isinstance(at(body, path), str):
            for text in TEXTS:
                create(client, kind, spoilt(body, path, text))


def test_no_text_breaks_a_creation_in_postgresql(postgres_url: str, tmp_path: Path, no_network: None) -> None:
    """It knows no NUL, and its indexes no long text: either would be an error of the server, or fail others' writes."""
    app = create_app(
        Settings(data_dir=tmp_path / "data", database_url=postgres_url, import_controller="off", access_log="off")
    )
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


NUMBERS = (
    "-0.5",
    "1e400",
    "-1e400",
    "NaN",
    "-Infinity",
    "1" * 5000,
    "9223372036854775808",
    "-0",
    "1e-400",
    '"\\ud800"',
)


@pytest.mark.parametrize("kind", CREATED)
def test_no_number_and_no_half_character_breaks_a_creation(client: FlaskClient, kind: Kind) -> None:
    body = body_of(kind)
    for path in places(body):
        if not isinstance(at(body, path), dict | list | str):
            for number in NUMBERS:
                text = json.dumps(spoilt(body, path, "@")).replace('"@"', number)
                create(client, kind, text.encode())


# --- much of everything


MANY = 10_000
PULL_SPEC = {"kind": "DockerImage", "name": "127.0.0.1:1/a/b:1"}
ENTRY = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}}


def stream(metadata: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "spoilt", **(metadata or {})}, **more}


def numbered(format_: str, value: Any = "v") -> dict[str, Any]:
    return {format_ % number: value for number in range(MANY)}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(
            stream(spec={"tags": [{"name": f"t{n}", "from": PULL_SPEC} for n in range(MANY)]}), 201, id="tags"
        ),
        pytest.param(
            stream(
                spec={
                    "tags": [
                        {"name": f"t{n}", "from": {"kind": "ImageStreamTag", "name": f"t{n + 1}"}}
                        for n in range(MANY - 1)
                    ]
                    + [{"name": f"t{MANY - 1}", "reference": True, "from": PULL_SPEC}]
                }
            ),
            201,
            id="tags that follow one another",
        ),
        pytest.param(
            stream(spec={"tags": [{"name": "t" * 200, "from": {"kind": "X"}}] * MANY}), 422, id="the same tag"
        ),
        pytest.param(stream(spec={"tags": [{}] * MANY}), 201, id="nameless tags"),
        pytest.param(stream({"labels": numbered("k%d")}), 201, id="labels"),
        pytest.param(stream({"labels": numbered("!%d", "!")}), 422, id="wrong labels"),
        pytest.param(stream({"annotations": numbered("k%d")}), 201, id="annotations"),
        pytest.param(stream({"annotations": numbered("!%d")}), 422, id="wrong annotations"),
        pytest.param(stream({"finalizers": list(numbered("a/f%d"))}), 201, id="finalizers"),
        pytest.param(stream({"ownerReferences": [{}] * MANY}), 422, id="owners"),
        pytest.param(
            stream({"managedFields": [ENTRY | {"manager": f"m{n}"} for n in range(MANY)]}), 201, id="managers"
        ),
        pytest.param(stream({"managedFields": [ENTRY | {"fieldsV1": numbered("f:%d", {})}]}), 201, id="managed fields"),
        pytest.param(stream(**numbered("x%d")), 413, id="unknown fields, and two more"),
        pytest.param(stream(unknown=numbered("x%d")), 201, id="unknown fields in an unknown field"),
        pytest.param(stream(status={"tags": [{"items": [{}] * 9_990}] * 10}), 201, id="entries"),
        pytest.param(stream(status={"tags": [{"items": [{}] * MANY}] * 10}), 413, id="more entries than values may be"),
        pytest.param(stream(spec={"tags": [{}] * (MANY + 1)}), 413, id="more tags than may be"),
        pytest.param(stream({"annotations": {"a": "x" * 3_000_000}}), 422, id="a long annotation"),
        pytest.param(stream({"name": "x" * 3_000_000}), 422, id="a long name"),
        pytest.param(stream(**{"x" * 3_000_000: 1}), 201, id="a long unknown field"),
    ],
)
def test_much_of_everything_takes_a_bounded_time(client: FlaskClient, body: dict[str, Any], code: int) -> None:
    answer = ask(client, "POST", STREAMS, body)
    assert answer.status_code == code
    assert len(answer.data) < 10_000_000
    if code == 201:
        ask(client, "PATCH", f"{STREAMS}/spoilt", {"metadata": {"finalizers": None}}, content_type=MERGE)
        assert ask(client, "DELETE", f"{STREAMS}/spoilt").status_code == 200


@pytest.mark.parametrize("list_", ["dockerImageLayers", "dockerImageManifests", "signatures"])
def test_much_of_an_image_takes_a_bounded_time(client: FlaskClient, list_: str) -> None:
    image = {"metadata": {"name": FRESH}, "dockerImageReference": "a/b", list_: [{}] * MANY}
    assert ask(client, "POST", f"{IMAGE_API}/images?dryRun=All", image).status_code in (201, 422)


def test_a_manifest_cannot_grow_when_it_is_read(client: FlaskClient) -> None:
    layers = ",".join(["{}"] * 900_000)
    image = {
        "metadata": {"name": FRESH},
        "dockerImageReference": "a/b",
        "dockerImageConfig": "{}",
        "dockerImageManifest": f'{{"schemaVersion":2,"layers":[{layers}]}}',
    }
    answer = ask(client, "POST", f"{IMAGE_API}/images?dryRun=All", image)
    assert answer.status_code == 201
    assert len(answer.data) < 3_000_000


@pytest.mark.parametrize("depth", [65, 1_000, 100_000])
@pytest.mark.parametrize("brackets", [('{"a":', "1", "}"), ("[", "", "]")])
def test_what_nests_too_deep_is_refused(client: FlaskClient, depth: int, brackets: tuple[str, str, str]) -> None:
    opening, inside, closing = brackets
    body = (opening * depth + inside + closing * depth).encode()
    for media_type in ("application/json", "application/yaml"):
        assert ask(client, "POST", STREAMS, body, content_type=media_type).status_code == 400
    for media_type in (*PATCHES, APPLY):
        answer = ask(client, "PATCH", f"{STREAMS}/web?fieldManager=m", body, content_type=media_type)
        assert answer.status_code == 400
    assert ask(client, "DELETE", f"{STREAMS}/web", body).status_code == 400


def test_64_levels_are_not_too_deep(client: FlaskClient) -> None:
    deep: Any = 1
    for _ in range(61):
        deep = {"a": deep}
    image = {"metadata": {"name": FRESH}, "dockerImageReference": "a/b", "dockerImageMetadata": {"Config": deep}}
    assert ask(client, "POST", f"{IMAGE_API}/images?dryRun=All", image).status_code == 201


# --- anything, anywhere


SEED = random_seed()

texts = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from([*TEXTS, "\0", "9" * 30])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


@st.composite
def anything_in(draw: st.DrawFn, body: dict[str, Any]) -> bytes:
    """A body with some of its values replaced, unknown fields added, keys written twice, or cut off."""
    for _ in range(draw(st.integers(1, 5))):
        path = draw(st.sampled_from([(), *places(body)]))
        old = at(body, path)
        if isinstance(old, dict) and draw(st.booleans()):
            body = spoilt(body, path, {**old, draw(texts): draw(anything)})
        else:
            body = spoilt(body, path, draw(anything))
        if not isinstance(body, dict):
            break
    text = json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        text = text.replace(b"{", b'{"kind":"","metadata":{"name":"twice"},', 1)
    return text[: len(text) // draw(st.sampled_from([1, 1, 1, 1, 2]))]


@seed(SEED)
@settings_of_hypothesis(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_anything_anywhere_is_answered(client: FlaskClient, data: st.DataObject) -> None:
    note(f"{SEED_VARIABLE}={SEED}")
    kind = data.draw(st.sampled_from(KINDS))
    body = data.draw(anything_in(body_of(kind)))
    query = data.draw(st.sampled_from(["", "?fieldValidation=Strict", "?fieldValidation=Ignore", "?dryRun=All"]))
    media_type = data.draw(st.sampled_from(["application/json", "application/yaml"]))
    if kind.target.create:
        create(client, kind, body, query, media_type)
    item = kind.item(NAMES.get(kind.resource.name, "web"))
    for method in ("PUT", "DELETE"):
        ask(client, method, f"{item}{query}", body, content_type=media_type)
    for media_type in (*PATCHES, APPLY):
        manager = f"{query}{'&' if query else '?'}fieldManager=m"
        ask(client, "PATCH", f"{item}{manager}", body, content_type=media_type)
    prepare(client)

"""What every answer has beside its object, whoever gives it: the API, Flask, or the router before any view."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hostile import IMAGE_API, NAMESPACE, STREAMS, ask, check_status

from api import create_app
from imagestream_es.application.queries import Queries
from imagestream_es.settings import Settings

YAML = "application/yaml"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A client of one application for all tests here."""
    app = create_app(
        Settings(data_dir=tmp_path_factory.mktemp("answers") / "data", import_controller="off", access_log="off")
    )
    client = app.test_client()
    client.post(STREAMS, json={"metadata": {"name": "there"}})
    yield client
    app.extensions["imagestream"].close()


# --- refusals, also those that never reach a view


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "code", "reason"),
    [
        ("GET", f"{STREAMS}/web", {}, None, 404, "NotFound"),
        ("GET", f"{STREAMS}/web/nothing", {}, None, 404, "NotFound"),
        ("GET", f"{STREAMS}/web/status/more", {}, None, 404, "NotFound"),
        ("GET", f"{IMAGE_API}/nothing", {}, None, 404, "NotFound"),
        ("GET", f"{NAMESPACE}/nothing/x", {}, None, 404, "NotFound"),
        ("POST", f"{STREAMS}/web", {}, {}, 405, "MethodNotAllowed"),
        ("PUT", STREAMS, {}, {}, 405, "MethodNotAllowed"),
        ("POST", f"{IMAGE_API}/imagestreams", {}, {}, 405, "MethodNotAllowed"),
        ("OPTIONS", STREAMS, {}, None, 405, "MethodNotAllowed"),
        ("DELETE", "/version", {}, None, 405, "MethodNotAllowed"),
        ("POST", "/apis", {}, {}, 405, "MethodNotAllowed"),
        ("POST", "/healthz", {}, {}, 405, "MethodNotAllowed"),
        ("GET", STREAMS, {"Accept": "text/html"}, None, 406, "NotAcceptable"),
        ("GET", "/apis", {"Accept": "text/html"}, None, 406, "NotAcceptable"),
        ("GET", "/openapi/v2", {"Accept": "text/html"}, None, 406, "NotAcceptable"),
        ("POST", STREAMS, {"Content-Type": "text/html"}, {}, 415, "UnsupportedMediaType"),
        ("PATCH", f"{STREAMS}/there", {"Content-Type": "application/json"}, {}, 415, "UnsupportedMediaType"),
        ("POST", STREAMS, {}, b" " * (3 * 1024 * 1024 + 1), 413, "RequestEntityTooLarge"),
        ("POST", STREAMS, {}, b"{", 400, "BadRequest"),
        ("POST", STREAMS, {}, {"metadata": {"name": "there"}}, 409, "AlreadyExists"),
        ("POST", STREAMS, {}, {}, 422, "Invalid"),
        ("PUT", f"{STREAMS}/there", {}, {"metadata": {"name": "there", "resourceVersion": "1"}}, 409, "Conflict"),
        ("GET", STREAMS, {"Host": "x" * 100 + ".example"}, None, 403, "Forbidden"),
    ],
)
def test_every_refusal_is_a_status(
    client: FlaskClient, method: str, path: str, headers: dict[str, str], body: Any, code: int, reason: str
) -> None:
    more = {"content_type": headers.get("Content-Type", "application/json")}
    answer = ask(client, method, path, body, headers=headers, **more)
    assert answer.status_code == code
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-cache, private"
    check_status(answer.get_json(), code)
    assert answer.get_json()["reason"] == reason
    if code == 405:
        assert answer.headers["Allow"]


def test_a_path_outside_the_groups_is_not_found_in_plain_text(client: FlaskClient) -> None:
    answer = client.get("/nowhere")
    assert (answer.status_code, answer.content_type, answer.data) == (404, "text/plain", b"404 page not found")


def test_a_failure_of_the_server_tells_nothing_of_it(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(Queries, "reading", fail)
    answer = client.get(f"{STREAMS}/web")
    assert answer.status_code == 500
    check_status(answer.get_json(), 500)
    assert answer.get_json()["reason"] == "InternalError"
    assert b"secret" not in answer.data
    assert "a secret" in caplog.text


# --- form


def test_json_is_compact_unless_it_is_to_be_pretty(client: FlaskClient) -> None:
    made = client.post(f"{STREAMS}?pretty=true", json={"metadata": {"name": "pretty"}})
    assert made.data == json.dumps(made.get_json(), indent=2).encode() + b"\n"
    for path in (STREAMS, f"{STREAMS}/pretty", f"{STREAMS}/none"):
        compact, pretty = client.get(path), client.get(f"{path}?pretty=true")
        assert compact.data == json.dumps(compact.get_json(), separators=(",", ":")).encode() + b"\n"
        assert pretty.data == json.dumps(compact.get_json(), indent=2).encode() + b"\n"
        assert client.get(f"{path}?pretty=1").data == pretty.data
        assert client.get(f"{path}?pretty=false").data == compact.data
        assert client.get(f"{path}?pretty=").data == compact.data
        assert client.get(f"{path}?pretty=true", headers={"Accept": YAML}).content_type in (YAML, "application/json")


@pytest.fixture
def much(client: FlaskClient) -> FlaskClient:
    """With a stream whose answer is larger than 128 KiB, and one whose is not."""
    tags = [{"name": f"t{n}", "from": {"kind": "DockerImage", "name": "quay.io/a/b"}} for n in range(800)]
    client.post(STREAMS, json={"metadata": {"name": "much"}, "spec": {"tags": tags}})
    client.post(STREAMS, json={"metadata": {"name": "little"}})
    assert len(client.get(f"{STREAMS}/much").data) > 128 * 1024
    return client


@pytest.mark.parametrize("asked", ["gzip", "deflate, gzip;q=0.5", "GZIP"])
def test_a_large_answer_is_compressed_for_who_asks(much: FlaskClient, asked: str) -> None:
    plain = much.get(f"{STREAMS}/much")
    assert "Content-Encoding" not in plain.headers
    packed = much.get(f"{STREAMS}/much", headers={"Accept-Encoding": asked})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.data) < len(plain.data)
    assert int(packed.headers["Content-Length"]) == len(packed.data)
    assert gzip.decompress(packed.data) == plain.data


@pytest.mark.parametrize("asked", ["", "identity", "deflate", "gzip;q=0", "br"])
def test_nobody_else_gets_a_compressed_answer(much: FlaskClient, asked: str) -> None:
    answer = much.get(f"{STREAMS}/much", headers={"Accept-Encoding": asked})
    assert "Content-Encoding" not in answer.headers
    assert answer.get_json()["metadata"]["name"] == "much"


def test_a_small_answer_and_a_watch_are_never_compressed(much: FlaskClient) -> None:
    for path in (f"{STREAMS}/little", f"{STREAMS}?watch=1&timeoutSeconds=1"):
        answer = much.get(path, headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in answer.headers
        assert b"little" in answer.data


def test_every_answer_tells_by_what_it_may_differ(client: FlaskClient) -> None:
    for path in ("/apis", STREAMS, f"{STREAMS}/none", "/openapi/v2"):
        assert client.get(path).headers["Vary"] == "Accept, Accept-Encoding"


# --- HEAD


@pytest.mark.parametrize(
    "path", ["/", "/apis", "/version", "/healthz", "/nowhere", STREAMS, f"{STREAMS}/there", f"{STREAMS}/no"]
)
def test_head_answers_like_get_without_the_body(client: FlaskClient, path: str) -> None:
    full, head = client.get(path), client.head(path)
    assert head.data == b""
    assert head.status_code == full.status_code
    own = {"Audit-Id", "Date"}
    assert {key: value for key, value in head.headers if key not in own} == {
        key: value for key, value in full.headers if key not in own
    }


def test_head_of_a_watch_is_not_watched(client: FlaskClient) -> None:
    assert client.head(f"{STREAMS}?watch=true").status_code == 200


# --- health


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health_is_told_in_a_word_or_check_by_check(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.content_type, answer.data) == (200, "text/plain", b"ok")
    lines = client.get(f"{path}?verbose").get_data(as_text=True).splitlines()
    assert lines[-1] == f"{path[1:]} check passed"
    checks = [re.fullmatch(r"\[\+\](\w+) ok", line) for line in lines[:-1]]
    assert checks
    for check in checks:
        assert check is not None
        assert client.get(f"{path}/{check[1]}").data == b"ok"
    assert client.get(f"{path}/nothing").status_code == 404


def test_without_its_store_the_service_is_alive_and_not_ready(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Queries) -> int:
        raise OSError("the password is secret")

    services = client.application.extensions["imagestream"]
    monkeypatch.setattr(services.queries._store, "reading", fail)
    assert client.get("/livez").data == b"ok"
    for path in ("/readyz", "/healthz"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert answer.content_type == "text/plain"
        assert answer.get_data(as_text=True).splitlines() == [
            "[+]ping ok",
            "[-]store failed: reason withheld",
            "[+]writer ok",
            "[+]log ok",
            f"{path[1:]} check failed",
        ]
        assert client.get(f"{path}/ping").status_code == 200
        assert client.get(f"{path}/store").status_code == 500


def test_without_its_writer_the_service_is_alive_and_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise MemoryError

    app = create_app(Settings(data_dir=tmp_path / "data", import_controller="off", access_log="off"))
    services, client = app.extensions["imagestream"], app.test_client()
    monkeypatch.setattr(services.commands.writer, "_committed", fail)
    for name in ("first", "second"):
        answer: Any = client.post(STREAMS, json={"metadata": {"name": name}})
        assert (answer.status_code, answer.json["reason"]) == (503, "ServiceUnavailable")
    services.commands.writer._thread.join(60)
    assert "[-]writer failed: reason withheld" in client.get("/readyz").get_data(as_text=True).splitlines()
    assert client.get("/readyz").status_code == 500
    assert client.get("/livez").status_code == 200
    assert client.get(STREAMS).status_code == 200
    services.close()

"""A push is answered when it is committed, and holds no thread until then; nor does it wait in memory without bound."""

from __future__ import annotations

import json
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from api import create_app
from imagestream_es.later import Later
from imagestream_es.settings import Settings

SPACE = "/apis/image.openshift.io/v1/namespaces/shop"
IMAGE = f"sha256:{1:064x}"


def push(client: FlaskClient, stream: str = "web", **headers: str) -> tuple[Any, list[str]]:
    """What the WSGI application gives the server for a push, and the status lines that it tells meanwhile."""
    body = {
        "metadata": {"name": stream},
        "tag": "v1",
        "image": {"metadata": {"name": IMAGE}, "dockerImageReference": f"quay.io/o/web@{IMAGE}"},
    }
    sent = json.dumps(body).encode()
    environ = EnvironBuilder(
        f"{SPACE}/imagestreammappings",
        method="POST",
        headers=headers,
        content_type="application/json",
        input_stream=BytesIO(sent),
        content_length=len(sent),
    ).get_environ()
    lines: list[str] = []
    return client.application(environ, lambda line, *_: lines.append(line)), lines


@pytest.fixture
def web(client: FlaskClient) -> FlaskClient:
    assert client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}}).status_code == 201
    return client


def test_the_answer_comes_later(web: FlaskClient) -> None:
    answer, lines = push(web)
    assert isinstance(answer, Later)
    assert lines == []
    assert json.loads(b"".join(answer))["status"] == "Success"
    assert lines == ["201 Created"]


def test_so_does_a_refusal(web: FlaskClient) -> None:
    answer, lines = push(web, "nothing")
    assert isinstance(answer, Later)
    assert json.loads(b"".join(answer))["reason"] == "NotFound"
    assert lines == ["404 Not Found"]


def test_where_many_wait_already_it_waits_in_its_thread(web: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.dispatch.CROWD", -1)
    answer, lines = push(web)
    assert json.loads(b"".join(answer))["status"] == "Success"
    assert not isinstance(answer, Later)
    assert lines == ["201 Created"]
    assert push(web, "nothing")[1] == ["404 Not Found"]


def test_under_a_key_it_waits_for_it_may_have_been_done_meanwhile(web: FlaskClient) -> None:
    for replayed in (False, True):
        answer, lines = push(web, idempotency_key="once")
        assert not isinstance(answer, Later)
        assert lines == ["201 Created"], replayed


def test_it_counts_until_it_is_answered(web: FlaskClient) -> None:
    """Metrics and the access log know of a push when it is answered, not when its thread is free."""
    seen = '{code="201",resource="imagestreammappings",verb="create"}'

    def counted() -> bool:
        return f"imagestream_requests_total{seen} 1.0" in web.get("/metrics").text

    answer, _ = push(web)
    assert not counted()
    assert b"".join(answer)
    assert counted()


@pytest.mark.parametrize(("stream", "line"), [("web", "201 Created"), ("nothing", "404 Not Found")])
def test_it_is_one_of_its_users_requests_until_it_is_answered(tmp_path: Path, stream: str, line: str) -> None:
    app = create_app(Settings(data_dir=tmp_path, import_controller="off", access_log="off", user_concurrency=1))
    with closing(app.extensions["imagestream"]):
        client = app.test_client()
        client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}})

        answer, lines = push(client, stream)
        assert client.get(SPACE + "/imagestreams").status_code == 429
        assert b"".join(answer)
        assert lines == [line]
        assert client.get(SPACE + "/imagestreams").status_code == 200

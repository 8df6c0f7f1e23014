"""Rollbacks: a tag names again what it named before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import create_app
from imagestream_es.domain.events import DomainEvent, Restored, TagRolledBack
from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.settings import Settings

SPACE = "/apis/image.openshift.io/v1/namespaces/shop"
HISTORY = "/apis/history.imagestream-es.io/v1/namespaces/shop"
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def log(client: FlaskClient) -> list[DomainEvent]:
    """Every event."""
    mapper = EventMapper()
    found: list[DomainEvent] = client.application.extensions["imagestream"].queries.reading(
        lambda rows: [mapper.decode(stored.topic, stored.state) for _, stored in rows.log(0, rows.head())]
    )
    return found


def push(client: FlaskClient, image: str, tag: str = "latest") -> int:
    """Where the log ends then."""
    reference = f"registry.example.com/shop/web@{image}"
    body = {
        "metadata": {"name": "web"},
        "tag": tag,
        "image": {"metadata": {"name": image}, "dockerImageReference": reference},
    }
    assert client.post(f"{SPACE}/imagestreammappings", json=body).status_code == 201
    return len(log(client))


def roll_back(client: FlaskClient, query: str = "", **spec: Any) -> TestResponse:
    body = {"kind": "Rollback", "spec": {"stream": "web", "tag": "latest", **spec}}
    return client.post(f"{HISTORY}/rollbacks{query}", json=body)


def image_of(client: FlaskClient, tag: str = "latest") -> str:
    return str(client.get(f"{SPACE}/imagestreamtags/web:{tag}").json["image"]["metadata"]["name"])


@pytest.fixture(params=["sqlite", "postgres"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of the application over an empty log in either database."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    settings = Settings(data_dir=tmp_path / "data", database_url=url, import_controller="off", access_log="off")
    app = create_app(settings)
    yield app.test_client()
    app.extensions["imagestream"].close()


@pytest.fixture
def web(client: FlaskClient) -> FlaskClient:
    """A stream whose tag `latest` named A, then B; `stable` follows it."""
    tag = {"name": "stable", "from": {"kind": "ImageStreamTag", "name": "latest"}}
    made = client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}, "spec": {"tags": [tag]}})
    assert made.status_code == 201
    push(client, A)
    push(client, B)
    return client


def test_a_tag_goes_back_one_image_with_its_followers_in_one_event_that_names_what_it_restores(
    web: FlaskClient,
) -> None:
    before = len(log(web))
    answer = roll_back(web, changesAgo=1, reason="B crashes", expectedImage=B)
    assert answer.status_code == 201
    status = answer.json["status"]
    assert (status["from"]["image"], status["to"]["image"]) == (B, A)
    assert (status["position"], status["restoredPosition"]) == (before + 1, 4)
    assert status["followers"] == ["stable"]
    (event,) = log(web)[before:]
    assert isinstance(event, TagRolledBack)
    assert event.restores == Restored(position=4, image=A, reference=f"registry.example.com/shop/web@{A}")
    assert event.by.reason == "B crashes"
    assert (image_of(web), image_of(web, "stable")) == (A, A)


def test_a_rollback_is_told_as_reverted(web: FlaskClient) -> None:
    roll_back(web, changesAgo=1, reason="B crashes")
    query = "?fieldSelector=tag=latest&limit=1"
    (change,) = web.get(f"{HISTORY}/tagchanges{query}").json["items"]
    assert (change["action"], change["from"]["image"], change["to"]["image"]) == ("Reverted", B, A)
    assert (change["reason"], change["cause"]["event"]) == ("B crashes", "TagRolledBack")


def test_a_tag_goes_back_to_what_it_named_at_a_position(web: FlaskClient) -> None:
    push(web, C)
    assert roll_back(web, toPosition=5).json["status"]["to"]["image"] == A
    assert roll_back(web, toPosition=6).json["status"]["to"]["image"] == B


def test_only_an_image_that_the_tag_named_can_be_gone_back_to(web: FlaskClient) -> None:
    push(web, C, "other")
    before = len(log(web))
    assert roll_back(web, toImage=C).status_code == 422
    assert len(log(web)) == before
    assert roll_back(web, toImage=A).json["status"]["to"]["image"] == A


def test_a_rollback_is_refused_when_the_tag_moved(web: FlaskClient) -> None:
    before = len(log(web))
    answer = roll_back(web, changesAgo=1, expectedImage=C)
    assert (answer.status_code, answer.json["reason"]) == (412, "PreconditionFailed")
    assert B in answer.json["message"]
    assert len(log(web)) == before


def test_a_rehearsal_names_the_followers_and_stores_nothing(web: FlaskClient) -> None:
    before = len(log(web))
    answer = roll_back(web, "?dryRun=All", changesAgo=1)
    assert answer.status_code == 201
    assert answer.json["status"]["followers"] == ["stable"]
    assert "position" not in answer.json["status"]
    assert len(log(web)) == before
    assert image_of(web) == B


def test_what_is_already_so_leaves_no_event(web: FlaskClient) -> None:
    before = len(log(web))
    status = roll_back(web, toImage=B).json["status"]
    assert status["from"]["image"] == status["to"]["image"] == B
    assert "position" not in status
    assert len(log(web)) == before


def test_a_deleted_tag_comes_back(web: FlaskClient) -> None:
    assert web.delete(f"{SPACE}/imagestreamtags/web:latest").status_code == 200
    answer = roll_back(web, changesAgo=1)
    assert answer.status_code == 201
    assert "from" not in answer.json["status"]
    assert image_of(web) == B


def test_a_tag_that_will_move_again_is_warned_of(web: FlaskClient) -> None:
    answer = roll_back(web, tag="stable", changesAgo=1)
    assert answer.json["status"]["to"]["image"] == A
    assert "latest" in answer.json["status"]["warnings"][0]
    assert "latest" in answer.headers["Warning"]
    assert web.get(f"{SPACE}/imagestreams/web").json["spec"]["tags"][0]["from"]["name"] == "latest"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"changesAgo": 1, "toImage": A},
        {"changesAgo": 0},
        {"changesAgo": 2},
        {"toPosition": 10**6},
        {"toPosition": 2},
        {"toImage": "A"},
        {"changesAgo": 1, "expectedImage": "B"},
        {"changesAgo": 1, "reason": "x" * 1025},
        {"changesAgo": 1, "stream": ""},
        {"changesAgo": 1, "tag": "none"},
    ],
)
def test_what_means_no_image_is_refused(web: FlaskClient, spec: dict[str, Any]) -> None:
    before = len(log(web))
    assert roll_back(web, **spec).status_code == 422
    assert len(log(web)) == before


def test_the_stream_must_be_there(web: FlaskClient) -> None:
    assert roll_back(web, stream="none", changesAgo=1).status_code == 404

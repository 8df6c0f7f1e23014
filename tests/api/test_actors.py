"""Every event names who caused it, by an id; who only asks is not written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from imagestream_es.access.identity import User

SPACE = "/apis/image.openshift.io/v1/namespaces/team"
ALICE = User("alice", groups=("system:masters",), issuer="token-file")
ROBOT = User("system:serviceaccount:team:robot", groups=("system:masters",), issuer="certificate")
FIRST = {"metadata": {"name": "app"}}


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> Callable[[User], None]:
    """Have all requests from here on come from a user."""
    return lambda user: monkeypatch.setattr("imagestream_es.access.gate.Gate.authenticate", lambda *_: user)


def origins(client: FlaskClient) -> list[dict[str, Any]]:
    """Who caused each event, and how, but for the first one of the log."""
    with client.application.extensions["imagestream"].queries._store.reading() as rows:
        return [json.loads(stored.state)["by"] for _, stored in rows.log(1, rows.head())]


def names(client: FlaskClient, ids: list[str]) -> list[str | None]:
    found = client.application.extensions["imagestream"].principals.names(ids)
    return [found.get(one) for one in ids]


def known(client: FlaskClient) -> int:
    with client.application.extensions["imagestream"].queries._store.reading() as rows:
        return int(rows.one("SELECT COUNT(*) FROM principals")[0])


def test_an_event_names_its_user_by_an_id(client: FlaskClient, be: Callable[[User], None]) -> None:
    for user, method, body in (
        (ALICE, "POST", FIRST),
        (ROBOT, "PATCH", {"metadata": {"labels": {"a": "b"}}}),
        (ALICE, "DELETE", None),
    ):
        be(user)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        path = f"{SPACE}/imagestreams" if method == "POST" else f"{SPACE}/imagestreams/app"
        answer = client.open(path, method=method, json=body, content_type=kind)
        assert answer.status_code in (200, 201)
    found = origins(client)
    actors = [origin["actor"] for origin in found]
    assert names(client, actors) == [ALICE.name, ROBOT.name, ALICE.name]
    assert actors[0] == actors[2]
    assert not [text for text in map(json.dumps, found) if "alice" in text or "robot" in text]


def test_the_audit_id_of_the_answer_stands_in_the_event(client: FlaskClient) -> None:
    answer = client.post(f"{SPACE}/imagestreams", json=FIRST)
    (origin,) = origins(client)
    assert (origin["actor"], origin["request"]) == ("system:unsecured", answer.headers["Audit-Id"])
    assert known(client) == 0


def test_who_only_asks_is_not_written_down(client: FlaskClient, be: Callable[[User], None]) -> None:
    be(ALICE)
    review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    client.get(f"{SPACE}/imagestreams")
    client.get(f"{SPACE}/imagestreams/app")
    client.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json=review)
    client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "NO NAME"}, "spec": 7})
    assert known(client) == 0

"""A watch lasts, and rights may not: who loses them, or the credential, is told nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import create_app
from api import watch as watching
from api.access import CERTIFICATE
from imagestream_es.settings import Settings

SPACE = "/apis/image.openshift.io/v1/namespaces/team"
CHANGES = "/apis/history.imagestream-es.io/v1/namespaces/team/tagchanges"
RULES = """apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: devs, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: devs}]
"""
TOKENS = 'root-token,root,0,system:masters\n{},jane,1,"{}"\n'
ROOT = {"Authorization": "Bearer root-token"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    monkeypatch.setattr(watching, "ASK_AGAIN", 0.0)
    (tmp_path / "tokens").write_text(TOKENS.format("jane-token", "devs"))
    (tmp_path / "rbac").mkdir()
    (tmp_path / "rbac" / "rules.yaml").write_text(RULES)
    settings = Settings(
        data_dir=tmp_path / "data",
        import_controller="off",
        access_log="off",
        token_auth_file=tmp_path / "tokens",
        rbac=tmp_path / "rbac",
    )
    app = create_app(settings)
    yield app.test_client()
    app.extensions["imagestream"].close()


def push(client: FlaskClient, image: str) -> None:
    body = {"metadata": {"name": "web"}, "tag": "latest", "image": {"metadata": {"name": f"sha256:{image * 64}"}}}
    assert client.post(f"{SPACE}/imagestreammappings", json=body, headers=ROOT).status_code == 201


def reread(client: FlaskClient) -> None:
    gate = client.application.extensions["imagestream"].gate
    gate._rules.refresh()
    for source in gate._tokens:
        source.refresh()


def withdraw_the_rule(directory: Path) -> None:
    (directory / "rbac" / "rules.yaml").write_text(RULES.replace("devs}]", "others}]"))


def withdraw_the_token(directory: Path) -> None:
    (directory / "tokens").write_text(TOKENS.format("another-token", "devs"))


def take_out_of_the_group(directory: Path) -> None:
    (directory / "tokens").write_text(TOKENS.format("jane-token", "others"))


@pytest.mark.parametrize("path", [f"{SPACE}/imagestreams", CHANGES])
@pytest.mark.parametrize("withdraw", [withdraw_the_rule, withdraw_the_token, take_out_of_the_group])
def test_a_watch_tells_nothing_that_happens_after_its_rights_have_gone(
    client: FlaskClient, tmp_path: Path, path: str, withdraw: Callable[[Path], None]
) -> None:
    created = client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}}, headers=ROOT).get_json()
    query = f"watch=1&resourceVersion={created['metadata']['resourceVersion']}&timeoutSeconds=30"
    headers = {"Authorization": "Bearer jane-token"}
    with client.get(f"{path}?{query}", headers=headers, buffered=False) as answer:
        lines = filter(None, answer.iter_encoded())
        push(client, "a")
        told: dict[str, Any] = json.loads(next(lines))
        assert told["type"] in ("ADDED", "MODIFIED")
        withdraw(tmp_path)
        reread(client)
        push(client, "b")
        assert list(lines) == []
    assert client.get(path, headers=headers).status_code in (401, 403)


def test_a_watch_goes_on_for_who_keeps_the_right_whatever_else_changes(client: FlaskClient, tmp_path: Path) -> None:
    created = client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}}, headers=ROOT).get_json()
    query = f"watch=1&resourceVersion={created['metadata']['resourceVersion']}&timeoutSeconds=30"
    headers = {"Authorization": "Bearer jane-token"}
    with client.get(f"{SPACE}/imagestreams?{query}", headers=headers, buffered=False) as answer:
        lines = filter(None, answer.iter_encoded())
        (tmp_path / "tokens").write_text(TOKENS.format("jane-token", "devs") + "new-token,joe,2\n")
        (tmp_path / "rbac" / "more.yaml").write_text(RULES.replace("name: devs,", "name: more,"))
        reread(client)
        for image in "ab":
            push(client, image)
            assert json.loads(next(lines))["type"] == "MODIFIED"


@pytest.mark.parametrize(
    ("until", "kinds"), [("Jan  1 00:00:00 2020 GMT", []), ("Jan  1 00:00:00 2199 GMT", ["ADDED"])]
)
def test_a_watch_ends_with_the_certificate_that_was_shown(client: FlaskClient, until: str, kinds: list[str]) -> None:
    created = client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": "web"}}, headers=ROOT).get_json()
    push(client, "a")
    subject = ((("organizationName", "devs"),), (("commonName", "jane"),))
    shown = {CERTIFICATE: {"subject": subject, "notAfter": until}}
    query = f"watch=1&resourceVersion={created['metadata']['resourceVersion']}&timeoutSeconds=1"
    with client.get(f"{CHANGES}?{query}", environ_overrides=shown, buffered=False) as answer:
        assert answer.status_code == 200
        assert [json.loads(line)["type"] for line in filter(None, answer.iter_encoded())] == kinds

"""The commands that ask, over TLS: whom they trust, as whom they come, and what they say to who is not let in."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from authority import Authority
from click.testing import CliRunner, Result

from imagestream_es.cli import main
from imagestream_es.client.commands import COMMANDS
from imagestream_es.client.connection import IMAGES, Connection
from imagestream_es.client.kubeconfig import Access

DIGESTS = [f"sha256:{number:064x}" for number in (1, 2)]
RULES = """apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: team, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: devs}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: audit}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: auditor}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: auditors}
"""
LOG = ("log", "shop/web:latest", "-o", "json")


@pytest.fixture
def authority(require: Any, tmp_path: Path) -> Authority:
    return Authority(require("openssl"), tmp_path)


@pytest.fixture
def service(start_service: Any, authority: Authority, tmp_path: Path) -> Any:
    """A service over TLS with jane, who may edit, an auditor, and guest, who may do nothing."""
    certificate, key = authority.issue("/CN=localhost", "serverAuth", names="DNS:localhost,IP:127.0.0.1")
    (tmp_path / "tokens").write_text('janes,jane,1,"devs"\naudits,ann,2,"auditors"\nguests,guest,3\n')
    (tmp_path / "rbac").mkdir()
    (tmp_path / "rbac/rules.yaml").write_text(RULES)
    tls = ("--tls-cert-file", certificate, "--tls-private-key-file", key, "--client-ca-file", authority.certificate)
    access = ("--token-auth-file", tmp_path / "tokens", "--rbac", tmp_path / "rbac")
    return start_service(*map(str, (*tls, *access)))


Ask = Callable[..., Result]


@pytest.fixture
def ask(service: Any, authority: Authority, tmp_path: Path) -> Ask:
    """Runs a command with nothing configured but what is given; a kubeconfig as `user=` and `cluster=`."""

    def ask(*words: str, user: Any = None, cluster: Any = None, **env: str) -> Result:
        found = {"HOME": str(tmp_path), "KUBECONFIG": "", "IMAGESTREAM_TOKEN": "", **env}
        if cluster is not None:
            found["KUBECONFIG"] = str(kubeconfig(tmp_path / "config", service.url, user or {}, cluster))
        return CliRunner().invoke(main, [*words], env=found)

    return ask


def kubeconfig(path: Path, server: str, user: dict[str, Any], cluster: dict[str, Any]) -> Path:
    context = {"name": "here", "context": {"cluster": "c", "user": "u"}}
    clusters, users = [{"name": "c", "cluster": {"server": server, **cluster}}], [{"name": "u", "user": user}]
    document = {"current-context": "here", "contexts": [context], "clusters": clusters, "users": users}
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def pushed(service: Any, ask: Ask, authority: Authority) -> list[str]:
    """Two images under one tag by jane; answers the options with which she asks."""
    connection = Connection(Access(service.url, "janes", authority.certificate.read_text()))
    path = f"{IMAGES}/namespaces/shop"
    connection.create(f"{path}/imagestreams", {}, {"metadata": {"name": "web"}})
    for digest in DIGESTS:
        image = {"metadata": {"name": digest}, "dockerImageReference": f"r/web@{digest}"}
        connection.create(
            f"{path}/imagestreammappings", {}, {"metadata": {"name": "web"}, "tag": "latest", "image": image}
        )
    return ["--server", service.url, "--ca-file", str(authority.certificate)]


def images(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [json.loads(line)["to"]["image"] for line in result.stdout.splitlines()]


def refusal(result: Result) -> str:
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.output
    return result.stderr


def data(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()


def test_an_authority_in_a_file_and_a_token(pushed: list[str], ask: Ask, authority: Authority) -> None:
    newest_first = DIGESTS[::-1]
    assert images(ask(*LOG, *pushed, "--token", "janes")) == newest_first
    assert images(ask(*LOG, *pushed, IMAGESTREAM_TOKEN="janes")) == newest_first
    trusting = {"IMAGESTREAM_SERVER": pushed[1], "IMAGESTREAM_CA_FILE": str(authority.certificate)}
    assert images(ask(*LOG, **trusting, IMAGESTREAM_TOKEN="janes")) == newest_first


def test_a_kubeconfig_with_an_authority_and_a_token_or_certificate(
    pushed: list[str], ask: Ask, authority: Authority, tmp_path: Path
) -> None:
    newest_first, (certificate, key) = DIGESTS[::-1], authority.issue("/O=devs/CN=jill")
    (tmp_path / "token").write_text("janes\n")
    file, text = {"certificate-authority": "ca/ca.crt"}, {"certificate-authority-data": data(authority.certificate)}
    files = {"client-certificate": str(certificate), "client-key": str(key)}
    texts = {"client-certificate-data": data(certificate), "client-key-data": data(key)}
    for cluster in (file, text):
        for user in ({"token": "janes"}, {"tokenFile": "token"}, files, texts):
            assert images(ask(*LOG, user=user, cluster=cluster)) == newest_first, (user, cluster)
    assert images(ask(*LOG, user=files, cluster={"insecure-skip-tls-verify": True})) == newest_first
    # What is given on the command line wins.
    assert images(ask(*LOG, "--token", "janes", user={"token": "wrong"}, cluster=file)) == newest_first
    assert images(ask(*LOG, "--ca-file", str(authority.certificate), user={"token": "janes"}, cluster={}))


def test_what_was_done_is_told_under_the_name_of_a_certificate(
    pushed: list[str], ask: Ask, authority: Authority
) -> None:
    certificate, key = authority.issue("/O=devs/CN=jill")
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    cluster = {"certificate-authority-data": data(authority.certificate)}
    back = ("rollback", "shop/web:latest", "--changes-ago", "1", "--expected-image", DIGESTS[1], "--reason", "crashes")
    assert ask(*back, user=user, cluster=cluster).exit_code == 0
    (blamed,) = ask("blame", "shop/web", "-o", "json", user=user, cluster=cluster).stdout.splitlines()
    assert [json.loads(blamed)[part] for part in ("actor", "action", "reason")] == ["jill", "Reverted", "crashes"]


def test_a_service_that_is_not_trusted_is_asked_nothing(pushed: list[str], ask: Ask, tmp_path: Path) -> None:
    assert "give its authority with --ca-file" in refusal(ask(*LOG, *pushed[:2], "--token", "janes"))
    assert "give its authority with --ca-file" in refusal(ask(*LOG, user={"token": "janes"}, cluster={}))
    (tmp_path / "empty").write_text("")
    assert "Error: " in refusal(ask(*LOG, *pushed[:2], "--token", "janes", "--ca-file", str(tmp_path / "empty")))
    missing = refusal(ask(*LOG, *pushed[:2], "--token", "janes", "--ca-file", str(tmp_path / "missing")))
    assert "missing" in missing


@pytest.mark.parametrize("token", ["", "wrong"])
def test_who_is_not_known_is_told_to_give_a_token(pushed: list[str], ask: Ask, token: str) -> None:
    for words in (LOG, ("rollback", "shop/web:latest", "--changes-ago", "1")):
        told = refusal(ask(*words, *pushed, "--token", token))
        assert "does not know you: give a valid token with --token" in told
        assert "wrong" not in told


def test_who_may_not_is_told_what_right_is_lacking(pushed: list[str], ask: Ask) -> None:
    commands = {
        "tagchanges": [("log", "shop/web"), ("blame", "shop/web"), ("show", "shop/web:latest@{1}")],
        "imagestreamtags": [("show", "shop/web:latest")],
        "imageusages": [("where", DIGESTS[0]), ("where", "-n", "shop", DIGESTS[0])],
        "diffs": [("diff", "shop", "1")],
        "rollbacks": [("rollback", "shop/web:latest", "--changes-ago", "1")],
    }
    for resource, asked in commands.items():
        for words in asked:
            told = refusal(ask(*words, *pushed, "--token", "guests"))
            assert "you may not do this: ask for the right to" in told
            assert f'User "guest" cannot {"create" if resource == "rollbacks" else ""}' in told
            assert f'resource "{resource}"' in told
    # An auditor may read all of it, everywhere, and change nothing.
    assert ask("where", DIGESTS[0], *pushed, "--token", "audits").exit_code == 0
    assert 'User "ann" cannot create' in refusal(ask(*commands["rollbacks"][0], *pushed, "--token", "audits"))
    assert "at the cluster scope" in refusal(ask("where", DIGESTS[0], *pushed, "--token", "janes"))


def test_a_certificate_that_is_not_taken_is_told_as_such(
    pushed: list[str], ask: Ask, authority: Authority, require: Any, tmp_path: Path
) -> None:
    other = Authority(require("openssl"), tmp_path, "other")
    cluster = {"certificate-authority-data": data(authority.certificate)}
    for certificate, key in (other.issue("/O=devs/CN=jane"), authority.issue("/O=devs/CN=jane", expired=True)):
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        assert "does not take your client certificate" in refusal(ask(*LOG, user=user, cluster=cluster))


def test_plain_http_on_a_port_for_tls_is_told_in_one_line(pushed: list[str], ask: Ask) -> None:
    refusal(ask(*LOG, "--server", pushed[1].replace("https", "http"), "--token", "janes"))


def test_every_command_gives_json_that_is_json(pushed: list[str], ask: Ask) -> None:
    back = ("rollback", "shop/web:latest", "--changes-ago", "1")
    answers = [
        (("log", "shop/web"), 2, "action"),
        (("blame", "shop/web"), 1, "action"),
        (("show", "shop/web:latest@{1}"), 1, "image"),
        (("diff", "shop", "1"), 1, "changes"),
        (("where", "-n", "shop", *DIGESTS), 2, "since"),
        ((*back, "--dry-run"), 1, "status"),
        (back, 1, "status"),
    ]
    assert {words[0] for words, *_ in answers} == {command.name for command in COMMANDS}
    for words, lines, field in answers:
        result = ask(*words, *pushed, "--token", "janes", "--output", "json")
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        found = [json.loads(line) for line in result.stdout.splitlines()]
        assert [field in one for one in found] == [True] * lines, words

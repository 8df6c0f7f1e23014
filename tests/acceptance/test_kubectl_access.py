"""kubectl over TLS with a token, with one of an OpenID Connect provider, and with a client certificate.

can-i and whoami tell the truth, also by the requests that `oc whoami` sends.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from joserfc import jwk, jwt
from token_server import make_certificate

KUBECTL = Path(sys.executable).with_name("kubectl")
KEY = jwk.RSAKey.generate_key(2048, {"kid": "k1"})
RULES = """apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: team, namespace: team}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: devs}}]
"""


@pytest.fixture
def certificate(tmp_path: Path, require: Callable[[str], str]) -> tuple[Path, Path]:
    return make_certificate(require("openssl"), tmp_path)


@pytest.fixture
def issuer(certificate: tuple[Path, Path]) -> Iterator[str]:
    """The URL of a small provider that tells its key."""

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told: dict[str, Any] = {"keys": [KEY.as_dict(private=False)]}
            if self.path.endswith("/openid-configuration"):
                told = {"issuer": url, "jwks_uri": f"{url}/keys"}
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield url
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def authority(require: Callable[[str], str], tmp_path: Path) -> Authority:
    return Authority(require("openssl"), tmp_path)


@pytest.fixture
def service(
    start_service: Any, certificate: tuple[Path, Path], issuer: str, authority: Authority, tmp_path: Path
) -> Any:
    (tmp_path / "tokens").write_text('a-token,jane,1,"devs"\nroot-token,root,0,"system:masters"\n')
    (tmp_path / "rbac").mkdir()
    (tmp_path / "rbac" / "team.yaml").write_text(RULES.format(role="view"))
    tls = ("--tls-cert-file", certificate[0], "--tls-private-key-file", certificate[1])
    tls += ("--client-ca-file", authority.certificate)
    oidc = ("--oidc-issuer-url", issuer, "--oidc-client-id", "streams", "--oidc-groups-claim", "groups")
    more = ("--oidc-ca-file", certificate[0], "--token-auth-file", tmp_path / "tokens", "--rbac", tmp_path / "rbac")
    return start_service(*map(str, (*tls, *oidc, *more)))


@pytest.fixture
def kubectl(service: Any, certificate: tuple[Path, Path], tmp_path: Path) -> Callable[..., Any]:
    """`kubectl(TOKEN, "get", "is")` runs it: exit status and what it printed. For TOKEN may stand other options."""
    env = {**os.environ, "HOME": str(tmp_path), "KUBECONFIG": "/dev/null", "KUBECACHEDIR": str(tmp_path / "cache")}
    command = [KUBECTL, "--server", service.url, "--certificate-authority", certificate[0], "-n", "team"]

    def run(token: str | tuple[str, ...], *arguments: str, stdin: str = "") -> tuple[int, str]:
        credentials = ("--token", token) if isinstance(token, str) else token
        done = subprocess.run(
            [*command, *credentials, *arguments],
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


STREAM = "apiVersion: image.openshift.io/v1\nkind: ImageStream\nmetadata: {name: web}\n"


def test_kubectl_with_a_token(kubectl: Callable[..., Any], tmp_path: Path) -> None:
    assert kubectl("a-token", "get", "is")[0] == 0
    status, text = kubectl("a-token", "create", "-f", "-", stdin=STREAM)
    assert status != 0
    assert 'User "jane" cannot create resource "imagestreams"' in text
    assert kubectl("a-token", "auth", "can-i", "create", "imagestreams") == (1, "no\n")
    assert kubectl("a-token", "auth", "can-i", "get", "imagestreams.image.openshift.io") == (0, "yes\n")
    assert "imagestreams.image.openshift.io" in kubectl("a-token", "auth", "can-i", "--list")[1]
    _, text = kubectl("a-token", "auth", "whoami", "-o", "json")
    assert json.loads(text)["status"]["userInfo"] == {
        "username": "jane",
        "uid": "1",
        "groups": ["devs", "system:authenticated"],
    }
    assert "must be logged in" in kubectl("wrong-token", "get", "is")[1]
    assert kubectl("root-token", "create", "-f", "-", stdin=STREAM)[0] == 0
    assert kubectl("root-token", "--as", "jane", "--as-group", "devs", "get", "is", "web")[0] == 0
    assert "cannot impersonate" in kubectl("a-token", "--as", "root", "get", "is", "web")[1]
    # The rules change, and so does what may be done.
    (tmp_path / "rbac" / "team.yaml").write_text(RULES.format(role="edit"))
    deadline = time.monotonic() + 60
    while kubectl("a-token", "auth", "can-i", "create", "imagestreams.image.openshift.io")[0] != 0:
        assert time.monotonic() < deadline, "the rules were not read again"
    assert kubectl("a-token", "label", "is", "web", "a=b")[0] == 0


def test_kubectl_with_a_token_of_a_provider(kubectl: Callable[..., Any], issuer: str) -> None:
    def token(seconds: int = 600) -> str:
        claims = {"iss": issuer, "aud": "streams", "sub": "ann", "groups": ["devs"], "exp": int(time.time()) + seconds}
        return jwt.encode({"alg": "RS256", "kid": "k1"}, claims, KEY)

    assert kubectl(token(), "get", "is")[0] == 0
    _, text = kubectl(token(), "auth", "whoami", "-o", "json")
    assert json.loads(text)["status"]["userInfo"]["username"] == f"{issuer}#ann"
    assert f'User "{issuer}#ann" cannot create' in kubectl(token(), "create", "-f", "-", stdin=STREAM)[1]
    assert "must be logged in" in kubectl(token(-10), "get", "is")[1]


def test_kubectl_with_a_client_certificate(
    kubectl: Callable[..., Any], authority: Authority, require: Callable[[str], str], tmp_path: Path
) -> None:
    def holder(subject: str, by: Authority = authority, **how: Any) -> tuple[str, ...]:
        file, key = by.issue(subject, **how)
        return "--client-certificate", str(file), "--client-key", str(key)

    joe, root = holder("/O=devs/O=web/CN=joe"), holder("/O=system:masters/CN=root")
    assert kubectl(root, "create", "-f", "-", stdin=STREAM)[0] == 0
    assert kubectl(joe, "get", "is", "web")[0] == 0
    status, text = kubectl(joe, "delete", "is", "web")
    assert status != 0
    assert 'User "joe" cannot delete resource "imagestreams"' in text
    assert kubectl(joe, "auth", "can-i", "create", "imagestreams.image.openshift.io") == (1, "no\n")
    assert kubectl(joe, "auth", "can-i", "get", "imagestreams.image.openshift.io") == (0, "yes\n")
    assert kubectl(joe, "-n", "other", "auth", "can-i", "get", "imagestreams.image.openshift.io") == (1, "no\n")
    told = json.loads(kubectl(joe, "auth", "whoami", "-o", "json")[1])["status"]["userInfo"]
    assert (told["username"], sorted(told["groups"])) == ("joe", ["devs", "system:authenticated", "web"])
    (tmp_path / "rbac" / "team.yaml").write_text(RULES.format(role="edit"))
    deadline = time.monotonic() + 60
    while kubectl(joe, "auth", "can-i", "create", "imagestreams.image.openshift.io")[0] != 0:
        assert time.monotonic() < deadline, "the rules were not read again"
    assert kubectl(joe, "create", "-f", "-", stdin=STREAM.replace("web", "app"))[0] == 0
    assert kubectl(joe, "get", "tc", "-o", "name")[0] == 0
    # None of these is anybody, and none is let in as nobody in particular.
    (tmp_path / "elsewhere").mkdir()
    stranger = Authority(require("openssl"), tmp_path / "elsewhere")
    for wrong in (holder("/CN=joe", stranger), holder("/O=devs/CN=joe", expired=True), holder("/O=devs")):
        assert kubectl(wrong, "get", "is")[0] != 0


@pytest.mark.parametrize("accept", ["application/json", "application/vnd.kubernetes.protobuf,application/json"])
def test_the_requests_of_oc_whoami_tell_who_asks(
    service: Any, certificate: tuple[Path, Path], authority: Authority, accept: str
) -> None:
    trust = ssl.create_default_context(cafile=certificate[0])
    shown = ssl.create_default_context(cafile=certificate[0])
    shown.load_cert_chain(*authority.issue("/O=devs/CN=joe"))

    def ask(method: str, path: str, context: ssl.SSLContext, body: Any = None, **more: str) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection(service.address, context=context, timeout=60)
        try:
            headers = {"Accept": accept, "User-Agent": "oc/v4", **more}
            connection.request(method, path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "status": {}}
    for name, context, headers in (
        ("jane", trust, {"Authorization": "Bearer a-token"}),
        ("joe", shown, {}),
    ):
        status, user = ask("GET", "/apis/user.openshift.io/v1/users/~", context, **headers)
        assert (status, user["kind"], user["apiVersion"]) == (200, "User", "user.openshift.io/v1")
        assert (user["metadata"]["name"], "devs" in user["groups"]) == (name, True)
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        status, told = ask("POST", path, context, review, **headers, **{"Content-Type": "application/json"})
        assert (status, told["status"]["userInfo"]["username"]) == (201, name)
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert ask("GET", "/apis/user.openshift.io/v1/users/~", trust, **headers)[0] == 401

"""kubectl over TLS with a token, and with one of an OpenID Connect provider; can-i and whoami tell the truth."""

from __future__ import annotations

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
def service(start_service: Any, certificate: tuple[Path, Path], issuer: str, tmp_path: Path) -> Any:
    (tmp_path / "tokens").write_text('a-token,jane,1,"devs"\nroot-token,root,0,"system:masters"\n')
    (tmp_path / "rbac").mkdir()
    (tmp_path / "rbac" / "team.yaml").write_text(RULES.format(role="view"))
    tls = ("--tls-cert-file", certificate[0], "--tls-private-key-file", certificate[1])
    oidc = ("--oidc-issuer-url", issuer, "--oidc-client-id", "streams", "--oidc-groups-claim", "groups")
    more = ("--oidc-ca-file", certificate[0], "--token-auth-file", tmp_path / "tokens", "--rbac", tmp_path / "rbac")
    return start_service(*map(str, (*tls, *oidc, *more)))


@pytest.fixture
def kubectl(service: Any, certificate: tuple[Path, Path], tmp_path: Path) -> Callable[..., Any]:
    """`kubectl(TOKEN, "get", "is")` runs it: exit status and what it printed."""
    env = {**os.environ, "HOME": str(tmp_path), "KUBECONFIG": "/dev/null", "KUBECACHEDIR": str(tmp_path / "cache")}
    command = [KUBECTL, "--server", service.url, "--certificate-authority", certificate[0], "-n", "team"]

    def run(token: str, *arguments: str, stdin: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [*command, "--token", token, *arguments],
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

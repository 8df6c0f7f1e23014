"""An incident to look into: a service with three users, twenty pushes, and a bad move at the end.

`scripts/incident.py DIRECTORY` makes all that it takes in a new directory (certificate, tokens, rules, a kubeconfig
with a context for each user), serves on a free port, plays the incident, prints what to set, and serves until Ctrl-C.
The README tells how it is looked into.
"""

from __future__ import annotations

import json
import secrets
import signal
import ssl
import subprocess
import sys
from hashlib import sha256
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

USERS = {"jane": "web-team", "omar": "web-team", "build-robot": "robots"}
RULES = """apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web-team, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: web-team}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: robots, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: registry}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: robots}]
"""
IMAGES = "/apis/image.openshift.io/v1/namespaces/shop"


def main(directory: Path) -> None:
    """Make the directory, serve, play the incident, and serve on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the service ends with this
    directory.mkdir(parents=True)
    tokens = {user: secrets.token_hex(24) for user in USERS}
    service = serve(directory, tokens)
    try:
        assert service.stdout is not None
        url = service.stdout.readline().removeprefix("Serving on ").strip()
        if not url:
            raise SystemExit("the service did not start")
        play(Team(url, directory / "tls.crt", tokens))
        write_kubeconfig(directory, url, tokens)
        print(f"export KUBECONFIG={directory.resolve() / 'kubeconfig'}", flush=True)
        service.wait()
    except KeyboardInterrupt:
        pass
    finally:
        service.terminate()
        service.wait()


def serve(directory: Path, tokens: dict[str, str]) -> subprocess.Popen[str]:
    """Start a service that knows the users and what they may do."""
    certificate, key = directory / "tls.crt", directory / "tls.key"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names]
    subprocess.run([*made, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    lines = [f'{tokens[user]},{user},{number},"{group}"\n' for number, (user, group) in enumerate(USERS.items())]
    (directory / "tokens.csv").write_text("".join(lines))
    (directory / "rbac").mkdir()
    (directory / "rbac/shop.yaml").write_text(RULES)
    program = Path(sys.executable).with_name("imagestream-es")
    place: list[str | Path] = ["--bind", "127.0.0.1:0", "--data-dir", directory / "data", "--access-log", "off"]
    tls: list[str | Path] = ["--tls-cert-file", certificate, "--tls-private-key-file", key]
    access: list[str | Path] = ["--token-auth-file", directory / "tokens.csv", "--rbac", directory / "rbac"]
    return subprocess.Popen([program, "serve", *place, *tls, *access], stdout=subprocess.PIPE, text=True)


class Team:
    """The users, and how they push and tag."""

    def __init__(self, url: str, certificate: Path, tokens: dict[str, str]) -> None:
        trust = ssl.create_default_context(cafile=certificate)
        self._connection = HTTPSConnection(urlsplit(url).netloc, context=trust)
        self._tokens = tokens

    def create_stream(self, user: str) -> None:
        """Make the stream."""
        self._send(user, "POST", "imagestreams", {"metadata": {"name": "web"}}, "")

    def push(self, user: str, tag: str, build: int) -> None:
        """Tell of a push as a registry does it: an ImageStreamMapping."""
        image = {"metadata": {"name": digest(build)}, "dockerImageReference": f"registry.example/web@{digest(build)}"}
        self._send(user, "POST", "imagestreammappings", {"metadata": {"name": "web"}, "tag": tag, "image": image}, "")

    def tag(self, user: str, tag: str, build: int, reason: str) -> None:
        """Do as `oc tag web@sha256:... web:TAG` does."""
        source = {"kind": "ImageStreamImage", "name": f"web@{digest(build)}"}
        body = {"metadata": {"name": f"web:{tag}"}, "tag": {"name": tag, "from": source}}
        self._send(user, "PUT", f"imagestreamtags/web:{tag}", body, reason)

    def _send(self, user: str, method: str, path: str, body: dict[str, object], reason: str) -> None:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._tokens[user]}"}
        if reason:
            headers["X-Change-Reason"] = reason
        self._connection.request(method, f"{IMAGES}/{path}", json.dumps(body), headers)
        answer = self._connection.getresponse()
        said = answer.read().decode()
        if answer.status not in (200, 201):
            raise SystemExit(said)


def digest(build: int) -> str:
    """The name of the image that a build made."""
    return f"sha256:{sha256(f'web, build {build}'.encode()).hexdigest()}"


def play(team: Team) -> None:
    """Twenty pushes by three users, then the wrong image goes into production."""
    team.create_stream("jane")
    for build in range(1, 13):
        team.push("build-robot", "latest", build)
        if build % 3 == 0:
            team.tag("omar", "test", build, "")
        if build in (4, 7, 10):
            team.tag("jane", "prod", build - 1, f"build {build - 1} has passed its tests")
    team.push("build-robot", "latest", 13)
    team.tag("omar", "prod", 13, "quick fix of the basket")


def write_kubeconfig(directory: Path, url: str, tokens: dict[str, str]) -> None:
    """Give each user a context; the current one is jane's. (JSON is YAML.)"""
    cluster = {"server": url, "certificate-authority": "tls.crt"}
    contexts = [{"name": user, "context": {"cluster": "shop", "user": user, "namespace": "shop"}} for user in tokens]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "shop", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}} for user, token in tokens.items()],
        "contexts": contexts,
        "current-context": "jane",
    }
    (directory / "kubeconfig").write_text(json.dumps(config, indent=2))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: scripts/incident.py DIRECTORY (a new one)")
    main(Path(sys.argv[1]))

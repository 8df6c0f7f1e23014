"""No secret that the service is given comes out of it: not in a file it writes, a log line, an answer or a metric."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from fake_registry import FakeRegistry, Handler, Page, fake_registry, moved, problem

COMMAND = Path(sys.executable).with_name("imagestream-es")
SPACE = "/apis/image.openshift.io/v1/namespaces/team"
IMAGE = f"sha256:{1:064x}"

CALLER, HOOK, PULL, REGISTRY, TOKEN = (
    f"canary{place}9f3b7" for place in ("caller", "hook", "pull", "registry", "token")
)
USER = "robot"


def basic(password: str) -> str:
    return base64.b64encode(f"{USER}:{password}".encode()).decode()


def forms(secret: str) -> list[bytes]:
    """A secret as it may stand somewhere, in plain or as the password of Basic."""
    return [text.encode() for text in (secret, basic(secret), base64.b64encode(secret.encode()).decode().rstrip("="))]


class Told:
    """Everything that came out of a service."""

    def __init__(self, service: Any) -> None:
        self.service = service
        self.answers: list[bytes] = []
        self.codes: list[int] = []

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> None:
        connection = http.client.HTTPConnection(self.service.address, timeout=60)
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, {"Content-Type": "application/json"} | given)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        self.answers += [text, str(answer.getheaders()).encode()]
        self.codes.append(answer.status)

    def places(self, secrets: list[str], more: dict[str, bytes]) -> list[tuple[str, bytes]]:
        """Where secrets came out, and which."""
        files = [path for path in self.service.data_dir.parent.rglob("*") if path.is_file()]
        texts = {str(path): path.read_bytes() for path in files} | more
        texts["answers"] = b"\n".join(self.answers)
        return [
            (place, form)
            for place, text in texts.items()
            for secret in secrets
            for form in forms(secret)
            if form in text
        ]


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """One that wants a token, which it gives for the pull secret, and that tells its callers' secrets to everybody."""
    with fake_registry() as one:
        realm = f"{one.url}/token"
        one.push("team/app", "1")
        echoes: dict[str, Callable[[Handler, str], Page]] = {
            "denied": lambda _, told: Page(403, errors(told)),
            "broken": lambda _, told: Page(500, errors(told)),
            "unauthorized": lambda _, told: Page(401, errors(told), {"WWW-Authenticate": f'Basic realm="{told}"'}),
            "moved": lambda _, told: moved(f"http://127.0.0.1:9/{quote(told)}?y={quote(told)}"),
            "garbage": lambda _, told: Page(200, told.encode(), {"Content-Type": told}),
            "text": lambda _, told: Page(400, told.encode()),
        }

        def guard(handler: Handler) -> Page | None:
            told = handler.headers.get("Authorization", "")
            if handler.path.startswith("/token"):
                given = told == f"Basic {basic(PULL)}" or told == f"Basic {basic(REGISTRY)}"
                return Page(body=json.dumps({"token": TOKEN}).encode()) if given else Page(401, errors(told))
            if told != f"Bearer {TOKEN}":
                return problem(401, "UNAUTHORIZED", {"WWW-Authenticate": f'Bearer realm="{realm}",service="{told}"'})
            name = handler.path.split("/")[3] if handler.path.startswith("/v2/team/") else ""
            return echoes[name](handler, told) if name in echoes else None

        one.guard = guard
        yield one


def errors(text: str) -> bytes:
    return json.dumps({"errors": [{"code": "DENIED", "message": f"I was told {text}", "detail": text}]}).encode()


@pytest.fixture
def options(tmp_path: Path, registry: FakeRegistry) -> list[str]:
    secrets = tmp_path / "secrets" / "team"
    secrets.mkdir(parents=True)
    (secrets / "pull.json").write_text(json.dumps({"auths": {registry.host: {"auth": basic(PULL)}}}))
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {registry.host: {"auth": basic(REGISTRY)}}}))
    hook, tokens = tmp_path / "hook", tmp_path / "tokens.csv"
    hook.write_text(HOOK)
    tokens.write_text(f'{CALLER},alice,1,"system:masters"\n')
    return [
        *("--pull-secrets", str(tmp_path / "secrets"), "--import-allow", "127.0.0.1", "--access-log", "on"),
        *("--registry-url", registry.url, "--registry-credentials-file", str(config)),
        *("--registry-webhook-secret-file", str(hook), "--import-controller", "on"),
        *("--registry-sweep-grace", "1s", "--token-auth-file", str(tokens)),
    ]


def exercise(told: Told, registry: FakeRegistry) -> None:
    """Everything that has to do with a secret, done right and wrong."""
    secrets = {"Authorization": f"Bearer {CALLER}", "Cookie": f"session={CALLER}"}
    stream = {"metadata": {"name": "app"}}
    told.ask(f"{SPACE}/imagestreams?access_token={CALLER}", "POST", stream, **secrets)
    told.ask(f"{SPACE}/imagestreams", "POST", stream, **secrets)
    told.ask(f"{SPACE}/imagestreams", "POST", b"{", **secrets)
    told.ask(f"{SPACE}/nothing/at/all?token={CALLER}", "DELETE", **secrets)
    told.ask(f"/nowhere?token={CALLER}", Authorization=f"Basic {basic(CALLER)}")
    for authorization in (
        f"Bearer {HOOK}",
        f"Basic {basic(HOOK)}",
        f"Bearer {CALLER}",
        f"Basic {basic(CALLER)}",
        CALLER,
    ):
        target = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": registry_digest(registry)}
        event = {"id": "1", "action": "push", "target": {**target, "repository": "team/app", "tag": "pushed"}}
        told.ask("/hooks/registry", "POST", {"events": [event]}, Authorization=authorization)
        told.ask("/hooks/registry", "POST", b"no json", Authorization=authorization)
    told.ask("/hooks/registry/sweep?wait=1", "POST", Authorization=f"Bearer {HOOK}")
    for name in ("app:1", "app:none", "denied:1", "broken:1", "unauthorized:1", "moved:1", "garbage:1", "text:1"):
        source = {"kind": "DockerImage", "name": f"{registry.host}/team/{name}"}
        image = {"from": source, "to": {"name": name.replace(":", "-")}, "importPolicy": {"insecure": True}}
        repository = {"from": {**source, "name": source["name"].partition(":1")[0]}, "importPolicy": {"insecure": True}}
        spec: dict[str, Any] = {"import": True, "images": [image]}
        body = {"metadata": {"name": "app"}, "spec": spec}
        told.ask(f"{SPACE}/imagestreamimports", "POST", body, **secrets)
        spec["repository"] = repository
        told.ask(f"{SPACE}/imagestreamimports", "POST", body, **secrets)
    tag = {"name": "followed", "from": source, "importPolicy": {"insecure": True, "scheduled": True}}
    told.ask(f"{SPACE}/imagestreams", "POST", {"metadata": {"name": "other"}, "spec": {"tags": [tag]}}, **secrets)
    end = time.monotonic() + 60
    while "message=import " not in told.service.log:
        assert time.monotonic() < end
        time.sleep(0.05)
    for path in ("imagestreams", "imagestreams/app", "imagestreamtags", "imagestreams?watch=1&timeoutSeconds=1"):
        told.ask(f"{SPACE}/{path}", **secrets)
    for path in ("/metrics", "/apis", "/docs", "/readyz?verbose", "/openapi/v2", "/"):
        told.ask(path, **secrets)
        told.ask(path, Authorization=f"Bearer {CALLER}, Bearer {CALLER}")


def registry_digest(registry: FakeRegistry) -> str:
    return next(path for path in registry.pages if "/manifests/sha256:" in path).rpartition("/")[2]


SECRETS = [CALLER, HOOK, PULL, REGISTRY, TOKEN]


def test_no_secret_comes_out(start_service: Callable[..., Any], registry: FakeRegistry, options: list[str]) -> None:
    told = Told(start_service(*options))
    exercise(told, registry)
    assert {200, 201, 202, 400, 401, 404, 409} <= set(told.codes)
    used = {request.authorization for request in registry.requests}
    assert {f"Basic {basic(PULL)}", f"Basic {basic(REGISTRY)}", f"Bearer {TOKEN}"} <= used
    assert told.places(SECRETS, {}) == []
    assert told.service.stop()[0] == 0
    assert told.places(SECRETS, {}) == []


def test_a_secret_that_comes_out_would_be_found(start_service: Callable[..., Any]) -> None:
    told = Told(start_service())
    told.ask(f"{SPACE}/imagestreams", "POST", {"metadata": {"name": "app", "labels": {"a": CALLER}}})
    assert {Path(place).name for place, _ in told.places(SECRETS, {})} >= {"answers", "imagestream.db-wal"}


def test_the_password_of_the_database_comes_out_nowhere(
    start_service: Callable[..., Any], postgres_url: str, registry: FakeRegistry, options: list[str]
) -> None:
    password = str(urlsplit(postgres_url).password)
    told = Told(start_service(*options, env={"IMAGESTREAM_DATABASE_URL": postgres_url}))
    exercise(told, registry)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        database = urlsplit(postgres_url).path.strip("/")
        rows = {
            name: str(connection.execute(f'SELECT t::text FROM "{name}" t').fetchall()).encode()  # type: ignore[call-overload]
            for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        }
        assert rows
    with psycopg.connect(postgres_url.replace(database, "postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'imagestream-es'"
        )
        connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')  # type: ignore[call-overload]
        for path in (f"{SPACE}/imagestreams", "/readyz", "/metrics"):
            told.ask(path, Authorization=f"Bearer {CALLER}")
        told.ask(f"{SPACE}/imagestreams", "POST", {"metadata": {"name": "more"}}, Authorization=f"Bearer {CALLER}")
        connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')  # type: ignore[call-overload]
    assert 503 in told.codes
    assert told.places([*SECRETS, password], rows) == []


@pytest.mark.parametrize("command", ["serve", "principals list"])
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://{USER}:{CALLER}@127.0.0.1:9/none",
        f"postgresql://{USER}:{CALLER}@127.0.0.1:notaport/none",
        f"mysql://{USER}:{CALLER}@127.0.0.1/none",
        f"postgresql://{USER}:{CALLER}/x@127.0.0.1/none",
        f"postgresql://{USER}:{CALLER}[@127.0.0.1/none",
        f"postgresql://{USER}:7/{CALLER}@127.0.0.1/none",
    ],
)
def test_a_database_that_cannot_be_reached_is_told_without_its_password(command: str, url: str, tmp_path: Path) -> None:
    bind = ["--bind", "127.0.0.1:0"] if command == "serve" else []
    done = subprocess.run(
        [COMMAND, *command.split(), *bind, "--data-dir", tmp_path / "data"],
        env={"IMAGESTREAM_DATABASE_URL": url, "PATH": ""},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert [form for form in forms(CALLER) if form in done.stdout + done.stderr] == []

"""Images that are pushed to a real registry become the histories of image streams."""

from __future__ import annotations

import base64
import http.client
import json
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import COMMAND, Service
from fake_registry import FakeRegistry, fake_registry
from real_registry import Images, RealRegistry
from token_server import make_certificate, token_server

SECRET = "hook-secret"
PUBLIC = "registry.example.test:5000"
STREAMS = "/apis/image.openshift.io/v1/namespaces/{}/imagestreams/{}"
IMAGES = "/apis/image.openshift.io/v1/images/"


@pytest.fixture(scope="session")
def images(require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Images:
    """hello, hello2, docker, multi and artifact, built without a network."""
    directory = tmp_path_factory.mktemp("images")
    for program in ("umoci", "jq", "zstd", "skopeo"):
        require(program)
    registry = RealRegistry(require("docker-registry"), tmp_path_factory.mktemp("building")).start()
    try:
        script = Path(__file__).parents[1] / "data" / "make_images.sh"
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "KEEP_DIR": str(directory), "HOME": str(directory)}
        done = subprocess.run(
            ["bash", script, registry.host], env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
    finally:
        registry.kill()
    return Images(require("skopeo"), directory / "layout")


@pytest.fixture
def start_registry(require: Callable[[str], str], tmp_path_factory) -> Iterator[Callable[..., RealRegistry]]:
    """`start_registry(config)` makes a registry that is not started yet."""
    made: list[RealRegistry] = []

    def make(config: dict[str, Any] | None = None) -> RealRegistry:
        made.append(RealRegistry(require("docker-registry"), tmp_path_factory.mktemp("registry"), config))
        return made[-1]

    yield make
    for registry in made:
        registry.kill()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "hook-secret"
    file.write_text(SECRET + "\n")
    return file


@pytest.fixture
def start_listening(start_service: Callable[..., Service], secret_file: Path) -> Callable[..., Service]:
    """`start_listening(url)` starts a service that takes in what is pushed to the registry at a URL."""

    def start(url: str, *options: str) -> Service:
        listening = ["--registry-url", url, "--registry-webhook-secret-file", str(secret_file)]
        grace = [] if "--registry-sweep-grace" in options else ["--registry-sweep-grace", "1s"]
        return start_service("--internal-registry", PUBLIC, *listening, *grace, *options)

    return start


@pytest.fixture
def pair(start_registry, start_listening) -> tuple[RealRegistry, Service]:
    """A registry and a service that knows of it."""
    registry = start_registry()
    service = start_listening(f"http://{registry.host}", "--registry-sweep-interval", "1h")
    registry.tell(f"{service.url}/hooks/registry", SECRET)
    return registry.start(), service


def get(service: Service, path: str) -> Any:
    status, body = service.request(path)
    return json.loads(body) if status == 200 else None


def history(service: Service, place: str, tag: str) -> list[str]:
    """The images of a tag, newest first."""
    stream = get(service, STREAMS.format(*place.split("/")))
    tags = {each["tag"]: each["items"] for each in ((stream or {}).get("status", {}).get("tags") or [])}
    return [item["image"] for item in tags.get(tag, ())]


def eventually(ask: Callable[[], Any], wanted: Any, seconds: float = 20) -> None:
    """Wait until a question is answered as wanted."""
    end = time.monotonic() + seconds
    while (found := ask()) != wanted:
        assert time.monotonic() < end, f"{found!r} is not {wanted!r}"
        time.sleep(0.02)


def sweep(service: Service, secret_file: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, "sweep", "--server", service.url, "--registry-webhook-secret-file", secret_file, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_pushes_become_the_history_of_a_tag(pair, images):
    registry, service = pair
    hello = images.push("hello", registry.host, "demo/hello:latest")
    eventually(lambda: history(service, "demo/hello", "latest"), [hello])

    images.push("hello", registry.host, "demo/hello:stable")
    eventually(lambda: history(service, "demo/hello", "stable"), [hello])

    other = images.push("hello2", registry.host, "demo/hello:latest")  # a move
    eventually(lambda: history(service, "demo/hello", "latest"), [other, hello])

    images.push("hello", registry.host, "demo/hello:latest")  # back
    eventually(lambda: history(service, "demo/hello", "latest"), [hello, other, hello])

    images.push("hello", registry.host, "demo/hello:latest")  # again
    images.push("hello2", registry.host, "demo/hello:last")
    eventually(lambda: history(service, "demo/hello", "last"), [other])
    assert history(service, "demo/hello", "latest") == [hello, other, hello]

    stream = get(service, STREAMS.format("demo", "hello"))
    assert stream["spec"].get("tags", []) == []
    newest = next(tag for tag in stream["status"]["tags"] if tag["tag"] == "latest")["items"][0]
    assert newest["dockerImageReference"] == f"{PUBLIC}/demo/hello@{hello}"
    assert get(service, IMAGES + hello)["dockerImageReference"] == f"{PUBLIC}/demo/hello@{hello}"


def test_an_index_comes_with_its_parts(pair, images):
    registry, service = pair
    index = images.push("multi", registry.host, "demo/multi:latest", "--all")
    eventually(lambda: history(service, "demo/multi", "latest"), [index])
    parts = get(service, IMAGES + index)["dockerImageManifests"]
    assert [(part["architecture"], part["os"]) for part in parts] == [("amd64", "linux"), ("arm64", "linux")]
    assert [get(service, IMAGES + part["digest"])["dockerImageMetadata"]["Architecture"] for part in parts] == [
        "amd64",
        "arm64",
    ]


def test_a_signature_is_no_image(pair, images):
    registry, service = pair
    hello = images.push("hello", registry.host, "demo/hello:latest")
    images.push("artifact", registry.host, "demo/hello:sha256-sig")
    images.push("hello2", registry.host, "demo/hello:after")
    eventually(lambda: len(history(service, "demo/hello", "after")), 1)
    assert history(service, "demo/hello", "sha256-sig") == []
    assert history(service, "demo/hello", "latest") == [hello]


def test_deleting_in_the_registry_changes_no_history(pair, images):
    registry, service = pair
    hello = images.push("hello", registry.host, "demo/hello:latest")
    eventually(lambda: history(service, "demo/hello", "latest"), [hello])
    registry.delete("demo/hello", hello)
    other = images.push("hello2", registry.host, "demo/hello:later")
    eventually(lambda: history(service, "demo/hello", "later"), [other])
    assert history(service, "demo/hello", "latest") == [hello]
    assert get(service, IMAGES + hello) is not None


def test_what_is_pushed_while_the_service_is_down_is_told_when_it_is_back(pair, images):
    registry, service = pair
    hello = images.push("hello", registry.host, "demo/hello:latest")
    eventually(lambda: history(service, "demo/hello", "latest"), [hello])
    service.kill()
    other = images.push("hello2", registry.host, "demo/hello:latest")
    images.push("hello", registry.host, "demo/hello:latest")
    service._options = (*service._options, "--registry-sweep-grace", "30s")  # the registry's own word comes first
    service.restart()
    eventually(lambda: history(service, "demo/hello", "latest"), [hello, other, hello])


def test_what_a_killed_registry_could_not_tell_is_found_by_a_sweep(pair, images, secret_file):
    registry, service = pair
    hello = images.push("hello", registry.host, "demo/hello:latest")
    eventually(lambda: history(service, "demo/hello", "latest"), [hello])
    assert sweep(service, secret_file).returncode == 0  # those that the service asked for itself are over
    registry.tell("http://127.0.0.1:9/nobody", SECRET)
    registry.kill()
    registry.start()
    other = images.push("hello2", registry.host, "demo/hello:latest")
    index = images.push("multi", registry.host, "demo/new:1.0", "--all")
    registry.kill()
    registry.tell(f"{service.url}/hooks/registry", SECRET)
    registry.start()
    assert history(service, "demo/hello", "latest") == [hello]
    done = sweep(service, secret_file)
    assert (done.returncode, done.stdout) == (0, "Looked at 2 tags in 2 repositories, found 2 pushes.\n"), done.stderr
    assert history(service, "demo/hello", "latest") == [other, hello]
    assert history(service, "demo/new", "1.0") == [index]
    assert sweep(service, secret_file).stdout == "Looked at 2 tags in 2 repositories, found 0 pushes.\n"


def test_a_registry_that_was_started_anew_is_swept_when_it_tells_something(pair, images):
    registry, service = pair
    hello = images.push("hello", registry.host, "demo/hello:latest")
    eventually(lambda: history(service, "demo/hello", "latest"), [hello])
    registry.tell("http://127.0.0.1:9/nobody", SECRET)
    registry.kill()
    registry.start()
    other = images.push("hello2", registry.host, "demo/hello:latest")
    registry.kill()
    registry.tell(f"{service.url}/hooks/registry", SECRET)
    registry.start()
    images.push("docker", registry.host, "demo/docker:latest")
    eventually(lambda: history(service, "demo/hello", "latest"), [other, hello])


def test_a_service_that_starts_finds_what_was_pushed_before(start_registry, start_listening, images):
    registry = start_registry().start()
    hello = images.push("hello", registry.host, "demo/hello:latest")
    service = start_listening(f"http://{registry.host}", "--registry-sweep-interval", "1h")
    eventually(lambda: history(service, "demo/hello", "latest"), [hello])


def test_a_registry_is_swept_now_and_then(start_registry, start_listening, images):
    registry = start_registry().start()
    service = start_listening(f"http://{registry.host}", "--registry-sweep-interval", "1s")
    time.sleep(1)
    hello = images.push("hello", registry.host, "demo/hello:latest")
    eventually(lambda: history(service, "demo/hello", "latest"), [hello])


# --- access


BASIC = base64.b64encode(b"dev:hunter2").decode()


@pytest.fixture
def credentials(tmp_path: Path) -> Callable[[RealRegistry], list[str]]:
    """The options that tell a service who it is to a registry."""

    def options(registry: RealRegistry) -> list[str]:
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"auths": {registry.host: {"auth": BASIC}}}))
        return ["--registry-credentials-file", str(file)]

    return options


def check_both_ways(registry: RealRegistry, service: Service, images: Images, first: str, *options: str) -> None:
    """What was pushed before the service started is found, what is pushed now is told."""
    eventually(lambda: history(service, "demo/hello", "latest"), [first])
    registry.kill()
    registry.tell(f"{service.url}/hooks/registry", SECRET)
    registry.start()
    index = images.push("multi", registry.host, "demo/multi:1.0", "--all", *options)
    eventually(lambda: history(service, "demo/multi", "1.0"), [index])


def test_a_registry_may_want_a_password(start_registry, start_listening, images, credentials, require, tmp_path):
    file = tmp_path / "htpasswd"
    file.write_bytes(
        subprocess.run([require("htpasswd"), "-Bbn", "dev", "hunter2"], check=True, capture_output=True).stdout
    )
    registry = start_registry({"auth": {"htpasswd": {"realm": "test", "path": str(file)}}}).start()
    hello = images.push("hello", registry.host, "demo/hello:latest", "--dest-creds", "dev:hunter2")
    service = start_listening(f"http://{registry.host}", *credentials(registry))
    check_both_ways(registry, service, images, hello, "--dest-creds", "dev:hunter2")


def test_a_registry_may_want_tokens(start_registry, start_listening, images, credentials, require, tmp_path):
    openssl = require("openssl")
    certificate, key = make_certificate(openssl, tmp_path)
    with token_server(openssl, certificate, key, "registry", f"Basic {BASIC}") as realm:
        token = {"realm": realm, "service": "registry", "issuer": "tests", "rootcertbundle": str(certificate)}
        registry = start_registry({"auth": {"token": token}}).start()
        hello = images.push("hello", registry.host, "demo/hello:latest", "--dest-creds", "dev:hunter2")
        service = start_listening(f"http://{registry.host}", *credentials(registry))
        check_both_ways(registry, service, images, hello, "--dest-creds", "dev:hunter2")


def test_a_registry_may_speak_tls(start_registry, start_listening, images, require, tmp_path):
    certificate, key = make_certificate(require("openssl"), tmp_path)
    tls = {"certificate": str(certificate), "key": str(key)}
    registry = start_registry()
    registry.configure(http={"addr": registry.host, "secret": "any", "tls": tls})
    registry.start()
    hello = images.push("hello", registry.host, "demo/hello:latest")
    service = start_listening(f"https://{registry.host}", "--registry-ca-file", str(certificate))
    check_both_ways(registry, service, images, hello)
    stranger = start_listening(f"https://{registry.host}")
    eventually(lambda: "is not trusted" in stranger.log, True)
    assert history(stranger, "demo/hello", "latest") == []


# --- failures


class Teller(threading.Thread):
    """Tells pushes as a registry does: in order, each again until it was taken."""

    def __init__(self, service: Service, events: list[dict[str, Any]]) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._events = events

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {SECRET}"}
        for event in self._events:
            body = json.dumps({"events": [event]}).encode()
            while True:
                try:
                    if self._service.request("/hooks/registry", "POST", body, headers)[0] == 202:
                        break
                except (OSError, http.client.HTTPException):
                    pass
                time.sleep(0.02)


def made_up_pushes(registry: FakeRegistry, count: int) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Pushes to three repositories, and what their tags then have pointed to, newest first."""
    events, expected = [], {f"team/app-{number}": [] for number in range(3)}
    for number in range(count):
        repository = f"team/app-{number % 3}"
        digest = registry.push(repository, number=number // 2)
        if expected[repository][:1] != [digest]:
            expected[repository].insert(0, digest)
        media_type = "application/vnd.docker.distribution.manifest.v2+json"
        target = {"mediaType": media_type, "digest": digest, "repository": repository, "tag": "latest"}
        stamp = f"2016-01-01T00:00:00.{number:09}Z"
        events.append({"id": f"event-{number}", "timestamp": stamp, "action": "push", "target": target})
    return events, expected


def test_a_service_that_is_killed_loses_no_push_and_repeats_none(start_listening):
    rng = random.Random(7)
    with fake_registry() as registry:
        events, expected = made_up_pushes(registry, 300)
        service = start_listening(registry.url)
        teller = Teller(service, events)
        teller.start()
        for _ in range(6):
            time.sleep(rng.uniform(0.05, 0.5))
            service.kill()
            service.restart()
        teller.join(60)
        assert not teller.is_alive()
        for repository, digests in expected.items():
            eventually(lambda where=repository: history(service, where, "latest"), digests, 60)
        service.stop()
        verified = subprocess.run([COMMAND, "verify", "--data-dir", service.data_dir], capture_output=True, check=False)
        assert verified.returncode == 0, verified


def test_a_registry_that_never_answers_does_not_keep_the_service_from_stopping(start_listening):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = start_listening(f"http://127.0.0.1:{silent.getsockname()[1]}")
        target = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + "a" * 64}
        push = {"id": "a", "action": "push", "target": target | {"repository": "team/app", "tag": "v1"}}
        body, headers = json.dumps({"events": [push]}).encode(), {"Authorization": f"Bearer {SECRET}"}
        assert service.request("/hooks/registry", "POST", body, headers)[0] == 202
        waiting = threading.Thread(target=lambda: service.request("/hooks/registry/sweep?wait=1", "POST", b"", headers))
        waiting.start()
        time.sleep(0.3)
        before = time.monotonic()
        assert service.stop() == (0, "")
        assert time.monotonic() - before < 8
        waiting.join(10)


def test_a_sweep_that_is_not_allowed_says_so(pair, tmp_path):
    _, service = pair
    wrong = tmp_path / "wrong"
    wrong.write_text("guess")
    done = sweep(service, wrong)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {service.url} answered 401: the webhook's secret is needed\n"


def test_a_sweep_of_a_service_that_speaks_tls_wants_its_authority(start_listening, require, secret_file, tmp_path):
    certificate, key = make_certificate(require("openssl"), tmp_path)
    with fake_registry() as registry:
        service = start_listening(registry.url, "--tls-cert-file", str(certificate), "--tls-private-key-file", str(key))
        registry.push("team/app", "v1")
        stranger = sweep(service, secret_file)
        assert stranger.returncode == 1
        assert "give its authority with --ca-file" in stranger.stderr
        done = sweep(service, secret_file, "--ca-file", certificate)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_registry_that_lets_nobody_in_is_told_by_a_sweep(start_listening, secret_file, tmp_path):
    config = tmp_path / "config.json"
    config.write_text("{}")
    with fake_registry() as registry:
        registry.require_basic("Basic nobody")
        service = start_listening(registry.url, "--registry-credentials-file", str(config))
        assert f"{registry.host} denies access without credentials" in sweep(service, secret_file).stderr
        config.write_text(json.dumps({"auths": {registry.host: {"auth": BASIC}}}))
        assert "denies access with the credentials that are known for it" in sweep(service, secret_file).stderr


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ("--registry-url", "pushes are found by sweeps alone: without --registry-webhook-secret-file"),
        ("--registry-webhook-secret-file", "are kept and wait: --registry-url does not say"),
    ],
)
def test_half_of_what_pushes_need_is_warned_of(start_service, secret_file, given, warning):
    value = "http://127.0.0.1:9" if given == "--registry-url" else str(secret_file)
    assert warning in start_service(given, value).log
    assert warning not in start_service().log


def test_a_sweep_of_a_service_that_is_not_there_says_so(pair, secret_file):
    _, service = pair
    service.kill()
    done = sweep(service, secret_file)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {service.url} cannot be reached: ")

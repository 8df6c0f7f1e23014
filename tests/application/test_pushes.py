"""Notifications that are posted become history: once each, in order, and only for those who know the secret."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_registry import FakeRegistry, Page, fake_registry, problem
from flask.testing import FlaskClient

from api import create_app
from imagestream_es.application import pushes as pushes_module
from imagestream_es.application import sweep as sweep_module
from imagestream_es.registry import fetch as fetch_module
from imagestream_es.settings import Duration, Settings, SettingsError

DATA = Path(__file__).parents[1] / "data" / "registry"
SECRET = "s3cret"
PUBLIC = "registry.example.test:5000"
SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
GROUP = "/apis/image.openshift.io/v1"


class Listener:
    """The application beside a registry, in this process."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        self.services = self.app.extensions["imagestream"]
        self.client: FlaskClient = self.app.test_client()
        self.told = 0

    def post(self, body: bytes, authorization: str | None = f"Bearer {SECRET}", path: str = "/hooks/registry"):
        headers = {"Content-Type": "application/vnd.docker.distribution.events.v1+json"}
        if authorization is not None:
            headers["Authorization"] = authorization
        return self.client.post(path, data=body, headers=headers)

    def tell(self, digest: str, place: str = "team/app:v1", second: int = 0, **more: Any):
        """Post a push; `second` is the registry's time."""
        repository, _, tag = place.partition(":")
        self.told += 1
        target = {"mediaType": SCHEMA2, "digest": digest, "repository": repository, "tag": tag}
        stamp = f"2016-01-01T00:{second // 60:02}:{second % 60:02}Z"
        event = {"id": f"event-{self.told}", "timestamp": stamp, "action": "push", "target": target, **more}
        answer = self.post(json.dumps({"events": [event]}).encode())
        assert answer.status_code == 202
        return answer.json

    def counts(self) -> dict[str, int]:
        return {key: value for key, value in self.services.tally.counts().items() if value}

    def await_counts(self, **wanted: int) -> None:
        """Wait until these outcomes were counted."""
        eventually(lambda: {key: self.counts().get(key, 0) for key in wanted}, wanted)

    def stream(self, place: str = "team/app") -> Any:
        namespace, _, name = place.partition("/")
        answer = self.client.get(f"{GROUP}/namespaces/{namespace}/imagestreams/{name}")
        return answer.json if answer.status_code == 200 else None

    def history(self, place: str = "team/app:v1") -> list[str]:
        where, _, tag = place.partition(":")
        stream = self.stream(where) or {"status": {}}
        items = {each["tag"]: each["items"] for each in stream["status"].get("tags") or []}
        return [item["image"] for item in items.get(tag, ())]

    def close(self) -> None:
        self.services.close()


def eventually(ask: Callable[[], Any], wanted: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while (found := ask()) != wanted:
        assert time.monotonic() < end, f"{found!r} is not {wanted!r}"
        time.sleep(0.005)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as one:
        yield one


@pytest.fixture
def listen(tmp_path: Path, registry: FakeRegistry, monkeypatch) -> Iterator[Callable[..., Listener]]:
    """`listen()` starts the application; again after a `close`, over the same log."""
    monkeypatch.setattr(pushes_module, "SHORTEST_PAUSE", 0.01)
    monkeypatch.setattr(sweep_module, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(sweep_module, "CLOCK_STEP", 0.0)  # the pushes in these tests are of long ago
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    started: list[Listener] = []

    def start(**changes: Any) -> Listener:
        settings = {
            "data_dir": tmp_path / "data",
            "internal_registry": PUBLIC,
            "registry_url": registry.url,
            "registry_webhook_secret_file": secret,
            "registry_sweep_interval": Duration(3600),
            "registry_sweep_grace": Duration(0),
            "import_controller": "off",
            **changes,
        }
        started.append(Listener(Settings(**settings)))
        return started[-1]

    yield start
    for one in started:
        one.close()


# --- who may come in


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {SECRET}",
        f"bearer {SECRET}",
        "Basic " + base64.b64encode(f"anybody:{SECRET}".encode()).decode(),
        "Basic " + base64.b64encode(f":{SECRET}".encode()).decode(),
    ],
)
def test_who_knows_the_secret_is_let_in(listen, authorization):
    assert listen().post(b'{"events": []}', authorization).status_code == 202


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET}\xff",
        f"Digest {SECRET}",
        SECRET,
        f"Basic {SECRET}",
        "Basic " + base64.b64encode(f"{SECRET}:".encode()).decode(),
        "Basic " + base64.b64encode(SECRET.encode()).decode(),
    ],
)
@pytest.mark.parametrize("path", ["/hooks/registry", "/hooks/registry/sweep"])
def test_nobody_else_is_let_in(listen, authorization, path):
    listener = listen()
    answer = listener.post(b'{"events": [1]}', authorization, path)
    assert (answer.status_code, answer.json["reason"]) == (401, "Unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert listener.counts() == {}


def test_without_a_secret_nobody_is_let_in(listen):
    answer = listen(registry_webhook_secret_file=None).post(b"{}", "Bearer ")
    assert answer.status_code == 401
    assert "started without --registry-webhook-secret-file" in answer.json["message"]


def test_only_posts_are_understood(listen):
    assert listen().client.get("/hooks/registry").status_code == 405


# --- from notification to history


def lay_down(registry: FakeRegistry) -> dict[str, dict[str, Any]]:
    """Put the images of the captured pushes into the registry; answers, by name, how they are shown afterwards."""
    shown = {}
    for case in json.loads((DATA / "images" / "cases.json").read_text()):
        folder = DATA / "images" / case["case"]
        for part in (folder, *sorted(folder.glob("sub-*"))):
            image = json.loads((part / "image.pushed.json").read_text())
            media_type = image["dockerImageManifestMediaType"]
            registry.put_manifest(case["repository"], (part / "manifest.json").read_bytes(), media_type)
            if (part / "config.json").exists():
                registry.put_blob(case["repository"], (part / "config.json").read_bytes())
            shown[image["metadata"]["name"]] = image
    for case, repository in (("artifact-ignored", "hello"), ("index-without-platform", "attested")):
        manifest = (DATA / "images" / case / "manifest.json").read_bytes()
        media_type = json.loads(manifest).get("mediaType", "application/vnd.oci.image.manifest.v1+json")
        registry.put_manifest(f"golden/{repository}", manifest, media_type)
    return shown


def comparable(image: dict[str, Any]) -> dict[str, Any]:
    """An image without what differs each time, or between versions of the API."""
    metadata = {key: image["metadata"].get(key) for key in ("name", "annotations")}
    image = {key: value for key, value in image.items() if value not in (None, "", []) and key != "apiVersion"}
    docker = {key: value for key, value in image["dockerImageMetadata"].items() if key != "apiVersion"}
    if "dockerImageManifests" in image:
        docker.pop("Created", None)
    return image | {"metadata": metadata, "dockerImageMetadata": docker}


def test_captured_pushes_make_the_images_that_openshift_makes(listen, registry):
    expected, listener = lay_down(registry), listen()
    for file in sorted((DATA / "notifications").glob("push-*.json")):
        assert listener.post(file.read_bytes()).status_code == 202
    # One of demo/hello, which this registry does not have, but whose image is known from golden/hello or gone.
    outcomes = ("mapped", "gone", "artifact", "invalid manifest")
    eventually(lambda: sum(listener.counts().get(key, 0) for key in outcomes), 11)
    counts = listener.counts()
    assert (counts["artifact"], counts["invalid manifest"]) == (1, 1)
    assert (counts["no manifest"], counts["untagged"]) == (1, 1)
    for name, image in expected.items():
        shown = listener.client.get(f"{GROUP}/images/{name}").json
        assert comparable(shown) == comparable(image)
    for case in json.loads((DATA / "images" / "cases.json").read_text()):
        place = f"{case['repository']}:{case['reference']}"
        assert listener.history(place) == [case["digest"]]
    assert listener.history("golden/hello:sha256-sig") == []
    assert listener.history("golden/attested:noplat") == []


def test_every_captured_notification_is_taken(listen):
    listener = listen(registry_url=None)
    for file in sorted((DATA / "notifications").iterdir()):
        for body in file.read_bytes().splitlines() if file.suffix == ".jsonl" else [file.read_bytes()]:
            assert listener.post(body).status_code == 202


def test_the_first_push_makes_the_stream(listen, registry):
    digest, listener = registry.push("team/app"), listen()
    assert listener.tell(digest) == {"stored": 1, "known": 0}
    listener.await_counts(mapped=1)
    stream = listener.stream()
    assert stream["spec"].get("tags") in (None, [])
    (tag,) = stream["status"]["tags"]
    (item,) = tag["items"]
    assert item["dockerImageReference"] == f"{PUBLIC}/team/app@{digest}"


def test_moves_come_in_the_order_in_which_they_were_told(listen, registry):
    digests, listener = [registry.push("team/app", number=str(n)) for n in range(5)], listen()
    for second, digest in enumerate([*digests, *digests]):
        listener.tell(digest, second=second)
    listener.await_counts(mapped=10)
    assert listener.history() == [*digests, *digests][::-1]


def test_the_same_push_again_is_no_change(listen, registry):
    digest, listener = registry.push("team/app"), listen()
    listener.tell(digest, second=1)
    listener.tell(digest, second=2)
    listener.await_counts(mapped=1, unchanged=1)
    assert listener.history() == [digest]


def test_an_id_that_comes_again_changes_nothing(listen, registry):
    first, second = registry.push("team/app", n="1"), registry.push("team/app", n="2")
    listener = listen()
    listener.tell(first, second=1, id="same")
    listener.tell(second, second=2)
    listener.await_counts(mapped=2)
    assert listener.tell(first, second=3, id="same") == {"stored": 0, "known": 1}
    listener.close()
    listener = listen()
    assert listener.tell(first, second=3, id="same") == {"stored": 0, "known": 1}
    assert listener.history() == [second, first]


def test_a_late_push_is_not_put_on_top(listen, registry):
    old, new = registry.push("team/app", n="1"), registry.push("team/app", n="2")
    listener = listen()
    listener.tell(new, second=2)
    listener.await_counts(mapped=1)
    listener.tell(old, second=1)
    listener.tell(old, "team/app:other", second=1)
    listener.await_counts(mapped=2, late=1)
    assert listener.history() == [new]
    assert listener.history("team/app:other") == [old]


def test_a_manifest_that_is_gone_is_passed_over(listen, registry):
    digest, listener = registry.push("team/app"), listen()
    listener.tell("sha256:" + "0" * 64)
    listener.tell(digest, second=1)
    listener.await_counts(gone=1, mapped=1)
    assert listener.history() == [digest]


def test_nothing_is_asked_of_the_registry_while_it_tells(listen, registry):
    digest = registry.push("team/app")
    asked = []
    registry.pages[f"/v2/team/app/manifests/{digest}"] = lambda handler: asked.append(handler.path) or problem(404, "X")
    listener = listen(registry_url=None)
    assert listener.tell(digest) == {"stored": 1, "known": 0}
    assert asked == []


def test_an_event_names_who_told_it_and_under_which_id(listen, registry):
    digest, listener = registry.push("team/app"), listen()
    listener.tell(digest, id="the-id", actor={"name": "dev"})
    listener.await_counts(mapped=1)
    listener.tell(digest, "team/app:v2", id="other-id")
    listener.await_counts(mapped=2)
    log = listener.services.queries._store
    with log.reading() as rows:
        events = [json.loads(stored.state)["by"] for _, stored in rows.log(1, rows.head())]
    names = listener.services.principals.names(event["actor"] for event in events)
    assert [(event["door"], event["request"], names[event["actor"]]) for event in events] == [
        *[("webhook", "the-id", "dev")] * 3,  # stream, image, entry
        ("webhook", "other-id", "system:registry"),
    ]


def test_what_waits_names_nobody(listen, registry):
    """Neither the person nor the machine that pushed; and a notification cannot say who it is in the log."""
    listener = listen(registry_url=None)
    digest = registry.push("team/app")
    listener.tell(digest, actor={"name": "dev"}, request={"addr": "192.0.2.7"}, principal="system:root")
    with listener.services.queries._store.reading() as rows:
        (body,) = rows.one("SELECT body FROM pushes")
    assert b"dev" not in body
    assert b"192.0.2.7" not in body
    (principal,) = listener.services.principals.ids("dev")
    assert json.loads(body)["principal"] == principal


# --- what can go wrong


def test_pushes_wait_while_the_registry_does_not_answer(listen, registry):
    first, second = registry.push("team/app", n="1"), registry.push("team/app", n="2")
    other, page = registry.push("team/other"), registry.pages[f"/v2/team/app/manifests/{first}"]
    tries = []
    registry.pages[f"/v2/team/app/manifests/{first}"] = lambda _: tries.append(1)  # hangs up
    listener = listen()
    listener.tell(first, second=1)
    listener.tell(second, second=2)
    listener.tell(other, "team/other:v1")
    listener.await_counts(mapped=1)  # another repository does not wait
    assert listener.history("team/other:v1") == [other]
    eventually(lambda: len(tries) >= 3, True)
    assert listener.history() == []
    registry.pages[f"/v2/team/app/manifests/{first}"] = page
    listener.await_counts(mapped=3)
    assert listener.history() == [second, first]


def test_what_waits_at_a_stop_is_worked_off_after_the_next_start(listen, registry):
    digest = registry.push("team/app")
    listener = listen(registry_url=None)
    listener.tell(digest)
    listener.close()
    listener = listen()
    listener.await_counts(mapped=1)
    assert listener.history() == [digest]


def test_a_manifest_with_another_digest_is_given_up(listen, registry):
    digest = registry.push("team/app")
    registry.pages[f"/v2/team/app/manifests/{digest}"] = Page(body=b"{}", headers={"Content-Type": SCHEMA2})
    listener = listen()
    listener.tell(digest)
    listener.await_counts(unreadable=1)
    assert listener.stream() is None


def test_an_image_that_is_too_much_to_download_is_given_up(listen, registry, monkeypatch):
    monkeypatch.setattr(pushes_module, "IMAGE_BYTES", 1000)
    big, small = registry.push("team/app", fill="x" * 1000), registry.push("team/app")
    listener = listen()
    listener.tell(big, second=1)
    listener.tell(small, second=2)
    listener.await_counts(unreadable=1, mapped=1)
    assert listener.history() == [small]


def test_a_list_of_too_many_images_is_given_up(listen, registry, monkeypatch):
    monkeypatch.setattr(fetch_module, "MOST_PARTS", 2)
    parts = {(f"cpu-{number}", "linux"): registry.push("team/app", number=number) for number in range(3)}
    digest = registry.push_list("team/app", "many", parts)
    listener = listen()
    listener.await_counts(**{"invalid manifest": 1})
    assert listener.history("team/app:many") == []
    assert [path for path in registry.paths if path.endswith(digest)]
    assert not [path for path in registry.paths if path.endswith(tuple(parts.values()))]


def test_a_body_that_is_too_long_is_not_asked_for_again(listen):
    listener = listen()
    assert listener.post(b" " * (3 * 1024 * 1024 + 1)).status_code == 202
    assert listener.counts() == {"too long": 1}


def test_an_image_that_is_known_is_not_fetched_again(listen, registry):
    digest, listener = registry.push("team/app"), listen()
    listener.tell(digest, second=1)
    listener.await_counts(mapped=1)
    asked = len(registry.requests)
    listener.tell(digest, "team/app:stable", second=2)
    listener.await_counts(mapped=2)
    assert not [path for path in registry.paths[asked:] if "manifests" in path]


# --- sweeps


def swept(listener: Listener) -> dict[str, int]:
    answer = listener.post(b"", path="/hooks/registry/sweep?wait=1")
    assert answer.status_code == 200, answer.json
    return answer.json


def test_a_sweep_finds_what_was_not_told(listen, registry):
    listener = listen()
    swept(listener)
    digest = registry.push("team/app", "v1", "v2")
    registry.push("not-mappable", "v1")
    assert swept(listener) == {"repositories": 1, "tags": 2, "repaired": 2, "failed": 0}
    assert listener.history("team/app:v1") == listener.history("team/app:v2") == [digest]
    assert swept(listener) == {"repositories": 1, "tags": 2, "repaired": 0, "failed": 0}


def test_a_sweep_leaves_alone_what_the_registry_does_not_have(listen, registry):
    old, listener = registry.push("team/app", n="1"), listen()
    listener.tell(old, "team/app:gone", second=1)
    listener.await_counts(mapped=1)
    assert swept(listener)["repaired"] == 0
    assert listener.history("team/app:gone") == [old]


def test_a_sweep_leaves_alone_what_was_changed_through_the_api(listen, registry):
    digest, listener = registry.push("team/app", "v1"), listen()
    listener.await_counts(mapped=1)
    assert listener.history() == [digest]
    assert listener.client.delete(f"{GROUP}/namespaces/team/imagestreams/app").status_code == 200
    assert swept(listener)["repaired"] == 0
    assert listener.stream() is None
    again = registry.push("team/app", "v1", n="2")
    assert swept(listener)["repaired"] == 1
    listener.await_counts(mapped=2)
    assert listener.history() == [again]


def test_an_artifact_is_looked_at_once(listen, registry):
    manifest = (DATA / "images" / "artifact-ignored" / "manifest.json").read_bytes()
    registry.put_manifest("team/app", manifest, "application/vnd.oci.image.manifest.v1+json", "sig")
    listener = listen()
    listener.await_counts(artifact=1)
    assert swept(listener) == {"repositories": 1, "tags": 1, "repaired": 0, "failed": 0}


def test_a_new_registry_process_starts_a_sweep(listen, registry):
    listener = listen()
    swept(listener)
    digest = registry.push("team/app", "v1")
    listener.tell(digest, "team/app:other", source={"instanceID": "a"}, action="pull")
    listener.await_counts(mapped=1)
    assert listener.history() == [digest]


def test_a_sweep_without_a_registry_is_refused(listen):
    answer = listen(registry_url=None).post(b"", path="/hooks/registry/sweep")
    assert (answer.status_code, answer.json["message"]) == (
        503,
        "nothing was swept: no registry is configured (--registry-url)",
    )


def test_a_registry_that_is_down_at_the_start_is_swept_when_it_is_up(listen, registry):
    registry.push("team/app", "v1")
    page = registry.pages["/v2/_catalog"]
    registry.pages["/v2/_catalog"] = lambda _: None  # hangs up
    listener = listen(registry_sweep_interval=Duration(3600))
    time.sleep(0.1)
    registry.pages["/v2/_catalog"] = page
    listener.await_counts(mapped=1)


def test_pushes_become_history_in_postgresql_too(listen, registry, postgres_url):
    digests, listener = [registry.push("team/app", number=str(n)) for n in range(3)], listen(database_url=postgres_url)
    for second, digest in enumerate(digests):
        listener.tell(digest, second=second)
    listener.tell(digests[0], second=0)
    listener.await_counts(mapped=3, late=1)
    assert listener.history() == digests[::-1]


# --- files that the settings name


@pytest.mark.parametrize(
    ("setting", "content", "problem"),
    [
        ("registry_webhook_secret_file", None, "cannot read .*: No such file or directory"),
        ("registry_webhook_secret_file", b"\n", "is empty"),
        ("registry_ca_file", None, "cannot read .*: No such file or directory"),
        ("registry_ca_file", b"no certificate", "holds no certificate"),
        ("registry_credentials_file", None, "cannot read .*: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_at_the_start(tmp_path, setting, content, problem):
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^--{setting.replace('_', '-')} .*{problem}"):
        create_app(Settings(data_dir=tmp_path / "data", registry_url="http://127.0.0.1:9", **{setting: file}))

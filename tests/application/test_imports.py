"""ImageStreamImport over a running writer and a registry of the test's own: what is fetched, stored and told."""

from __future__ import annotations

import base64
import dataclasses
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_registry import FakeRegistry, Handler, Page, fake_registry, moved, problem

from imagestream_es.application import fetching as fetching_module
from imagestream_es.application import imports as imports_module
from imagestream_es.application.commands import Caller, Expected, TagWrite
from imagestream_es.application.fetching import Failure, ImageImport, Policy, RepositoryImport
from imagestream_es.application.imports import ImportRequest, ImportResult, TooManyImports
from imagestream_es.bootstrap import Services, build
from imagestream_es.domain.errors import Conflict, NotFound
from imagestream_es.domain.events import Origin
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.domain.tags import ObjectReference, TagReference
from imagestream_es.registry.addresses import Addresses
from imagestream_es.registry.transport import Transport
from imagestream_es.settings import Settings

GOLDEN = Path(__file__).parent.parent / "data" / "registry" / "images"
NOW = 1_700_000_000_000
CALLER = Caller(by=Origin(at=NOW - 60_000, actor="system:test", door="test"))
INSECURE = Policy(insecure=True)
WHOLE = Policy(insecure=True, import_mode="PreserveOriginal")
ANYTHING = Expected()


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as one:
        yield one


class Bench:
    """A service over an empty log, and what went into that log."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.services: Services = build(
            Settings(
                data_dir=directory / "data",
                import_allow=("127.0.0.1",),
                pull_secrets=directory / "secrets",
                import_controller="off",
                **settings,
            ),
            lambda: NOW,
        )

    def add_secret(self, host: str, user: str, password: str) -> None:
        entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
        (self.directory / "secrets" / "shop").mkdir(parents=True, exist_ok=True)
        (self.directory / "secrets" / "shop" / "pull.json").write_text(json.dumps({"auths": {host: entry}}))

    def run(self, *images: ImageImport, expected: Expected = ANYTHING, dry: bool = False, **more: Any) -> ImportResult:
        request = ImportRequest(images, **more)
        return self.services.imports.run(CALLER, "shop", "web", request, expected, dry=dry)

    def repository(self, source: str, policy: Policy = INSECURE, **more: Any) -> Any:
        return self.run(repository=RepositoryImport(source, policy), **more).repository

    def create(self, *tags: TagReference) -> Any:
        return self.services.commands.create_image_stream(CALLER, "shop", "web", DesiredStream(tags=tags)).stream

    def image(self, name: str) -> Image | None:
        return self.services.queries.image(name)

    @property
    def shown(self) -> dict[str, list[str]]:
        """The images in the histories of the stream, newest first."""
        view = self.services.queries.image_stream("shop", "web")
        return {} if view is None else {tag: [item.image for item in items] for tag, items in view.items.items()}

    @property
    def topics(self) -> list[str]:
        """The events of the log, without the first."""
        with sqlite3.connect(self.directory / "data" / "imagestream.db") as database:
            return [topic for (topic,) in database.execute("SELECT topic FROM stored_events ORDER BY rowid")][1:]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def start(**settings: Any) -> Bench:
        benches.append(Bench(tmp_path, **settings))
        return benches[-1]

    yield start
    for bench in benches:
        bench.services.close()


@pytest.fixture
def bench(start: Callable[..., Bench]) -> Bench:
    return start()


def plain(image: Image | None) -> dict[str, Any]:
    """The stored document of an image."""
    assert image is not None
    return {key: msgspec.json.decode(value) for key, value in image.document.items()}


def failures(result: ImportResult) -> list[Failure | None]:
    return [image.failure for image in result.images]


# --- golden images


def lay_down(registry: FakeRegistry, case: dict[str, Any]) -> None:
    """Put a recorded image with its parts into the registry."""
    repository = case["repository"]
    places = [(case["digest"], case["contentType"], GOLDEN / case["case"], [case["reference"]])]
    places += [(sub["digest"], sub["contentType"], GOLDEN / case["case"] / sub["dir"], []) for sub in case["subs"]]
    for digest, media_type, directory, tags in places:
        assert (
            registry.put_manifest(repository, (directory / "manifest.json").read_bytes(), media_type, *tags) == digest
        )
        if (directory / "config.json").exists():
            registry.put_blob(repository, (directory / "config.json").read_bytes())


def expected_image(file: Path, host: str) -> dict[str, Any]:
    text = file.read_text().replace("registry.example.test:5000", host)
    document = json.loads(text.replace("<time of import>", "2023-11-14T22:13:20Z"))
    document["metadata"].pop("name")
    return {key: value for key, value in document.items() if value and key not in ("kind", "apiVersion")}


CASES = json.loads((GOLDEN / "cases.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_a_recorded_image_is_imported_as_openshift_does(bench, registry, case):
    lay_down(registry, case)
    source = f"{registry.host}/{case['repository']}:{case['reference']}"
    result = bench.run(ImageImport(source, "latest", WHOLE))
    assert failures(result) == [None]
    directory = GOLDEN / case["case"]
    assert plain(bench.image(case["digest"])) == expected_image(directory / "image.imported.json", registry.host)
    for sub in case["subs"]:
        wanted = expected_image(directory / sub["dir"] / "image.imported.json", registry.host)
        assert plain(bench.image(sub["digest"])) == wanted
    assert bench.shown == {"latest": [case["digest"]]}
    assert [part["metadata"]["name"] for part in result.images[0].parts] == [sub["digest"] for sub in case["subs"]]


@pytest.mark.parametrize("case", [case for case in CASES if case["subs"]], ids=lambda case: case["case"])
def test_of_a_recorded_index_one_part_is_imported_by_default(bench, registry, case):
    lay_down(registry, case)
    bench.run(ImageImport(f"{registry.host}/{case['repository']}:{case['reference']}", "latest", INSECURE))
    chosen = case["subs"][0]["digest"]
    assert bench.shown == {"latest": [chosen]}
    assert bench.image(chosen) is not None
    assert bench.image(case["digest"]) is None
    assert bench.topics == ["image.registered", "imagestream.created"]


def test_an_index_that_does_not_say_what_it_is_is_what_the_registry_says(bench, registry):
    lay_down(registry, next(case for case in CASES if case["case"] == "oci-index-attested"))
    manifest = (GOLDEN / "index-without-mediatype" / "manifest.json").read_bytes()
    index = registry.put_manifest("golden/attested", manifest, "application/vnd.oci.image.index.v1+json", "bare")
    assert failures(bench.run(ImageImport(f"{registry.host}/golden/attested:bare", "latest", WHOLE))) == [None]
    assert bench.shown == {"latest": [index]}


def test_an_index_that_does_not_say_for_what_platforms_it_is_fails(bench, registry):
    lay_down(registry, next(case for case in CASES if case["case"] == "oci-index-attested"))
    manifest = (GOLDEN / "index-without-platform" / "manifest.json").read_bytes()
    registry.put_manifest("golden/attested", manifest, "application/vnd.oci.image.index.v1+json", "bare")
    (failure,) = failures(bench.run(ImageImport(f"{registry.host}/golden/attested:bare", "latest", WHOLE)))
    assert failure is not None
    assert (failure.code, failure.reason) == (500, "InternalError")
    assert "dockerImageManifests[0].architecture" in failure.message


# --- what is stored


def test_all_that_an_import_does_to_a_stream_is_one_event(bench, registry):
    bench.create()
    one, two = registry.push("team/app", "v1", n=1), registry.push("team/app", "v2", n=2)
    images = [ImageImport(f"{registry.host}/team/app:{tag}", tag, INSECURE) for tag in ("v1", "v2", "nope")]
    result = bench.run(*images)
    assert bench.topics == [
        "imagestream.created",
        "image.registered",
        "image.registered",
        "imagestream.images-imported",
    ]
    assert bench.shown == {"v1": [one], "v2": [two]}
    assert result.stream is not None
    assert result.stream.stream.position == bench.services.queries.position()
    assert set(result.stored) == {one, two}


def test_an_import_that_changes_nothing_stores_nothing(bench, registry):
    registry.push("team/app", "v1")
    image = ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE)
    first = bench.run(image)
    position = bench.services.queries.position()
    second = bench.run(image)
    assert bench.services.queries.position() == position
    assert first.stream is not None
    assert second.stream is not None
    assert second.stream.stream.position == first.stream.stream.position


def test_an_event_has_the_time_at_which_the_image_was_there(bench, registry):
    registry.push("team/app", "v1")
    result = bench.run(ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE))
    assert result.stream is not None
    assert result.stream.items["latest"][0].created == NOW // 1000


@pytest.mark.parametrize("store", [True, False])
def test_only_looking_and_rehearsing_store_nothing(bench, registry, store):
    digest = registry.push("team/app", "v1")
    result = bench.run(ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE), store=store, dry=True)
    assert result.images[0].image["metadata"]["name"] == digest
    assert (result.stream is not None) is store
    assert bench.topics == []
    assert bench.image(digest) is None


def test_an_image_without_a_tag_to_go_to_is_not_stored(bench, registry):
    digest = registry.push("team/app", "v1")
    result = bench.run(ImageImport(f"{registry.host}/team/app@{digest}", "", INSECURE))
    assert result.images[0].image["metadata"]["name"] == digest
    assert bench.image(digest) is None
    assert bench.shown == {}


def test_an_image_that_is_known_stays_as_it_is(bench, registry):
    digest = registry.push("team/app", "v1")
    bench.services.commands.create_image(CALLER, digest, {"dockerImageReference": msgspec.Raw(b'"r.test/a"')})
    result = bench.run(ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE))
    assert plain(bench.image(digest)) == {"dockerImageReference": "r.test/a"}
    assert plain(result.stored[digest]) == {"dockerImageReference": "r.test/a"}
    assert bench.shown == {"latest": [digest]}


def test_manifest_and_config_are_fetched_but_not_stored(bench, registry):
    digest = registry.push("team/app", "v1")
    result = bench.run(ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE))
    assert json.loads(result.images[0].image["dockerImageManifest"])["schemaVersion"] == 2
    assert json.loads(result.images[0].image["dockerImageConfig"])["os"] == "linux"
    assert not {"dockerImageManifest", "dockerImageConfig"} & plain(bench.image(digest)).keys()


def test_a_list_is_stored_only_with_all_its_parts(bench, registry):
    one = registry.push("team/app", n=1)
    index = registry.push_list("team/app", "multi", {("amd64", "linux"): one, ("arm64", "linux"): "sha256:" + "0" * 64})
    (failure,) = failures(bench.run(ImageImport(f"{registry.host}/team/app:multi", "latest", WHOLE)))
    assert failure is not None
    assert failure.reason == "NotFound"
    assert bench.image(one) is None
    assert bench.image(index) is None


# --- images for several platforms


@pytest.fixture
def parts(registry) -> dict[str, str]:
    """The parts of the image `multi`, by platform."""
    names = [("arm64", "linux"), ("amd64", "windows"), ("amd64", "linux"), ("arm64", "windows")]
    found = {name: registry.push("team/app", platform=name) for name in names}
    registry.push_list("team/app", "multi", found)
    rare = {("s390x", "linux"): found["arm64", "linux"], ("arm64", "windows"): found["arm64", "windows"]}
    registry.push_list("team/app", "rare", rare)
    return {"/".join(name): digest for name, digest in found.items()}


@pytest.mark.parametrize(
    ("annotations", "chosen"),
    [
        ({}, "amd64/linux"),
        ({"importer.image.openshift.io/prefer-arch": "arm64"}, "arm64/linux"),
        ({"importer.image.openshift.io/prefer-os": "windows"}, "amd64/windows"),
        (
            {"importer.image.openshift.io/prefer-arch": "arm64", "importer.image.openshift.io/prefer-os": "windows"},
            "arm64/windows",
        ),
        ({"importer.image.openshift.io/prefer-arch": "vax"}, "amd64/linux"),
    ],
)
def test_annotations_of_the_spec_tag_choose_a_platform(bench, registry, parts, annotations, chosen):
    source = f"{registry.host}/team/app:multi"
    bench.create(TagReference(name="latest", source=ObjectReference("DockerImage", source), annotations=annotations))
    bench.run(ImageImport(source, "latest", INSECURE))
    assert bench.shown == {"latest": [parts[chosen]]}


def test_where_no_platform_is_known_the_first_is_taken(bench, registry, parts):
    bench.run(ImageImport(f"{registry.host}/team/app:rare", "latest", INSECURE))
    assert bench.shown == {"latest": [parts["arm64/linux"]]}


@pytest.mark.parametrize("entries", [[], [{"digest": "latest", "platform": {"architecture": "amd64", "os": "linux"}}]])
def test_a_list_without_a_usable_part_fails(bench, registry, entries):
    registry.push("team/app", "latest")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    registry.put_manifest("team/app", json.dumps(manifest).encode(), manifest["mediaType"], "odd")
    (failure,) = failures(bench.run(ImageImport(f"{registry.host}/team/app:odd", "x", INSECURE)))
    assert failure is not None
    assert failure.reason == "InternalError"


# --- failures are results


def test_an_image_that_is_not_there_is_not_found(bench, registry):
    (failure,) = failures(bench.run(ImageImport(f"{registry.host}/team/app", "latest", INSECURE)))
    message = f'dockerimage.image.openshift.io "{registry.host}/team/app:latest" not found'
    assert failure == Failure(404, "NotFound", message)


@pytest.mark.parametrize(
    ("page", "code", "reason", "text"),
    [
        (problem(401, "UNAUTHORIZED"), 401, "Unauthorized", 'you may not have access to the container image "{ref}"'),
        (problem(403, "DENIED"), 401, "Unauthorized", 'you may not have access to the container image "{ref}"'),
        (problem(500, "UNKNOWN"), 500, "InternalError", "Internal error occurred: {ref}: {host} answered 500"),
        (moved("http://127.0.0.2/"), 403, "Forbidden", "forbidden: registry 127.0.0.2 blocked"),
        (Page(body=b"nonsense"), 500, "InternalError", "Internal error occurred: {ref}: the manifest cannot be read"),
        (Page(body=b"{}"), 500, "InternalError", "Internal error occurred: {ref}: unsupported manifest type"),
        (
            Page(body=b"{}", headers={"Docker-Content-Digest": "sha256:" + "0" * 64}),
            500,
            "InternalError",
            "Internal error occurred: {ref}: content integrity error: ",
        ),
    ],
)
def test_what_goes_wrong_is_told_in_the_words_of_openshift(bench, registry, monkeypatch, page, code, reason, text):
    monkeypatch.setattr("imagestream_es.registry.client._PAUSES", (0.0, 0.0))
    registry.pages["/v2/team/app/manifests/v1"] = page
    reference = f"{registry.host}/team/app:v1"
    result = bench.run(ImageImport(reference, "latest", INSECURE))
    (failure,) = failures(result)
    assert failure is not None
    assert (failure.code, failure.reason) == (code, reason)
    assert failure.message.startswith(text.format(ref=reference, host=registry.host))
    assert result.stream is not None
    (condition,) = result.stream.stream.tag("latest").conditions
    assert (condition.reason, condition.message) == (reason, failure.message)


def test_plain_http_needs_the_insecure_flag(bench, registry):
    registry.push("team/app", "v1")
    (failure,) = failures(bench.run(ImageImport(f"{registry.host}/team/app:v1", "latest", Policy())))
    message = f"the repository {registry.host}/team/app is HTTP only and requires the insecure flag to import"
    assert failure == Failure(400, "BadRequest", message)


def test_what_is_no_registry_is_told(bench, registry):
    registry.pages["/v2/"] = Page(404)
    result = bench.repository(f"{registry.host}/team/app")
    message = f'registry "{registry.host}" does not support the v2 Registry API'
    assert result.failure == Failure(404, "NotV2Registry", message)


@pytest.mark.parametrize("host", ["127.0.0.2", "169.254.169.254", "10.0.0.1:5000"])
def test_a_host_with_a_private_address_is_blocked(bench, host):
    (failure,) = failures(bench.run(ImageImport(f"{host}/team/app:v1", "latest", INSECURE)))
    assert failure == Failure(403, "Forbidden", f"forbidden: registry {host.partition(':')[0]} blocked")


@pytest.mark.parametrize(
    ("source", "problem"), [("*", "invalid reference format"), ("quay.io", "at least one component")]
)
def test_a_name_that_is_none_is_invalid(bench, source, problem):
    (failure,) = failures(bench.run(ImageImport(source, "latest", INSECURE)))
    assert failure is not None
    assert (failure.code, failure.reason) == (422, "Invalid")
    assert failure.message.startswith(f'from.name: Invalid value: "{source}": invalid name: ')
    assert problem in failure.message


def test_one_failure_does_not_stop_the_others(bench, registry):
    digest = registry.push("team/app", "v1")
    sources = ["127.0.0.1:1/a", f"{registry.host}/team/app:v1", "*", f"{registry.host}/team/app:nope"]
    result = bench.run(*(ImageImport(source, f"t{n}", INSECURE) for n, source in enumerate(sources)))
    assert [failure and failure.reason for failure in failures(result)] == [
        "InternalError",
        None,
        "Invalid",
        "NotFound",
    ]
    assert bench.shown == {"t1": [digest]}


def test_images_of_the_hub_are_asked_for_where_the_hub_answers(bench):
    asked = []

    def look_up(host: str, port: int, **_: Any) -> Any:
        asked.append((host, port))
        raise socket.gaierror

    bench.services = dataclasses.replace(
        bench.services, imports=dataclasses.replace(bench.services.imports, transport=Transport(Addresses((), look_up)))
    )
    (failure,) = failures(bench.run(ImageImport("app", "latest")))
    assert asked == [("registry-1.docker.io", 443)]
    assert failure is not None
    assert failure.message.startswith("Internal error occurred: docker.io/library/app:latest: ")


# --- credentials


def test_credentials_of_the_namespace_are_used(bench, registry):
    bench.add_secret(registry.host, "dev", "hunter2")
    registry.require_basic("Basic " + base64.b64encode(b"dev:hunter2").decode())
    digest = registry.push("team/app", "v1")
    assert failures(bench.run(ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE))) == [None]
    assert bench.shown == {"latest": [digest]}


def test_without_success_as_a_user_it_is_tried_as_nobody(bench, registry):
    """A password that is wrong must not keep public images away."""
    bench.add_secret(registry.host, "dev", "wrong")
    registry.push("team/app", "v1")

    def guard(handler: Handler) -> Page | None:
        if handler.path == "/v2/":
            return problem(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="fake"'})
        return problem(401, "UNAUTHORIZED") if handler.headers.get("Authorization") else None

    registry.guard = guard
    assert failures(bench.run(ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE))) == [None]


def test_if_nobody_may_either_the_first_error_stays(bench, registry):
    bench.add_secret(registry.host, "dev", "wrong")
    registry.require_token(f"{registry.url}/token")
    registry.pages["/token"] = lambda handler: (
        Page(401, b'{"details":"incorrect username or password"}')
        if handler.headers.get("Authorization")
        else problem(401, "UNAUTHORIZED")
    )
    (failure,) = failures(bench.run(ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE)))
    message = f'incorrect username or password for image "{registry.host}/team/app:v1"'
    assert failure == Failure(401, "Unauthorized", message)
    asked = [request.authorization for request in registry.requests if request.path.startswith("/token")]
    assert [bool(authorization) for authorization in asked] == [True, False]


def test_no_secret_is_stored_or_logged(bench, registry, caplog):
    bench.add_secret(registry.host, "dev", "canary-password")
    encoded = base64.b64encode(b"dev:canary-password").decode()
    registry.require_token(f"{registry.url}/token", "canary-token")
    registry.pages["/token"] = Page(body=b'{"token":"canary-token"}')
    registry.push("team/app", "v1")
    registry.pages["/v2/team/app/manifests/echo"] = lambda handler: Page(
        401, str(handler.headers).encode(), {"WWW-Authenticate": handler.headers["Authorization"]}
    )
    registry.pages["/v2/team/app/manifests/signed"] = moved("http://127.0.0.1:1/blob?signature=canary-signature")
    tags = ["v1", "echo", "signed", "nope"]
    result = bench.run(*(ImageImport(f"{registry.host}/team/app:{tag}", tag, INSECURE) for tag in tags))
    bench.services.close()
    stored = b"".join(file.read_bytes() for file in (bench.directory / "data").iterdir())
    told = repr(failures(result)).encode() + caplog.text.encode()
    assert encoded in {request.authorization.removeprefix("Basic ") for request in registry.requests}
    for secret in ("canary-password", encoded, "canary-token", "canary-signature"):
        assert secret.encode() not in stored
        assert secret.encode() not in told


# --- whole repositories


def test_the_tags_of_a_repository_are_imported_in_order_up_to_a_limit(start, registry):
    bench = start(max_repository_tags=3)
    digest = registry.push("team/app", "zz", "latest", "1.0", "1.1", "aa", "2.0.0")
    result = bench.repository(f"{registry.host}/team/app")
    assert [image.tag for image in result.images] == ["latest", "1.1", "1.0"]
    assert result.additional == ["2.0.0", "aa", "zz"]
    assert result.failure is None
    assert bench.shown == {tag: [digest] for tag in ("1.0", "1.1", "latest")}
    view = bench.services.queries.image_stream("shop", "web")
    source = view.stream.spec_tags["1.1"].source
    assert source == ObjectReference("DockerImage", f"{registry.host}/team/app:1.1")


@pytest.mark.parametrize(("limit", "imported"), [(-1, 60), (0, 0), (50, 50)])
def test_the_limit_of_tags_can_be_set(start, registry, limit, imported):
    bench = start(max_repository_tags=limit)
    registry.push("team/app", *(f"1.{n}" for n in range(60)))
    result = bench.repository(f"{registry.host}/team/app")
    assert (len(result.images), len(result.additional)) == (imported, 60 - imported)


@pytest.mark.parametrize(("broken", "who"), [(["b"], "one"), (["a", "b"], "2"), (["a", "b", "c"], "3")])
def test_a_failed_tag_fails_the_repository_and_no_other_tag(bench, registry, broken, who):
    registry.push("team/app", "a", "b", "c")
    for tag in broken:
        registry.pages[f"/v2/team/app/manifests/{tag}"] = problem(404, "MANIFEST_UNKNOWN")
    result = bench.repository(f"{registry.host}/team/app")
    message = f"{who} of the images from this repository failed to import"
    assert result.failure == Failure(0, "ImportFailed", message)
    assert sorted(bench.shown) == sorted({"a", "b", "c"} - set(broken))


def test_a_repository_that_cannot_be_listed_fails_as_it_was_named(bench, registry):
    result = bench.repository(f"{registry.host}/team/app")
    message = f'dockerimage.image.openshift.io "{registry.host}/team/app" not found'
    assert result.failure == Failure(404, "NotFound", message)
    assert result.images == ()


def test_an_empty_repository_is_no_failure(bench, registry):
    registry.pages["/v2/team/app/tags/list"] = Page(body=b'{"tags":null}')
    result = bench.repository(f"{registry.host}/team/app")
    assert (result.images, result.failure) == ([], None)


# --- how registries are asked


def test_everything_is_asked_for_once(bench, registry):
    registry.push("team/app", "v1")
    source = f"{registry.host}/team/app:v1"
    bench.run(*(ImageImport(source, f"t{n}", INSECURE) for n in range(20)))
    assert len(registry.paths) == len(set(registry.paths)) == 2
    assert len(bench.shown) == 20


def test_a_few_images_are_fetched_at_a_time(bench, registry):
    registry.push("team/app", *(f"v{n}" for n in range(12)))
    lock, under_way, most = threading.Lock(), 0, 0

    def guard(handler: Handler) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1

    registry.guard = guard
    bench.run(*(ImageImport(f"{registry.host}/team/app:v{n}", f"v{n}", INSECURE) for n in range(12)))
    assert len(bench.shown) == 12
    assert 1 < most <= fetching_module.IMAGES_AT_ONCE


def test_an_import_ends_however_slow_registries_are(bench, registry, monkeypatch):
    monkeypatch.setattr(fetching_module, "IMPORT_SECONDS", 0.7)
    gone = threading.Event()
    registry.push("team/app", "quick")
    registry.pages["/v2/team/app/manifests/slow"] = lambda _: gone.wait(30) and None
    sources = [f"{registry.host}/team/app:{tag}" for tag in ("quick", *["slow"] * 20)]
    begun = time.monotonic()
    result = bench.run(*(ImageImport(source, f"t{n}", INSECURE) for n, source in enumerate(sources)))
    gone.set()
    assert time.monotonic() - begun < 10
    assert failures(result)[0] is None
    assert all(failure and "too long" in failure.message for failure in failures(result)[1:])


def test_an_import_downloads_only_so_much(bench, registry, monkeypatch):
    monkeypatch.setattr(fetching_module, "IMPORT_BYTES", 10_000)
    registry.push("team/app", "big", fill="x" * 12_000)
    (failure,) = failures(bench.run(ImageImport(f"{registry.host}/team/app:big", "latest", INSECURE)))
    assert failure is not None
    assert "too much to download" in failure.message


def test_only_so_many_imports_are_under_way(start, registry, monkeypatch):
    monkeypatch.setattr(imports_module, "IMPORTS_AT_ONCE", 1)
    monkeypatch.setattr(imports_module, "PATIENCE", 0.05)
    bench = start()
    registry.push("team/app", "v1")
    image = ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE)
    refused = []

    def meanwhile(_: Handler) -> None:
        registry.guard = None
        with pytest.raises(TooManyImports) as refusal:
            bench.run(image)
        refused.append(refusal)

    registry.guard = meanwhile
    assert failures(bench.run(image)) == [None]
    assert len(refused) == 1
    assert failures(bench.run(image)) == [None]


# --- the stream that was meant


def test_a_stream_that_was_expected_must_be_there(bench, registry):
    for expected in (Expected(position=5), Expected(uid="uid-1")):
        with pytest.raises(NotFound) as refusal:
            bench.run(ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE), expected=expected)
        assert (refusal.value.resource, refusal.value.name) == ("imagestreamimports", "web")
    assert registry.requests == []


def test_another_stream_than_the_one_that_was_meant_is_not_found(bench, registry):
    stream = bench.create()
    with pytest.raises(NotFound):
        bench.run(expected=Expected(uid="another"))
    bench.run(expected=Expected(uid=stream.uid, position=stream.position))


def test_a_stream_that_has_moved_on_is_a_conflict(bench, registry):
    stream = bench.create()
    with pytest.raises(Conflict) as refusal:
        bench.run(expected=Expected(position=stream.position - 1))
    assert refusal.value.detail == (f'the image stream was updated from "{stream.position - 1}" to "{stream.position}"')


def test_a_stream_that_moves_on_while_images_are_fetched_is_a_conflict(bench, registry):
    stream = bench.create()
    digest = registry.push("team/app", "v1")
    image = ImageImport(f"{registry.host}/team/app:v1", "latest", INSECURE)

    def meanwhile(_: Handler) -> None:
        registry.guard = None
        bench.services.commands.put_tag(
            CALLER, "shop", "web", "other", TagWrite(tag=TagReference(name="other")), "imagestreamtags"
        )

    registry.guard = meanwhile
    with pytest.raises(Conflict):
        bench.run(image, expected=Expected(position=stream.position))
    assert bench.image(digest) is None
    # Who did not say which version was meant, means the stream as it is.
    assert failures(bench.run(image)) == [None]

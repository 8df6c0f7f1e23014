"""imagestreamimports over HTTP: what is refused, what is answered, and the secrets that it uses."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_registry import FakeRegistry, Page, fake_registry, moved
from flask.testing import FlaskClient

from api import create_app
from imagestream_es.application.imports import Imports, TooManyImports
from imagestream_es.settings import Settings

GROUP = "/apis/image.openshift.io/v1/namespaces/shop"
LEGACY = "/oapi/v1/namespaces/shop"
DOCKER = "DockerImage"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as one:
        yield one


@pytest.fixture
def client(tmp_path) -> Iterator[FlaskClient]:
    settings = Settings(
        data_dir=tmp_path / "data",
        import_allow=("127.0.0.1",),
        pull_secrets=tmp_path / "secrets",
        import_controller="off",
    )
    app = create_app(settings)
    yield app.test_client()
    app.extensions["imagestream"].close()


def image(name: str, to: str | None = None, **more: Any) -> dict[str, Any]:
    """An image to import, from a registry that may be insecure."""
    target = {} if to is None else {"to": {"name": to}}
    return {"from": {"kind": DOCKER, "name": name}, "importPolicy": {"insecure": True}, **target, **more}


def body(*images: dict[str, Any], store: bool = True, name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"import": store, "images": list(images), **spec}}


def post(client: FlaskClient, sent: Any, query: str = "", base: str = GROUP, **more: Any) -> tuple[int, Any]:
    answer = client.post(f"{base}/imagestreamimports{query}", json=sent, **more)
    return answer.status_code, answer.get_json()


def problems(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    assert answer["code"] == 422
    assert answer["details"]["kind"] == "ImageStreamImport"
    return [(cause["field"], cause["reason"], cause["message"]) for cause in answer["details"]["causes"]]


# --- what is answered


def test_the_answer_is_the_whole_object_with_defaults(client, registry):
    digest = registry.push("team/app", "v1")
    source = f"{registry.host}/team/app:v1"
    code, answer = post(client, body({"from": {"kind": DOCKER, "name": source}, "importPolicy": {"insecure": True}}))
    assert code == 201
    assert (answer["kind"], answer["apiVersion"]) == ("ImageStreamImport", "image.openshift.io/v1")
    assert answer["metadata"] == {"name": "web", "namespace": "shop", "creationTimestamp": None}
    assert answer["spec"] == {
        "import": True,
        "images": [
            {
                "from": {"kind": DOCKER, "name": source},
                "to": {"name": "v1"},
                "importPolicy": {"insecure": True, "importMode": "Legacy"},
                "referencePolicy": {"type": "Source"},
            }
        ],
    }
    (result,) = answer["status"]["images"]
    assert (result["tag"], result["status"]) == ("v1", {"metadata": {}, "status": "Success"})
    assert result["image"] == _stripped(client.get(f"/apis/image.openshift.io/v1/images/{digest}").get_json())
    assert answer["status"]["import"] == _stripped(client.get(f"{GROUP}/imagestreams/web").get_json())


def _stripped(document: dict[str, Any]) -> dict[str, Any]:
    """An object as it stands inside another."""
    return {key: value for key, value in document.items() if key not in ("kind", "apiVersion")}


def test_what_is_only_looked_at_is_shown_as_it_would_be_stored(client, registry):
    digest = registry.push("team/app", "v1", config={"Env": ["A=b"]})
    sent = body(image(f"{registry.host}/team/app:v1", "latest"), store=False)
    _, looked = post(client, sent)
    assert "import" not in looked["status"]
    assert client.get(f"{GROUP}/imagestreams/web").status_code == 404
    _, stored = post(client, body(image(f"{registry.host}/team/app:v1", "latest")))
    before, after = looked["status"]["images"][0]["image"], stored["status"]["images"][0]["image"]
    assert before.pop("metadata") == {
        "name": digest,
        "annotations": {"image.openshift.io/dockerLayersOrder": "ascending"},
        "creationTimestamp": None,
    }
    assert after.pop("metadata")["uid"]
    assert before == after


@pytest.mark.parametrize(
    ("store", "include", "shown"), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_manifests_are_shown_on_demand_of_what_is_not_stored(client, registry, store, include, shown):
    registry.push("team/app", "v1")
    source = f"{registry.host}/team/app"
    sent = body(image(f"{source}:v1", "latest", includeManifest=include), image(f"{source}:v1"), store=store)
    sent["spec"]["repository"] = image(source, includeManifest=include)
    _, answer = post(client, sent)
    results = [answer["status"]["images"][0], *answer["status"]["repository"]["images"]]
    assert [("dockerImageManifest" in one["image"], "dockerImageConfig" in one["image"]) for one in results] == [
        (shown, shown)
    ] * 2
    assert "dockerImageManifest" not in answer["status"]["images"][1]["image"]


def test_failures_are_part_of_a_success(client, registry):
    code, answer = post(client, body(image(f"{registry.host}/team/app:nope", "latest")))
    assert code == 201
    message = f'dockerimage.image.openshift.io "{registry.host}/team/app:nope" not found'
    assert answer["status"]["images"] == [
        {
            "status": {"metadata": {}, "status": "Failure", "message": message, "reason": "NotFound", "code": 404},
            "tag": "nope",
        }
    ]
    (tag,) = answer["status"]["import"]["status"]["tags"]
    assert tag["items"] is None
    assert tag["conditions"][0]["reason"] == "NotFound"


def test_a_repository_has_a_status_of_its_own(client, registry):
    registry.push("team/app", "latest", "1.0")
    registry.pages["/v2/team/app/manifests/1.0"] = Page(404)
    _, answer = post(client, body(repository=image(f"{registry.host}/team/app")))
    assert "images" not in answer["status"]
    found = answer["status"]["repository"]
    assert found["status"] == {
        "metadata": {},
        "status": "Failure",
        "message": "one of the images from this repository failed to import",
        "reason": "ImportFailed",
    }
    assert [(one["tag"], one["status"]["status"]) for one in found["images"]] == [
        ("latest", "Success"),
        ("1.0", "Failure"),
    ]
    assert "additionalTags" not in found


def test_a_kept_list_is_answered_with_its_parts(client, registry):
    part = registry.push("team/app")
    index = registry.push_list("team/app", "multi", {("amd64", "linux"): part})
    policy = {"insecure": True, "importMode": "PreserveOriginal"}
    _, answer = post(client, body(image(f"{registry.host}/team/app:multi", importPolicy=policy)))
    (result,) = answer["status"]["images"]
    assert result["image"]["metadata"]["name"] == index
    assert [one["metadata"]["name"] for one in result["manifests"]] == [part]


@pytest.mark.parametrize("store", [True, False])
def test_the_legacy_path_answers_in_its_own_spelling(client, registry, store):
    registry.push("team/app", "v1")
    sent = {"kind": "ImageStreamImport", "apiVersion": "v1", **body(image(f"{registry.host}/team/app:v1"), store=store)}
    code, answer = post(client, sent, base=LEGACY)
    assert code == 201
    assert answer["apiVersion"] == "v1"
    assert answer["metadata"]["selfLink"] == f"{LEGACY}/imagestreamimports/web"
    assert answer["status"]["images"][0]["image"]["dockerImageMetadata"]["apiVersion"] == "1.0"


def test_a_dry_run_answers_alike_and_stores_nothing(client, registry):
    digest = registry.push("team/app", "v1")
    code, answer = post(client, body(image(f"{registry.host}/team/app:v1", "latest")), "?dryRun=All")
    assert code == 201
    assert answer["status"]["import"]["status"]["tags"][0]["items"][0]["image"] == digest
    assert client.get(f"{GROUP}/imagestreams/web").status_code == 404
    assert client.get(f"/apis/image.openshift.io/v1/images/{digest}").status_code == 404


@pytest.mark.parametrize("form", ["Table", "PartialObjectMetadata"])
def test_an_import_may_be_answered_in_short(client, registry, form):
    code, answer = post(
        client, body(image("*", "latest")), headers={"Accept": f"application/json;as={form};v=v1;g=meta.k8s.io"}
    )
    assert code == 201
    assert answer["kind"] == form


# --- what is refused


@pytest.mark.parametrize("spec", [None, {}, {"import": True}, {"import": True, "images": []}, {"repository": None}])
def test_an_import_must_import_something(client, spec):
    _, answer = post(client, {"metadata": {"name": "web"}, "spec": spec})
    ((field, reason, message),) = problems(answer)
    assert (field, reason) == ("spec.images", "FieldValueInvalid")
    assert message.endswith("you must specify at least one image or a repository import")


@pytest.mark.parametrize(
    ("sent", "field", "reason", "text"),
    [
        ({"from": {"kind": "ImageStreamTag", "name": "a:b"}}, "from.kind", "Invalid", "only DockerImage is supported"),
        ({"from": {"name": "a"}}, "from.kind", "Invalid", "only DockerImage is supported"),
        (image(""), "from.name", "Required", "Required value"),
        (image("A/B"), "from.name", "Invalid", "repository name must be lowercase"),
        (image("a:b:c"), "from.name", "Invalid", "invalid reference format"),
        (image("a", ""), "to.name", "Invalid", "the name of the target tag must be specified"),
        (image("a", "b:c"), "to.name", "Invalid", "may not contain"),
        (image("a", importPolicy={"importMode": "All"}), "importPolicy.importMode", "Invalid", "invalid import mode"),
        (image("a", referencePolicy={"type": "Far"}), "referencePolicy.type", "Invalid", "valid values are"),
    ],
)
def test_every_problem_of_an_image_is_told_at_its_field(client, sent, field, reason, text):
    _, answer = post(client, body(image("quay.io/a/b:1", "latest"), sent))
    ((where, kind, message),) = problems(answer)
    assert (where, kind) == (f"spec.images[1].{field}", f"FieldValue{reason}")
    assert text in message


@pytest.mark.parametrize(
    ("sent", "field", "reason", "text"),
    [
        ({"from": {"kind": "ImageStream", "name": "a"}}, "from.kind", "Invalid", "only DockerImage is supported"),
        (image(""), "from.name", "Required", "container image references require a name"),
        (image("a:b"), "from.name", "Invalid", "you must specify an image repository, not a tag or ID"),
        (
            image(f"a@sha256:{'0' * 64}"),
            "from.name",
            "Invalid",
            "you must specify an image repository, not a tag or ID",
        ),
        (image("A"), "from.name", "Invalid", "repository name must be lowercase"),
        (image("*"), "from.name", "Invalid", "invalid reference format"),
        (image("a", importPolicy={"importMode": "All"}), "importPolicy.importMode", "Invalid", "invalid import mode"),
    ],
)
def test_every_problem_of_a_repository_is_told_at_its_field(client, sent, field, reason, text):
    _, answer = post(client, body(repository=sent))
    ((where, kind, message),) = problems(answer)
    assert (where, kind) == (f"spec.repository.{field}", f"FieldValue{reason}")
    assert text in message


def test_all_problems_are_told_at_once(client):
    _, answer = post(client, body(image("A"), image("a", ""), name="Bad_Name", repository=image("a:b")))
    assert [field for field, _, _ in problems(answer)] == [
        "metadata.name",
        "spec.images[0].from.name",
        "spec.images[1].to.name",
        "spec.repository.from.name",
    ]


def test_a_name_is_needed(client):
    _, answer = post(client, body(image("a"), name=""))
    assert [field for field, _, _ in problems(answer)] == ["metadata.name"]


def test_any_image_is_let_through_for_old_clients(client):
    code, answer = post(client, body(image("*", "latest")))
    assert code == 201
    assert answer["status"]["images"][0]["status"]["reason"] == "Invalid"


@pytest.mark.parametrize(
    "sent",
    [
        {"metadata": {"name": "web"}, "spec": 7},
        {"metadata": {"name": "web"}, "spec": {"images": {}}},
        {"metadata": {"name": "web"}, "spec": {"images": ["a"]}},
        {"metadata": {"name": "web"}, "spec": {"images": [{"from": "a"}]}},
        {"metadata": {"name": "web"}, "spec": {"images": [{"from": {"name": 7}}]}},
        {"metadata": {"name": "web"}, "spec": {"images": [{"to": []}]}},
        {"metadata": {"name": "web"}, "spec": {"images": [{"importPolicy": {"insecure": "yes"}}]}},
        {"metadata": {"name": "web"}, "spec": {"import": "yes"}},
        {"metadata": {"name": "web"}, "spec": {"repository": []}},
        {"metadata": {"name": "web", "resourceVersion": "abc"}, "spec": {"images": [image("*")]}},
        {"metadata": {"name": "web", "namespace": "other"}, "spec": {"images": [image("*")]}},
        {"kind": "ImageStream", "metadata": {"name": "web"}},
    ],
)
def test_what_makes_no_sense_is_a_bad_request(client, sent):
    code, answer = post(client, sent)
    assert (code, answer["reason"]) == (400, "BadRequest")


def test_nulls_are_the_same_as_nothing(client):
    sent = {"from": {"kind": DOCKER, "name": "*"}, "to": None, "importPolicy": None, "referencePolicy": None}
    code, _ = post(
        client, {"metadata": {"name": "web"}, "spec": {"import": None, "images": [sent], "repository": None}}
    )
    assert code == 201


def test_imports_can_only_be_created(client):
    assert client.get(f"{GROUP}/imagestreamimports").status_code == 405
    assert client.get(f"{GROUP}/imagestreamimports/web").status_code == 405
    assert client.delete(f"{GROUP}/imagestreamimports").status_code == 405
    resources = client.get("/apis/image.openshift.io/v1").get_json()["resources"]
    (found,) = [resource for resource in resources if resource["name"] == "imagestreamimports"]
    assert (found["verbs"], found["namespaced"], found["kind"]) == (["create"], True, "ImageStreamImport")


def test_the_stream_must_be_the_one_that_was_meant(client, registry):
    sent = body(image("*", "latest"))
    code, answer = post(client, {**sent, "metadata": {"name": "web", "resourceVersion": "5"}})
    assert (code, answer["message"]) == (404, 'imagestreamimports.image.openshift.io "web" not found')
    stream = client.post(f"{GROUP}/imagestreams", json={"metadata": {"name": "web"}}).get_json()["metadata"]
    code, answer = post(client, {**sent, "metadata": {"name": "web", "resourceVersion": "1"}})
    assert (code, answer["reason"]) == (409, "Conflict")
    assert f'the image stream was updated from "1" to "{stream["resourceVersion"]}"' in answer["message"]
    code, _ = post(client, {**sent, "metadata": {"name": "web", "uid": "another"}})
    assert code == 404
    mine = {"name": "web", "uid": stream["uid"], "resourceVersion": stream["resourceVersion"]}
    code, answer = post(client, {**sent, "metadata": mine})
    assert code == 201
    assert answer["metadata"] == mine | {"namespace": "shop", "creationTimestamp": None}


def test_too_many_imports_are_told_to_come_again(client, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise TooManyImports

    monkeypatch.setattr(Imports, "run", refuse)
    answer = client.post(f"{GROUP}/imagestreamimports", json=body(image("a")))
    assert (answer.status_code, answer.get_json()["reason"]) == (429, "TooManyRequests")
    assert int(answer.headers["Retry-After"]) > 0


# --- secrets


def add_secret(directory: Any, host: str, namespace: str = "shop") -> bytes:
    content = json.dumps({"auths": {host: {"auth": base64.b64encode(b"dev:hunter2").decode()}}}).encode()
    (directory / "secrets" / namespace).mkdir(parents=True)
    (directory / "secrets" / namespace / "pull.json").write_bytes(content)
    return content


@pytest.mark.parametrize("base", [GROUP, LEGACY])
def test_the_secrets_of_a_namespace_are_listed_whatever_the_stream(client, tmp_path, base):
    content = add_secret(tmp_path, "r.test")
    answer = client.get(f"{base}/imagestreams/whatever/secrets").get_json()
    assert answer["kind"] == "SecretList"
    (secret,) = answer["items"]
    assert secret["metadata"]["name"] == "pull"
    assert secret["metadata"]["namespace"] == "shop"
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    assert base64.b64decode(secret["data"][".dockerconfigjson"]) == content


def test_other_namespaces_have_other_secrets(client, tmp_path):
    add_secret(tmp_path, "r.test", "other")
    assert client.get(f"{GROUP}/imagestreams/web/secrets").get_json()["items"] == []


def test_an_import_uses_the_secrets_of_its_namespace_only(client, registry, tmp_path):
    add_secret(tmp_path, registry.host)
    registry.require_basic("Basic " + base64.b64encode(b"dev:hunter2").decode())
    registry.push("team/app", "v1")
    sent = body(image(f"{registry.host}/team/app:v1", "latest"))
    _, mine = post(client, sent)
    _, theirs = post(client, sent, base=GROUP.replace("shop", "other"))
    assert mine["status"]["images"][0]["status"]["status"] == "Success"
    assert theirs["status"]["images"][0]["status"]["reason"] == "Unauthorized"
    assert "hunter2" not in json.dumps([mine, theirs])


# --- the internal registry


def test_an_import_from_outside_does_not_end_in_the_internal_registry(registry, tmp_path) -> None:
    with fake_registry() as internal:
        internal.push("secret/app", "v1")
        registry.pages["/v2/team/app/manifests/v1"] = moved(f"{internal.url}/v2/secret/app/manifests/v1")
        settings = Settings(
            data_dir=tmp_path / "data",
            import_allow=("127.0.0.1",),
            internal_registry=internal.host,
            import_controller="off",
        )
        app = create_app(settings)
        try:
            _, answer = post(app.test_client(), body(image(f"{registry.host}/team/app:v1", "latest")))
            (result,) = answer["status"]["images"]
            assert result["status"]["status"] == "Failure"
            assert [path for path in internal.paths if "secret" in path] == []
            _, answer = post(app.test_client(), body(image(f"{internal.host}/secret/app:v1", "latest")))
            assert answer["status"]["images"][0]["status"]["status"] == "Success"
        finally:
            app.extensions["imagestream"].close()

"""Discovery: what the server says it offers, plain and aggregated, and what kubectl makes of it."""

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
KUBECTL = f"{V2},{V2BETA1},application/json"

ALL = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
TAG = {"create", "delete", "get", "list", "patch", "update"}
IMAGE_RESOURCES = {
    "images": ("Image", False, [], ALL),
    "imagesignatures": ("ImageSignature", False, [], {"create", "delete"}),
    "imagestreams": ("ImageStream", True, ["is"], ALL),
    "imagestreams/status": ("ImageStream", True, [], {"get", "patch", "update"}),
    "imagestreams/layers": ("ImageStreamLayers", True, [], {"get"}),
    "imagestreams/secrets": ("SecretList", True, [], {"get"}),
    "imagestreamtags": ("ImageStreamTag", True, ["istag"], TAG),
    "imagetags": ("ImageTag", True, ["itag"], TAG),
    "imagestreamimages": ("ImageStreamImage", True, ["isimage"], {"get"}),
    "imagestreammappings": ("ImageStreamMapping", True, [], {"create"}),
}
"""Kind, whether in namespaces, short names and verbs of every resource that must be there."""


def told(resources: list[dict[str, Any]]) -> dict[str, tuple[str, bool, list[str], set[str]]]:
    """A plain list of resources in the shape of `IMAGE_RESOURCES`."""
    return {
        one["name"]: (one["kind"], one["namespaced"], one.get("shortNames", []), set(one["verbs"])) for one in resources
    }


def unfolded(group: dict[str, Any]) -> dict[str, tuple[str, bool, list[str], set[str]]]:
    """An aggregated group in the shape of `IMAGE_RESOURCES`."""
    found = {}
    for one in group["versions"][0]["resources"]:
        namespaced = one["scope"] == "Namespaced"
        kind = one["responseKind"]["kind"]
        found[one["resource"]] = (kind, namespaced, one.get("shortNames", []), set(one["verbs"]))
        for sub in one.get("subresources", ()):
            name = f"{one['resource']}/{sub['subresource']}"
            found[name] = (sub["responseKind"]["kind"], namespaced, [], set(sub["verbs"]))
    return found


def groups(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The groups of an aggregated document, by name."""
    return {one["metadata"].get("name", ""): one for one in document["items"]}


# --- plain


def test_a_group_lists_its_resources(client: FlaskClient) -> None:
    answer = client.get("/apis/image.openshift.io/v1").json
    assert (answer["kind"], answer["groupVersion"]) == ("APIResourceList", "image.openshift.io/v1")
    assert told(answer["resources"]).items() >= IMAGE_RESOURCES.items()


def test_a_resource_tells_the_name_of_one_object_and_its_category(client: FlaskClient) -> None:
    resources = {one["name"]: one for one in client.get("/apis/image.openshift.io/v1").json["resources"]}
    assert resources["imagestreams"]["singularName"] == "imagestream"
    assert resources["imagestreams"]["categories"] == ["all"]
    assert resources["imagestreams/status"]["singularName"] == ""
    assert "categories" not in resources["images"]


def test_the_legacy_api_lists_its_resources(client: FlaskClient) -> None:
    answer = client.get("/oapi/v1").json
    assert (answer["kind"], answer["groupVersion"]) == ("APIResourceList", "v1")
    names = set(told(answer["resources"]))
    assert names >= {"images", "imagestreams", "imagestreams/status", "imagestreamtags"}
    assert names.isdisjoint({"imagetags", "imagestreams/layers"})


def test_groups_are_listed_with_their_versions(client: FlaskClient) -> None:
    version = {"groupVersion": "image.openshift.io/v1", "version": "v1"}
    group = {"name": "image.openshift.io", "versions": [version], "preferredVersion": version}
    answer = client.get("/apis").json
    assert answer["kind"] == "APIGroupList"
    assert group in answer["groups"]
    assert client.get("/apis/image.openshift.io").json == {"kind": "APIGroup", "apiVersion": "v1", **group}


def test_apis_without_a_group_list_their_versions(client: FlaskClient) -> None:
    for path in ("/api", "/oapi"):
        answer = client.get(path).json
        assert (answer["kind"], answer["versions"]) == ("APIVersions", ["v1"])


def test_the_version_is_text_throughout_and_looks_like_kubernetes(client: FlaskClient) -> None:
    version = client.get("/version").json
    assert set(version) == {
        *("major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler"),
        "platform",
    }
    assert {type(value) for value in version.values()} == {str}
    assert version["gitVersion"].startswith(f"v{version['major']}.{version['minor']}.")


@pytest.mark.parametrize(
    "path", ["/api", "/apis", "/apis/image.openshift.io", "/apis/image.openshift.io/v1", "/version"]
)
def test_a_slash_at_the_end_makes_no_difference(client: FlaskClient, path: str) -> None:
    assert client.get(path + "/").json == client.get(path).json


def test_the_root_names_paths_that_are_there(client: FlaskClient) -> None:
    paths = client.get("/").json["paths"]
    assert paths == sorted(paths)
    assert {"/apis", "/docs", "/healthz", "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/image.openshift.io/v1"} <= {
        *paths
    }
    for path in paths:
        assert client.get(path).status_code == 200, path
    assert client.head("/").status_code == 200


# --- aggregated


@pytest.mark.parametrize(
    ("accept", "version"), [(KUBECTL, "v2"), (V2, "v2"), (f"{V2BETA1},application/json", "v2beta1")]
)
@pytest.mark.parametrize("path", ["/api", "/apis"])
def test_the_first_aggregated_form_asked_for_is_given(
    client: FlaskClient, path: str, accept: str, version: str
) -> None:
    answer = client.get(path, headers={"Accept": accept})
    assert answer.content_type == f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    assert answer.json["kind"] == "APIGroupDiscoveryList"
    assert answer.json["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    assert "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", f"application/json,{V2}"])
def test_who_does_not_ask_for_the_aggregated_form_first_gets_the_plain_one(
    client: FlaskClient, accept: str | None
) -> None:
    answer = client.get("/apis", headers={"Accept": accept} if accept else {})
    assert (answer.content_type, answer.json["kind"]) == ("application/json", "APIGroupList")


def test_the_aggregated_form_tells_the_same_as_the_plain_ones(client: FlaskClient) -> None:
    plain = client.get("/apis").json["groups"]
    aggregated = groups(client.get("/apis", headers={"Accept": KUBECTL}).json)
    assert list(aggregated) == [group["name"] for group in plain]
    for name, group in aggregated.items():
        assert unfolded(group) == told(client.get(f"/apis/{name}/v1").json["resources"])


def test_the_core_group_has_no_name(client: FlaskClient) -> None:
    document = client.get("/api", headers={"Accept": KUBECTL}).json
    (core,) = document["items"]
    assert "name" not in core["metadata"]
    assert unfolded(core) == told(client.get("/api/v1").json["resources"])


def test_a_resource_is_aggregated_with_its_subresources(client: FlaskClient) -> None:
    group = groups(client.get("/apis", headers={"Accept": KUBECTL}).json)["image.openshift.io"]
    (version,) = group["versions"]
    assert (version["version"], version["freshness"]) == ("v1", "Current")
    stream = next(one for one in version["resources"] if one["resource"] == "imagestreams")
    kind = {"group": "image.openshift.io", "version": "v1", "kind": "ImageStream"}
    assert stream["responseKind"] == kind
    assert (stream["scope"], stream["singularResource"]) == ("Namespaced", "imagestream")
    assert (stream["shortNames"], stream["categories"]) == (["is"], ["all"])
    assert {"subresource": "status", "responseKind": kind, "verbs": ["get", "patch", "update"]} in stream[
        "subresources"
    ]


@pytest.mark.parametrize("accept", [KUBECTL, "application/json"])
def test_who_has_discovery_is_not_sent_it_again(client: FlaskClient, accept: str) -> None:
    first = client.get("/apis", headers={"Accept": accept})
    again = client.get("/apis", headers={"Accept": accept, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_each_form_has_an_etag_of_its_own(client: FlaskClient) -> None:
    tags = [client.get("/apis", headers={"Accept": form}).headers["ETag"] for form in (V2, V2BETA1, "*/*")]
    assert len(set(tags)) == 3


def test_a_form_that_there_is_not_is_refused(client: FlaskClient) -> None:
    answer = client.get("/apis", headers={"Accept": "application/vnd.kubernetes.protobuf"})
    assert (answer.status_code, answer.json["reason"]) == (406, "NotAcceptable")


# --- kubectl


def test_kubectl_lists_the_resources(kubectl: Kubectl) -> None:
    listed = kubectl("api-resources", "--api-group=image.openshift.io", "--no-headers", "-o", "wide").stdout
    found = {line.split()[0]: line.split() for line in listed.splitlines()}
    assert set(found) >= {name for name in IMAGE_RESOURCES if "/" not in name}
    assert found["imagestreams"][1:5] == ["is", "image.openshift.io/v1", "true", "ImageStream"]
    assert found["images"][1:4] == ["image.openshift.io/v1", "false", "Image"]
    assert "image.openshift.io/v1" in kubectl("api-versions").stdout.split()


def test_kubectl_learns_everything_from_two_requests(kubectl: Kubectl) -> None:
    log = kubectl("get", "is,istag", "-v", "8").stderr
    asked = re.findall(r"GET http://[^/]*(\S+)", log)
    assert [path.partition("?")[0] for path in asked if "/namespaces/" not in path] == ["/api", "/apis"]

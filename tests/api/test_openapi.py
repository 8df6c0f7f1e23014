"""The OpenAPI documents: what is in them, that the server does what they say, and how they are served."""

import gzip
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import jsonschema
import orjson
import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV30SpecValidator

from api.call import GROUP_DOOR, Door
from api.groups import GROUPS
from api.openapi import documents
from api.openapi.definitions import kind_schema
from api.openapi.version2 import swagger
from api.patch import IMAGE_LISTS, SET

DOCUMENTS = documents(GROUPS)
ALL = list(DOCUMENTS.values())
V2 = swagger(ALL)
IMAGE = DOCUMENTS[GROUP_DOOR]
TYPES = IMAGE["components"]["schemas"]
METHODS = ("get", "post", "put", "patch", "delete")
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V3_PROTOBUF = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"

UPSTREAM = {
    "com.github.openshift.api.image.v1.Image": """
        apiVersion string, kind string, metadata ObjectMeta, dockerImageReference string,
        dockerImageMetadata RawExtension, dockerImageMetadataVersion string, dockerImageManifest string,
        dockerImageLayers []ImageLayer, signatures []ImageSignature merged by name, dockerImageSignatures []byte,
        dockerImageManifestMediaType string, dockerImageConfig string, dockerImageManifests []ImageManifest""",
    "com.github.openshift.api.image.v1.ImageBlobReferences": """
        layers []string, config string, imageMissing boolean, manifests []string""",
    "com.github.openshift.api.image.v1.ImageLayer": "name string, size int64, mediaType string",
    "com.github.openshift.api.image.v1.ImageLayerData": "size int64, mediaType string",
    "com.github.openshift.api.image.v1.ImageLookupPolicy": "local boolean",
    "com.github.openshift.api.image.v1.ImageManifest": """
        digest string, mediaType string, manifestSize int64, architecture string, os string, variant string""",
    "com.github.openshift.api.image.v1.ImageSignature": """
        apiVersion string, kind string, metadata ObjectMeta, type string, content byte,
        conditions []SignatureCondition merged by type, imageIdentity string, signedClaims {string}, created Time,
        issuedBy SignatureIssuer, issuedTo SignatureSubject""",
    "com.github.openshift.api.image.v1.ImageStream": """
        apiVersion string, kind string, metadata ObjectMeta, spec ImageStreamSpec, status ImageStreamStatus""",
    "com.github.openshift.api.image.v1.ImageStreamImage": """
        apiVersion string, kind string, metadata ObjectMeta, image Image""",
    "com.github.openshift.api.image.v1.ImageImportSpec": """
        from ObjectReference, to LocalObjectReference, importPolicy TagImportPolicy,
        referencePolicy TagReferencePolicy, includeManifest boolean""",
    "com.github.openshift.api.image.v1.ImageImportStatus": """
        status Status, image Image, tag string, manifests []Image""",
    "com.github.openshift.api.image.v1.ImageStreamImport": """
        apiVersion string, kind string, metadata ObjectMeta, spec ImageStreamImportSpec,
        status ImageStreamImportStatus""",
    "com.github.openshift.api.image.v1.ImageStreamImportSpec": """
        import boolean, repository RepositoryImportSpec, images []ImageImportSpec""",
    "com.github.openshift.api.image.v1.ImageStreamImportStatus": """
        import ImageStream, repository RepositoryImportStatus, images []ImageImportStatus""",
    "com.github.openshift.api.image.v1.RepositoryImportSpec": """
        from ObjectReference, importPolicy TagImportPolicy, referencePolicy TagReferencePolicy,
        includeManifest boolean""",
    "com.github.openshift.api.image.v1.RepositoryImportStatus": """
        status Status, images []ImageImportStatus, additionalTags []string""",
    "com.github.openshift.api.image.v1.ImageStreamLayers": """
        apiVersion string, kind string, metadata ObjectMeta, blobs {ImageLayerData}, images {ImageBlobReferences}""",
    "com.github.openshift.api.image.v1.ImageStreamList": """
        apiVersion string, kind string, metadata ListMeta, items []ImageStream""",
    "com.github.openshift.api.image.v1.ImageStreamMapping": """
        apiVersion string, kind string, metadata ObjectMeta, image Image, tag string""",
    "com.github.openshift.api.image.v1.ImageStreamSpec": """
        lookupPolicy ImageLookupPolicy, dockerImageRepository string, tags []TagReference merged by name""",
    "com.github.openshift.api.image.v1.ImageStreamStatus": """
        dockerImageRepository string, publicDockerImageRepository string,
        tags []NamedTagEventList merged by tag""",
    "com.github.openshift.api.image.v1.ImageStreamTag": """
        apiVersion string, kind string, metadata ObjectMeta, tag TagReference, generation int64,
        lookupPolicy ImageLookupPolicy, conditions []TagEventCondition, image Image""",
    "com.github.openshift.api.image.v1.ImageTag": """
        apiVersion string, kind string, metadata ObjectMeta, spec TagReference, status NamedTagEventList,
        image Image""",
    "com.github.openshift.api.image.v1.NamedTagEventList": """
        tag string, items []TagEvent, conditions []TagEventCondition""",
    "com.github.openshift.api.image.v1.SignatureCondition": """
        type string, status string, lastProbeTime Time, lastTransitionTime Time, reason string, message string""",
    "com.github.openshift.api.image.v1.SignatureIssuer": "organization string, commonName string",
    "com.github.openshift.api.image.v1.SignatureSubject": """
        organization string, commonName string, publicKeyID string""",
    "com.github.openshift.api.image.v1.TagEvent": """
        created Time, dockerImageReference string, image string, generation int64""",
    "com.github.openshift.api.image.v1.TagEventCondition": """
        type string, status string, lastTransitionTime Time, reason string, message string, generation int64""",
    "com.github.openshift.api.image.v1.TagImportPolicy": """
        insecure boolean, scheduled boolean, importMode string""",
    "com.github.openshift.api.image.v1.TagReference": """
        name string, annotations {string}, from ObjectReference, reference boolean, generation int64,
        importPolicy TagImportPolicy, referencePolicy TagReferencePolicy""",
    "com.github.openshift.api.image.v1.TagReferencePolicy": "type string",
    "io.k8s.api.core.v1.ObjectReference": """
        kind string, namespace string, name string, uid string, apiVersion string, resourceVersion string,
        fieldPath string""",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry": """
        manager string, operation string, apiVersion string, time Time, fieldsType string, fieldsV1 FieldsV1,
        subresource string""",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": """
        name string, generateName string, namespace string, selfLink string, uid string, resourceVersion string,
        generation int64, creationTimestamp Time, deletionTimestamp Time, deletionGracePeriodSeconds int64,
        labels {string}, annotations {string}, ownerReferences []OwnerReference merged by uid,
        finalizers []string merged, managedFields []ManagedFieldsEntry""",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference": """
        apiVersion string, kind string, name string, uid string, controller boolean, blockOwnerDeletion boolean""",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status": """
        kind string, apiVersion string, metadata ListMeta, status string, message string, reason string,
        details StatusDetails, code int32""",
}
"""The types of the image API as clients know them."""


def called(schema: dict[str, Any]) -> str:
    """The type of a property in one word."""
    if schema.get("type") == "array":
        return "[]" + called(schema["items"])
    if "additionalProperties" in schema:
        return "{" + called(schema["additionalProperties"]) + "}"
    if "allOf" in schema:
        return schema["allOf"][0]["$ref"].rpartition(".")[2]
    return schema.get("format") or schema["type"]


def push_twice(client: FlaskClient, namespace: str, spec: dict[str, Any]) -> None:
    """Make the tag that a rollback is about, and something for it to go back to."""
    base = f"{GROUP_DOOR.prefix}/namespaces/{namespace}"
    client.post(f"{base}/imagestreams", json={"metadata": {"name": spec["stream"]}})
    for image in (spec["toImage"], "sha256:" + "0" * 64):
        pushed = {"metadata": {"name": image}, "dockerImageReference": f"registry.example.com/demo/web@{image}"}
        mapping = {"metadata": {"name": spec["stream"]}, "tag": spec["tag"], "image": pushed}
        assert client.post(f"{base}/imagestreammappings", json=mapping).status_code == 201


def told(schema: dict[str, Any]) -> str:
    """A property's type, and how it is merged, in the words of `UPSTREAM`."""
    key, merged = (schema.get(f"x-kubernetes-patch-{what}") for what in ("merge-key", "strategy"))
    return called(schema) + (" merged" if merged else "") + (f" by {key}" if key else "")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation of a document, with its path and method."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def inside(value: Any, word: str) -> Iterator[Any]:
    """Everything that stands under a word, however deep."""
    if isinstance(value, dict):
        if word in value:
            yield value[word]
        for one in value.values():
            yield from inside(one, word)
    elif isinstance(value, list):
        for one in value:
            yield from inside(one, word)


# --- what is in them


@pytest.mark.parametrize("document", ALL, ids=[door.prefix for door in DOCUMENTS])
def test_each_document_of_version_3_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV30SpecValidator(document).validate()


def test_the_document_of_version_2_is_valid() -> None:
    OpenAPIV2SpecValidator(V2).validate()


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_type_has_the_fields_that_clients_know(name: str) -> None:
    expected = dict(one.strip().split(" ", 1) for one in UPSTREAM[name].split(","))
    assert {field: told(schema) for field, schema in TYPES[name]["properties"].items()} == expected


def test_no_type_of_the_image_api_is_unexpected() -> None:
    ours = {name for name in TYPES if name.startswith("com.github.openshift.api.image.v1.")}
    lists = {name for name in ours if name.endswith("List") and name.removesuffix("List") in ours}
    assert ours - lists <= set(UPSTREAM)


def merged_lists(name: str, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The lists that a strategic merge patch merges, with their keys, in a type and the types in it."""
    for field, schema in TYPES[name].get("properties", {}).items():
        here = (*path, field)
        if "x-kubernetes-patch-strategy" in schema:
            yield here, schema.get("x-kubernetes-patch-merge-key", SET)
        for reference in inside({"": {**schema, "properties": {}}}, "$ref"):
            yield from merged_lists(reference.rpartition("/")[2], here)


@pytest.mark.parametrize("kind", ["Image", "ImageStream", "ImageStreamTag", "ImageTag"])
def test_the_server_merges_the_lists_that_the_document_says(kind: str) -> None:
    announced = {
        path: key
        for path, key in merged_lists(f"com.github.openshift.api.image.v1.{kind}")
        if "signatures" not in path or "metadata" not in path  # nobody patches what a signature's metadata lists
    }
    assert len(announced) > 2
    assert announced.items() <= IMAGE_LISTS.items()


def test_every_reference_leads_somewhere() -> None:
    for document in ALL:
        for reference in inside(document, "$ref"):
            assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    for reference in inside(V2, "$ref"):
        assert reference.removeprefix("#/definitions/") in V2["definitions"]


def test_everything_is_described_in_whole_sentences() -> None:
    for document in ALL:
        for name, schema in document["components"]["schemas"].items():
            assert re.search(r"^[^a-z].*\.$", schema["description"], re.DOTALL), name
            for field, described in schema.get("properties", {}).items():
                assert re.search(r"\.$", described["description"]), f"{name}.{field}"
        for path, method, operation in operations(document):
            assert operation["summary"], f"{method} {path}"


def test_a_kind_is_told_as_a_list_on_its_type_and_as_one_object_on_its_operations() -> None:
    kind = {"group": "image.openshift.io", "version": "v1", "kind": "ImageStream"}
    assert TYPES["com.github.openshift.api.image.v1.ImageStream"]["x-kubernetes-group-version-kind"] == [kind]
    path = "/apis/image.openshift.io/v1/namespaces/{namespace}/imagestreams"
    assert IMAGE["paths"][path]["post"]["x-kubernetes-group-version-kind"] == kind


def test_every_kind_that_an_operation_names_has_a_type() -> None:
    for document in ALL:
        kinds = [
            kind
            for schema in document["components"]["schemas"].values()
            for kind in schema.get("x-kubernetes-group-version-kind", ())
        ]
        for path, method, operation in operations(document):
            if "x-kubernetes-action" in operation:
                assert operation["x-kubernetes-group-version-kind"] in kinds, f"{method} {path}"


def test_actions_are_those_that_clients_look_for() -> None:
    base = "/apis/image.openshift.io/v1/namespaces/{namespace}/imagestreams"
    found = {(path, method): operation.get("x-kubernetes-action") for path, method, operation in operations(IMAGE)}
    assert {
        key: action for key, action in found.items() if key[0] in (base, base + "/{name}", base + "/{name}/status")
    } == {
        (base, "get"): "list",
        (base, "post"): "post",
        (base, "delete"): "deletecollection",
        (base + "/{name}", "get"): "get",
        (base + "/{name}", "put"): "put",
        (base + "/{name}", "patch"): "patch",
        (base + "/{name}", "delete"): "delete",
        (base + "/{name}/status", "get"): "get",
        (base + "/{name}/status", "put"): "put",
        (base + "/{name}/status", "patch"): "patch",
    }


def test_every_patch_takes_four_formats_and_the_parameters_that_kubectl_looks_for() -> None:
    patches = [operation for _, method, operation in operations(IMAGE) if method == "patch"]
    assert patches
    for operation in patches:
        assert list(operation["requestBody"]["content"]) == [
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ]
        query = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
        assert query >= {"dryRun", "fieldManager", "fieldValidation", "force"}


def test_every_operation_has_an_id_of_its_own() -> None:
    ids = [operation["operationId"] for document in ALL for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert {
        "listImageOpenshiftIoV1NamespacedImageStream",
        "listImageOpenshiftIoV1ImageStreamForAllNamespaces",
        "deleteImageOpenshiftIoV1CollectionNamespacedImageStream",
        "replaceImageOpenshiftIoV1NamespacedImageStreamStatus",
        "readImageOpenshiftIoV1Image",
        "createAuthorizationV1SelfSubjectAccessReview",
        "listCoreV1Namespace",
    } <= set(ids)


def test_version_2_has_the_operations_of_all_documents() -> None:
    everything = [(path, method) for document in ALL for path, method, _ in operations(document)]
    assert [(path, method) for path, method, _ in operations(V2)] == everything
    patch = V2["paths"]["/apis/image.openshift.io/v1/images/{name}"]["patch"]
    assert patch["parameters"][0]["schema"] == {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}
    assert "application/strategic-merge-patch+json" in patch["consumes"]


def test_version_2_names_all_groups_of_a_kind() -> None:
    kinds = V2["definitions"]["com.github.openshift.api.image.v1.ImageStream"]["x-kubernetes-group-version-kind"]
    assert {"group": "image.openshift.io", "version": "v1", "kind": "ImageStream"} in kinds
    for definition in V2["definitions"].values():
        told = [tuple(kind.values()) for kind in definition.get("x-kubernetes-group-version-kind", ())]
        assert len(told) == len(set(told))


def test_version_2_keeps_merge_keys_and_puts_words_beside_references() -> None:
    spec = V2["definitions"]["com.github.openshift.api.image.v1.ImageStreamSpec"]["properties"]
    assert spec["tags"]["x-kubernetes-patch-merge-key"] == "name"
    assert spec["tags"]["items"] == {"$ref": "#/definitions/com.github.openshift.api.image.v1.TagReference"}
    assert set(spec["lookupPolicy"]) == {"$ref", "description"}


# --- the server does what they say

ROUTELESS = "the server could not find the requested resource"


def is_served(client: FlaskClient, method: str, path: str) -> bool:
    """Whether there is anything at a path for a method."""
    filled = path.replace("{namespace}", "demo").replace("{name}", "absent")
    with client.open(filled, method=method.upper()) as answer:
        if answer.status_code == 200:  # perhaps a watch, which is not to be read to its end
            return True
        assert answer.status_code < 500, f"{method} {filled}: {answer.text}"
        return answer.status_code != 405 and not (answer.status_code == 404 and ROUTELESS in answer.text)


def test_every_operation_of_the_documents_is_served(client: FlaskClient) -> None:
    missing = [
        f"{method} {path}"
        for document in ALL
        for path, method, _ in operations(document)
        if not is_served(client, method, path)
    ]
    assert missing == []


def test_everything_that_is_served_is_in_the_documents(client: FlaskClient) -> None:
    told = {(path, method) for document in ALL for path, method, _ in operations(document)}
    prefixes = {door.prefix: resources for door, resources in GROUPS.items() if not door.legacy}
    subresources = {sub for resources in prefixes.values() for one in resources for sub in one.subresources}
    tried, found = 0, []
    for rule in client.application.url_map.iter_rules():
        path = re.sub(r"<(\w+)>", r"{\1}", rule.rule)
        if not path.startswith(tuple(f"{prefix}/" for prefix in prefixes)):
            continue
        for sub in sorted(subresources | {"others"}) if "{sub}" in path else [""]:
            here = path.replace("{sub}", sub)
            for method in METHODS:
                tried += 1
                if (here, method) not in told and is_served(client, method, here):
                    found.append(f"{method} {here}")
    assert tried > 200
    assert found == []


def json_schema(value: Any) -> Any:
    """OpenAPI's schema as JSON schema: null where it is allowed."""
    if isinstance(value, list):
        return [json_schema(one) for one in value]
    if not isinstance(value, dict):
        return value
    plain = {word: json_schema(one) for word, one in value.items() if word != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if value.get("nullable") is True else plain


SCHEMAS = {door: json_schema(document["components"]) for door, document in DOCUMENTS.items()}


def check(door: Door, response: dict[str, Any], body: Any) -> None:
    """Raises ValidationError if a body is not of the type that a response of the document has."""
    schema = response["content"]["application/json"]["schema"]
    jsonschema.validate(body, {**schema, "components": SCHEMAS[door]}, cls=jsonschema.Draft202012Validator)


NOTHING_TO_IMPORT = {
    "import": True,
    "images": [{"from": {"kind": "DockerImage", "name": "127.0.0.1:1/team/web:2"}}],
    "repository": {"from": {"kind": "DockerImage", "name": "127.0.0.1:1/team/web"}},
}
"""An import that fails without asking anybody."""


def namespace_of(door: Door) -> str:
    """A namespace for the examples of one group, since a kind can be in two."""
    return (door.group or "core").replace(".", "-")


def make_everything(client: FlaskClient) -> None:
    """Create the examples, so that there is something of every kind; check the answers."""
    for door, document in DOCUMENTS.items():
        streams_first = sorted(operations(document), key=lambda one: not one[0].endswith("/imagestreams"))
        for path, method, operation in streams_first:
            if method == "post":
                name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                example = document["components"]["schemas"][name]["example"]
                if path.endswith("/imagestreamimports"):
                    example = {**example, "spec": NOTHING_TO_IMPORT}
                if path.endswith("/localsubjectaccessreviews"):
                    asked = {**example["spec"]["resourceAttributes"], "namespace": namespace_of(door)}
                    example = {**example, "spec": {**example["spec"], "resourceAttributes": asked}}
                if path.endswith("/rollbacks"):
                    push_twice(client, namespace_of(door), example["spec"])
                answer = client.post(path.replace("{namespace}", namespace_of(door)), json=example)
                assert answer.status_code == 201, f"{path}: {answer.text}"
                check(door, operation["responses"]["201"], answer.json)


NAMES = {
    "namespaces": "demo",
    "users": "~",
    "images": kind_schema("Image").example["metadata"]["name"],
    "imagestreams": "web",
    "ungroupedimagestreams": "web",
    "imagestreamtags": "web:pushed",
    "imagetags": "web:next",
    "imagestreamimages": kind_schema("ImageStreamImage").example["metadata"]["name"],
}
QUESTIONS = {"diffs": "from=1", "imageusages": f"image={NAMES['images']}"}
"""What has to be asked of lists that are answers to a question."""


def test_answers_are_of_the_types_that_the_documents_say(client: FlaskClient) -> None:
    make_everything(client)
    for door, document in DOCUMENTS.items():
        for path, method, operation in operations(document):
            if method == "get" and not operation.get("deprecated"):
                resource = path.removesuffix("/status").partition("/{name}")[0].rpartition("/")[2]
                here = path.replace("{namespace}", namespace_of(door)).replace("{name}", NAMES.get(resource, ""))
                answer = client.get(here, query_string=QUESTIONS.get(resource))
                assert answer.status_code == 200, f"{here}: {answer.text}"
                check(door, operation["responses"]["200"], answer.json)


def test_refusals_are_of_the_type_that_the_documents_say(client: FlaskClient) -> None:
    for path, method, operation in operations(IMAGE):
        if "{name}" in path and not operation.get("deprecated"):
            answer = client.open(path.replace("{namespace}", "demo").replace("{name}", "absent"), method=method.upper())
            assert answer.status_code >= 400 or path.endswith("/secrets")
            if answer.status_code >= 400:
                check(GROUP_DOOR, operation["responses"]["default"], answer.json)


def test_a_body_of_another_type_than_the_document_says_is_not_valid() -> None:
    response = IMAGE["paths"]["/apis/image.openshift.io/v1/images/{name}"]["get"]["responses"]["200"]
    check(GROUP_DOOR, response, {"dockerImageLayers": None})
    with pytest.raises(jsonschema.ValidationError):
        check(GROUP_DOOR, response, {"dockerImageReference": None})
    with pytest.raises(jsonschema.ValidationError):
        check(GROUP_DOOR, response, {"dockerImageLayers": [{"size": "1"}]})


# --- how they are served


def test_the_index_leads_to_each_document_by_its_hash(client: FlaskClient) -> None:
    index = client.get("/openapi/v3").json["paths"]
    assert set(index) == {door.prefix.lstrip("/") for door in DOCUMENTS}
    for door, document in DOCUMENTS.items():
        address = index[door.prefix.lstrip("/")]["serverRelativeURL"]
        assert address.startswith(f"/openapi/v3{door.prefix}?hash=")
        answer = client.get(address, headers={"Accept": "application/json"})
        assert answer.content_type == "application/json"
        assert answer.json == json.loads(orjson.dumps(document))
        assert answer.headers["ETag"] == f'"{address.partition("=")[2]}"'


def test_a_document_asked_for_by_its_hash_may_be_kept_for_a_year(client: FlaskClient) -> None:
    address = client.get("/openapi/v3").json["paths"]["apis/image.openshift.io/v1"]["serverRelativeURL"]
    answer = client.get(address)
    assert answer.headers["Cache-Control"] == "public, immutable"
    assert parsedate_to_datetime(answer.headers["Expires"]) > datetime.now(UTC) + timedelta(days=300)
    assert "Accept" in answer.headers["Vary"]


def test_another_hash_leads_to_the_right_one(client: FlaskClient) -> None:
    address = client.get("/openapi/v3").json["paths"]["apis/image.openshift.io/v1"]["serverRelativeURL"]
    answer = client.get("/openapi/v3/apis/image.openshift.io/v1?hash=of-yesterday")
    assert answer.status_code == 301
    assert answer.headers["Location"] == address


@pytest.mark.parametrize("path", ["/openapi/v3", "/openapi/v3/apis/image.openshift.io/v1", "/openapi/v2"])
def test_who_has_a_document_is_not_sent_it_again(client: FlaskClient, path: str) -> None:
    first = client.get(path)
    assert first.headers["Cache-Control"] == "no-cache, private"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_documents_are_compressed_for_those_who_can_read_it(client: FlaskClient) -> None:
    path = "/openapi/v3/apis/image.openshift.io/v1"
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert "Content-Encoding" not in client.get(path, headers={"Accept-Encoding": "gzip;q=0"}).headers
    packed = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert gzip.decompress(packed.data) == plain.data
    assert len(packed.data) < len(plain.data) / 4


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/openapi/v3", V3_PROTOBUF),
        ("/openapi/v3/apis/image.openshift.io/v1", V3_PROTOBUF),
        ("/openapi/v2", V3_PROTOBUF),
        ("/openapi/v2", "text/html"),
    ],
)
def test_a_form_that_there_is_not_is_refused(client: FlaskClient, path: str, accept: str) -> None:
    answer = client.get(path, headers={"Accept": accept})
    assert (answer.status_code, answer.json["reason"]) == (406, "NotAcceptable")
    assert "application/json" in answer.json["message"]


def test_a_group_that_there_is_not_has_no_document(client: FlaskClient) -> None:
    answer = client.get("/openapi/v3/apis/apps/v1")
    assert (answer.status_code, answer.text) == (404, "404 page not found")


def test_version_2_comes_as_json_and_as_protobuf(client: FlaskClient) -> None:
    answer = client.get("/openapi/v2", headers={"Accept": "application/json"})
    assert answer.json == json.loads(orjson.dumps(V2))
    packed = client.get("/openapi/v2", headers={"Accept": V2_PROTOBUF})
    assert packed.content_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert packed.data.startswith(b"\x0a\x032.0")
    assert b"com.github.openshift.api.image.v1.TagReference" in packed.data
    assert packed.headers["ETag"] != answer.headers["ETag"]


# --- kubectl

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]

STREAM = """
apiVersion: image.openshift.io/v1
kind: ImageStream
metadata: {name: web}
spec: {tags: [{name: latest, from: {kind: DockerImage, name: "example.test/web:1"}}]}
"""


def test_kubectl_explains_fields(kubectl: Kubectl) -> None:
    tags = kubectl("explain", "imagestream.spec.tags").stdout
    assert "FIELD: tags <[]TagReference>" in tags
    assert re.search(r"importPolicy\s+<TagImportPolicy>\n    How the image is imported from a registry\.", tags)
    assert "from\t<ObjectReference>" in tags
    assert "A stream of container images under one name" in kubectl("explain", "is").stdout
    assert "FIELD: metadata <ObjectMeta>" in kubectl("explain", "imagestreammappings.image.metadata").stdout


def test_kubectl_checks_an_object_without_sending_it(kubectl: Kubectl) -> None:
    created = kubectl("create", "--dry-run=client", "-f", "-", stdin=STREAM).stdout
    assert created == "imagestream.image.openshift.io/web created (dry run)\n"
    assert kubectl("get", "is").stdout == ""


def test_kubectl_sends_a_change_of_one_tag_as_a_strategic_merge(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=STREAM)
    tag = '{"spec":{"tags":[{"name":"v2","from":{"kind":"DockerImage","name":"example.test/web:2"}}]}}'
    kubectl("patch", "is", "web", "-p", tag)
    applied = kubectl("apply", "-f", "-", "-v", "8", stdin=STREAM.replace("web:1", "web:3"))
    assert "Content-Type: application/strategic-merge-patch+json" in applied.stderr
    assert kubectl("get", "is", "web", "-o", "jsonpath={.spec.tags[*].name}").stdout == "latest v2"


def test_kubectl_fetches_a_document_once(kubectl: Kubectl) -> None:
    logs = [kubectl("explain", "is", "-v", "8").stderr for _ in range(2)]
    answers = [re.search(r"GET \S+/openapi/v3/apis/image.openshift.io/v1\?hash=.*", log, re.DOTALL) for log in logs]
    assert ["X-From-Cache" in answer[0] for answer in answers if answer] == [False, True]

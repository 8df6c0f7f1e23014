import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.protobuf import decode_review, encode_openapi_v2

DATA = Path(__file__).parent.parent / "data" / "protobuf"

ACCESS = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}


def sent(name: str) -> bytes:
    """A request body as kubectl sent it: 1.32, 1.33 and 1.37 send the same bytes."""
    return bytes.fromhex((DATA / f"{name}.hex").read_text())


# --- reading ---


@pytest.mark.parametrize(
    ("name", "review"),
    [
        (
            "can_i_create",
            ACCESS
            | {
                "spec": {
                    "resourceAttributes": {
                        "namespace": "default",
                        "verb": "create",
                        "group": "image.openshift.io",
                        "resource": "imagestreams",
                    }
                }
            },
        ),
        (
            "can_i_get_layers_of_one",
            ACCESS
            | {
                "spec": {
                    "resourceAttributes": {
                        "namespace": "shop",
                        "verb": "get",
                        "group": "image.openshift.io",
                        "resource": "imagestreams",
                        "subresource": "layers",
                        "name": "web",
                    }
                }
            },
        ),
        (
            "can_i_list_everywhere",
            ACCESS
            | {
                "spec": {
                    "resourceAttributes": {
                        "verb": "list",
                        "group": "image.openshift.io",
                        "resource": "imagestreams",
                    }
                }
            },
        ),
        (
            "can_i_get_path",
            ACCESS | {"spec": {"nonResourceAttributes": {"path": "/healthz", "verb": "get"}}},
        ),
        (
            "can_i_list_rules",
            {
                "kind": "SelfSubjectRulesReview",
                "apiVersion": "authorization.k8s.io/v1",
                "spec": {"namespace": "shop"},
            },
        ),
        ("whoami", {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}),
        ("create_namespace", {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}}),
    ],
)
def test_what_kubectl_sends_is_read(name: str, review: dict[str, Any]) -> None:
    assert decode_review(sent(name)) == review


def piece(number: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    assert number < 16
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def envelope(raw: bytes, kind: str = "SelfSubjectAccessReview", version: str = "authorization.k8s.io/v1") -> bytes:
    return b"k8s\0" + piece(1, piece(1, version) + piece(2, kind)) + piece(2, raw)


def test_a_review_of_somebody_else_names_user_and_groups() -> None:
    resource = piece(1, "shop") + piece(2, "get") + piece(5, "imagestreams") + piece(6, "layers")
    spec = piece(1, resource) + piece(3, "joe") + piece(4, "devs") + piece(4, "ops") + piece(6, "u-1")
    assert decode_review(envelope(piece(2, spec), "SubjectAccessReview")) == {
        "kind": "SubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {
            "resourceAttributes": {
                "namespace": "shop",
                "verb": "get",
                "resource": "imagestreams",
                "subresource": "layers",
            },
            "user": "joe",
            "groups": ["devs", "ops"],
            "uid": "u-1",
        },
    }


def test_a_message_sent_in_parts_is_put_together_and_of_a_repeated_text_the_last_counts() -> None:
    spec = [piece(2, part) for part in (piece(1, "/a"), piece(1, "/b"), piece(2, "get"))]
    assert decode_review(envelope(piece(2, spec[0] + spec[1]) + piece(2, spec[2])))["spec"] == {
        "nonResourceAttributes": {"path": "/b", "verb": "get"}
    }


def test_a_review_may_come_without_content() -> None:
    kind = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    assert decode_review(envelope(b"", *kind.values())) == kind
    assert decode_review(envelope(b"", *kind.values())[:-2]) == kind


def test_of_a_repeated_content_the_last_counts() -> None:
    body = envelope(b"\xff") + piece(2, piece(2, piece(1, b"")))
    assert decode_review(body)["spec"] == {"resourceAttributes": {}}


def test_attributes_without_content_are_there_all_the_same() -> None:
    assert decode_review(envelope(piece(2, piece(1, b""))))["spec"] == {"resourceAttributes": {}}


def test_unknown_fields_of_every_type_are_passed_over() -> None:
    unknown = b"\x78\x96\x01" + b"\x79" + bytes(8) + b"\x7d" + bytes(4) + piece(15, b"\xff")
    path = piece(2, unknown + piece(1, "/healthz") + unknown)
    body = envelope(unknown + piece(2, unknown + path))
    assert decode_review(body)["spec"] == {"nonResourceAttributes": {"path": "/healthz"}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"k8s",
        b"k8s\0",
        b"k8s\1" + envelope(b"")[4:],
        sent("can_i_create")[:-1],
        sent("can_i_create") + b"\x0a",
        sent("can_i_create") + b"\x0a\x05abc",
        envelope(b"", kind="Secret", version="v1"),
        envelope(b"", version="authorization.k8s.io/v1beta1"),
        envelope(b"\x12"),
        envelope(b"\x12\x02\x12"),
        envelope(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        envelope(b"\x12" + b"\xff" * 10),
        envelope(b"\x12" + b"\x80" * 10 + b"\x12\x00"),
        envelope(b"\x78\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        envelope(b"\x10\x01"),
        envelope(b"\x15abcd"),
        envelope(b"\x11abcdefgh"),
        envelope(b"\x7dabc"),
        envelope(b"\x79abcdefg"),
        envelope(b"\x13\x14"),
        envelope(b"\x16"),
        envelope(b"\x02\x00"),
        envelope(piece(2, piece(2, piece(1, b"\xff")))),
    ],
    ids=repr,
)
def test_a_malformed_body_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_review(body)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(sent(draw(st.sampled_from(["can_i_create", "can_i_list_rules", "create_namespace"]))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


@given(damaged() | st.binary() | st.binary().map(b"k8s\0".__add__) | st.binary(max_size=127).map(envelope))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        review = decode_review(body)
    except ValueError:
        return
    assert review["kind"]
    json.dumps(review)


# --- writing: an own reader, from the field numbers of gnostic's openapi.v2, gives the document back ---

MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Document": {
        1: ("swagger", "text"),
        2: ("info", "Info"),
        3: ("host", "text"),
        4: ("basePath", "text"),
        5: ("schemes", "text*"),
        6: ("consumes", "text*"),
        7: ("produces", "text*"),
        8: ("paths", "Paths"),
        9: ("definitions", "map Schema"),
        16: ("x-", "NamedAny"),
    },
    "Info": {1: ("title", "text"), 2: ("version", "text"), 3: ("description", "text"), 7: ("x-", "NamedAny")},
    "PathItem": {
        2: ("get", "Operation"),
        3: ("put", "Operation"),
        4: ("post", "Operation"),
        5: ("delete", "Operation"),
        6: ("options", "Operation"),
        7: ("head", "Operation"),
        8: ("patch", "Operation"),
        9: ("parameters", "ParametersItem*"),
        10: ("x-", "NamedAny"),
    },
    "Operation": {
        1: ("tags", "text*"),
        2: ("summary", "text"),
        3: ("description", "text"),
        5: ("operationId", "text"),
        6: ("produces", "text*"),
        7: ("consumes", "text*"),
        8: ("parameters", "ParametersItem*"),
        9: ("responses", "map ResponseValue"),
        10: ("schemes", "text*"),
        11: ("deprecated", "flag"),
        13: ("x-", "NamedAny"),
    },
    "BodyParameter": {
        1: ("description", "text"),
        2: ("name", "text"),
        3: ("in", "text"),
        4: ("required", "flag"),
        5: ("schema", "Schema"),
        6: ("x-", "NamedAny"),
    },
    "QueryParameterSubSchema": {
        1: ("required", "flag"),
        2: ("in", "text"),
        3: ("description", "text"),
        4: ("name", "text"),
        5: ("allowEmptyValue", "flag"),
        6: ("type", "text"),
        7: ("format", "text"),
        20: ("uniqueItems", "flag"),
        21: ("enum", "any*"),
        23: ("x-", "NamedAny"),
    },
    "PathParameterSubSchema": {
        1: ("required", "flag"),
        2: ("in", "text"),
        3: ("description", "text"),
        4: ("name", "text"),
        5: ("type", "text"),
        6: ("format", "text"),
        19: ("uniqueItems", "flag"),
        20: ("enum", "any*"),
        22: ("x-", "NamedAny"),
    },
    "Response": {1: ("description", "text"), 2: ("schema", "SchemaItem"), 5: ("x-", "NamedAny")},
    "JsonReference": {1: ("$ref", "text")},
    "Schema": {
        1: ("$ref", "text"),
        2: ("format", "text"),
        3: ("title", "text"),
        4: ("description", "text"),
        5: ("default", "any"),
        19: ("required", "text*"),
        20: ("enum", "any*"),
        21: ("additionalProperties", "AdditionalPropertiesItem"),
        22: ("type", "TypeItem"),
        23: ("items", "ItemsItem"),
        24: ("allOf", "Schema*"),
        25: ("properties", "map Schema"),
        31: ("x-", "NamedAny"),
    },
}
CHOICES: dict[str, dict[int, str]] = {
    "ParametersItem": {1: "Parameter", 2: "JsonReference"},
    "Parameter": {1: "BodyParameter", 2: "NonBodyParameter"},
    "NonBodyParameter": {
        1: "PathParameterSubSchema",  # a header's message is like a path's, a form's like a query's
        2: "QueryParameterSubSchema",
        3: "QueryParameterSubSchema",
        4: "PathParameterSubSchema",
    },
    "ResponseValue": {1: "Response", 2: "JsonReference"},
    "SchemaItem": {1: "Schema"},
    "ItemsItem": {1: "Schema"},
    "AdditionalPropertiesItem": {1: "Schema", 2: "flag"},
}


def wire(message: bytes) -> Iterator[tuple[int, Any]]:
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (message[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if message[at - 1] < 0x80:
                return value

    while at < len(message):
        key = number()
        value = number()
        if key & 7 == 2:
            content, at = message[at : at + value], at + value
            assert at <= len(message)
            yield key >> 3, content
        else:
            assert key & 7 == 0
            yield key >> 3, value


def read(kind: str, content: Any) -> Any:
    if kind == "text":
        return content.decode()
    if kind == "flag":
        return {0: False, 1: True}[content]
    if kind == "any":
        [(number, value)] = wire(content)
        assert number == 2
        return json.loads(value)
    if kind == "TypeItem":
        values = [value.decode() for number, value in wire(content) if number == 1]
        return values[0] if len(values) == 1 else values
    if kind == "Paths":
        return dict(named("PathItem", item) for number, item in wire(content) if number == 2)
    if kind.startswith("map "):
        return dict(named(kind[4:], item) for number, item in wire(content) if number == 1)
    if kind in CHOICES:
        [(number, value)] = wire(content)
        return read(CHOICES[kind][number], value)
    found: dict[str, Any] = {}
    for number, value in wire(content):
        name, inner = MESSAGES[kind][number]
        if inner == "NamedAny":
            found.update([named("any", value)])
        elif inner.endswith("*"):
            found.setdefault(name, []).append(read(inner[:-1], value))
        else:
            assert name not in found
            found[name] = read(inner, value)
    return found


def named(kind: str, entry: bytes) -> tuple[str, Any]:
    (first, name), (second, value) = wire(entry)
    assert (first, second) == (1, 2)
    return name.decode(), read(kind, value)


texts = st.text(st.characters(codec="utf-8"), max_size=200)
names = st.sampled_from(["a", "b", "ImageStream", "größe"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=3,
)
extensions = {"x-kubernetes-action": values, "x-kubernetes-group-version-kind": values}
several = st.lists(texts, min_size=1, max_size=3)


def some(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional | extensions)


references = st.fixed_dictionaries({"$ref": texts})
schemas = st.recursive(
    some({}, {"type": texts, "format": texts, "title": texts, "description": texts, "default": values})
    | some({"$ref": texts}, {"description": texts}),
    lambda inner: some(
        {},
        {
            "type": texts | st.lists(texts, min_size=2, max_size=2),
            "required": several,
            "enum": st.lists(values, min_size=1, max_size=2),
            "items": inner,
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "additionalProperties": st.booleans() | inner,
            "properties": st.dictionaries(names, inner, max_size=2),
        },
    ),
    max_leaves=4,
)
parameters = st.lists(
    references
    | some({"name": texts, "in": st.just("body"), "schema": schemas}, {"required": st.booleans()})
    | some(
        {"name": texts, "in": st.sampled_from(["query", "path", "header", "formData"])},
        {"description": texts, "required": st.booleans(), "type": texts, "format": texts}
        | {"uniqueItems": st.booleans(), "enum": st.lists(values, min_size=1, max_size=2)},
    ),
    min_size=1,
    max_size=2,
)
operations = some(
    {"responses": st.dictionaries(names, references | some({"description": texts}, {"schema": schemas}), max_size=2)},
    {"tags": several, "summary": texts, "description": texts, "operationId": texts, "produces": several}
    | {"consumes": several, "parameters": parameters, "schemes": several, "deprecated": st.booleans()},
)
path_items = some(
    {},
    dict.fromkeys(("get", "put", "post", "delete", "options", "head", "patch"), operations)
    | {"parameters": parameters},
)
documents = some(
    {
        "swagger": st.just("2.0"),
        "info": some({"title": texts, "version": texts}, {"description": texts}),
        "paths": st.dictionaries(names, path_items, max_size=1),
        "definitions": st.dictionaries(names, schemas, max_size=2),
    },
    {"host": texts, "basePath": texts, "schemes": several, "consumes": several, "produces": several},
)


@given(documents)
def test_a_written_document_reads_back_the_same(document: dict[str, Any]) -> None:
    assert read("Document", encode_openapi_v2(document)) == document


def test_values_are_written_as_yaml_knows_them() -> None:
    # YAML has no escapes of the sort that JSON writes in two halves.
    assert '"größe 😀"'.encode() in encode_openapi_v2({"definitions": {"A": {"default": "größe 😀"}}})


def test_a_small_document_is_these_bytes() -> None:
    document = {"swagger": "2.0", "definitions": {"A": {"type": "object", "x-k": [1]}}}
    assert encode_openapi_v2(document) == (
        b"\x0a\x032.0"
        b"\x4a\x21\x0a\x1f\x0a\x01A\x12\x1a"
        b"\xb2\x01\x08\x0a\x06object"
        b"\xfa\x01\x0c\x0a\x03x-k\x12\x05\x12\x03[1]"
    )


@pytest.mark.parametrize(
    ("unknown", "document"),
    [
        ("securityDefinitions", {"securityDefinitions": {}}),
        ("license", {"info": {"license": {}}}),
        ("maximum", {"definitions": {"A": {"maximum": 3}}}),
        ("trace", {"paths": {"/": {"trace": {}}}}),
        ("cookie", {"paths": {"/": {"parameters": [{"name": "a", "in": "cookie"}]}}}),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(unknown: str, document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=unknown):
        encode_openapi_v2(document)

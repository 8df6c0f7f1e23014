"""Bodies that are no JSON, no YAML, not what they say they are, or too long: refused, with the right code."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from hostile import APPLY, IMAGE_API, JSON, PATCHES, STREAMS, ask

from api import create_app
from imagestream_es.settings import Settings

MAX_BODY = 3 * 1024 * 1024
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A client of one application for all that is sent here."""
    app = create_app(
        Settings(data_dir=tmp_path_factory.mktemp("hostile") / "data", import_controller="off", access_log="off")
    )
    yield app.test_client()
    app.extensions["imagestream"].close()


@pytest.fixture(autouse=True)
def works_afterwards(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """There is one stream; whatever comes, it is still there then, and nothing was logged."""
    ask(client, "DELETE", STREAMS)
    assert ask(client, "POST", STREAMS, {"metadata": {"name": "web"}}).status_code == 201
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert ask(client, "GET", f"{STREAMS}/web").status_code == 200


def code(client: FlaskClient, body: bytes, media_type: str = JSON) -> int:
    """The code of an answer to the creation of a stream."""
    return ask(client, "POST", STREAMS, body, content_type=media_type).status_code


# --- bytes


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"\xff\xfe",
        b'{"metadata":{"name":"\xff"}}',
        b'{"metadata":{"name":"\xc3"}}',
        b'{"metadata":{"name":"\xed\xa0\x80"}}',
        b'{"metadata":{"name":"\xf4\x90\x80\x80"}}',
        b'{"metadata":{"name":"a\x00b"}}',
        b'{"metadata":{"name":"a\nb"}}',
        b'{"metadata":{"name":"\\ud800"}}',
        b'{"metadata":{"name":"\\udc00\\ud800"}}',
        b'{"metadata":{"annotations":{"a":"\\u0000"}}}',
        b'{"metadata":{"name":"\\x00"}}',
        b"\xef\xbb\xbf{}",
        '{"metadata":{}}'.encode("utf-16"),
        b"{",
        b"{}{}",
        b"{}\x00",
        b"{'a':1}",
        b"{a:1}",
        b'{"a":1,}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b'{"a":01}',
        b'{"a":0x1}',
        b'{"a":.5}',
        b"// {}",
        b"[7]",
        b"null",
        b"true",
        b"7",
        b'"{}"',
        b"<xml/>",
        b"a=1&b=2",
        b"k8s\x00",
        gzip.compress(b"{}", mtime=0),
        bytes(range(256)) * 100,
    ],
)
def test_what_is_no_object_in_json_is_refused_in_every_place(client: FlaskClient, body: bytes) -> None:
    assert code(client, body) == 400
    assert ask(client, "PUT", f"{STREAMS}/web", body).status_code == 400
    for media_type in PATCHES:
        assert ask(client, "PATCH", f"{STREAMS}/web", body, content_type=media_type).status_code == 400
    if body.strip():
        assert ask(client, "DELETE", f"{STREAMS}/web", body).status_code == 400


@pytest.mark.parametrize(("body", "told"), [(b"null", "null"), (b"[]", "array"), (b"1.5", "number"), (b"true", "bool")])
def test_what_is_no_object_is_named_as_json_names_it(client: FlaskClient, body: bytes, told: str) -> None:
    for answer in (
        ask(client, "POST", STREAMS, body, content_type=JSON),
        ask(client, "PATCH", f"{STREAMS}/web?fieldManager=me", body, content_type=APPLY),
    ):
        assert (answer.json or {})["message"] == f"the body must be an object of kind ImageStream, not {told}"


def test_an_escaped_backslash_before_u0000_is_no_nul(client: FlaskClient) -> None:
    body = {"metadata": {"name": "fine", "annotations": {"a": "\\u0000"}}}
    assert ask(client, "POST", STREAMS, body).get_json()["metadata"]["annotations"] == {"a": "\\u0000"}
    assert ask(client, "POST", STREAMS, {"metadata": {"name": "bad", "annotations": {"a": "\\\0"}}}).status_code == 400


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"Content-Encoding": "gzip"}, gzip.compress(b"{}", mtime=0)),
        ({"Content-Encoding": "gzip"}, gzip.compress(bytes(10**8), mtime=0)),
    ],
)
def test_a_compressed_body_is_not_unpacked(client: FlaskClient, headers: dict[str, str], data: bytes) -> None:
    assert ask(client, "POST", STREAMS, data, headers=headers).status_code == 400


# --- YAML


@pytest.mark.parametrize(
    "body",
    [
        "&a [*a]",
        "a: &a x\nb: *a",
        "a: &a [x]\nb: &b [*a,*a]\nc: &c [*b,*b]",
        "<<: &a {metadata: {name: bomb}}\nb: *a",
        "a: *nowhere",
        "!!python/object/apply:os.system [id]",
        "!!python/name:os.system",
        "a: !!python/tuple [1]",
        "a: !!timestamp yesterday",
        "a: !!int ''",
        "a: !!int x",
        "a: !!float x",
        "a: !!bool perhaps",
        "a: !!null x",
        "a: !!binary x",
        "a: !!set {a, b}",
        "a: !!omap [a: 1]",
        "!private {a: 1}",
        "a: 1\n---\nb: 2",
        "--- {}\n--- {}",
        "{}\n...\n{}",
        "[a]: b",
        "? {a: b}\n: c",
        "<<: 5",
        "<<: [5]",
        "{",
        "}",
        "a: b: c",
        "\ta: b",
        "- a\nb: c",
        'a: "\\ud800"',
        'a: "\\0"',
        "a: \x00",
        "%YAML 9.9\n--- {}",
        "%TAG ! tag:\n--- !x {}",
        f"a: {'9' * 5000}",
        f"a: {'9' * 30}",
        "a",
        "- a",
        "~",
        "",
        "# nothing",
    ],
)
def test_yaml_that_is_more_or_less_than_an_object_in_json_is_refused(client: FlaskClient, body: str) -> None:
    assert code(client, body.encode("utf-8", "surrogatepass"), YAML) == 400
    answer = ask(client, "PATCH", f"{STREAMS}/web?fieldManager=m", body.encode(), content_type=APPLY)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"a: \xff",
        b"\xff\xfe\x00",
        "{}".encode("utf-32"),
        b"\x80\x81",
        bytes(range(256)),
    ],
)
def test_yaml_that_is_no_text_is_refused(client: FlaskClient, body: bytes) -> None:
    assert code(client, body, YAML) == 400


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        ("a: &a [x]\n" + "".join(f"b{n}: &b{n} [*a,*a,*a]\n" for n in range(100)), 400),
        ("[" + "[]," * 1_000_000 + "]", 413),
        ("- a\n" * 700_000, 413),
        ("{" + ",".join(f"a{n}: 1" for n in range(200_000)) + "}", 413),
        ("---\n" * 700_000, 400),
        ("- " * 1_000_000, 400),
        ("? " * 1_000_000, 400),
        ("".join(f"- &a{n} b\n" for n in range(200_000)), 413),
        ("a: 1" + ":1" * 1_000_000, 422),
        ("a: 1" + ":1" * 1_000_000 + ".5", 422),
        ("a: 0x" + "f" * 1_000_000, 400),
        ("a:" + "\n" * 3_000_000, 422),
        ("#\n" * 1_500_000, 400),
        ("'" + "a" * 3_000_000, 400),
        ("- &" + "a" * 3_000_000, 400),
        ("<<: {" * 60 + "a: b" + "}" * 60, 422),
    ],
    ids=range(16),
)
def test_no_yaml_takes_long(client: FlaskClient, piece: str, expected: int) -> None:
    assert code(client, piece.encode(), YAML) == expected


def test_yaml_means_what_it_means_to_kubernetes(client: FlaskClient) -> None:
    annotations = "{time: 1:30, date: 2001-01-01, quoted: '5', text: !!str 5, 7: seven}"
    body = f"metadata:\n  name: yaml\n  annotations: {annotations}\n  <<: {{labels: {{a: b}}}}\n  generation: 0x10"
    made = ask(client, "POST", STREAMS, body.encode(), content_type=YAML)
    assert made.status_code == 201
    metadata = made.get_json()["metadata"]
    assert metadata["annotations"] == {"time": "1:30", "date": "2001-01-01", "quoted": "5", "text": "5", "7": "seven"}
    assert metadata["labels"] == {"a": "b"}


# --- length


@pytest.mark.parametrize("media_type", [JSON, YAML, PROTOBUF, *PATCHES, APPLY, "text/html", ""])
def test_a_body_beyond_3_mib_is_too_large_whatever_it_is(client: FlaskClient, media_type: str) -> None:
    for length in (MAX_BODY + 1, 5 * 1024 * 1024):
        for method, path in (("POST", STREAMS), ("PUT", f"{STREAMS}/web"), ("PATCH", f"{STREAMS}/web")):
            answer = ask(client, method, path, b" " * length, content_type=media_type)
            assert answer.status_code == 413
            assert answer.get_json()["reason"] == "RequestEntityTooLarge"
    assert ask(client, "DELETE", f"{STREAMS}/web", b" " * (MAX_BODY + 1)).status_code == 413


def test_a_body_of_3_mib_is_read(client: FlaskClient) -> None:
    body = b'{"metadata":{"name":"large"}}'
    assert code(client, body + b" " * (MAX_BODY - len(body))) == 201


# --- types


@pytest.mark.parametrize(
    "media_type",
    [
        "text/html",
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/cbor",
        "application/jsonx",
        "json",
        "*/*",
        "x" * 5000,
        "\u00ff",
    ],
)
def test_a_body_of_another_type_is_unsupported(client: FlaskClient, media_type: str) -> None:
    for method, path in (("POST", STREAMS), ("PUT", f"{STREAMS}/web"), ("PATCH", f"{STREAMS}/web")):
        answer = ask(client, method, path, {"metadata": {"name": "new"}}, content_type=media_type)
        assert answer.status_code == 415
        assert answer.get_json()["reason"] == "UnsupportedMediaType"
    assert ask(client, "DELETE", f"{STREAMS}/web", {}, content_type=media_type).status_code == 415


@pytest.mark.parametrize(
    "media_type", ["", ";", "application/json; charset=latin-1", "APPLICATION/JSON", " application/json "]
)
def test_an_odd_way_to_say_json_is_json(client: FlaskClient, media_type: str) -> None:
    assert ask(client, "POST", STREAMS, {"metadata": {"name": "new"}}, content_type=media_type).status_code == 201


@pytest.mark.parametrize("media_type", [JSON, YAML, PROTOBUF])
def test_an_ordinary_body_is_no_patch(client: FlaskClient, media_type: str) -> None:
    assert ask(client, "PATCH", f"{STREAMS}/web", {}, content_type=media_type).status_code == 415


@pytest.mark.parametrize("media_type", [*PATCHES, APPLY])
def test_a_patch_is_no_ordinary_body(client: FlaskClient, media_type: str) -> None:
    assert ask(client, "POST", STREAMS, {}, content_type=media_type).status_code == 415


ENVELOPE = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"k8s",
        b"k8s\0",
        b"k8s\0\xff",
        b"k8s\0" + b"\xff" * 1000,
        ENVELOPE[:-1],
        ENVELOPE + b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ENVELOPE + b"\x12\x02\x0a\x05",
        ENVELOPE + b"\x12\x05\x0a\x03\x0a\x01\xff",
        ENVELOPE + b"\x0b" * 100_000,
        bytes(range(256)),
    ],
)
def test_broken_protobuf_is_refused(client: FlaskClient, body: bytes) -> None:
    answer = ask(client, "POST", "/api/v1/namespaces", body, content_type=PROTOBUF)
    assert answer.status_code == 400


def test_much_protobuf_is_answered(client: FlaskClient) -> None:
    names = b"\x0a\x03\x0a\x01a" * 500_000
    body = ENVELOPE + b"\x12\x80\xe8\x98\x01" + names[:2_500_608]
    assert ask(client, "POST", "/api/v1/namespaces", body, content_type=PROTOBUF).status_code in (201, 400, 422)


# --- patches


@pytest.mark.parametrize(
    "patch",
    [
        {},
        [1],
        [[]],
        [{}] * 10_001,
    ],
)
def test_what_is_no_list_of_operations_is_refused(client: FlaskClient, patch: Any) -> None:
    answer = ask(client, "PATCH", f"{STREAMS}/web", patch, content_type=PATCHES[0])
    assert answer.status_code in (400, 413)


@pytest.mark.parametrize(
    "operation",
    [
        {},
        {"op": "add"},
        {"op": "add", "path": 7, "value": 1},
        {"op": "add", "path": "no slash", "value": 1},
        {"op": "add", "path": "/~2", "value": 1},
        {"op": "add", "path": "/a/b/c", "value": 1},
        {"op": "add", "path": "/metadata/finalizers/99", "value": "a/b"},
        {"op": "add", "path": "", "value": []},
        {"op": "add", "path": "", "value": None},
        {"op": "remove", "path": ""},
        {"op": "remove", "path": "/nowhere"},
        {"op": "replace", "path": "/nowhere", "value": 1},
        {"op": "move", "path": "/metadata/labels", "from": "/metadata"},
        {"op": "move", "path": "/a"},
        {"op": "copy", "path": "/a", "from": ["metadata"]},
        {"op": "copy", "path": "/a", "from": "/nowhere"},
        {"op": "test", "path": "/metadata", "value": {}},
        {"op": "test", "path": "/metadata/name"},
        {"op": ["add"], "path": "/a", "value": 1},
        {"op": "__class__", "path": "/a"},
        {"op": "add", "path": "/" * 100_000, "value": 1},
    ],
)
def test_an_operation_that_does_not_fit_is_unprocessable(client: FlaskClient, operation: dict[str, Any]) -> None:
    answer = ask(client, "PATCH", f"{STREAMS}/web", [operation], content_type=PATCHES[0])
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/metadata", "value": None},
        {"op": "replace", "path": "/metadata", "value": "web"},
        {"op": "replace", "path": "/metadata", "value": {}},
        {"op": "remove", "path": "/metadata"},
        {"op": "remove", "path": "/metadata/resourceVersion"},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": 7},
        {"op": "replace", "path": "/metadata/managedFields", "value": [{"manager": {}}]},
        {"op": "replace", "path": "/kind", "value": ["Image"]},
        {"op": "replace", "path": "/spec", "value": "x"},
        {"op": "add", "path": "/metadata/labels", "value": {"a": {}}},
    ],
)
def test_a_patch_that_leaves_no_stream_is_refused(client: FlaskClient, operation: dict[str, Any]) -> None:
    answer = ask(client, "PATCH", f"{STREAMS}/web", [operation], content_type=PATCHES[0])
    assert answer.status_code in (200, 400, 422)
    assert ask(client, "GET", f"{STREAMS}/web").get_json()["metadata"]["name"] == "web"


def test_a_patch_cannot_make_an_object_many_times_its_size(client: FlaskClient) -> None:
    bomb = [{"op": "add", "path": "/x", "value": ["x" * 1000]}]
    bomb += [{"op": "copy", "path": "/x/-", "from": "/x"}] * 100
    assert ask(client, "PATCH", f"{STREAMS}/web", bomb, content_type=PATCHES[0]).status_code == 413


# --- what clients wrote in answers


@pytest.mark.parametrize(
    "name", ["a\r\nSet-Cookie: b", 'a", 299 - "b', "a\\", "\u202e\U0001f600", "\x7f\x1b[2J", "é" * 1000]
)
def test_an_unknown_field_cannot_break_out_of_its_warning(client: FlaskClient, name: str) -> None:
    made = ask(client, "POST", STREAMS, {"metadata": {"name": "new"}, name: 1})
    assert made.status_code == 201
    assert "Set-Cookie" not in made.headers
    (warning,) = made.headers.getlist("Warning")
    assert warning.startswith('299 - "unknown field ')
    assert warning.isascii()
    assert warning.isprintable()
    assert ask(client, "POST", f"{STREAMS}?fieldValidation=Strict", {"metadata": {}, name: 1}).status_code == 400


def test_many_and_long_warnings_are_cut(client: FlaskClient) -> None:
    made = ask(client, "POST", STREAMS, {"metadata": {"name": "new"}} | {f"{n}{'x' * 9_000}": n for n in range(300)})
    assert made.status_code == 201
    warnings = made.headers.getlist("Warning")
    assert warnings
    assert sum(map(len, warnings)) < 8_192


def test_many_problems_are_not_all_told(client: FlaskClient) -> None:
    body = {"metadata": {"name": "new", "labels": {f"!{n}": "x" * 200 for n in range(10_000)}}}
    answer = ask(client, "POST", STREAMS, body)
    assert answer.status_code == 422
    assert len(answer.get_json()["details"]["causes"]) == 100
    assert len(answer.data) < 200_000


def test_a_long_value_is_not_told_whole(client: FlaskClient) -> None:
    spec = {"tags": [{"name": "a", "from": {"kind": "DockerImage", "name": "!" * 1_000_000}}]}
    answer = ask(client, "POST", STREAMS, {"metadata": {"name": "new"}, "spec": spec})
    assert answer.status_code == 422
    assert len(answer.data) < 10_000


def test_the_last_of_several_equal_keys_counts_and_strict_refuses_them(client: FlaskClient) -> None:
    body = b'{"metadata":{"name":"one"},"metadata":{"name":"two"},"metadata":{"name":"three","name":"four"}}'
    assert ask(client, "POST", f"{STREAMS}?fieldValidation=Strict", body).status_code == 400
    made = ask(client, "POST", STREAMS, body)
    assert made.get_json()["metadata"]["name"] == "four"
    assert len(made.headers.getlist("Warning")) == 2
    many = b'{"metadata":{"name":"five"},' + b",".join([b'"a":1'] * 400_000) + b"}"
    assert code(client, many) == 201


# --- other resources read bodies too


@pytest.mark.parametrize(
    "path",
    [
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        "/api/v1/namespaces",
        f"{IMAGE_API}/images",
        f"{IMAGE_API}/imagesignatures",
    ],
)
@pytest.mark.parametrize(
    "body", [{}, {"spec": 7}, {"spec": [1]}, {"spec": {"resourceAttributes": 7}}, {"metadata": 7}, []]
)
def test_odd_bodies_of_other_kinds_are_answered_in_any_form(client: FlaskClient, path: str, body: Any) -> None:
    for accept in (
        JSON,
        YAML,
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    ):
        ask(client, "POST", path, body, headers={"Accept": accept})


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "Other"},
        {"kind": {}},
        {"preconditions": 7},
        {"preconditions": {"uid": 7}},
        {"preconditions": {"uid": False}},
        {"preconditions": {"resourceVersion": {}}},
        {"preconditions": {"resourceVersion": "x"}},
        {"preconditions": {"resourceVersion": "9" * 100}},
        {"dryRun": "All"},
        {"dryRun": ["All", "All"]},
        {"dryRun": {}},
    ],
)
def test_odd_options_delete_nothing(client: FlaskClient, options: Any) -> None:
    answer = ask(client, "DELETE", f"{STREAMS}/web", json.dumps(options).encode())
    assert answer.status_code == 400

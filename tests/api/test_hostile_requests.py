"""Paths, queries, headers and methods that nobody sends in earnest: they are answered as what they say, or refused."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from hostile import APPLY, IMAGE_API, JSON, NAMESPACE, PATCHES, SEED_VARIABLE, STREAMS, ask, check_status, random_seed
from hypothesis import HealthCheck, given, note, seed
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from api import create_app, listing, watch
from api.groups import GROUPS
from imagestream_es.settings import Settings

MERGE = PATCHES[1]
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
RESOURCES = sorted(
    f"{door.prefix}{'/namespaces/fuzz' if resource.namespaced else ''}/{resource.name}"
    for door, resources in GROUPS.items()
    for resource in resources
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A client of one application, in which there are two streams."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("hostile") / "data", import_controller="off", access_log="off")
    app = create_app(settings)
    client = app.test_client()
    for name in ("web", "api"):
        assert ask(client, "POST", STREAMS, {"metadata": {"name": name}}).status_code == 201
    yield client
    app.extensions["imagestream"].close()


@pytest.fixture(autouse=True)
def works_afterwards(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing was logged, and both streams are there as before."""
    before = ask(client, "GET", STREAMS).get_json()["items"]
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert ask(client, "GET", STREAMS).get_json()["items"] == before


# --- paths


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("web%2fstatus", 200),  # a slash by another name: the path says the same
        ("web%2Fnothing", 404),
        ("web/", 200),
        ("web//", 404),
        ("/web", 404),
        ("web%252fstatus", 400),
        ("%2577eb", 400),
        (".", 400),
        ("..", 400),
        ("%2e%2e", 400),
        ("%2e", 400),
        ("..%2f..%2fimages", 404),
        ("../api", 404),
        ("%00", 400),
        ("web%00", 400),
        ("web%0a", 400),
        ("web%1b[2J", 400),
        ("web%7f", 400),
        ("%", 400),
        ("%zz", 400),
        ("%u0077", 400),
        ("web%", 400),
        ("web;x", 404),
        ("web;x=1", 404),
        ("web.", 404),
        ("web ", 404),
        ("web%20", 404),
        ("WEB", 404),
        ("%77eb", 200),
        ("ẉeb", 404),
        ("\uff57\uff45\uff42", 404),
        ("we\u0301b", 404),
        ("web\u200b", 404),
        ("%ff", 404),
        ("%c0%af", 404),
        ("%ed%a0%80", 404),
        ("web\\..\\api", 404),
        ("a" * 5_000, 404),
        ("web?", 200),
        ("*", 404),
        ("~", 404),
        ("-", 404),
        ("'; DROP TABLE streams; --", 404),
        ("{{7*7}}", 404),
        ("%24%7b7*7%7d", 404),
    ],
)
def test_a_name_in_a_path_is_what_it_says_once_decoded(client: FlaskClient, name: str, code: int) -> None:
    assert ask(client, "GET", f"{STREAMS}/{name}").status_code == code
    if code != 200:
        for method in ("PUT", "DELETE"):
            assert ask(client, method, f"{STREAMS}/{name}", {"metadata": {}}).status_code in (400, 404, 405, 422)


@pytest.mark.parametrize(
    "namespace",
    [
        "..",
        "%2e%2e",
        ".",
        "FUZZ",
        "fuzz.",
        "fuzz%00",
        "fuzz%0a",
        "fuzz%20",
        "%",
        "fu\u017fz",
        "a" * 5_000,
        "fuzz;x",
        "%ff",
        "_",
    ],
)
def test_what_is_no_namespace_is_none(client: FlaskClient, namespace: str) -> None:
    path = f"{IMAGE_API}/namespaces/{namespace}/imagestreams"
    for method, where in (
        ("GET", path),
        ("GET", f"{path}/web"),
        ("POST", path),
        ("DELETE", path),
        ("DELETE", f"{path}/web"),
    ):
        assert ask(client, method, where, {"metadata": {"name": "x"}}).status_code == 400
    assert ask(client, "GET", f"{path}?watch=1").status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/apis/../api",
        "/apis/%2e%2e/api",
        "/etc/passwd",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2f",
        "/docs/../../x",
        "/docs/%2e%2e%2fapp",
        "/nowhere",
        "/%00",
        "/%ff",
        "/apis/other.example.com/v1",
        "/apis/image.openshift.io/v2/imagestreams",
        f"{IMAGE_API}//imagestreams",
        f"/{'a/' * 2_000}",
    ],
)
def test_other_paths_are_not_found(client: FlaskClient, path: str) -> None:
    assert ask(client, "GET", path).status_code == 404


NAMES = (
    "%00",
    "..",
    "a%2fb",
    "%ff",
    "a" * 5_000,
    ":",
    "@",
    "a:b:c",
    "a@b@c",
    ":@",
    "a@",
    "@a",
    "web:%0a",
    "web:..",
    "web@sha256:",
)


@pytest.mark.parametrize("path", RESOURCES)
def test_no_name_breaks_any_resource(client: FlaskClient, path: str) -> None:
    for name in NAMES:
        for method in ("GET", "PUT", "PATCH", "DELETE", "POST"):
            ask(client, method, f"{path}/{name}", {}, content_type=JSON)
            ask(client, method, f"{path}/{name}/status", {}, content_type=MERGE)


# --- queries


NASTY = (
    "",
    " ",
    "0",
    "1",
    "-1",
    "--1",
    "-",
    "+1",
    "00",
    "1.5",
    "1e9",
    "0x1",
    "9" * 18,
    "9" * 19,
    "9" * 20,
    "9" * 5_000,
    "18446744073709551616",
    "\u0661",
    "\u00b2",
    "NaN",
    "true",
    "TRUE",
    "false",
    "null",
    "All",
    "Exact",
    "NotOlderThan",
    "Strict",
    "x",
    ",",
    "=",
    "a=b",
    "a in (",
    "a in (b,c))",
    "!",
    "!!a",
    "a" * 5_000,
    "a," * 3_000,
    "metadata.name=",
    "metadata.name=a\\",
    "metadata.name=\x00",
    "metadata.namespace!=..",
    "\x00",
    "\r\nX: y",
    "\u202e\U0001f600",
    "../..",
    "{}",
    "[]",
    '"',
    "%",
    "%00",
    "W10",
    base64.urlsafe_b64encode(b"[]").decode(),
    base64.urlsafe_b64encode(b"[1]").decode(),
    base64.urlsafe_b64encode(b"null").decode(),
    base64.urlsafe_b64encode(b'[-1,"",""]').decode(),
    base64.urlsafe_b64encode(b'[1.5,"",""]').decode(),
    base64.urlsafe_b64encode(b'[true,"",""]').decode(),
    base64.urlsafe_b64encode(b'[1,"\\u0000",null]').decode(),
    base64.urlsafe_b64encode(b'{"1":1,"2":2,"3":3}').decode(),
    base64.urlsafe_b64encode(b"[" * 5_000).decode(),
)

TOO_NEW = base64.urlsafe_b64encode(b'[18446744073709551615,"",""]').decode()
"""Asks for a page at a position that no log has, and no database can count to."""

OF_READS = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "includeObject",
    "labelSelector",
    "limit",
    "pretty",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
    "unknown",
)
OF_WRITES = (
    "dryRun",
    "fieldManager",
    "fieldValidation",
    "force",
    "gracePeriodSeconds",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
    "resourceVersion",
    "watch",
)


@pytest.fixture(scope="module")
def impatient() -> Iterator[None]:
    """A version that is not there yet is not waited for, nor are changes in a watch."""
    seconds = watch._seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "WAIT", 0.0)
        patch.setattr(watch, "_seconds", lambda text: min(seconds(text), 0.0))
        yield


READS: tuple[tuple[str, dict[str, str]], ...] = (
    (STREAMS, {}),
    (STREAMS, {"limit": "1", "resourceVersion": "1"}),
    (STREAMS, {"watch": "1"}),
    (f"{STREAMS}/web", {"resourceVersionMatch": "Exact"}),
)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("parameter", OF_READS)
def test_no_value_of_a_parameter_breaks_a_read(client: FlaskClient, parameter: str) -> None:
    for value in NASTY:
        for path, more in READS:
            ask(client, "GET", path, query_string=more | {parameter: value}, headers={"Accept": f"{TABLE},{JSON}"})


@pytest.mark.parametrize("parameter", OF_WRITES)
def test_no_value_of_a_parameter_breaks_a_write(client: FlaskClient, parameter: str) -> None:
    scratch = {"metadata": {"name": "scratch"}}
    for value in NASTY:
        query = {parameter: value}
        ask(client, "POST", STREAMS, scratch, query_string=query)
        ask(client, "PATCH", f"{STREAMS}/scratch", scratch, query_string=query, content_type=APPLY)
        ask(client, "DELETE", f"{STREAMS}/scratch", query_string=query)
    ask(client, "DELETE", f"{STREAMS}/scratch")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", RESOURCES)
def test_any_resource_reads_its_parameters_as_carefully(client: FlaskClient, path: str) -> None:
    for parameter in (
        "continue",
        "fieldSelector",
        "includeObject",
        "labelSelector",
        "limit",
        "resourceVersion",
        "watch",
    ):
        for value in ("", "-", "--1", "9" * 19, "\0", "a=b", TOO_NEW):
            ask(client, "GET", path, query_string={parameter: value}, headers={"Accept": f"{TABLE},{JSON}"})


@pytest.mark.parametrize(
    "query",
    [
        "limit=1&limit=x",
        "limit=x&limit=1",
        "labelSelector=a&labelSelector=b",
        "watch=0&watch=1",
        "&&&&",
        "=",
        "==&=",
        "a" * 50_000,
        "&".join(f"a{number}=1" for number in range(10_000)),
        "limit=%",
        "limit=%zz",
        "%00=%00",
        "%ff=%ff",
        "limit=%ff",
        "?limit=1",
        "limit=1;watch=1",
        "limit=1#watch=1",
        "labelSelector=%ed%a0%80",
    ],
)
def test_no_query_breaks_a_list(client: FlaskClient, query: str) -> None:
    assert ask(client, "GET", f"{STREAMS}?{query}").status_code in (200, 400, 414)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("resource", ["imagestreams", "imagestreamtags", "imagetags"])
def test_a_page_of_a_version_that_is_not_there_is_refused(client: FlaskClient, resource: str) -> None:
    assert ask(client, "GET", f"{NAMESPACE}/{resource}?continue={TOO_NEW}").status_code == 504


SEED = random_seed()


@seed(SEED)
@settings_of_hypothesis(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    parameter=st.sampled_from(
        ["continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "fieldManager"]
    ),
    value=st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    | st.text('abc=!,()<> in\\.-/0129"', max_size=30)
    | st.binary(max_size=30).map(lambda data: base64.urlsafe_b64encode(data).decode()),
)
def test_any_value_of_a_parameter_is_answered(client: FlaskClient, impatient: None, parameter: str, value: str) -> None:
    note(f"{SEED_VARIABLE}={SEED}")
    ask(client, "GET", STREAMS, query_string={parameter: value})


# --- headers and methods


@pytest.mark.parametrize(
    ("accept", "code"),
    [
        ("", 200),
        (" ", 200),
        ("*/*", 200),
        (",", 406),
        (";", 406),
        ("/", 406),
        ("text/html", 406),
        ("application/json;q=0", 406),
        ("application/json;as=Table;v=v9;g=meta.k8s.io", 406),
        ("application/json;as=Nothing", 406),
        ("application/json;" * 5_000, 200),
        ("a/b," * 15_000, 406),
        ("a/b;q=0," * 8_000 + "application/json", 200),
        ("\u00ff", 406),
        ("application/json;q=\u00ff", 200),
        ("application/vnd.kubernetes.protobuf", 406),
        ("application/cbor", 406),
    ],
)
def test_an_odd_accept_header_is_read_as_far_as_it_goes(client: FlaskClient, accept: str, code: int) -> None:
    answer = ask(client, "GET", STREAMS, headers={"Accept": accept})
    assert answer.status_code == code
    if code == 406:
        assert answer.get_json()["reason"] == "NotAcceptable"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Host", "a/b"),
        ("Host", "\u00ff"),
        ("Host", "x" * 5_000),
        ("Host", "[::1"),
        ("Host", "evil:99999999"),
        ("Host", ""),
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Prefix", "/api"),
        ("X-Original-URL", f"{STREAMS}/web"),
        ("X-Rewrite-URL", f"{STREAMS}/web"),
        ("User-Agent", "\u00ff" * 1_000),
        ("User-Agent", "/" * 1_000),
        ("Audit-ID", "\u00ff" * 1_000),
        ("Content-Length", "x"),
        ("Content-Type", "\u00ff"),
        ("Range", "bytes=0-0"),
        ("If-Match", "x"),
        ("If-None-Match", "*"),
        ("If-Modified-Since", "x"),
        ("Accept-Encoding", "\u00ff;q=x"),
        ("Accept-Language", "../../etc"),
        ("Cookie", "\u00ff=\u00ff; session=x"),
        ("Authorization", "Basic \u00ff"),
        ("Expect", "200-maybe"),
        ("Upgrade", "websocket"),
    ],
)
def test_no_header_breaks_a_request(client: FlaskClient, header: str, value: str) -> None:
    usual = ask(client, "GET", STREAMS)
    answer = ask(client, "GET", STREAMS, headers={header: value})
    assert answer.data == usual.data or (header == "Host" and answer.status_code == 403)


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_is_not_overridden(client: FlaskClient, header: str) -> None:
    usual = ask(client, "GET", f"{STREAMS}/web")
    for query in ("", "?_method=DELETE"):
        answer = ask(client, "GET", f"{STREAMS}/web{query}", headers={header: "DELETE"})
        assert answer.data == usual.data
    assert ask(client, "POST", f"{STREAMS}/web", {}, headers={header: "DELETE"}).status_code == 405


@pytest.mark.parametrize(
    "method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "DEBUG", "PURGE", "X" * 1_000, "G\u00cbT"]
)
@pytest.mark.parametrize(
    "path", [STREAMS, f"{STREAMS}/web", f"{STREAMS}/web/status", "/apis", "/version", "/openapi/v2", "/readyz"]
)
def test_another_method_is_not_allowed(client: FlaskClient, method: str, path: str) -> None:
    answer = ask(client, method, path)
    assert answer.status_code == 405
    check_status(answer.get_json(), 405)
    assert answer.get_json()["reason"] == "MethodNotAllowed"
    assert "GET" in answer.headers["Allow"]

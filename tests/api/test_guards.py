"""What is refused whatever it asks for: long URLs, users who ask too much, and web pages from elsewhere."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import create_app
from api.errors import Refusal
from api.guards import LONGEST_URL, check, is_of_this_machine
from imagestream_es.application.queries import Queries
from imagestream_es.settings import Address, Settings

SPACE = "/apis/image.openshift.io/v1/namespaces/team"
STREAMS = f"{SPACE}/imagestreams"
FIRST = {"metadata": {"name": "app"}}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., FlaskClient]]:
    apps = []

    def start(**settings: Any) -> FlaskClient:
        directory = tmp_path / f"data-{len(apps)}"
        apps.append(create_app(Settings(data_dir=directory, import_controller="off", access_log="off", **settings)))
        return apps[-1].test_client()

    yield start
    for app in apps:
        app.extensions["imagestream"].close()


# --- long URLs


def test_a_long_url_is_refused_as_such(client: FlaskClient) -> None:
    rest = LONGEST_URL - len(STREAMS) - 1 - len("labelSelector=")
    for path in (STREAMS, "/nowhere", "/docs", "/openapi/v2"):
        answer: Any = client.get(path, query_string={"labelSelector": "a" * LONGEST_URL})
        assert answer.status_code == 414
        assert (answer.json["kind"], answer.json["reason"]) == ("Status", "RequestURITooLong")
    assert client.get(f"/{'a' * LONGEST_URL}").status_code == 414
    assert client.get(STREAMS, query_string={"labelSelector": "a" * (rest + 1)}).status_code == 414
    assert client.get(STREAMS, query_string={"labelSelector": "a" * rest}).status_code == 400  # too long for a label


@pytest.mark.parametrize(
    "path",
    [
        f"{STREAMS}?fieldSelector=metadata.name%3Da%00b",
        f"{STREAMS}?watch=1&fieldSelector=metadata.name%3D%00",
        "/apis/history.imagestream-es.io/v1/namespaces/team/tagchanges?fieldSelector=stream%3Da%00b",
        "/apis/history.imagestream-es.io/v1/namespaces/team/imageusages?image=a%00",
        "/version?%00",
    ],
)
def test_what_no_store_takes_is_refused_at_the_door(client: FlaskClient, path: str) -> None:
    answer: Any = client.get(path)
    assert answer.status_code == 400
    assert "NUL" in answer.json["message"]


# --- names that point here


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:80",
        "localhost.",
        "app.localhost:1",
        "127.0.0.1:8080",
        "127.9.9.9",
        "[::1]:8080",
        "[::1]",
    ],
)
def test_a_name_of_this_machine_is_answered_to(client: FlaskClient, host: str) -> None:
    assert client.get("/version", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost"),
        *("10.0.0.1", "192.168.1.1:8080", "0.0.0.0", "[::]", "[::ffff:10.0.0.1]", "169.254.169.254", "", ":8080"),
        *(
            "localhost@evil.example",
            "evil.example#localhost",
            "localhost, evil.example",
            "localhost:80:90",
            "localhost:x",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/version", STREAMS, "/docs", "/healthz", "/nowhere"])
def test_a_name_that_was_made_to_point_here_is_not(client: FlaskClient, host: str, path: str) -> None:
    answer: Any = client.get(path, headers={"Host": host})
    assert answer.status_code == 403
    assert "names of this machine" in answer.json["message"]


def test_the_name_that_the_service_is_bound_to_is_its_own() -> None:
    assert is_of_this_machine("Build.Example:8080", "build.example")
    assert not is_of_this_machine("other.example:8080", "build.example")


# --- web pages from elsewhere

WRITES = [("POST", STREAMS), ("PUT", f"{STREAMS}/app"), ("PATCH", f"{STREAMS}/app"), ("DELETE", f"{STREAMS}/app")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "https://evil.example", "Authorization": "Bearer whatever"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [*WRITES, ("DELETE", STREAMS), ("POST", "/hooks/registry")])
def test_a_page_from_elsewhere_changes_nothing(
    client: FlaskClient, headers: dict[str, str], method: str, path: str
) -> None:
    client.post(STREAMS, json=FIRST)
    before: Any = client.get(f"{STREAMS}/app").json
    body = {"metadata": {"name": "other"}, "spec": {"lookupPolicy": {"local": True}}}
    answer: Any = client.open(path, method=method, json=body, headers=headers)
    assert answer.status_code == 403
    assert "web page" in answer.json["message"]
    assert client.get(f"{STREAMS}/app").json == before
    assert client.get(f"{STREAMS}/other").status_code == 404


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}],
)
def test_other_clients_and_pages_of_the_service_change_things(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post(STREAMS, json=FIRST, headers=headers).status_code == 201


def test_a_page_from_elsewhere_may_ask_but_is_not_let_read(client: FlaskClient) -> None:
    answer = client.get(STREAMS, headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
    answer = client.options(STREAMS, headers=preflight)
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]


class Authenticating(Settings):
    """Settings with which callers prove who they are."""

    authenticates_callers = property(lambda _: True)  # type: ignore[assignment]


def refused(**headers: str) -> bool:
    environ = {"PATH_INFO": "/", "QUERY_STRING": "", "REQUEST_METHOD": "POST", "HTTP_HOST": "is.example", **headers}
    try:
        check(environ, Authenticating(bind=Address("0.0.0.0", 1)))
    except Refusal:
        return True
    return False


def test_with_credentials_any_name_will_do_and_only_what_a_browser_adds_by_itself_is_refused() -> None:
    elsewhere = {"HTTP_ORIGIN": "https://evil.example"}
    assert not refused()
    assert refused(**elsewhere)
    assert not refused(**elsewhere, HTTP_AUTHORIZATION="Bearer token")
    assert not refused(HTTP_ORIGIN="https://is.example")


# --- users who ask too much


def test_a_user_who_asks_too_often_is_told_when_to_come_again(start) -> None:
    client = start(user_requests_per_second=3)
    answers = [client.get(STREAMS) for _ in range(20)]
    codes = [answer.status_code for answer in answers]
    assert codes[:3] == [200, 200, 200]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["Retry-After"] == "1"
    assert refused.json["reason"] == "TooManyRequests"
    assert refused.json["details"] == {"retryAfterSeconds": 1}
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/openapi/v2", "/docs", "/apis", "/nowhere"])
def test_what_is_no_resource_counts_among_the_requests_of_a_user(start, path: str) -> None:
    client = start(user_requests_per_second=3)
    codes = [client.get(path).status_code for _ in range(20)]
    assert 429 not in codes[:3]
    assert 429 in codes
    refused = next(answer for answer in (client.get(path) for _ in range(20)) if answer.status_code == 429)
    assert refused.headers["Retry-After"] == "1"
    assert client.get("/readyz").status_code == 200


def test_who_tries_to_act_as_another_is_limited_as_who_they_are(start, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("joe-token,joe,1\n")
    client = start(user_requests_per_second=3, token_auth_file=tmp_path / "tokens")
    for path in (STREAMS, "/apis"):
        codes = [
            client.get(path, headers={"Authorization": "Bearer joe-token", "Impersonate-User": f"u{n}"}).status_code
            for n in range(20)
        ]
        assert 429 in codes
        assert set(codes) <= {403, 429}


def test_a_user_has_only_so_many_requests_under_way_but_for_watches(start, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start(user_concurrency=1)
    begun, go_on = threading.Event(), threading.Event()
    real = Queries.streams_with_heads

    def slow(queries: Queries, *more: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return real(queries, *more)

    with client.get(f"{STREAMS}?watch=1&timeoutSeconds=60", buffered=False) as watch:
        next(watch.iter_encoded())
        monkeypatch.setattr(Queries, "streams_with_heads", slow)
        codes = []
        other = client.application.test_client()
        thread = threading.Thread(target=lambda: codes.append(other.get("/api/v1/namespaces").status_code))
        thread.start()
        assert begun.wait(60)
        assert client.get(f"{STREAMS}/app").status_code == 429
        go_on.set()
        thread.join()
        assert codes == [200]
        assert client.get(f"{STREAMS}/app").status_code == 404


def test_without_the_settings_nobody_is_limited() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert defaults["user_requests_per_second"] is None
    assert defaults["user_concurrency"] is None

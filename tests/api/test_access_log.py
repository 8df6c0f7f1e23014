"""The log of requests: one line for each, which tells who did what and no secret, and which nobody can forge."""

from __future__ import annotations

import json
import queue
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from select import PIPE_BUF
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from api import create_app
from api.access_log import LONGEST, AccessLog, Lines, to_stderr
from api.told import Observed, Told
from imagestream_es.settings import Settings

SPACE = "/apis/image.openshift.io/v1/namespaces/team"
FIRST = {"metadata": {"name": "app"}}


def fields(line: str) -> dict[str, str]:
    """The fields of a line. Fails for what is no line of key=value pairs from end to end."""
    found = {}
    at = 0
    for match in re.finditer(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[!#-<>-~]+)(?: |\n\Z)', line):
        assert match.start() == at, line
        assert match[1] not in found
        found[match[1]] = json.loads(match[2]) if match[2].startswith('"') else match[2]
        at = match.end()
    assert at == len(line), line
    return found


class AtOnce(Lines):
    """Lines that are written before their request is answered."""

    def __call__(self, line: bytes) -> None:
        self._write(line)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    written: list[str] = []
    monkeypatch.setattr("api.to_stderr", lambda line: written.append(line.decode("ascii")))
    monkeypatch.setattr("api.Lines", AtOnce)
    return written


@pytest.fixture
def client(lines: list[str], tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_app(Settings(data_dir=tmp_path / "data", import_controller="off"))
    yield app.test_client()
    app.extensions["imagestream"].close()


def test_a_line_tells_who_did_what_and_what_came_of_it(client: FlaskClient, lines: list[str]) -> None:
    answer = client.put(f"{SPACE}/imagestreams/app", json=FIRST, headers={"Audit-ID": "my-id"})
    (line,) = lines
    told = fields(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told.pop("time"))
    assert float(told.pop("seconds")) > 0
    assert told == {
        "level": "info",
        "logger": "access",
        "message": "request",
        "audit_id": "my-id",
        "user": "system:unsecured",
        "verb": "update",
        "resource": "imagestreams",
        "namespace": "team",
        "name": "app",
        "code": str(answer.status_code),
    }


def test_it_is_told_who_acts_as_whom_and_who_was_refused(lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text('root-token,root,0,"system:masters"\njoe-token,joe,1\n')
    app = create_app(
        Settings(data_dir=tmp_path / "secured", import_controller="off", token_auth_file=tmp_path / "tokens")
    )
    try:
        for headers in (
            {"Authorization": "Bearer root-token", "Impersonate-User": "joe"},
            {"Authorization": "Bearer joe-token", "Impersonate-User": "root"},
            {"Authorization": "Bearer joe-token"},
            {"Authorization": "Bearer nobodys-token"},
            {},
        ):
            for path in (f"{SPACE}/imagestreams", "/metrics"):
                app.test_client().get(path, headers=headers)
    finally:
        app.extensions["imagestream"].close()
    told = [{name: fields(line).get(name) for name in ("user", "acting_as", "code")} for line in lines]
    assert told[::2] == [
        {"user": "root", "acting_as": "joe", "code": "403"},
        {"user": "joe", "acting_as": None, "code": "403"},
        {"user": "joe", "acting_as": None, "code": "403"},
        {"user": None, "acting_as": None, "code": "401"},
        {"user": None, "acting_as": None, "code": "401"},
    ]
    assert told[1::2] == told[::2]
    assert "token" not in "".join(lines)


def test_other_paths_are_told_as_they_are(client: FlaskClient, lines: list[str]) -> None:
    client.get("/nowhere/at%20all?token=s3cret")
    told = fields(lines[0])
    assert (told["verb"], told["path"], told["code"]) == ("get", "/nowhere/at all", "404")
    assert "resource" not in told


def test_a_watch_is_told_at_its_end(client: FlaskClient, lines: list[str]) -> None:
    with client.get(f"{SPACE}/imagestreams?watch=1&timeoutSeconds=60", buffered=False) as answer:
        next(answer.iter_encoded())
        assert lines == []
    (line,) = lines
    assert fields(line)["verb"] == "watch"


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/readyz/ping", "/livez?verbose"])
def test_who_asks_for_health_is_not_logged(client: FlaskClient, lines: list[str], path: str) -> None:
    client.get(path)
    assert lines == []


def test_no_parameter_header_or_body_is_told(client: FlaskClient, lines: list[str]) -> None:
    for method, path in (
        ("POST", f"{SPACE}/imagestreams"),
        ("GET", f"{SPACE}/imagestreams"),
        ("POST", "/hooks/registry"),
    ):
        client.open(
            f"{path}?fieldManager=canary&access_token=canary",
            method=method,
            json={"metadata": {"name": "x", "labels": {"a": "canary"}}},
            headers={"Authorization": "Bearer canary", "User-Agent": "canary", "Cookie": "canary"},
        )
    assert len(lines) == 3
    assert not [line for line in lines if "canary" in line]


def test_every_answer_has_an_audit_id_and_says_what_it_is(client: FlaskClient) -> None:
    paths = [
        "/",
        "/apis",
        "/nowhere",
        "/healthz",
        "/metrics",
        "/docs",
        "/openapi/v2",
        "/hooks/registry",
        SPACE,
        f"{SPACE}/imagestreams",
    ]
    for path in paths:
        for method in ("GET", "POST", "HEAD", "OPTIONS"):
            answer = client.open(path, method=method, headers={"Audit-ID": f"mine-{method}"})
            assert answer.headers.getlist("Audit-Id") == [f"mine-{method}"]
            assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    ids = {client.get("/").headers["Audit-Id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize("given_id", ["", "with space", "x" * 65, "naïve", 'a"b', "a=b", "a/b"])
def test_an_audit_id_that_could_be_text_is_not_taken(client: FlaskClient, lines: list[str], given_id: str) -> None:
    answer = client.get("/", headers={"Audit-ID": given_id})
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["Audit-Id"])
    assert fields(lines[0])["audit_id"] == answer.headers["Audit-Id"]


@given(st.text(max_size=2 * LONGEST), st.text(max_size=2 * LONGEST), st.text(max_size=50), st.text(max_size=50))
def test_nobody_can_forge_a_line(path: str, name: str, user: str, namespace: str) -> None:
    lines: list[bytes] = []
    log = AccessLog(lines.append, lambda: 1.5)
    log(Told("id", "GET", path, "get"), 0.1)
    log(Told("id", "GET", path, "get", "imagestreams", namespace, name, user, user), 0.1)
    for line in lines:
        assert line.count(b"\n") == 1
        assert line.isascii()
        assert len(line) < 8192
        told = fields(line.decode())
        assert (told["audit_id"], told["code"]) == ("id", "500")
    whole = fields(lines[1].decode())
    assert whole.get("user", "") == user
    assert whole.get("name", "") == (name if len(name) <= LONGEST else name[:LONGEST] + "...")


def test_a_request_that_breaks_the_program_is_told_too() -> None:
    told: list[Told] = []

    def broken(environ: Any, start: Any) -> Any:
        raise RuntimeError

    app = Observed(broken, [lambda one, _: told.append(one)])
    with pytest.raises(RuntimeError):
        app({"REQUEST_METHOD": "GET", "PATH_INFO": "/x"}, None)
    assert [(one.code, one.path) for one in told] == [(500, "/x")]


def test_an_answer_that_ends_is_taken_whole_and_let_go_of_before_it_is_told() -> None:
    happened: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield from (b"a", b"b")

        def close(self) -> None:
            happened.append("closed")

    app = Observed(lambda *_: Body(), [lambda *_: happened.append("told")])
    assert app({"REQUEST_METHOD": "GET"}, None) == [b"a", b"b"]
    assert happened == ["closed", "told"]


def test_a_log_that_cannot_be_written_stops_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError("no space")

    monkeypatch.setattr("os.write", full)
    to_stderr(b"line\n")


def test_lines_are_written_whole_and_in_order_some_at_a_time() -> None:
    pieces: list[bytes] = []
    lines = Lines(pieces.append)

    def log(name: int) -> None:
        for number in range(500):
            lines(b"%d %d %s\n" % (name, number, b"x" * (number % 300)))

    threads = [threading.Thread(target=log, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines.close()
    told = [line.split(b" ") for line in b"".join(pieces).splitlines()]
    for name in range(4):
        assert [int(line[1]) for line in told if int(line[0]) == name] == list(range(500))
    assert all(piece.endswith(b"\n") and len(piece) <= PIPE_BUF for piece in pieces)
    assert len(pieces) < 2000
    lines(b"late\n")
    assert pieces[-1] == b"late\n"


def test_a_line_comes_soon_without_another_behind_it() -> None:
    written: queue.Queue[bytes] = queue.Queue()
    lines = Lines(written.put)
    for line in (b"one\n", b"two\n"):
        lines(line)
        assert written.get(timeout=30) == line
    lines.close()


def test_a_log_that_nobody_reads_stops_requests_when_too_many_lines_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.access_log.MOST_WAITING", 5)
    begun, read, written = threading.Event(), threading.Event(), list[bytes]()

    def write(lines: bytes) -> None:
        begun.set()
        read.wait(30)
        written.append(lines)

    lines = Lines(write)
    lines(b"first\n")
    assert begun.wait(30)
    for _ in range(5):
        lines(b"waits\n")
    last = threading.Thread(target=lines, args=(b"last\n",))
    last.start()
    last.join(0.1)
    assert last.is_alive()
    read.set()
    last.join(30)
    assert b"".join(written).endswith(b"waits\nlast\n")
    lines.close()


def test_the_service_logs_requests_to_stderr_unless_it_is_told_not_to(start_service: Callable[..., Any]) -> None:
    logging, quiet = start_service("--access-log", "on"), start_service("--access-log", "off")
    for service in (logging, quiet):
        assert service.request(f"{SPACE}/imagestreams/x")[0] == 404
        assert service.stop(signal.SIGTERM)[0] == 0
    lines = [line for line in logging.log.splitlines(keepends=True) if "logger=access" in line]
    assert [fields(line)["code"] for line in lines] == ["404"]
    assert "logger=access" not in quiet.log

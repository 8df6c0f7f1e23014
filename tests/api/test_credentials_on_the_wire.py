"""Ways past the gate that only bytes on a connection have: a server between may join, fold, or rename headers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Service

TARGET = "/apis/image.openshift.io/v1/namespaces/team/imagestreams"
ROOT, JOE = "Authorization: Bearer root-token", "Authorization: Bearer joe-token"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where a service listens that knows root, who may do everything, and joe, who may do nothing."""
    directory = tmp_path_factory.mktemp("wire")
    (directory / "tokens").write_text('root-token,root,0,"system:masters"\njoe-token,joe,1\n')
    service = Service(directory, ("--token-auth-file", str(directory / "tokens")), {})
    yield service.address
    service.kill()


Ask = Callable[..., int]


@pytest.fixture
def ask(address: str) -> Ask:
    """`ask(HEADER, ..., path=, method=)` answers the status of the answer to these bytes."""

    def ask(*headers: str, path: str = TARGET, method: str = "GET", rest: bytes = b"") -> int:
        host, port = address.split(":")
        head = "\r\n".join((f"{method} {path} HTTP/1.1", "Host: here", "Connection: close", *headers, "", ""))
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(head.encode("latin-1") + rest)
            with connection.makefile("rb") as answer:
                return int(answer.readline().split()[1])

    return ask


def test_one_good_credential_is_enough(ask: Ask) -> None:
    assert ask(ROOT) == 200
    assert ask(JOE) == 403
    assert ask() == 401


@pytest.mark.parametrize(
    "headers",
    [
        (JOE, ROOT),
        (ROOT, JOE),
        (ROOT, ROOT),
        (JOE, ROOT.lower()),
        ("Authorization: Bearer joe-token, Bearer root-token",),
        ("Authorization: Bearer  root-token",),
        ("Authorization: Bearer\troot-token",),
        ("Authorization: Bearer root-token root-token",),
        ("Authorization: Basic cm9vdDpyb290LXRva2Vu",),
        ("Authorization: root-token",),
        ("Authorization: Bearer",),
        ("Authorization : Bearer root-token",),
        ("Authorization: Bearer\r\n root-token",),
        (JOE, "X-More: 1\r\n\tAuthorization: Bearer root-token"),
        ("Proxy-Authorization: Bearer root-token",),
        ("Cookie: Authorization=Bearer root-token",),
        ("HTTP_AUTHORIZATION: Bearer root-token",),
        ("X-Remote-User: root", "X-Remote-Group: system:masters"),
        ("X-Forwarded-User: root",),
        ("X-Client-Cert: root", "SSL-Client-S-DN: CN=root"),
        (JOE, "Impersonate-User: root"),
        (JOE, "Impersonate_User: root"),
        (JOE, "Connection: Impersonate-User", "Impersonate-User: root"),
        (JOE, "Impersonate-Group: system:masters"),
        (JOE, "X-HTTP-Method-Override: OPTIONS"),
        (JOE, "X-Original-URL: /healthz"),
        (JOE, "X-Rewrite-URL: /healthz"),
        (JOE, "Forwarded: for=127.0.0.1", "X-Forwarded-For: 127.0.0.1"),
    ],
)
def test_no_other_headers_let_anybody_in(ask: Ask, headers: tuple[str, ...]) -> None:
    ask(ROOT)  # so that there is an answer that could be given away
    assert ask(*headers) in (400, 401, 403)


@pytest.mark.parametrize(
    "path",
    [
        f"/healthz/..{TARGET}",
        f"/healthz/%2e%2e{TARGET}",
        f"/healthz;{TARGET}",
        f"/livez/{TARGET}",
        f"//healthz/..{TARGET}",
        f"/hooks/registry/..{TARGET}",
        f"/hooks/registry%2f..{TARGET}",
        f"{TARGET}?/healthz",
        f"{TARGET}#/healthz",
        f"{TARGET}?access_token=root-token&token=root-token",
        f"http://here{TARGET}",
        f"http://root:root-token@here{TARGET}",
        f"http://here/healthz/..{TARGET}",
        "*",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "TRACE", "get", "CONNECT"])
def test_no_spelling_of_a_request_goes_without_a_credential(ask: Ask, method: str, path: str) -> None:
    ask(ROOT)
    assert 400 <= ask(path=path, method=method) < 500
    assert 400 <= ask(JOE, path=path, method=method) < 500


def test_a_request_inside_the_body_of_another_is_none(ask: Ask) -> None:
    inner = f"GET {TARGET} HTTP/1.1\r\nHost: here\r\n{ROOT}\r\n\r\n".encode()
    for headers in (
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", f"Content-Length: {5 + len(inner)}"),
        ("Content-Length: 0", f"Content-Length: {len(inner)}"),
    ):
        assert ask(JOE, *headers, method="POST", rest=b"0\r\n\r\n" + inner) in (400, 403)


def test_a_credential_is_that_of_its_request_and_not_of_the_connection(address: str) -> None:
    host, port = address.split(":")
    codes = []
    with socket.create_connection((host, int(port)), timeout=60) as connection, connection.makefile("rb") as answers:
        for header in (ROOT, JOE, "X-None: 1", ROOT):
            connection.sendall(f"GET {TARGET} HTTP/1.1\r\nHost: here\r\n{header}\r\n\r\n".encode())
            codes.append(int(answers.readline().split()[1]))
            length = 0
            while (line := answers.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            answers.read(length)
    assert codes == [200, 403, 401, 200]

"""Connections to a running service that misbehave: it refuses or drops them, and serves everybody else meanwhile."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hostile import STREAMS

MEMORY = 400 * 1024 * 1024
"""Bytes that the process may take, whatever is sent to it. An idle one takes about 70 MiB."""
MAX_BODY = 3 * 1024 * 1024

VERSION = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
POST = f"POST {STREAMS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def resident(service: Any, what: str = "VmRSS") -> int:
    """Bytes of memory that the process holds, or held at most (VmHWM)."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{service.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture
def served(service: Any) -> Iterator[Any]:
    """A service with a stream; in the end it is as it was, took no more memory than it may, and had nothing to tell."""
    log = service.log
    assert service.request(STREAMS, "POST", b'{"metadata":{"name":"web"}}')[0] == 201
    yield service
    status, body = service.request(STREAMS)
    assert status == 200
    assert [item["metadata"]["name"] for item in json.loads(body)["items"]] == ["web"]
    assert resident(service, "VmHWM") < MEMORY
    assert service.stop() == (0, "")
    assert service.log == log


@contextmanager
def connected(service: Any) -> Iterator[socket.socket]:
    host, port = service.address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection, or has nothing more to say for a second."""
    connection.settimeout(1)
    received = b""
    with suppress(ConnectionResetError, TimeoutError):
        while piece := connection.recv(65536):
            received += piece
    return received


def exchange(service: Any, sent: bytes, *, end: bool = False) -> bytes:
    """What the server answers to these bytes; with `end` it is told that no more will come."""
    with connected(service) as connection:
        with suppress(OSError):  # it may have heard enough before all is sent
            connection.sendall(sent)
            if end:
                connection.shutdown(socket.SHUT_WR)
        return everything(connection)


def codes(answers: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answers)]


# --- what is no request


def test_what_is_no_request_is_refused(served: Any) -> None:
    for sent in (
        b"\0" * 10_000,
        b"\xff" * 10_000,
        b"\r\n" * 10_000 + b"x",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
        b"GET /version\r\n\r\n",
        b"GET /version HTTP/0.9\r\n\r\n",
        b"GET /version HTTP/9.9\r\n\r\n",
        b"GET  /version HTTP/1.1\r\n\r\n",
        b"GET /ver sion HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /version HTTP/1.1\r\nA b: c\r\n\r\n",
        b"GET /version HTTP/1.1\r\n folded: c\r\n\r\n",
        b"GET /version HTTP/1.1\r\nA: b\0c\r\n\r\n",
        b"GET /version HTTP/1.1\r\n: c\r\n\r\n",
        b"GET /version HTTP/1.1\r\nA" + b"a" * 100_000 + b": c\r\n\r\n",
        b"GET /version HTTP/1.1\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /version HTTP/1.1\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"G" * 100_000,
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: x\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1_000,
    ):
        answers = exchange(served, sent, end=True)
        assert not answers.startswith(b"HTTP/1.1 2"), sent[:80]
        assert all(400 <= code < 500 for code in codes(answers)), (sent[:80], answers[:80])


# --- where one request ends and the next begins


def test_no_second_request_hides_in_the_first(served: Any) -> None:
    """Whatever a proxy in front takes for the end of the body: what follows is refused, or is what it seems to be."""
    hidden = f"DELETE {STREAMS}/web HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    body = b"0\r\n\r\n" + hidden
    length = b"Content-Length: %d\r\n" % len(body)
    for headers in (
        length + CHUNKED,
        CHUNKED + length,
        length + b"Transfer-Encoding: xchunked\r\n",
        length + b"Transfer-Encoding : chunked\r\n",
        length + b" Transfer-Encoding: chunked\r\n",
        length + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        length + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        length + b"Transfer-Encoding: chunked, identity\r\n",
        length + b"Transfer-Encoding:\x0bchunked\r\n",
        length + b"X: y\rTransfer-Encoding: chunked\r\n",
        length + b"Content-Length: 5\r\n",
        b"Content-Length: 5\r\n" + length,
        b"Content-Length: 5, %d\r\n" % len(body),
        b"Content-Length: +%d\r\n" % len(body),
        b"Content-Length: 0x5\r\n",
    ):
        answers = codes(exchange(served, POST + headers + b"\r\n" + body))
        assert len(answers) <= 1, headers
        assert served.request(f"{STREAMS}/web")[0] == 200, headers
    old = POST.replace(b"HTTP/1.1", b"HTTP/1.0") + length + CHUNKED
    assert len(codes(exchange(served, old + b"\r\n" + body))) <= 1


def test_a_broken_chunk_ends_the_connection(served: Any) -> None:
    for size in (b"-2", b"0x2", b"+2", b"zz", b"", b"2 2", b"f" * 17, b"2;" + b"x" * 100_000):
        answers = exchange(served, POST + CHUNKED + b"\r\n" + size + b"\r\n{}\r\n0\r\n\r\n" + VERSION)
        assert codes(answers) in ([400], []), size


def test_requests_in_one_go_are_answered_in_turn(served: Any) -> None:
    names = [f"n{number}" for number in range(50)]
    sent = b"".join(f"GET {STREAMS}/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for name in names)
    answers = exchange(served, sent + VERSION)
    assert codes(answers) == [404] * 50 + [200]
    assert re.findall(rb'\\"(n\d+)\\" not found', answers) == [name.encode() for name in names]


def test_a_request_that_did_not_come_whole_is_not_carried_out(served: Any) -> None:
    delete = f"DELETE {STREAMS}/web HTTP/1.1\r\nHost: localhost\r\n".encode()
    create = b'{"metadata":{"name":"half"}}'
    for sent in (
        delete[:-2],
        delete,
        delete + b"Content-Length: 50\r\n\r\n",
        delete + b"Content-Length: 50\r\n\r\n{}",
        delete + CHUNKED + b"\r\n",
        delete + CHUNKED + b"\r\n20\r\n",
        delete + CHUNKED + b"\r\nzz\r\n",
        POST + b"Content-Length: %d\r\n\r\n" % (len(create) + 1) + create,
        POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY - 1) + create,
    ):
        assert set(codes(exchange(served, sent, end=True))) <= {400, 408}, sent
        assert served.request(f"{STREAMS}/web")[0] == 200, sent
        assert served.request(f"{STREAMS}/half")[0] == 404, sent


# --- length


def test_a_body_that_is_too_long_is_refused_however_it_comes(served: Any) -> None:
    block = b"x" * 65_536
    chunk = b"10000\r\n" + block + b"\r\n"
    before = resident(served)
    for sent in (
        POST + b"Content-Length: 3145729\r\n\r\n" + block * 48 + b"x",
        POST + b"Content-Length: 5242880\r\n\r\n" + block * 80,
        POST + b"Content-Length: 5242880\r\nExpect: 100-continue\r\n\r\n",  # it waits for a word before it sends
        POST + b"Content-Length: 9223372036854775807\r\n\r\n",
        POST + CHUNKED + b"\r\n" + chunk * 48 + b"1\r\nx\r\n0\r\n\r\n",
        POST + CHUNKED + b"\r\n" + chunk * 80 + b"0\r\n\r\n",
        POST + CHUNKED + b"\r\n" + chunk * 305,  # and no end
    ):
        assert codes(exchange(served, sent)) == [413], sent[:200]
    assert resident(served) < before + 100 * 1024 * 1024


def test_ordinary_clients_see_that_a_body_is_too_long(served: Any) -> None:
    body = b'{"metadata":{"name":"web"}}'
    assert served.request(STREAMS, "POST", body + b" " * (5 * 1024 * 1024))[0] == 413
    assert served.request(STREAMS, "POST", iter([body, b" " * (5 * 1024 * 1024)]))[0] == 413
    assert served.request(STREAMS, "POST", body + b" " * (MAX_BODY - len(body) + 1))[0] == 413
    assert served.request(STREAMS, "POST", body + b" " * (MAX_BODY - len(body)))[0] == 409


def test_hostile_bodies_at_the_same_time_take_a_bounded_memory(served: Any) -> None:
    lists = b'{"metadata":{"name":"a"},"x":[' + b"[]," * 1_000_000 + b"[]]}"
    flow = b"[" + b"[]," * 1_000_000 + b"]"
    texts = b'{"metadata":{"name":"a","annotations":{"a":"' + b"x" * 3_000_000 + b'"}}}'
    tags = json.dumps({"metadata": {"name": "a"}, "spec": {"tags": [{}] * 10_000}}).encode()
    labels = json.dumps({"metadata": {"name": "a", "labels": {f"!{n}": "!" for n in range(10_000)}}}).encode()
    bodies = [
        (lists, "application/json", 413),
        (flow, "application/yaml", 413),
        (texts, "application/json", 422),
        (tags, "application/json", 201),
        (labels, "application/json", 422),
    ]

    def send(case: tuple[bytes, str, int]) -> None:
        body, media_type, expected = case
        path = f"{STREAMS}?dryRun=All"
        status, _ = served.request(path, "POST", body, {"Content-Type": media_type})
        assert status == expected

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, bodies * 2))


# --- many connections


def latency(service: Any) -> float:
    """The median of seconds that a client waits for an answer, each on a new connection."""

    def one() -> float:
        begun = time.monotonic()
        assert service.request(f"{STREAMS}/web")[0] == 200
        return time.monotonic() - begun

    return median(one() for _ in range(30))


def test_slow_clients_hold_up_nobody(served: Any) -> None:
    header = f"GET {STREAMS} HTTP/1.1\r\nHost: localhost\r\nX: ".encode()
    body = POST + b"Content-Length: 1000\r\n\r\n" + b'{"metadata":'
    chunk = POST + CHUNKED + b"\r\n5\r\n{"
    watch = f"GET {STREAMS}?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    unread = f"GET {STREAMS}/web HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 100
    before = latency(served)
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(served)) for _ in range(200)]
        for number, connection in enumerate(slow):
            connection.sendall((b"", header, body, chunk, watch, unread)[number % 6])
        for _ in range(5):
            for number, connection in enumerate(slow):
                if number % 6 in (1, 2, 3):
                    connection.sendall(b"x")
        during = latency(served)
        assert served.request(STREAMS, "POST", b'{"metadata":{"name":"new"}}')[0] == 201
        assert served.request(f"{STREAMS}/new", "DELETE")[0] == 200
    assert during < 10 * before + 0.2, (before, during)
    assert latency(served) < 10 * before + 0.2


@pytest.mark.timeout(60)
def test_abandoned_connections_leave_nothing_behind(served: Any) -> None:
    requests = (
        b"",
        b"G",
        f"GET {STREAMS}".encode(),
        f"GET {STREAMS}/web HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        f"GET {STREAMS}?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        b"GET /openapi/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10,
        POST + b"Content-Length: 1000\r\n\r\n{",
        POST + CHUNKED + b"\r\n5\r\n{",
    )

    before = sockets(served)
    for number in range(200):
        with connected(served) as connection:
            connection.sendall(requests[number % len(requests)])
            if number % 2:  # with a reset, and what was not read yet is lost
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # A watch notices that its client has gone when it writes.
    for _ in range(2):
        assert served.request(STREAMS, "POST", b'{"metadata":{"name":"new"}}')[0] == 201
        assert served.request(f"{STREAMS}/new", "DELETE")[0] == 200
    while sockets(served) > before:  # a test that waits in vain ends at its timeout
        time.sleep(0.05)


def sockets(service: Any) -> int:
    """How many sockets the process has open."""
    count = 0
    for link in Path(f"/proc/{service.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += str(link.readlink()).startswith("socket:")
    return count


def test_a_connection_serves_on_after_a_refusal(served: Any) -> None:
    connection = http.client.HTTPConnection(served.address, timeout=30)
    for method, path, body, expected in (
        ("GET", "/nowhere", None, 404),
        ("POST", STREAMS, b"{", 400),
        ("FOO", STREAMS, None, 405),
        ("PATCH", f"{STREAMS}/web", b"x" * 100_000, 415),
        ("GET", f"{STREAMS}/web", b"x" * 1_000, 200),
        ("HEAD", f"{STREAMS}/web", None, 200),
        ("GET", f"{STREAMS}/web", None, 200),
    ):
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == expected
    connection.close()

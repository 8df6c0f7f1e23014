"""Clients that take their time: each has a deadline, gets an answer where one can be given, and harms nobody else."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from echo import echo_environment

from imagestream_es import bodies
from imagestream_es.bodies import Bodies, Body

HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
LENGTH, CHUNKED = b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"
SOON = {"BODY": "1", "HANDSHAKE": "1", "IDLE": "1"}


class Served:
    """A running service and a way to connect to it."""

    def __init__(self, service: Any, context: ssl.SSLContext | None) -> None:
        self.service, self._context = service, context

    def plain(self) -> socket.socket:
        host, port = self.service.address.split(":")
        return socket.create_connection((host, int(port)), timeout=60)

    def connect(self) -> socket.socket:
        connection = self.plain()
        return self._context.wrap_socket(connection, server_hostname="localhost") if self._context else connection

    def sockets(self) -> int:
        """How many sockets the service holds."""
        found = 0
        for one in Path(f"/proc/{self.service.pid}/fd").iterdir():
            with suppress(OSError):
                found += str(one.readlink()).startswith("socket:")
        return found

    def answers(self) -> bool:
        with closing(self.connect()) as connection:
            connection.sendall(HEAD + b"Content-Length: 4\r\n\r\nbody")
            return b"\r\n\r\nbody" in read_until(connection, b"body")


@pytest.fixture(params=["http", "https"])
def start(request: Any, start_service: Any, require: Any, tmp_path: Path) -> Callable[..., Served]:
    env = echo_environment(tmp_path)
    if request.param == "http":
        return lambda *options, **more: Served(start_service(*options, env=env | more), None)
    authority = Authority(require("openssl"), tmp_path)
    certificate, key = authority.issue("/CN=localhost", "serverAuth", names="DNS:localhost")
    options = ("--tls-cert-file", str(certificate), "--tls-private-key-file", str(key))
    context = ssl.create_default_context(cafile=authority.certificate)
    return lambda *more_options, **more: Served(start_service(*options, *more_options, env=env | more), context)


def read_until(connection: socket.socket, end: bytes | None = None) -> bytes:
    """What comes until `end` does, or the server closes."""
    received = b""
    with suppress(ConnectionError, ssl.SSLError):
        while (end is None or end not in received) and (piece := connection.recv(65536)):
            received += piece
    return received


@pytest.fixture
def drip() -> Iterator[Callable[[socket.socket, bytes], None]]:
    """`drip(connection, data)` sends the data over and over in a thread of its own until nobody takes it."""
    ended = threading.Event()

    def send(connection: socket.socket, data: bytes) -> None:
        with suppress(OSError, ValueError):
            while not ended.wait(0.2):
                connection.sendall(data)

    threads: list[threading.Thread] = []

    def drip(connection: socket.socket, data: bytes) -> None:
        threads.append(threading.Thread(target=send, args=(connection, data)))
        threads[-1].start()

    yield drip
    ended.set()
    for thread in threads:
        thread.join()


# --- heads


def test_connections_without_a_whole_request_end(start: Any) -> None:
    served = start(**SOON)
    with ExitStack() as stack:
        connections = []
        for sent in (b"", b"G", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HEAD, HEAD[:20]):
            connections.append(stack.enter_context(closing(served.connect())))
            connections[-1].sendall(sent)
        for connection in connections:
            assert not read_until(connection).startswith(b"HTTP/1.1 2")


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(start: Any, drip: Any) -> None:
    with closing(start(**SOON).connect()) as connection:
        connection.sendall(HEAD)
        drip(connection, b"a")
        assert read_until(connection) == b""


def test_an_idle_connection_ends(start: Any) -> None:
    with closing(start(**SOON).connect()) as connection:
        connection.sendall(b"GET /bytes/3 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_until(connection).endswith(b"\r\n\r\nxxx")


def test_an_answer_that_takes_long_is_waited_for(start: Any) -> None:
    """A watch on which nothing happens is no slow client."""
    served = start(**SOON)
    with closing(served.connect()) as watch:
        watch.sendall(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until(watch, b"hello\n\r\n")
        time.sleep(2.5)  # more than any deadline
        with closing(served.connect()) as other:
            other.sendall(b"POST /tell HTTP/1.1\r\nHost: x\r\n\r\n")
            read_until(other, b"\r\n\r\n")
        assert read_until(watch, b"told\n\r\n").endswith(b"told\n\r\n")


# --- bodies


def test_bodies_that_stop_are_answered_408_and_their_connections_end(start: Any) -> None:
    served = start(**SOON)
    before = served.sockets()
    with ExitStack() as stack:
        connections = []
        for begun in (LENGTH + b"\r\n", LENGTH + b"\r\n12345", CHUNKED + b"\r\n", CHUNKED + b"\r\n5\r\n12"):
            connections.append(stack.enter_context(closing(served.connect())))
            connections[-1].sendall(HEAD + begun)
        for connection in connections:
            answer = read_until(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"the request body came too slowly" in answer
        while served.sockets() > before:  # no client has closed one; a test that waits in vain ends at its timeout
            time.sleep(0.05)
    assert served.answers()


def test_a_body_that_comes_byte_by_byte_is_not_waited_for(start: Any, drip: Any) -> None:
    served = start(**SOON)
    before = served.sockets()
    with closing(served.connect()) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
        drip(connection, b"a")
        assert read_until(connection, b"slowly").startswith(b"HTTP/1.1 408 ")
        while served.sockets() > before:
            time.sleep(0.05)


def test_a_client_that_waits_to_be_asked_for_its_body_and_does_not_send_it_is_cut_off(start: Any) -> None:
    served = start(**SOON)
    with closing(served.connect()) as connection:
        connection.sendall(HEAD + LENGTH + b"Expect: 100-continue\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        assert read_until(connection).startswith(b"HTTP/1.1 408 ")


def test_a_second_body_that_stops_is_cut_off_as_the_first_would_be(start: Any) -> None:
    served = start(**SOON)
    with closing(served.connect()) as connection:
        for _ in range(5):
            connection.sendall(HEAD + LENGTH + b"\r\n0123456789")
            assert read_until(connection, b"0123456789").startswith(b"HTTP/1.1 200 ")
        connection.sendall(HEAD + LENGTH + b"\r\n01234")
        assert read_until(connection).startswith(b"HTTP/1.1 408 ")


def test_nobody_else_is_cut_off(start: Any) -> None:
    """While slow bodies are ended, watches, idle connections and busy ones of the same address stay."""
    served = start(BODY="2")
    with ExitStack() as stack:

        def connected() -> socket.socket:
            return stack.enter_context(closing(served.connect()))

        watches, idle, slow, busy = ([connected() for _ in range(20)] for _ in range(4))
        for watch in watches:
            watch.sendall(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")
            read_until(watch, b"hello\n\r\n")
        for connection in slow:
            connection.sendall(HEAD + LENGTH + b"\r\n01234")
        ended = time.monotonic() + 4
        while time.monotonic() < ended:
            for connection in busy:
                connection.sendall(HEAD + LENGTH + b"\r\n0123456789")
                assert read_until(connection, b"0123456789").startswith(b"HTTP/1.1 200 ")
            busy[0].sendall(b"POST /tell HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_until(busy[0], b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
            for watch in watches:
                assert read_until(watch, b"told\n\r\n").endswith(b"told\n\r\n")
        for connection in slow:
            assert read_until(connection).startswith(b"HTTP/1.1 408 ")
        for connection in idle:
            connection.sendall(HEAD + LENGTH + b"\r\n0123456789")
            assert read_until(connection, b"0123456789").startswith(b"HTTP/1.1 200 ")
    assert "could not be cut off" not in served.service.log


def test_more_slow_bodies_than_request_threads_leave_the_service_answering(start: Any) -> None:
    served = start("--request-threads", "20", BODY="600", CROWDED="1")
    with ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(closing(served.connect()))
            connection.sendall(HEAD + LENGTH + b"\r\n01234")
        assert served.answers()  # one that has to wait for its turn
        assert resident(served.service) < 300 * 1024 * 1024


def test_many_slow_heads_leave_the_service_answering(start: Any) -> None:
    served = start("--request-threads", "20")
    with ExitStack() as stack:
        for _ in range(400):
            connection = stack.enter_context(closing(served.connect()))
            connection.sendall(HEAD)
        assert served.answers()
        assert resident(served.service) < 300 * 1024 * 1024


def resident(service: Any) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{service.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


# --- what is read too slowly, and the limits of what is sent


def test_a_client_that_does_not_read_its_answer_is_cut_off(start: Any) -> None:
    served = start(UNREAD="8")
    before = served.sockets()
    with closing(served.connect()) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(10)
        assert served.sockets() > before
        while served.sockets() > before:
            time.sleep(0.1)
        assert resident(served.service) < 300 * 1024 * 1024


def test_heads_have_limits(start: Any) -> None:
    served = start()
    line = b"GET /path/a HTTP/1.1\r\nHost: x\r\n"
    for head, codes in (
        (b"GET /path/" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n", {200}),  # the application's own limit counts
        (b"GET /path/" + b"a" * 65_600 + b" HTTP/1.1\r\nHost: x\r\n", {414, 431}),  # whichever limit is met first
        (line + b"A: b\r\n" * 90, {200}),
        (line + b"A: b\r\n" * 200, {431}),
        (line + b"A: " + b"b" * 200_000 + b"\r\n", {431}),
    ):
        with closing(served.connect()) as connection:
            with suppress(OSError):
                connection.sendall(head + b"Connection: close\r\n\r\n")
            assert int(read_until(connection)[9:12]) in codes


# --- TLS itself


@pytest.mark.parametrize("start", ["https"], indirect=True)
def test_waiting_for_a_client_to_read_costs_no_time(start: Any) -> None:
    served = start()
    with ExitStack() as stack:
        for rest in (b"Connection: close\r\n\r\n", b"\r\n"):
            connection = stack.enter_context(closing(served.connect()))
            connection.sendall(b"GET /bytes/30000000 HTTP/1.1\r\nHost: x\r\n" + rest)
            assert connection.recv(10)
        time.sleep(1)
        before = processor_seconds(served.service)
        time.sleep(3)
        assert processor_seconds(served.service) - before < 1.5


def processor_seconds(service: Any) -> float:
    fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("start", ["https"], indirect=True)
def test_handshakes_that_stop_are_not_waited_for(start: Any) -> None:
    served = start(HANDSHAKE="1")
    with ExitStack() as stack:
        connections = []
        for sent in (b"", b"\x16\x03\x01\x02\x00\x01", b"G"):
            connections.append(stack.enter_context(closing(served.plain())))
            connections[-1].sendall(sent)
        for connection in connections:
            read_until(connection)  # until it is closed


@pytest.mark.parametrize("start", ["https"], indirect=True)
def test_a_handshake_that_stops_after_the_hello_is_not_waited_for(start: Any) -> None:
    """The server has said its part by then."""
    served = start(HANDSHAKE="1")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl._create_unverified_context()
    client = context.wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    with closing(served.plain()) as connection:
        connection.sendall(outgoing.read())
        assert read_until(connection).startswith(b"\x16\x03\x03")


@pytest.mark.parametrize("start", ["https"], indirect=True)
def test_many_handshakes_that_stop_leave_the_service_answering(start: Any) -> None:
    served = start()
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(closing(served.plain())).sendall(b"\x16\x03\x01")
        assert served.answers()


# --- who is overdue


def test_a_body_is_overdue_after_its_time_and_sooner_when_there_are_many() -> None:
    waited_for = Bodies(2, list.clear)
    answers: list[tuple[Any, ...]] = []
    made = [Body(waited_for, None, lambda *answer: answers.append(answer), "") for _ in range(3)]
    for body in made[:2]:
        waited_for.waiting[id(body)] = body
    now = made[0].since
    assert waited_for.overdue(now + bodies.BODY_SECONDS / 2) == []
    assert waited_for.overdue(now + bodies.BODY_SECONDS * 2) == made[:2]
    waited_for.waiting[id(made[2])] = made[2]
    assert waited_for.overdue(now + bodies.BODY_SECONDS / 2) == made
    made[1].refuse()
    assert [answer[0] for answer in answers] == [408]
    assert waited_for.overdue(now + bodies.BODY_SECONDS * 2) == [made[0], made[2]]

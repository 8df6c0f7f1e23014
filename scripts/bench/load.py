"""The load generator: one process, kept-alive connections, one request at a time on each.

It shares the machine with the server, so it does as little as it can: a request is bytes made beforehand with the
digest of a new image put in, an answer is looked at for its status and its length. Each latency is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.endpoint import Endpoint

Request = tuple[bytes, ...]
"""The parts of a request; the digest of a new image (64 hex digits) is put between each two."""

TICK = os.sysconf("SC_CLK_TCK")

LOST = 0
"""Stands for a status where the connection was closed instead."""

_SILENCE = 120
"""Seconds without any answer after which the server has failed."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED_END = b"\r\n0\r\n\r\n"
"""How a body of unknown length ends. JSON holds no such bytes."""


@dataclass(frozen=True)
class Group:
    """So many clients who share some requests, each going round and round in its part of them."""

    requests: Sequence[Request]
    clients: int


@dataclass(frozen=True)
class Load:
    """What to send where: for some seconds, or each request once if `seconds` is None.

    `pids` are the server's processes, whose CPU is told.
    """

    endpoint: Endpoint
    groups: Sequence[Group]
    seconds: float | None = None
    pids: tuple[int, ...] = ()

    def run(self) -> Outcome:
        """Run it in a process of its own. Raises LoadFailed."""
        code = "from bench.load import main; main()"
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        process = subprocess.run(
            [sys.executable, "-c", code], input=pickle.dumps(self), stdout=subprocess.PIPE, env=env, check=False
        )
        if process.returncode:
            raise LoadFailed(f"the load generator ended with status {process.returncode}")
        outcome: Outcome = pickle.loads(process.stdout)  # noqa: S301 (of our own process)
        return outcome


class LoadFailed(Exception):
    """The load could not be put on."""


@dataclass
class Answers:
    """What came back to one group: how many answers by status, and the seconds that each success took, in order."""

    codes: Counter[int] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))


@dataclass
class Outcome:
    """What came of a load. Seconds of CPU are the server's (None if it is not known) and the generator's.

    `others` is how many cores were busy with anything else.
    """

    seconds: float
    groups: list[Answers]
    server_cpu: float | None
    own_cpu: float
    others: float


class _Client:
    """One connection, and what is known of the answer that is under way."""

    def __init__(self, endpoint: Endpoint, requests: Iterator[Request], answers: Answers) -> None:
        self._endpoint, self._requests, self.answers = endpoint, requests, answers
        self.sent = 0.0
        self._connect()

    def _connect(self) -> None:
        self.socket: socket.socket = self._endpoint.open()
        self.socket.settimeout(None)
        self._head, self._tail, self._missing, self._status = b"", b"", 0, 0

    def reconnect(self) -> None:
        """Begin anew after the server hung up."""
        self.socket.close()
        self._connect()

    def send(self, images: Iterator[bytes]) -> bool:
        """Send the next request; answers False if there is none."""
        request = next(self._requests, None)
        if request is None:
            return False
        data = request[0] if len(request) == 1 else next(images).join(request)
        self.sent = time.perf_counter()
        self.socket.sendall(data)
        return True

    def receive(self, buffer: memoryview) -> int | None:
        """Take what has come: the status of the answer if it is whole now, LOST if the server hung up."""
        try:
            size = self.socket.recv_into(buffer)
        except ConnectionError:
            size = 0
        if size == 0:
            return LOST
        if self._missing:
            self._missing -= size
        elif self._tail:
            self._tail = (self._tail + bytes(buffer[max(size - 7, 0) : size]))[-7:]
        elif not self._begin(self._head + bytes(buffer[:size])):
            return None
        if self._missing or (self._tail and self._tail != _CHUNKED_END):
            return None
        self._tail = b""
        return self._status

    def _begin(self, data: bytes) -> bool:
        """Read the head of an answer; answers whether all of it has come."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._head = data
            return False
        self._head, self._status = b"", int(data[9:12])
        length = _LENGTH.search(data, 0, end)
        if length:
            self._missing = int(length[1]) - (len(data) - end - 4)
        else:
            self._tail = data[-7:]
        return True


def _images() -> Iterator[bytes]:
    """Digests of new images without end; other ones in each run."""
    seed = os.urandom(8)
    for number in itertools.count():
        yield hashlib.sha256(b"%s%d" % (seed, number)).hexdigest().encode()


def _shares(load: Load, group: Group) -> Iterator[Iterator[Request]]:
    for number in range(group.clients):
        mine = group.requests[number :: group.clients] or group.requests
        yield iter(mine) if load.seconds is None else itertools.cycle(mine)


def _run(load: Load) -> Outcome:
    groups = [Answers() for _ in load.groups]
    clients: dict[int, _Client] = {}
    poll = select.epoll()
    for group, answers in zip(load.groups, groups, strict=True):
        for requests in _shares(load, group):
            client = _Client(load.endpoint, requests, answers)
            clients[client.socket.fileno()] = client
            poll.register(client.socket.fileno(), select.EPOLLIN)
    buffer, images = memoryview(bytearray(1 << 19)), _images()
    before, cpu, own, began = busy(), cpu_of(load.pids), time.process_time(), time.perf_counter()
    end = began + load.seconds if load.seconds is not None else float("inf")
    waiting = sum(client.send(images) for client in clients.values())
    while waiting:
        ready = poll.poll(_SILENCE)
        if not ready:
            raise LoadFailed(f"the server has not answered for {_SILENCE} seconds")
        for number, _ in ready:
            client = clients[number]
            status = client.receive(buffer)
            if status is None:
                continue
            now = time.perf_counter()
            client.answers.codes[status] += 1
            if 200 <= status < 300:
                client.answers.latencies.append(now - client.sent)
            elif status == LOST:
                del clients[number]
                client.reconnect()
                clients[client.socket.fileno()] = client
                poll.register(client.socket.fileno(), select.EPOLLIN)
            if now >= end or not client.send(images):
                waiting -= 1
    seconds, own = time.perf_counter() - began, time.process_time() - own
    server = cpu_of(load.pids) - cpu if load.pids else None
    others = max((busy() - before - own - (server or 0)) / seconds, 0.0)
    return Outcome(seconds, groups, server, own, others)


def cpu_of(pids: Sequence[int]) -> float:
    """Seconds of CPU that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def busy() -> float:
    """Seconds that all cores have been busy, with whatever."""
    user, nice, system, _idle, _wait, irq, softirq, steal = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / TICK


def main() -> None:
    """Run the load that stands on standard input, and write what came of it to standard output."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever started it tells of the interruption
    load: Load = pickle.load(sys.stdin.buffer)  # noqa: S301 (of the process that started this one)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.stdout.buffer.write(pickle.dumps(_run(load)))

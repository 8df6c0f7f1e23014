#!/usr/bin/env python3
"""Measures the service from outside, each figure beside a limit measured in the same run.

    .venv/bin/python scripts/benchmark.py [--only ROW,ROW] [--seconds N] [--json FILE] [--url URL]

Starts a service of its own on a fresh log unless --url names one. Machines are noisy: rows that compare are
measured in turns and told as ratios, medians of their rounds.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.server
import itertools
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imagestream_es.domain.events import ImageMapped, ImageRegistered, LogStarted, Origin, Put, StreamCreated
from imagestream_es.persistence.event_mapper import EventMapper, Recorded
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.projections.projector import catch_up

GROUP = "/apis/image.openshift.io/v1"
COMMAND = Path(sys.executable).with_name("imagestream-es")


class Connection:
    """A kept-alive HTTP/1.1 connection that costs its user little."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def request(
        self, method: str, path: str, body: bytes = b"", media_type: str = "application/json", headers: str = ""
    ) -> tuple[int, bytes]:
        """One request: status and body; each of further `headers` ends with a line end."""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media_type}\r\n"
        head += f"Content-Length: {len(body)}\r\n{headers}\r\n"
        self._socket.sendall(head.encode() + body)
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        header, _, rest = self._buffer.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in header.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        self._buffer = rest
        while len(self._buffer) < length:
            self._fill()
        answer, self._buffer = self._buffer[:length], self._buffer[length:]
        return int(header[9:12]), answer

    def _fill(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data


class Target:
    """The service under test."""

    def __init__(self, url: str, process: subprocess.Popen[str] | None, directory: Path | None) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.process = process
        self.directory = directory

    def connect(self) -> Connection:
        """A new connection."""
        return Connection(self.address)

    def cpu(self) -> float:
        """Seconds of CPU that the service has used; nan if it is not ours."""
        if self.process is None:
            return float("nan")
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident bytes of the service; 0 if it is not ours."""
        if self.process is None:
            return 0
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def stored(self) -> int:
        """Bytes of log and views."""
        if self.directory is None:
            return 0
        return sum(file.stat().st_size for file in self.directory.glob("imagestream.db*"))


@contextmanager
def service(
    url: str | None, options: Sequence[str] = (), prepare: Callable[[Path], None] = lambda _: None
) -> Iterator[Target]:
    """The service that `url` names, or a fresh one with these options, on a directory that `prepare` was shown."""
    if url is not None:
        yield Target(url, None, None)
        return
    with tempfile.TemporaryDirectory(prefix="imagestream-benchmark-") as directory:
        data = Path(directory) / "data"
        prepare(data)
        process = subprocess.Popen(
            [COMMAND, "serve", "--bind", "127.0.0.1:0", "--data-dir", data, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield Target(line.removeprefix("Serving on ").strip(), process, data)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@dataclass
class Report:
    """Figures of one row, in the order in which they are told."""

    row: str
    figures: dict[str, Any] = field(default_factory=dict)

    def print(self) -> None:
        """Tell the figures."""
        print(f"{self.row}:")
        for name, value in self.figures.items():
            print(f"    {name}: {value:.3f}" if isinstance(value, float) else f"    {name}: {value}")


def digest(text: str) -> str:
    """A digest made of a text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def mapping(stream: str, tag: str, image: str) -> bytes:
    """The body of a mapping, as a registry sends it for an image whose layers are known."""
    return json.dumps({"metadata": {"name": stream}, "tag": tag, "image": {"metadata": {"name": image}}}).encode()


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def make_stream(connection: Connection, namespace: str, name: str) -> None:
    """Create an empty stream."""
    body = json.dumps({"metadata": {"name": name}}).encode()
    status, answer = connection.request("POST", f"{GROUP}/namespaces/{namespace}/imagestreams", body)
    if status not in (201, 409):
        raise RuntimeError(answer)


# --- rows


def history(target: Target, seconds: float) -> Report:
    """What one more mapping costs on a tag with 10,000 entries, against one on an empty tag."""
    connection = target.connect()
    make_stream(connection, "benchmark", "history")
    images = [digest(f"history {number}") for number in range(64)]
    path = f"{GROUP}/namespaces/benchmark/imagestreammappings"

    def push(tag: str, number: int) -> float:
        began = time.perf_counter()
        status, answer = connection.request("POST", path, mapping("history", tag, images[number % len(images)]))
        if status != 201:
            raise RuntimeError(answer)
        return time.perf_counter() - began

    for number in range(10_000):
        push("long", number)
    number, ratios = 10_000, []
    times: dict[str, list[float]] = {"long": [], "short": []}
    sizes: dict[str, list[int]] = {"long": [], "short": []}
    end = time.monotonic() + max(seconds, 10)
    turn = 0
    while time.monotonic() < end:
        turn += 1
        medians = {}
        for kind in ("long", "short") if turn % 2 else ("short", "long"):
            before = target.stored()
            spent = []
            for step in range(100):
                tag = "long" if kind == "long" else f"short-{turn}-{step}"
                spent.append(push(tag, number))
                number += 1
            times[kind] += spent
            sizes[kind].append(target.stored() - before)
            medians[kind] = statistics.median(spent)
        ratios.append(medians["long"] / medians["short"])
    began = time.perf_counter()
    _, answer = connection.request("GET", f"{GROUP}/namespaces/benchmark/imagestreamtags/history:long")
    tag_read = time.perf_counter() - began
    return Report(
        "history",
        {
            "mapping at 10,000 entries / on a new tag (median of rounds)": statistics.median(ratios),
            "rounds": len(ratios),
            "p50 ms at 10,000 entries": 1000 * statistics.median(times["long"]),
            "p50 ms on a new tag": 1000 * statistics.median(times["short"]),
            "bytes stored a mapping at 10,000 entries, checkpoints included": sum(sizes["long"]) / (100 * len(ratios)),
            "bytes stored a mapping on a new tag": sum(sizes["short"]) / (100 * len(ratios)),
            "GET of the tag, ms": 1000 * tag_read,
            "answer bytes": len(answer),
        },
    )


class Watcher(threading.Thread):
    """Holds a watch and notes when each line came."""

    def __init__(self, target: Target, namespace: str, name: str | None) -> None:
        super().__init__(daemon=True)
        selector = f"&fieldSelector=metadata.name%3D{name}" if name else ""
        self._path = f"{GROUP}/namespaces/{namespace}/imagestreams?watch=1&sendInitialEvents=false"
        self._path += f"&resourceVersionMatch=NotOlderThan{selector}"
        self._socket = socket.create_connection(target.address, timeout=120)
        self.came: list[tuple[str, float]] = []

    def run(self) -> None:
        """Read lines until the end."""
        self._socket.sendall(f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        rest = b""
        try:
            while data := self._socket.recv(1 << 16):
                now = time.perf_counter()
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b'{"type"'):
                        self.note(line, now)
        except OSError:
            return

    def note(self, line: bytes, now: float) -> None:
        """Take one line of the watch."""
        version = line.partition(b'"resourceVersion":"')[2].partition(b'"')[0]
        self.came.append((version.decode(), now))

    def close(self) -> None:
        """End the watch."""
        self._socket.close()


def watch(target: Target, seconds: float) -> Report:
    """Delay from a commit to those who watch it, with 1, 100 and 1,000 watches, while others write."""
    figures: dict[str, Any] = {}
    alone = _write_rate(target, seconds)
    for count in (1, 100, 1000):
        before = target.memory()
        streams = [f"watched-{count}-{number}" for number in range(min(count, 50))]
        connection = target.connect()
        for name in streams:
            make_stream(connection, "watched", name)
        watchers = [Watcher(target, "watched", streams[number % len(streams)]) for number in range(count)]
        for watcher in watchers:
            watcher.start()
        time.sleep(1 + count / 200)
        memory = (target.memory() - before) / count
        sent: dict[str, float] = {}
        rate = _write_rate(target, seconds, during=lambda s=streams, t=sent: _touch(target, s, t, seconds))  # type: ignore[misc]
        time.sleep(0.5)
        delays = [
            1000 * (came - sent[version]) for watcher in watchers for version, came in watcher.came if version in sent
        ]
        for watcher in watchers:
            watcher.close()
        figures |= {
            f"{count} watches: lines": len(delays),
            f"{count} watches: delay p50 ms": statistics.median(delays),
            f"{count} watches: delay p99 ms": percentile(delays, 0.99),
            f"{count} watches: kB a watch": memory / 1000,
            f"{count} watches: writes kept": rate / alone,
        }
        time.sleep(1)
    return Report("watch", figures)


def _touch(target: Target, streams: list[str], sent: dict[str, float], seconds: float) -> None:
    """Label watched streams now and then; notes when each answer, and so its commit, was there."""
    connection = target.connect()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        name = streams[number % len(streams)]
        body = json.dumps({"metadata": {"labels": {"touched": str(number)}}}).encode()
        path = f"{GROUP}/namespaces/watched/imagestreams/{name}"
        status, answer = connection.request("PATCH", path, body, "application/merge-patch+json")
        # The answer comes after the commit: what a watcher got before it counts as no delay at all.
        sent[json.loads(answer)["metadata"]["resourceVersion"]] = time.perf_counter()
        assert status == 200
        number += 1
        time.sleep(0.05)


def _write_rate(target: Target, seconds: float, during: Callable[[], None] | None = None) -> float:
    """Mappings a second of four clients to streams that nobody watches; `during` runs beside them."""
    counts = [0] * 4
    end = time.monotonic() + seconds

    def write(worker: int) -> None:
        connection = target.connect()
        make_stream(connection, "written", f"stream-{worker}")
        path = f"{GROUP}/namespaces/written/imagestreammappings"
        while time.monotonic() < end:
            image = digest(f"{worker} {counts[worker] % 50}")
            connection.request("POST", path, mapping(f"stream-{worker}", "latest", image))
            counts[worker] += 1

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    if during is not None:
        threads.append(threading.Thread(target=during))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


WEBHOOK_SECRET = "benchmark"  # noqa: S105
NOTIFICATIONS = 1000
REPOSITORIES = 10
SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"


def _made_up(number: int) -> tuple[bytes, bytes]:
    """Manifest and config of one of endless images."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "number": number}).encode()
    place = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config)}
    place["digest"] = "sha256:" + hashlib.sha256(config).hexdigest()
    return json.dumps({"schemaVersion": 2, "mediaType": SCHEMA2, "config": place, "layers": []}).encode(), config


def _serve_registry(ports: Any, count: int) -> None:
    """A registry in a process of its own, which has made-up images in every repository."""
    found = {f"sha256:{hashlib.sha256(one).hexdigest()}": one for number in range(count) for one in _made_up(number)}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"{}" if self.path == "/v2/" or "_catalog" in self.path else found.get(self.path.rpartition("/")[2])
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", SCHEMA2)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ports.put(server.server_port)
    server.serve_forever()


def _notification(number: int, repository: str) -> tuple[bytes, str]:
    """A push of one of the made-up images, and its digest."""
    image = "sha256:" + hashlib.sha256(_made_up(number)[0]).hexdigest()
    target = {"mediaType": SCHEMA2, "digest": image, "repository": f"pushed/{repository}", "tag": "latest"}
    stamp = f"2016-01-01T00:00:00.{number:09}Z"
    event = {"id": f"event-{number}", "timestamp": stamp, "action": "push", "target": target}
    return json.dumps({"events": [event]}).encode(), image


def _tell(connection: Connection, body: bytes) -> None:
    headers = f"Authorization: Bearer {WEBHOOK_SECRET}\r\n"
    status, answer = connection.request("POST", "/hooks/registry", body, headers=headers)
    if status != 202:
        raise RuntimeError(answer)


def _pushed(connection: Connection, repository: str) -> list[str]:
    """The images of a pushed tag, oldest first."""
    status, answer = connection.request("GET", f"{GROUP}/namespaces/pushed/imagestreamtags/{repository}:latest")
    if status == 404:
        return []
    status, answer = connection.request("GET", f"{GROUP}/namespaces/pushed/imagestreams/{repository}")
    (tag,) = json.loads(answer)["status"]["tags"]
    return [item["image"] for item in tag["items"]][::-1]


def webhook(_: Target, seconds: float) -> Report:
    """1,000 notifications at once and then some now and then, while others write: how fast, and none lost."""
    paced = int(20 * seconds)
    ports: Any = multiprocessing.Queue()
    registry = multiprocessing.Process(target=_serve_registry, args=(ports, NOTIFICATIONS + paced), daemon=True)
    registry.start()
    with tempfile.NamedTemporaryFile("w") as secret:
        secret.write(WEBHOOK_SECRET)
        secret.flush()
        options = ["--registry-url", f"http://127.0.0.1:{ports.get()}", "--registry-webhook-secret-file", secret.name]
        try:
            with service(None, options) as target:
                return Report("webhook", _webhook_figures(target, seconds, paced))
        finally:
            registry.kill()


def _webhook_figures(target: Target, seconds: float, paced: int) -> dict[str, Any]:
    expected: dict[str, list[str]] = {f"app-{number}": [] for number in range(REPOSITORIES)}
    names = list(expected)
    figures: dict[str, Any] = {}
    sent: dict[str, float] = {}
    connection = target.connect()

    def tell(number: int) -> None:
        body, image = _notification(number, names[number % REPOSITORIES])
        expected[names[number % REPOSITORIES]].append(image)
        sent[image] = time.perf_counter()
        _tell(connection, body)

    def burst() -> None:
        began = time.perf_counter()
        for number in range(NOTIFICATIONS):
            tell(number)
        figures["told a second"] = NOTIFICATIONS / (time.perf_counter() - began)
        asking = target.connect()
        while any(len(_pushed(asking, name)) < len(images) for name, images in expected.items()):
            time.sleep(0.05)
        figures["worked off a second"] = NOTIFICATIONS / (time.perf_counter() - began)

    def now_and_then() -> None:
        for number in range(NOTIFICATIONS, NOTIFICATIONS + paced):
            began = time.perf_counter()
            tell(number)
            time.sleep(max(0.05 - (time.perf_counter() - began), 0))

    figures["mappings a second beside the burst"] = _write_rate(target, seconds, burst)
    watcher = PushWatcher(target, "pushed", None)
    watcher.start()
    time.sleep(0.5)
    figures["mappings a second beside the rest"] = _write_rate(target, seconds, now_and_then)
    end = time.monotonic() + 60
    while len(watcher.seen) < paced and time.monotonic() < end:
        time.sleep(0.05)
    watcher.close()
    delays = [1000 * (came - sent[image]) for image, came in watcher.seen.items() if image in sent]
    asking = target.connect()
    wrong = [name for name, images in expected.items() if _pushed(asking, name) != images]
    return figures | {
        "pushes": NOTIFICATIONS + paced,
        "repositories with a push lost, repeated or out of order": len(wrong),
        "delay to who watches p50 ms": statistics.median(delays),
        "delay to who watches p99 ms": percentile(delays, 0.99),
    }


class PushWatcher(Watcher):
    """Notes when each image was first seen on top of a tag."""

    def __init__(self, target: Target, namespace: str, name: str | None) -> None:
        super().__init__(target, namespace, name)
        self.seen: dict[str, float] = {}

    def note(self, line: bytes, now: float) -> None:
        """Take one line of the watch."""
        # The newest entry stands first.
        image = line.partition(b'"image":"')[2].partition(b'"')[0]
        if image:
            self.seen.setdefault(image.decode(), now)


CHANGES = (10_000, 1_000_000)
"""How many tag changes the two logs have that are compared; and each a hundredth as many streams."""
LONG = 100_000
"""How many changes the one long tag has."""
BUILT = 20_000
"""How many events are written in one transaction."""


def _history_events(changes: int) -> Iterator[tuple[str, Any]]:
    """The events of a log with so many changes, a hundred of each stream, and of one long tag in the larger log.

    The changes of all streams are mixed; images come back, so that some changes are reverts.
    """

    at = itertools.count(1_600_000_000_000, 10)

    def by() -> Origin:
        return Origin(at=next(at), actor="0123456789abcdef0123", door="api", request="benchmark")

    yield "/log", LogStarted(by=by(), log="benchmark")
    names = [f"stream-{number}" for number in range(changes // 100)]
    if changes == CHANGES[1]:
        names.append("long")
    for name in names:
        created = StreamCreated(
            by=by(), namespace="past", name=name, uid=name, generation=1, repository=f"registry:5000/past/{name}"
        )
        yield f"past/{name}", created
    for name in ("stream-7", "long"):
        for number in range(20):
            yield digest(f"{name} {number}"), ImageRegistered(by=by(), uid=f"{name}-{number}")
    for number in range(100):
        for name in names:
            for repeat in range(LONG // 100 if name == "long" else 1):
                image = digest(f"{name} {(number + repeat) % 20}")
                yield f"past/{name}", ImageMapped(by=by(), put=(Put(tag="latest", image=image, generation=1),))


def _build_history(changes: int, directory: Path) -> None:
    """Write a log with so many changes, and the views over it."""

    directory.mkdir(parents=True)
    store, mapper, versions = SQLiteStore(str(directory / "imagestream.db")), EventMapper(), Counter[str]()
    store.create_tables()
    events = enumerate(_history_events(changes), 1)
    while some := list(itertools.islice(events, BUILT)):
        with store.writing() as rows:
            for position, (name, event) in some:
                versions[name] += 1
                rows.append([(position, mapper.to_stored_event(Recorded(name, versions[name], event)))])
    catch_up(store)
    store.close()


HISTORY = "/apis/history.imagestream-es.io/v1/namespaces/past"


def past(_: Target, seconds: float) -> Report:
    """Reads of the past at a million changes, against the same reads at ten thousand."""
    image = digest("stream-7 3")
    changed = f"{HISTORY}/tagchanges?limit=100&fieldSelector=tag%3Dlatest,stream%3D"
    reads: dict[str, Callable[[int], str]] = {
        "as-of read of a tag": lambda head: f"{GROUP}/namespaces/past/imagestreamtags/stream-7:latest?asOf={head // 2}",
        "first page of the changes of a tag": lambda _: f"{changed}stream-7",
        "where an image was tagged": lambda _: f"{HISTORY}/imageusages?image={image}",
    }
    figures: dict[str, Any] = {}
    with (
        service(None, prepare=partial(_build_history, CHANGES[0])) as small,
        service(None, prepare=partial(_build_history, CHANGES[1])) as large,
    ):
        for name, make in reads.items():
            few, many = (small, make(_head(small))), (large, make(_head(large)))
            figures |= _compared(name, f"{CHANGES[1]:,} changes", few, f"{CHANGES[0]:,}", many, seconds)
        head = _head(large)
        tag = f"{GROUP}/namespaces/past/imagestreamtags/long:latest?asOf="
        for name, path in {
            "first page of the long tag": f"{changed}long",
            "page in the middle of it": f"{changed}long&continue={_continue(head, head // 2)}",
            "page at its end": f"{changed}long&continue={_continue(head, head // 50)}",
        }.items():
            short = (large, f"{changed}stream-7")
            figures |= _compared(name, f"{LONG:,} changes", short, "100", (large, path), seconds)
        for share in (10, 2):
            place = head - head // share
            short = (large, f"{GROUP}/namespaces/past/imagestreamtags/stream-7:latest?asOf={place}")
            name = f"as-of read of the long tag, 1/{share} of the log back"
            figures |= _compared(name, f"{LONG:,} changes", short, "100", (large, f"{tag}{place}"), seconds)
        figures["bytes stored a change"] = large.stored() / (CHANGES[1] + LONG)
    return Report("past", figures)


def _head(target: Target) -> int:
    _, answer = target.connect().request("GET", f"{HISTORY}/tagchanges?limit=1")
    return int(json.loads(answer)["metadata"]["resourceVersion"])


def _continue(head: int, position: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([head, "past", f"{position}-0"]).encode()).rstrip(b"=").decode()


def _compared(
    name: str, much: str, few: tuple[Target, str], little: str, many: tuple[Target, str], seconds: float
) -> dict[str, Any]:
    """Read from both in turns: the ratio of their times, and the times."""
    connections = few[0].connect(), many[0].connect()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.monotonic() + seconds / 2
    while time.monotonic() < end or len(times[1]) < 20:
        for connection, spent, (_, path) in zip(connections, times, (few, many), strict=True):
            began = time.perf_counter()
            status, answer = connection.request("GET", path)
            spent.append(time.perf_counter() - began)
            if status != 200:
                raise RuntimeError(answer)
    small, large = (1000 * statistics.median(spent[3:]) for spent in times)
    return {f"{name}: {much} / {little}": large / small, f"{name}: ms": large}


BINDINGS = 10_000
BINDING = """apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: reader, namespace: team-{number}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}
subjects: [{{kind: User, name: user-{number}}}, {{kind: User, name: reader}}]
---
"""


def access(_: Target, seconds: float) -> Report:
    """What a read costs with a token and 10,000 bindings, all of which concern the reader, against one without."""
    with tempfile.TemporaryDirectory(prefix="imagestream-benchmark-") as directory:
        tokens, rules = Path(directory) / "tokens", Path(directory) / "rbac"
        rules.mkdir()
        tokens.write_text('reader-token,reader,1\nroot-token,root,2,"system:masters"\n')
        (rules / "rules.yaml").write_text("".join(BINDING.format(number=number) for number in range(BINDINGS)))
        options = ["--access-log", "off"]
        with (
            service(None, options) as plain,
            service(None, [*options, "--token-auth-file", str(tokens), "--rbac", str(rules)]) as guarded,
        ):
            return _access(plain, guarded, seconds)


def _access(plain: Target, guarded: Target, seconds: float) -> Report:
    reader, path = "Authorization: Bearer reader-token\r\n", f"{GROUP}/namespaces/team-7/imagestreams/web"
    connections = {"plain": (plain.connect(), ""), "guarded": (guarded.connect(), reader)}
    body = json.dumps({"metadata": {"name": "web"}, "spec": {"tags": [{"name": "latest"}]}}).encode()
    for connection, headers in connections.values():
        who = headers.replace("reader", "root")
        status, answer = connection.request("POST", path.removesuffix("/web"), body, headers=who)
        if status != 201:
            raise RuntimeError(answer)

    def read(kind: str) -> float:
        connection, headers = connections[kind]
        began = time.perf_counter()
        status, answer = connection.request("GET", path, headers=headers)
        if status != 200:
            raise RuntimeError(answer)
        return time.perf_counter() - began

    ratios: list[float] = []
    times: dict[str, list[float]] = {"plain": [], "guarded": []}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        spent: dict[str, list[float]] = {"plain": [], "guarded": []}
        for step in range(200):
            for kind in ("plain", "guarded") if step % 2 else ("guarded", "plain"):
                spent[kind].append(read(kind))
        ratios.append(statistics.median(spent["guarded"]) / statistics.median(spent["plain"]))
        for kind, found in spent.items():
            times[kind] += found
    return Report(
        "access",
        {
            "read with 10,000 bindings / without credentials (median of rounds)": statistics.median(ratios),
            "rounds": len(ratios),
            "p50 ms with 10,000 bindings": 1000 * statistics.median(times["guarded"]),
            "p50 ms without credentials": 1000 * statistics.median(times["plain"]),
        },
    )


ROWS: dict[str, Callable[[Target, float], Report]] = {
    "history": history,
    "watch": watch,
    "webhook": webhook,
    "past": past,
    "access": access,
}


def main() -> None:
    """Run the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ROWS), help="rows to measure, separated by commas")
    parser.add_argument("--seconds", type=float, default=10, help="how long a round lasts")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--url", help="measure this service instead of a fresh one")
    arguments = parser.parse_args()
    reports = []
    for name in arguments.only.split(","):
        with service(arguments.url) as target:
            report = ROWS[name](target, arguments.seconds)
        report.print()
        reports.append({"row": report.row, "figures": report.figures})
    if arguments.json:
        arguments.json.write_text(json.dumps(reports, indent=1) + "\n")


if __name__ == "__main__":
    main()

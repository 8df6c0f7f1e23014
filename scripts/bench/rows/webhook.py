"""Pushes that a registry tells of: how fast they are taken and worked off, and whether one is lost."""

from __future__ import annotations

import hashlib
import http.server
import json
import multiprocessing
import statistics
import tempfile
import time
from typing import Any

from bench.contest import percentile
from bench.endpoint import Connection, Refused
from bench.images import CONFIG, SCHEMA2
from bench.rows.watch import Watcher, Writers
from bench.run import Figures, Run
from bench.service import Target, service, until

SECRET = "benchmark"  # noqa: S105
NOTIFICATIONS = 1000
REPOSITORIES = 10
NAMESPACE = "pushed"


def _made_up(number: int) -> tuple[bytes, bytes]:
    """Manifest and config of one of endless images."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "number": number}).encode()
    place = {"mediaType": CONFIG, "size": len(config), "digest": "sha256:" + hashlib.sha256(config).hexdigest()}
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
    target = {"mediaType": SCHEMA2, "digest": image, "repository": f"{NAMESPACE}/{repository}", "tag": "latest"}
    stamp = f"2016-01-01T00:00:00.{number:09}Z"
    event = {"id": f"event-{number}", "timestamp": stamp, "action": "push", "target": target}
    return json.dumps({"events": [event]}).encode(), image


def _pushed(connection: Connection, repository: str) -> list[str]:
    """The images of a pushed tag, oldest first."""
    status, answer = connection.request("GET", f"{connection.endpoint.streams}/{repository}")
    if status == 404:
        return []
    tags = json.loads(answer)["status"].get("tags") or [{"items": []}]
    return [item["image"] for item in tags[0]["items"]][::-1]


def webhook(run: Run) -> Figures:
    """1,000 notifications at once and then some now and then, while others write: how fast, and none lost."""
    burst, paced = run.scaled(NOTIFICATIONS, REPOSITORIES), max(int(20 * run.seconds), 2)
    ports: Any = multiprocessing.Queue()
    registry = multiprocessing.Process(target=_serve_registry, args=(ports, burst + paced), daemon=True)
    registry.start()
    with tempfile.NamedTemporaryFile("w") as secret:
        secret.write(SECRET)
        secret.flush()
        options = ["--registry-url", f"http://127.0.0.1:{ports.get()}", "--registry-webhook-secret-file", secret.name]
        try:
            with service(options) as target:
                return _Pushing(target.within(NAMESPACE)).figures(burst, paced, run)
        finally:
            registry.kill()
            registry.join()


class PushWatcher(Watcher):
    """Notes when each image was first seen on top of a tag."""

    def __init__(self, target: Target) -> None:
        super().__init__(target, None)
        self.seen: dict[str, float] = {}

    def note(self, line: bytes, now: float) -> None:
        """Take one line of the watch."""
        # The newest entry stands first.
        image = line.partition(b'"image":"')[2].partition(b'"')[0]
        if image:
            self.seen.setdefault(image.decode(), now)


class _Pushing:
    """Tells the service of pushes, and knows what must come of them."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection = target.connect()
        self._names = [f"app-{number}" for number in range(REPOSITORIES)]
        self._expected: dict[str, list[str]] = {name: [] for name in self._names}
        self._sent: dict[str, float] = {}

    def _tell(self, number: int) -> None:
        name = self._names[number % REPOSITORIES]
        body, image = _notification(number, name)
        self._expected[name].append(image)
        self._sent[image] = time.perf_counter()
        status, answer = self._connection.request("POST", "/hooks/registry", body, token=SECRET)
        if status != 202:
            raise Refused(answer.decode(errors="replace"))

    def _all_there(self) -> bool:
        connection = self._target.connect()
        there = all(len(_pushed(connection, name)) >= len(images) for name, images in self._expected.items())
        connection.close()
        return there

    def figures(self, burst: int, paced: int, run: Run) -> Figures:
        run.say(f"{burst} notifications at once")
        elsewhere = self._target.within("written")
        with Writers(elsewhere) as beside_burst:
            began = time.perf_counter()
            for number in range(burst):
                self._tell(number)
            told = burst / (time.perf_counter() - began)
            until(self._all_there)
            worked_off = burst / (time.perf_counter() - began)
        run.say(f"{paced} notifications now and then")
        watcher = PushWatcher(self._target)
        watcher.start()
        time.sleep(0.5)
        with Writers(elsewhere) as beside:
            for number in range(burst, burst + paced):
                began = time.perf_counter()
                self._tell(number)
                time.sleep(max(0.05 - (time.perf_counter() - began), 0))
        until(lambda: len(watcher.seen) >= paced)
        watcher.close()
        delays = [1000 * (came - self._sent[image]) for image, came in watcher.seen.items() if image in self._sent]
        asking = self._target.connect()
        wrong = [name for name, images in self._expected.items() if _pushed(asking, name) != images]
        return {
            "told a second": told,
            "worked off a second": worked_off,
            "mappings a second beside the burst": beside_burst.rate,
            "mappings a second beside the rest": beside.rate,
            "pushes": burst + paced,
            "repositories with a push lost, repeated or out of order": len(wrong),
            "delay to who watches p50 ms": statistics.median(delays) if delays else float("nan"),
            "delay to who watches p99 ms": percentile(delays, 0.99),
        }

"""Watches of the running service: many, slow and vanished clients, the limit, the end."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import Service

STREAMS = "/apis/image.openshift.io/v1/namespaces/shop/imagestreams"
FEW = ("--request-threads", "70")
"""Room for 6 watches."""

Event = dict[str, Any]


class LiveWatch:
    """A watch over a connection of its own; its answer has begun."""

    def __init__(self, service: Service, query: str = "", path: str = STREAMS) -> None:
        self._connection = http.client.HTTPConnection(service.address, timeout=30)
        self._connection.request("GET", f"{path}?watch=true&{query}")
        self.answer = self._connection.getresponse()

    def __iter__(self) -> Iterator[Event]:
        """Its events, up to the clean end of the answer."""
        while line := self.answer.readline():
            yield json.loads(line)

    def take(self, count: int) -> list[Event]:
        return [json.loads(self.answer.readline()) for _ in range(count)]

    def until(self, version: int) -> list[tuple[str, str, int]]:
        """Type, name and version of its events up to a version."""
        told: list[tuple[str, str, int]] = []
        while not told or told[-1][2] < version:
            told += tell(self.take(1))
        return told

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def tell(events: list[Event]) -> list[tuple[str, str, int]]:
    metadata = [(event["type"], event["object"]["metadata"]) for event in events]
    return [(kind, one.get("name", ""), int(one["resourceVersion"])) for kind, one in metadata]


def send(service: Service, method: str, path: str, body: object) -> dict[str, Any]:
    media_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    status, answer = service.request(path, method, json.dumps(body).encode(), {"Content-Type": media_type})
    assert status in (200, 201), answer
    found: dict[str, Any] = json.loads(answer)
    return found


def create(service: Service, name: str) -> int:
    stream = send(service, "POST", STREAMS, {"metadata": {"name": name}})
    return int(stream["metadata"]["resourceVersion"])


def annotate(service: Service, name: str, text: str) -> int:
    stream = send(service, "PATCH", f"{STREAMS}/{name}", {"metadata": {"annotations": {"text": text}}})
    return int(stream["metadata"]["resourceVersion"])


def resident(service: Service) -> int:
    """Megabytes of memory that the service occupies."""
    pages = int(Path(f"/proc/{service.pid}/statm").read_text().split()[1])
    return pages * 4096 >> 20


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def opened() -> Iterator[Callable[..., LiveWatch]]:
    """`opened(service, query)` opens a watch that is closed after the test."""
    with ExitStack() as stack:

        def opened(*args: Any) -> LiveWatch:
            watch = LiveWatch(*args)
            stack.callback(watch.close)
            return watch

        yield opened


def test_watches_that_begin_while_writes_go_on_miss_nothing_and_repeat_nothing(
    service: Service, opened: Callable[..., LiveWatch]
) -> None:
    create(service, "first")
    written: list[tuple[int, str]] = []

    def write(writer: int) -> None:
        for number in range(40):
            name = f"w{writer}-{number}"
            written.append((create(service, name), name))

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in writers:
        thread.start()
    watches = []
    for thread in writers:
        watches += [(since, opened(service, f"resourceVersion={since}")) for since in (1, 2)]
        thread.join()
    expected = [(2, "first"), *sorted(written)]
    assert [version for version, _ in expected] == [*range(2, 123)]
    for since, watch in watches:
        assert watch.until(122) == [("ADDED", name, version) for version, name in expected if version > since]


def test_a_slow_client_holds_nobody_up_takes_little_memory_and_gets_everything_in_the_end(
    service: Service, opened: Callable[..., LiveWatch]
) -> None:
    begun = create(service, "web")
    annotate(service, "web", "x" * 200_000)
    slow, quick = opened(service, f"resourceVersion={begun}"), opened(service, f"resourceVersion={begun}")
    quick.take(1)
    before = resident(service)
    for number in range(500):  # 100 MB
        version = annotate(service, "web", f"{number:06}" + "x" * 200_000)
        assert tell(quick.take(1)) == [("MODIFIED", "web", version)]
    assert resident(service) - before < 80
    assert [one[2] for one in slow.until(version)] == [*range(begun + 1, version + 1)]


def test_clients_that_vanish_leave_room_for_others(start_service: Callable[..., Service]) -> None:
    service = start_service(*FEW)
    create(service, "web")
    watches = [LiveWatch(service, "resourceVersion=1") for _ in range(6)]
    assert [watch.answer.status for watch in watches] == [200] * 6
    for watch in watches:
        watch.close()
    wait_for(lambda: has_room(service, 6))  # nothing happens to what they watched


def has_room(service: Service, count: int) -> bool:
    watches = [LiveWatch(service, "timeoutSeconds=1") for _ in range(count)]
    bodies = [watch.answer.read() for watch in watches]
    return all(b'"type":"ADDED"' in body for body in bodies)


def test_beyond_the_limit_watches_are_refused_and_all_else_is_served(
    start_service: Callable[..., Service], opened: Callable[..., LiveWatch]
) -> None:
    service = start_service(*FEW)
    watches = [opened(service) for _ in range(6)]
    refused = opened(service).answer
    assert refused.status == 429
    assert refused.headers["Retry-After"] == "1"
    status = json.loads(refused.read())
    assert (status["reason"], status["details"]["retryAfterSeconds"]) == ("TooManyRequests", 1)
    version = create(service, "web")
    assert service.request(f"{STREAMS}/web")[0] == 200
    for watch in watches:
        assert tell(watch.take(1)) == [("ADDED", "web", version)]


def test_two_hundred_watches_are_told_at_once(service: Service, opened: Callable[..., LiveWatch]) -> None:
    for name in ("web", "other"):
        create(service, name)
    watches = [
        opened(service, f"resourceVersion=3&fieldSelector=metadata.name%3D{name}")
        for name in ("web", "other")
        for _ in range(100)
    ]
    for _ in range(3):
        begun = time.monotonic()
        expected = {name: annotate(service, name, str(begun)) for name in ("web", "other")}
        for number, watch in enumerate(watches):
            name = "web" if number < 100 else "other"
            assert tell(watch.take(1)) == [("MODIFIED", name, expected[name])]
        assert time.monotonic() - begun < 5


def test_at_sigterm_watches_end_in_good_order(service: Service, opened: Callable[..., LiveWatch]) -> None:
    version = create(service, "web")
    watches = [
        opened(service, query)
        for query in ("resourceVersion=1", "resourceVersion=1&allowWatchBookmarks=true", f"resourceVersion={version}")
    ]
    for watch in watches[:2]:
        assert tell(watch.take(1)) == [("ADDED", "web", version)]
    begun = time.monotonic()
    assert service.stop() == (0, "")
    assert time.monotonic() - begun < 5
    for watch in watches:
        assert watch.answer.read() == b""  # whole: an answer that is cut off raises IncompleteRead
    assert "level=error" not in service.log

"""Registries that lie, flood, drip and lead astray: each ends in a condition, and the service does not suffer."""

from __future__ import annotations

import json
import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Service
from fake_registry import SCHEMA2, Answer, FakeRegistry, Handler, Page, fake_registry, moved, problem

SPACE = "/apis/image.openshift.io/v1/namespaces/hostile"
JSON = {"Content-Type": "application/json"}
PRIVATE = "127.0.0.2"
"""An address that nobody allowed."""
MEGABYTE = 1024 * 1024


def endless(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:  # ends with the connection
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")


def one_byte_a_second(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        handler.wfile.write(b" ")
        time.sleep(1)


def lead_astray(handler: Handler) -> Page:
    """To the same port of another address: there is somebody."""
    return moved(f"http://{PRIVATE}:{handler.headers['Host'].partition(':')[2]}/secret")


def hang_up(_: Handler) -> None:
    pass


def bomb(unit: bytes) -> Page:
    return Page(body=b'{"layers":[' + unit * (3 * MEGABYTE // len(unit)), headers={"Content-Type": SCHEMA2})


def busy(status: int) -> Page:
    return problem(status, "TOOMANYREQUESTS", {"Retry-After": "3600"})


INTERNAL = "InternalError"
EVILS: dict[str, tuple[Answer, str, str]] = {
    "wrong-digest": (
        Page(body=b"{}", headers={"Docker-Content-Digest": "sha256:" + "0" * 64}),
        INTERNAL,
        "content integrity error",
    ),
    "endless": (endless, INTERNAL, "longer than 4194304 bytes"),
    "drip": (one_byte_a_second, INTERNAL, "took too long"),
    "loop": (moved("/v2/team/app/manifests/loop"), INTERNAL, "redirects more than 5 times"),
    "private": (lead_astray, "Forbidden", f"registry {PRIVATE} blocked"),
    "metadata": (moved("http://169.254.169.254/latest"), "Forbidden", "registry 169.254.169.254 blocked"),
    "huge": (Page(body=b" " * (64 * MEGABYTE)), INTERNAL, "longer than 4194304 bytes"),
    "bomb-wide": (bomb(b"{},"), INTERNAL, "too many values"),
    "bomb-deep": (bomb(b"["), INTERNAL, "too many values"),
    "storm-429": (busy(429), INTERNAL, "answered 429"),
    "storm-503": (busy(503), INTERNAL, "answered 503"),
    "hang-up": (hang_up, INTERNAL, "closed the connection"),
}
"""What stands at a tag, and the reason and a part of the message that the tag's condition then tells."""


def resident(service: Service) -> int:
    """Bytes of memory that the service takes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{service.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def call(service: Service, method: str, path: str, body: Any = None) -> Any:
    sent = None if body is None else json.dumps(body).encode()
    status, answer = service.request(f"{SPACE}/{path}", method, sent, JSON)
    assert status < 300, answer
    return json.loads(answer)


def conditions(stream: Any) -> dict[str, tuple[str, str]]:
    """Reason and message of the failure of each tag that has one."""
    tags = stream["status"].get("tags") or []
    found = {tag["tag"]: tag["conditions"][0] for tag in tags if tag.get("conditions")}
    return {name: (one["reason"], one["message"]) for name, one in found.items()}


@pytest.fixture
def evil() -> Iterator[FakeRegistry]:
    with fake_registry() as one:
        for name, (answer, _, _) in EVILS.items():
            one.pages[f"/v2/team/app/manifests/{name}"] = answer
        yield one


class Bystander(threading.Thread):
    """Somebody who has nothing to do with it, writes and reads, and notes how long each answer took."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self.took: list[float] = []
        self.failed: list[BaseException] = []
        self._service = service
        self._end = threading.Event()

    def run(self) -> None:
        try:
            call(self._service, "POST", "imagestreams", {"metadata": {"name": "bystander"}})
            while not self._end.wait(0.02):
                began = time.monotonic()
                image = {"metadata": {"name": f"sha256:{len(self.took):064x}"}}
                mapping = {"metadata": {"name": "bystander"}, "tag": "latest", "image": image}
                call(self._service, "POST", "imagestreammappings", mapping)
                self.took.append(time.monotonic() - began)
        except BaseException as error:
            self.failed.append(error)

    def end(self) -> None:
        self._end.set()
        self.join(60)
        assert self.failed == []


def check(found: dict[str, tuple[str, str]]) -> None:
    for name, (_, reason, message) in EVILS.items():
        assert name in found, f"{name} has no condition: {found}"
        assert found[name][0] == reason, (name, found[name])
        assert message in found[name][1], (name, found[name])


@pytest.mark.drill
@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "by itself"])
def test_hostile_registries_end_in_conditions_and_disturb_nobody(start_service, evil, asked) -> None:
    with socket.create_server((PRIVATE, evil.port)) as private:
        service: Service = start_service(
            *("--import-allow", "127.0.0.1", "--import-controller", "off" if asked else "on", "--access-log", "off")
        )
        bystander = Bystander(service)
        bystander.start()
        before, began, most = resident(service), time.monotonic(), 0
        policy = {"insecure": True}
        sources = {name: {"kind": "DockerImage", "name": f"{evil.host}/team/app:{name}"} for name in EVILS}

        def ask() -> None:
            images = [
                {"from": source, "to": {"name": name}, "importPolicy": policy} for name, source in sources.items()
            ]
            body = {"metadata": {"name": "app"}, "spec": {"import": True, "images": images}}
            call(service, "POST", "imagestreamimports", body)

        if asked:
            asking = threading.Thread(target=ask, daemon=True)
            asking.start()
        else:
            tags = [{"name": name, "from": source, "importPolicy": policy} for name, source in sources.items()]
            call(service, "POST", "imagestreams", {"metadata": {"name": "app"}, "spec": {"tags": tags}})
        while True:
            most = max(most, resident(service))
            status, answer = service.request(f"{SPACE}/imagestreams/app")
            found = conditions(json.loads(answer)) if status == 200 else {}
            if len(found) == len(EVILS):
                break
            assert time.monotonic() - began < 300, sorted(EVILS.keys() - found.keys())
            time.sleep(0.1)
        bystander.end()
        check(found)
        private.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody came
            private.accept()
        assert most - before < 150 * MEGABYTE
        assert statistics.median(bystander.took) < 1
        assert service.stop()[0] == 0

"""A container registry on a loopback address that answers what a test lays down, and remembers who asked."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
LIST2 = "application/vnd.docker.distribution.manifest.list.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def sha256(content: bytes) -> str:
    """The digest of some content."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass
class Page:
    """An answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = BaseHTTPRequestHandler
Answer = Page | Callable[[Handler], Page | None]
"""What stands at a path: a page, or who makes one; None says that the answer was written already."""


@dataclass(frozen=True)
class Request:
    """A request that came in."""

    path: str
    headers: Mapping[str, str]

    @property
    def authorization(self) -> str:
        return self.headers.get("Authorization", "")


class FakeRegistry:
    """The registry. `pages` are found by path with query, then by path alone; `guard` comes before all of them."""

    def __init__(self, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Answer] = {"/v2/": Page(body=b"{}"), "/v2/_catalog": Page(body=b"{}")}
        self.guard: Callable[[Handler], Page | None] | None = None
        self.requests: list[Request] = []
        self.connections = 0
        self._tags: dict[str, list[str]] = {}
        outer = self

        class OneHandler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append(Request(self.path, dict(self.headers.items())))
                page = outer._page(self)
                if page is None:
                    self.close_connection = True
                    return
                self.send_response(page.status)
                for name, value in page.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in page.headers:
                    self.send_header("Content-Length", str(len(page.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(page.body)

            do_HEAD = do_GET  # noqa: N815 (the name that it looks for)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name that it overrides)
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def verify_request(self, request: Any, client_address: Any) -> bool:
                outer.connections += 1
                return True

            def finish_request(self, request: Any, client_address: Any) -> None:
                if tls is not None:
                    request = tls.wrap_socket(request, server_side=True)
                super().finish_request(request, client_address)

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that hung up, or that tried TLS

        self._server = Server((address, 0), OneHandler)
        self.port = self._server.server_address[1]
        self.host = f"{address}:{self.port}"
        self.url = f"{'http' if tls is None else 'https'}://{self.host}"
        threading.Thread(target=self._server.serve_forever, args=[0.005], daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _page(self, handler: Handler) -> Page | None:
        guarded = self.guard(handler) if self.guard else None
        if guarded is not None:
            return guarded
        found = self.pages.get(handler.path) or self.pages.get(handler.path.partition("?")[0])
        if found is None:
            return problem(404, "NAME_UNKNOWN")
        return found if isinstance(found, Page) else found(handler)

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, greetings left out."""
        return [request.path for request in self.requests if request.path != "/v2/"]

    # --- content

    def put_blob(self, repository: str, content: bytes) -> str:
        """Lay down a blob; answers its digest."""
        digest = sha256(content)
        self.pages[f"/v2/{repository}/blobs/{digest}"] = Page(body=content)
        return digest

    def put_manifest(self, repository: str, content: bytes, media_type: str, *tags: str) -> str:
        """Lay down a manifest under its digest and under tags; answers the digest."""
        digest = sha256(content)
        page = Page(body=content, headers={"Content-Type": media_type, "Docker-Content-Digest": digest})
        for reference in (digest, *tags):
            self.pages[f"/v2/{repository}/manifests/{reference}"] = page
        known = self._tags.setdefault(repository, [])
        known += [tag for tag in tags if tag not in known]
        listed = json.dumps({"name": repository, "tags": sorted(known)}).encode()
        self.pages[f"/v2/{repository}/tags/list"] = Page(body=listed)
        self.pages["/v2/_catalog"] = Page(body=json.dumps({"repositories": sorted(self._tags)}).encode())
        return digest

    def push(self, repository: str, *tags: str, layers: tuple[int, ...] = (10,), **config: Any) -> str:
        """Make up an image whose config says `config`; answers its digest."""
        blob = json.dumps({"architecture": "amd64", "os": "linux", **config}).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": SCHEMA2,
            "config": {"mediaType": CONFIG, "size": len(blob), "digest": self.put_blob(repository, blob)},
            "layers": [
                {"mediaType": LAYER, "size": size, "digest": sha256(f"{config} {size}".encode())} for size in layers
            ],
        }
        return self.put_manifest(repository, json.dumps(manifest).encode(), SCHEMA2, *tags)

    def push_list(self, repository: str, tag: str, parts: Mapping[tuple[str, str], str]) -> str:
        """Make up a manifest list of images given by architecture and operating system; answers its digest."""
        entries = [
            {"mediaType": SCHEMA2, "size": 1, "digest": digest, "platform": {"architecture": architecture, "os": os}}
            for (architecture, os), digest in parts.items()
        ]
        manifest = {"schemaVersion": 2, "mediaType": LIST2, "manifests": entries}
        return self.put_manifest(repository, json.dumps(manifest).encode(), LIST2, tag)

    # --- access

    def require_basic(self, authorization: str) -> None:
        """Let nobody in without this header."""

        def guard(handler: Handler) -> Page | None:
            if handler.headers.get("Authorization") == authorization:
                return None
            return problem(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="fake"'})

        self.guard = guard

    def require_token(self, realm: str, token: str = "token-1", service: str = "fake") -> None:
        """Let nobody in without a token, and name the server that gives it."""
        challenge = f'Bearer realm="{realm}",service="{service}"'

        def guard(handler: Handler) -> Page | None:
            if handler.path.startswith("/token") or handler.headers.get("Authorization") == f"Bearer {token}":
                return None
            return problem(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})

        self.guard = guard


def problem(status: int, code: str, headers: Mapping[str, str] | None = None) -> Page:
    """An error as registries answer it."""
    return Page(status, json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode(), headers or {})


def moved(location: str, status: int = 307) -> Page:
    """A redirect."""
    return Page(status, headers={"Location": location})


@contextmanager
def fake_registry(address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[FakeRegistry]:
    """A registry for as long as the context lasts."""
    registry = FakeRegistry(address, tls)
    try:
        yield registry
    finally:
        registry.close()

"""Where a server is and how to speak to it: address, TLS, token. Cheap to import, for the load generator does."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

GROUP = "/apis/image.openshift.io/v1"

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

_PATIENCE = 120.0
"""Seconds after which a server that says nothing has failed."""


@dataclass(frozen=True)
class Endpoint:
    """A server of the API; `namespace` is where the benchmark writes."""

    host: str
    port: int
    tls: bool = False
    token: str = ""
    namespace: str = "benchmark"
    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, url: str, **rest: Any) -> Endpoint:
        """The one that a URL names."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        return cls(parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80), tls, **rest)

    @property
    def streams(self) -> str:
        """Path of the image streams."""
        return f"{GROUP}/namespaces/{self.namespace}/imagestreams"

    @property
    def mappings(self) -> str:
        """Path of the mappings."""
        return f"{GROUP}/namespaces/{self.namespace}/imagestreammappings"

    @property
    def tags(self) -> str:
        """Path of the image stream tags."""
        return f"{GROUP}/namespaces/{self.namespace}/imagestreamtags"

    def open(self) -> socket.socket:
        """A new connection that blocks. Raises OSError."""
        plain = socket.create_connection((self.host, self.port), timeout=_PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.tls:
            return plain
        context = ssl.create_default_context(cafile=self.ca_file)
        context.set_alpn_protocols(["http/1.1"])
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        return context.wrap_socket(plain, server_hostname=self.host)

    def head(self, method: str, path: str, length: int = 0, media_type: str = JSON, token: str | None = None) -> bytes:
        """Line and headers of a request with a body of `length` bytes."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Accept: application/json"]
        if token or (token is None and self.token):
            lines.append(f"Authorization: Bearer {token or self.token}")
        if method != "GET":
            lines += [f"Content-Type: {media_type}", f"Content-Length: {length}"]
        return "\r\n".join([*lines, "", ""]).encode()


class Refused(Exception):
    """The server answered a request of the preparations with an error."""


class Connection:
    """A kept-alive connection for one request after another."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._socket = endpoint.open()
        self._reader = self._socket.makefile("rb", 1 << 18)

    def request(
        self, method: str, path: str, body: bytes = b"", media_type: str = JSON, token: str | None = None
    ) -> tuple[int, bytes]:
        """One request: status and body of the answer. `token` stands in for the endpoint's."""
        self._socket.sendall(self.endpoint.head(method, path, len(body), media_type, token) + body)
        status, length = int(self._reader.readline()[9:12]), -1
        while (line := self._reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        return status, self._chunks() if length < 0 else self._reader.read(length)

    def expect(self, method: str, path: str, value: object = None, media_type: str = JSON) -> bytes:
        """The answer to a request with `value` as JSON; it succeeds, or has succeeded before. Raises Refused."""
        body = b"" if value is None else json.dumps(value).encode()
        status, answer = self.request(method, path, body, media_type)
        if status >= 300 and status != 409:
            raise Refused(f"{method} {path}: {status} {answer[:500].decode(errors='replace')}")
        return answer

    def _chunks(self) -> bytes:
        whole = b""
        while size := int(self._reader.readline().partition(b";")[0], 16):
            whole += self._reader.read(size)
            self._reader.readline()
        self._reader.readline()
        return whole

    def close(self) -> None:
        """Let go of it."""
        self._reader.close()
        self._socket.close()

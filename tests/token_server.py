"""A token server for a registry: whoever has the password gets a signed token for all that is asked for."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def make_certificate(openssl: str, directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, its own authority, and its key."""
    certificate, key = directory / "server.crt", directory / "server.key"
    kind = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [openssl, "req", "-x509", *kind, "-days", "3", "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@contextmanager
def token_server(openssl: str, certificate: Path, key: Path, service: str, basic: str) -> Iterator[str]:
    """The URL of a server that gives tokens to who sends this Basic header."""
    chain = base64.b64encode(ssl.PEM_cert_to_DER_cert(certificate.read_text())).decode()

    def sign(content: str) -> bytes:
        command = [openssl, "dgst", "-sha256", "-sign", key]
        return subprocess.run(command, input=content.encode(), check=True, capture_output=True).stdout

    def token(scopes: list[str]) -> str:
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        times = {"exp": now + 60, "nbf": now - 10, "iat": now}
        claims = {"iss": "tests", "sub": "dev", "aud": service, "jti": str(uuid4()), "access": access, **times}
        header = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{_base64url(sign(signed))}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            allowed = self.headers.get("Authorization") == basic
            scopes = [one for text in query.get("scope", []) for one in text.split()]
            body = json.dumps({"token": token(scopes), "expires_in": 60} if allowed else {"details": "no"}).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name that it overrides)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/token"
    finally:
        server.shutdown()
        server.server_close()

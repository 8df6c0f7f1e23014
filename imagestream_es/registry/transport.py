"""HTTP as far as registries need it: a GET or HEAD that cannot be led astray, held up or flooded.

Every request has a connection of its own, made to an address that was checked just before; it ends when the
time is up whatever the other side sends; its answer has a size limit; credentials stay with the server that
they were meant for. Only the look-up of a host's name has a time limit of its own, that of the system.
"""

from __future__ import annotations

import http.client
import logging
import re
import socket
import ssl
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urljoin, urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.response import BaseHTTPResponse

from imagestream_es.domain.references import is_one_of
from imagestream_es.registry.addresses import Addresses
from imagestream_es.registry.budget import Budget
from imagestream_es.registry.errors import BadAnswer, NoTls, Unreachable

MAX_REDIRECTS = 5
CONNECT_SECONDS = 5.0
"""For one address: a host may have others that answer."""

_REDIRECTS = (301, 302, 303, 307, 308)
_ERROR_BODY = 8 * 1024
_PORTS = {"http": 80, "https": 443}
_USER_AGENT = "imagestream-es"

# What OpenSSL says when an HTTP server answers a TLS greeting.
_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}

_is_host = re.compile(r"[a-z0-9._-]++|\[[0-9a-f:.]++\]").fullmatch
_is_target = re.compile(r"/[\x21-\x7e]*+").fullmatch

# Its warnings name URLs, and those of blobs are often signed: whoever knows one may download.
logging.getLogger("urllib3").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Url:
    """Where a request goes: `host` in lower case, IPv6 in brackets; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an absolute http or https URL. Raises BadAnswer: URLs are what registries answer."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise BadAnswer("it refers to something that is no URL") from None
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # A URL may carry a user and a password for its host: nobody asked for those.
        if parts.scheme not in _PORTS or parts.username is not None or not _is_host(host) or not _is_target(target):
            raise BadAnswer("it refers to a URL that cannot be followed")
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], target)

    @property
    def origin(self) -> tuple[str, str, int]:
        """What must be the same for credentials to go along."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    def join(self, reference: str) -> Url:
        """The URL that a reference found in an answer of this one means. Raises BadAnswer."""
        try:
            return Url.parse(urljoin(f"{self.scheme}://{self.authority}{self.target}", reference))
        except ValueError:
            raise BadAnswer("it refers to something that is no URL") from None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; the names of `headers` are in lower case. Only the body of a 200 is complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Sends requests to hosts that `addresses` lets through; `trust` holds the certificate authorities.

    No other host may redirect to those that are `guarded`: who may read them is asked when they are named.
    """

    def __init__(
        self, addresses: Addresses, trust: ssl.SSLContext | None = None, guarded: Collection[str] = ()
    ) -> None:
        self._addresses = addresses
        self._guarded = guarded
        self._trust = trust or ssl.create_default_context()
        self._no_trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._no_trust.check_hostname = False
        self._no_trust.verify_mode = ssl.CERT_NONE

    def get(
        self,
        url: Url,
        headers: Mapping[str, str],
        authorization: str,
        limit: int,
        budget: Budget,
        *,
        insecure: bool,
        method: str = "GET",
    ) -> Answer:
        """GET (or HEAD) a URL, and what it redirects to.

        `authorization` ("" for none) is sent to the origin of `url` only, `limit` is the most bytes that a body
        may have, `insecure` accepts any certificate. Raises Blocked, Unreachable, BadAnswer, Exhausted.
        """
        for _ in range(MAX_REDIRECTS + 1):
            sent = {**headers, "Authorization": authorization} if authorization else headers
            answer = self._get(method, url, sent, limit, budget, insecure=insecure)
            if answer.status not in _REDIRECTS:
                return answer
            target = url.join(answer.headers.get("location", ""))
            if target.scheme == "http" and url.scheme == "https":
                raise BadAnswer("the registry redirects from https to http")
            if target.origin != url.origin:
                if is_one_of(target.authority, self._guarded) and not is_one_of(url.authority, self._guarded):
                    raise BadAnswer(f"the registry redirects to {target.authority}, which must be named itself")
                authorization = ""
            url = target
        raise BadAnswer(f"the registry redirects more than {MAX_REDIRECTS} times")

    def _get(
        self, method: str, url: Url, headers: Mapping[str, str], limit: int, budget: Budget, *, insecure: bool
    ) -> Answer:
        try:
            connection = self._connect(url, budget, insecure=insecure)
            try:
                assert connection.sock is not None
                with _cut_at_the_end(connection.sock, budget):
                    return _exchange(connection, method, url, headers, limit, budget)
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException, HTTPError) as error:
            failure = _in_our_words(error, url.authority)
        budget.left()  # raises if it was us who cut the connection
        # Out here the library's error is no part of this one: it may hold URLs and headers.
        raise failure

    def _connect(self, url: Url, budget: Budget, *, insecure: bool) -> HTTPConnection:
        budget.left()  # a look-up cannot be cut short, so none begins when the time is up
        addresses = self._addresses.of(url.host.strip("[]"), url.port)
        for address in addresses:
            connection = self._connection(url, address, budget, insecure=insecure)
            try:
                connection.connect()
            except (NewConnectionError, ConnectTimeoutError):
                if address == addresses[-1]:
                    raise
            else:
                connection.timeout = budget.left()
                return connection
        raise AssertionError

    def _connection(self, url: Url, address: str, budget: Budget, *, insecure: bool) -> HTTPConnection:
        seconds = min(budget.left(), CONNECT_SECONDS)
        if url.scheme == "http":
            return HTTPConnection(address, url.port, timeout=seconds)
        name = url.host.strip("[]")
        return HTTPSConnection(
            address,
            url.port,
            timeout=seconds,
            ssl_context=self._no_trust if insecure else self._trust,
            server_hostname=name,
        )


def _exchange(
    connection: HTTPConnection, method: str, url: Url, headers: Mapping[str, str], limit: int, budget: Budget
) -> Answer:
    sent = {"Host": url.authority, "User-Agent": _USER_AGENT, "Connection": "close", **headers}
    connection.request(method, url.target, headers=sent, preload_content=False, decode_content=False)
    response = connection.getresponse()
    complete = response.status == 200
    body = _read(response, limit if complete else _ERROR_BODY, budget)
    if complete and len(body) > limit:
        raise BadAnswer(f"the registry's answer is longer than {limit} bytes")
    return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, body)


def _read(response: BaseHTTPResponse, limit: int, budget: Budget) -> bytes:
    """The body, or its beginning of more than `limit` bytes."""
    body = b""
    while len(body) <= limit:
        piece = response.read(limit + 1 - len(body), decode_content=False)
        if not piece:
            break
        body += piece
    budget.left()  # a body that was cut off may look like one that ended
    budget.spend(len(body))
    return body


@contextmanager
def _cut_at_the_end(sock: socket.socket, budget: Budget) -> Iterator[None]:
    """Cut the connection when the budget's time is up.

    The timeout of a socket is not enough: a server that sends a byte now and then keeps within it for ever.
    """
    timer = threading.Timer(budget.left(), _cut, [sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):  # it has ended already
        # Not SSLSocket's own, which gets in the way of a read that is under way.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _in_our_words(error: Exception, host: str) -> Unreachable | BadAnswer:
    cause = error.__cause__ if isinstance(error, NewConnectionError) else error
    match cause:
        case ssl.SSLCertVerificationError():
            return Unreachable(f"the certificate of {host} is not trusted: {cause.verify_message}")
        case ssl.SSLError() if cause.reason in _NOT_TLS:
            return NoTls(f"{host} does not speak TLS")
        case ssl.SSLError():
            return Unreachable(f"no TLS connection to {host}")
        case ConnectTimeoutError() | TimeoutError():
            return Unreachable(f"{host} does not answer")
        case http.client.RemoteDisconnected():
            return Unreachable(f"{host} closed the connection without an answer")
        case OSError() if cause.strerror:
            return Unreachable(f"no connection to {host}: {cause.strerror}")
        case _:
            return BadAnswer(f"the answer of {host} was broken off or is not valid HTTP")

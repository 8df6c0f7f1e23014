"""One connection to a service: requests, pages followed, errors told in a line that says what to do."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import urllib3

from imagestream_es.client.kubeconfig import Access, WrongConfiguration

IMAGES = "/apis/image.openshift.io/v1"
HISTORY = "/apis/history.imagestream-es.io/v1"

_PAGE = 500
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class NoAnswer(Exception):
    """The service did not give what was asked for; `code` is its status, 0 if there was no answer at all."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Connection:
    """Asks the service that `access` names. Raises WrongConfiguration."""

    def __init__(self, access: Access) -> None:
        url = urlsplit(access.server)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise WrongConfiguration(f"{access.server!r} is no URL of a service: give --server https://HOST:PORT")
        if access.token and url.scheme == "http" and url.hostname not in _LOOPBACK:
            raise WrongConfiguration("a token would be readable on the way: give --server an https URL")
        self._server = access.server.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if access.token:
            self._headers["Authorization"] = f"Bearer {access.token}"
        self._certified = bool(access.certificate)
        trust = _trust(access) if url.scheme == "https" else None
        self._pool = urllib3.PoolManager(ssl_context=trust, retries=False, timeout=urllib3.Timeout(10, read=120))

    def get(self, path: str, query: Mapping[str, str | list[str]] | None = None) -> dict[str, Any]:
        """The object at a path. Raises NoAnswer."""
        return self._ask("GET", path, query or {}, None)

    def create(self, path: str, query: Mapping[str, str], body: dict[str, Any]) -> dict[str, Any]:
        """What came of an object that was posted to a path, once, whatever becomes of answers. Raises NoAnswer."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid4())}
        return self._ask("POST", path, query, json.dumps(body).encode(), headers)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | list[str]],
        body: bytes | None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        asked = f"{self._server}{quote(path, safe='/:@')}?{urlencode(query, doseq=True)}".rstrip("?")

        def send() -> urllib3.BaseHTTPResponse:
            return self._pool.request(
                method, asked, body=body, headers={**self._headers, **(headers or {})}, redirect=False
            )

        try:
            try:
                answer = send()
            except urllib3.exceptions.ProtocolError:  # the connection broke: reads and what has a key may come twice
                answer = send()
        except urllib3.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                why = "does not take your client certificate, or does not " if self._certified else "does not "
                raise NoAnswer(f"{self._server} {why}speak TLS as it should: is --server right? ({error})") from error
            raise NoAnswer(
                f"{self._server} shows a certificate that is not trusted: give its authority with --ca-file ({error})"
            ) from error
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise NoAnswer(
                f"{self._server} does not answer: is it running, and is --server right? ({error})"
            ) from error
        except urllib3.exceptions.HTTPError as error:
            unknown = "" if body is None else "; whether it was done is unknown: look with log"
            raise NoAnswer(f"{self._server} did not finish its answer{unknown} ({error})") from error
        try:
            found = json.loads(answer.data)
        except ValueError:
            found = None
        if answer.status in (200, 201) and isinstance(found, dict):
            return found
        raise _refused(self._server, answer.status, found)

    def each(self, path: str, query: Mapping[str, str | list[str]]) -> Iterator[list[dict[str, Any]]]:
        """The items of a list, page after page. Raises NoAnswer."""
        more = ""
        while True:
            found = self.get(path, {**query, "limit": str(_PAGE), **({"continue": more} if more else {})})
            yield found.get("items") or []
            more = (found.get("metadata") or {}).get("continue", "")
            if not more:
                return


def _trust(access: Access) -> ssl.SSLContext:
    trust = ssl.create_default_context()
    try:
        if access.ca:
            trust.load_verify_locations(cadata=access.ca)
        if access.certificate:
            with TemporaryDirectory() as directory:  # the library reads certificates from files alone
                files = Path(directory, "certificate"), Path(directory, "key")
                for file, text in zip(files, (access.certificate, access.key), strict=True):
                    file.write_text(text)
                trust.load_cert_chain(*files)
    except (ssl.SSLError, OSError) as error:
        raise WrongConfiguration(f"a certificate that is configured can't be used: {error}") from error
    if not access.verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # it was asked for
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    return trust


def _refused(server: str, status: int, found: Any) -> NoAnswer:
    message = str(found.get("message", "")) if isinstance(found, dict) else ""
    if not isinstance(found, dict) or found.get("kind") != "Status":
        text = f"{server} answered {status}, and not as this service does: is --server right?"
    elif status == 401:
        text = f"{server} does not know you: give a valid token with --token ({message})"
    elif status == 403:
        text = f"you may not do this: ask for the right to ({message})"
    else:
        text = message or f"{server} answered {status}"
    return NoAnswer(text, status)

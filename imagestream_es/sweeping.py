"""Asks a running service to look for pushes that it was not told of."""

from __future__ import annotations

import json
import ssl
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

PATIENCE_SECONDS = 3600.0
"""How long the answer may take: a registry may be large."""


class _NoRedirects(HTTPRedirectHandler):
    """The secret goes to nobody else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def request_sweep(server: str, secret: bytes, ca_file: Path | None = None) -> dict[str, int]:
    """Have the service at a URL sweep, and wait for what it found; `ca_file` is trusted beside the system's.

    Raises OSError with what went wrong.
    """
    if not server.startswith(("http://", "https://")):
        raise OSError(f"{server} is no URL: give --server http://HOST:PORT or https://HOST:PORT")
    trust = ssl.create_default_context()
    if ca_file is not None:
        try:
            trust.load_verify_locations(ca_file)
        except ssl.SSLError as error:
            raise OSError(f"{ca_file} holds no certificate") from error
    request = Request(f"{server.rstrip('/')}/hooks/registry/sweep?wait=1", data=b"", method="POST")  # noqa: S310 (above)
    request.add_unredirected_header("Authorization", "Bearer " + secret.decode("latin-1"))
    try:
        with build_opener(_NoRedirects, HTTPSHandler(context=trust)).open(request, timeout=PATIENCE_SECONDS) as answer:
            found: dict[str, int] = json.load(answer)
            return found
    except HTTPError as error:
        raise OSError(f"{server} answered {error.code}: {_message(error)}") from error
    except URLError as error:
        untrusted = isinstance(error.reason, ssl.SSLCertVerificationError)
        hint = " (give its authority with --ca-file)" if untrusted else ""
        raise OSError(f"{server} cannot be reached: {error.reason}{hint}") from error
    except (HTTPException, ValueError) as error:
        raise OSError(f"{server} did not answer as this service does") from error


def _message(error: HTTPError) -> str:
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError):
        return error.reason

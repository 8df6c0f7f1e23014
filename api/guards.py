"""Refuses requests that are wrong whatever they ask for, before anything else looks at them.

While no credentials are needed, a browser on this machine is the way in for everybody else: a web page may send a
request to 127.0.0.1, or have its own name point there. So the service then answers to names of this machine only, and
takes no change from another site's page. With credentials the same holds where a browser would add them by itself, as
it does with a client certificate.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from functools import lru_cache

from flask import Flask, Request, request

from api.access import authenticate, authorize_path, identify
from api.answers import failure
from api.call import GROUP_DOOR
from api.errors import Refusal
from api.reply import Reply
from imagestream_es.application.limits import TooMany
from imagestream_es.bootstrap import Services
from imagestream_es.settings import Settings

LONGEST_URL = 8192
"""Bytes of path and query."""
OPEN = ("/healthz", "/livez", "/readyz", "/hooks/registry")
"""Paths, with those below, that answer everybody, or have a secret of their own."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})

_host = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?").fullmatch


def add_guards(app: Flask, services: Services, resources: Collection[str]) -> None:
    """Have every request looked at first; the endpoints of `resources` look themselves who may do what."""

    def guard() -> Reply | None:
        response = refused(request, services)
        if response is not None or request.endpoint in resources or is_open(request.path):
            return response
        try:
            admit(request, services)
        except (Refusal, TooMany) as refusal:
            return failure(request, refusal, GROUP_DOOR, "")
        return None

    app.before_request(guard)


def refused(request: Request, services: Services) -> Reply | None:
    """The answer to a request that is wrong whatever it asks for, None for any other."""
    try:
        check(request.environ, services.settings)
    except Refusal as refusal:
        return failure(request, refusal, GROUP_DOOR, "")
    return None


def check(environ: Mapping[str, str], settings: Settings) -> None:
    """Raises Refusal."""
    if len(environ["PATH_INFO"]) + len(environ["QUERY_STRING"]) >= LONGEST_URL:
        raise Refusal(414, f"the URL may have at most {LONGEST_URL} bytes")
    if "%00" in environ["QUERY_STRING"]:
        # PostgreSQL takes none, and nothing that could be asked for holds one.
        raise Refusal(400, "the parameters of a request may not hold NUL characters")
    open_to_all, host = not settings.authenticates_callers, environ.get("HTTP_HOST")
    if open_to_all and host is not None and not is_of_this_machine(host, settings.bind.host):
        raise Refusal(
            403,
            f'the service answers to names of this machine, not to "{host[:80]}": without credentials, web pages from '
            "elsewhere could use it otherwise. A proxy before it must send the Host 127.0.0.1",
        )
    if environ["REQUEST_METHOD"] in READING or not is_from_another_site(environ):
        return
    if open_to_all or "HTTP_AUTHORIZATION" not in environ:
        raise Refusal(403, "a web page of another site may not change anything here")


def is_open(path: str) -> bool:
    """Whether a path answers everybody, or asks for a secret of its own."""
    return any(path == one or path.startswith(f"{one}/") for one in OPEN)


def admit(request: Request, services: Services) -> None:
    """Let a request for a path outside the resources in. Raises Refusal."""
    user = authenticate(request, services.gate)
    services.limits.begin(user.name)()  # these are answered at once: only how often they are asked for counts
    identity = identify(request, services.gate, user)
    authorize_path(services.gate, identity.user, request.method, request.path)


@lru_cache(maxsize=256)
def is_of_this_machine(host: str, bound: str) -> bool:
    """Whether a Host header names this machine: by a loopback address or name, or as it is `bound`."""
    match = _host(host)
    if match is None:
        return False
    name = (match[1] or match[2]).lower().rstrip(".")
    if name in ("localhost", bound.lower()) or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_from_another_site(environ: Mapping[str, str]) -> bool:
    """Whether a browser sends this for a page from elsewhere; another port of this machine is elsewhere too."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and origin.partition("://")[2] != environ.get("HTTP_HOST")

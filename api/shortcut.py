"""The short way to an answer that was given before: a read that costs little more than letting the reader in.

What is kept is the answer to a path, a query and a form, with stamps of all that it tells of. As long as these hold,
and the asker may do what is asked, its bytes are sent before routes, objects or the database are bothered. Whatever is
not as usual goes the long way, which answers and refuses as if there was no other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from api.access import CERTIFICATE, allows, impersonates
from api.errors import Refusal
from api.guards import check
from api.kept import Kept
from api.ready import reads_gzip
from api.told import Told, told_in
from imagestream_es.access.gate import Unauthenticated
from imagestream_es.access.policy import Action
from imagestream_es.application.limits import TooMany
from imagestream_es.bootstrap import Services

LONGEST_KEY = 1024
"""Characters of a request that are remembered with its answer: they are not counted as memory."""
PATIENCE = 1.0
"""Seconds that a reader waits for another one who makes the answer, before making one too."""


class Shortcut:
    """A WSGI application that gives again what `app` has answered, as long as it is so."""

    def __init__(self, app: Any, services: Services) -> None:
        self._app = app
        self._services = services

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        key = _key(environ)
        kept: Kept | None = None if key is None else self._services.memory.get(key)
        answer = None if kept is None else self._again(kept, environ, start_response)
        if answer is not None:
            return answer
        if kept is None:
            return self._take_long_way(key, environ, start_response)
        # Many may ask for what has just changed: one makes it for all. But where that fails, as with a store that does
        # not answer, it fails for all at the same time, and not for one after the other.
        is_mine = kept.turn.acquire(timeout=PATIENCE)
        try:
            newer: Kept | None = self._services.memory.get(key)
            answer = None if newer is None or newer is kept else self._again(newer, environ, start_response)
            return self._take_long_way(key, environ, start_response) if answer is None else answer
        finally:
            if is_mine:
                kept.turn.release()

    def _again(self, kept: Kept, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes] | None:
        """Give an answer again; None if it is not so any more, or not for everybody."""
        position = self._services.freshness.holds_at(kept.stamps)
        if position is None or not kept.ready.fits(position):
            return None
        told = told_in(environ)
        end = self._admit(environ, kept.action, told)
        if end is None:
            return None
        told.name = kept.name
        body = kept.ready.answer(environ, position)(environ, start_response)
        end()
        return body

    def _take_long_way(
        self, key: Hashable | None, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._app(environ, start_response)
        kept = told_in(environ).kept
        if key is not None and kept is not None:
            self._services.memory.put(key, kept, kept.ready.size)
        return answer

    def _admit(self, environ: Mapping[str, Any], action: Action, told: Told) -> Callable[[], None] | None:
        """Let a request in and tell of it; answers what its end is to be told to, None if it goes the long way."""
        services = self._services
        try:
            check(environ, services.settings)
            user = services.gate.authenticate(environ.get("HTTP_AUTHORIZATION"), environ.get(CERTIFICATE))
            if impersonates(environ) or not allows(services.gate, user, action):
                return None
            end = services.limits.begin(user.name)
        except (Refusal, Unauthenticated, TooMany):
            return None
        told.user, told.verb, told.resource, told.namespace = user.name, action.verb, action.resource, action.namespace
        return end


def _key(environ: Mapping[str, Any]) -> Hashable | None:
    """What the answer to a request depends on, apart from who asks and what is stored; None if it is no plain read."""
    if environ["REQUEST_METHOD"] != "GET" or environ.get("CONTENT_LENGTH", "0") not in ("", "0"):
        return None
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    path, query, accept = environ["PATH_INFO"], environ["QUERY_STRING"], environ.get("HTTP_ACCEPT", "")
    if len(path) + len(query) + len(accept) > LONGEST_KEY:
        return None
    return path, query, accept, reads_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))

"""What is told of each request, to whoever counts or logs it; found out on the way by those who know.

All answers go through here, whatever made them: so each has its Audit-Id, and none may be taken for something else than
it says it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from flask import Request

from api.kept import Kept
from imagestream_es.later import Later
from imagestream_es.uuids import new_uuid

_KEY = "imagestream.told"
_is_audit_id = re.compile(r"[A-Za-z0-9._:-]{1,64}").fullmatch
"""What may be a client's own id of a request: it stands in events for ever, so it is no place for text."""

_OF_ONE = {"GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
_OF_ALL = {**_OF_ONE, "GET": "list", "HEAD": "list", "DELETE": "deletecollection"}
_OTHERS = {*_OF_ONE, "OPTIONS"}


@dataclass(slots=True)
class Told:
    """One request. `resource` is as declared, with the subresource behind a slash; "" for other paths.

    `user` is who asked, and `acting_as` whom they impersonate. A `lasting` request is a watch.
    """

    audit_id: str
    method: str
    path: str
    verb: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    user: str = ""
    acting_as: str = ""
    lasting: bool = False
    code: int = 500
    kept: Kept | None = None
    """The answer, if it may be given again"""


Observer = Callable[[Told, float], None]
"""Hears of a request when it is answered, or when its watch has ended, and how many seconds it took."""


def told(request: Request) -> Told:
    """What is told of a request."""
    return told_in(request.environ)


def told_in(environ: Mapping[str, Any]) -> Told:
    """What is told of a request, by its environ."""
    found: Told = environ[_KEY]
    return found


def verb_of(method: str, *, named: bool, watching: bool) -> str:
    """The verb of a request for a resource, as authorization calls it."""
    return "watch" if watching else (_OF_ONE if named else _OF_ALL).get(method, "other")


class Observed:
    """A WSGI application whose requests are told to observers."""

    def __init__(self, app: Any, observers: Sequence[Observer]) -> None:
        self._app = app
        self._observers = observers

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        begun = perf_counter()
        given = environ.get("HTTP_AUDIT_ID", "")
        method = environ["REQUEST_METHOD"]
        told = environ[_KEY] = Told(
            audit_id=given if _is_audit_id(given) else new_uuid(),
            method=method,
            path=environ.get("PATH_INFO", ""),
            verb=method.lower() if method in _OTHERS else "other",
        )

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            told.code = int(status[:3])
            headers += (("Audit-Id", told.audit_id), ("X-Content-Type-Options", "nosniff"))
            return start_response(status, headers, *more)

        def done() -> None:
            seconds = perf_counter() - begun
            for observe in self._observers:
                observe(told, seconds)

        try:
            body: Iterable[bytes] = self._app(environ, start)
        except BaseException:
            done()
            raise
        if told.lasting:
            return _Lasting(body, done)
        if isinstance(body, Later):
            body.ended.append(done)
            return body
        whole = body if isinstance(body, list) else _taken(body)
        done()
        return whole


def _taken(body: Iterable[bytes]) -> list[bytes]:
    """A body that ends, as a list: that the server sends in one call."""
    try:
        return list(body)
    finally:
        getattr(body, "close", lambda: None)()


class _Lasting:
    """The body of an answer that goes on; its end is told once."""

    def __init__(self, body: Iterable[bytes], done: Callable[[], None]) -> None:
        self._chunks = iter(body)
        self._close = getattr(body, "close", lambda: None)
        self._done: Callable[[], None] | None = done

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """The client has everything, or has gone."""
        try:
            self._close()
        finally:
            done, self._done = self._done, None
            if done is not None:
                done()

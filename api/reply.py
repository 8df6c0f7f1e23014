"""What is sent to a client, as WSGI takes it: at a third of the cost of Flask's own response, which can do far more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from imagestream_es.later import Later, UnderWay

_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Reply:
    """A WSGI application that answers with a code, headers and a body.

    The body is a list of bytes, of which the length is told, or what gives them one after another and may be closed.
    """

    __slots__ = ("_body", "_code", "headers")

    def __init__(self, code: int, headers: Sequence[tuple[str, str]], body: Iterable[bytes]) -> None:
        self._code, self._body = code, body
        self.headers = list(headers)

    def put(self, name: str, value: str) -> None:
        """Have a header once, with this value."""
        self.headers = [one for one in self.headers if one[0] != name]
        self.headers.append((name, value))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Send it."""
        headers, body = self.headers, self._body
        if isinstance(body, list) and self._code != HTTPStatus.NOT_MODIFIED:
            headers = [*headers, ("Content-Length", str(sum(map(len, body))))]
        start_response(_LINES[self._code], headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body


class Awaited:
    """A WSGI application that replies once what was begun has come about, or with what `fail` makes of its failure.

    `end` is called then.
    """

    __slots__ = ("_begun", "_end", "_fail", "_reply")

    def __init__(
        self, begun: UnderWay, reply: Reply, fail: Callable[[Exception], Reply], end: Callable[[], None]
    ) -> None:
        self._begun, self._reply, self._fail, self._end = begun, reply, fail, end

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Later:
        """Send it later."""
        later = Later(self._begun, lambda: self._outcome()(environ, start_response))
        later.ended.append(self._end)
        return later

    def _outcome(self) -> Reply:
        try:
            self._begun.outcome()
        except Exception as error:
            return self._fail(error)
        return self._reply

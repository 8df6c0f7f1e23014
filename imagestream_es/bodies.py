"""Sees to it that no request waits for its body for ever.

granian hands a body over as a blocking read without a timeout: a client that sends half of one and then nothing, or
a byte a second, would keep a request thread as long as it likes. A thread here looks at the reads that are under
way. One that takes too long is answered 408, which polite clients understand, and then its connection is cut, which
ends the read.
"""

import io
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

BODY_SECONDS = 60.0
"""How long a whole body may take."""
CROWDED_BODY_SECONDS = 5.0
"""How long while so many are waited for that other requests could lack threads."""
LOOK_SECONDS = 1.0
"""How often to look."""

Answer = Callable[[int, list[tuple[str, str]], bytes], None]
"""granian's way to answer a request: status, headers, body. Only the first answer of a request counts."""

_STATUS = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "the request body came too slowly",
    "reason": "Timeout",
    "code": 408,
}
TOO_SLOW = json.dumps(_STATUS, separators=(",", ":")).encode() + b"\n"
"""What a client is told whose body came too slowly."""


class Body(io.RawIOBase):
    """The body of one request, as WSGI's `wsgi.input`; `connection` is what granian calls the client's address."""

    def __init__(self, bodies: "Bodies", source: Any, answer: Answer, connection: str) -> None:
        super().__init__()
        self._bodies, self._source, self._answer = bodies, source, answer
        self.connection = connection
        self.since = time.monotonic()
        self.answered = False

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, or all that is left; fewer if the client does not send them in time."""
        self._bodies.waiting[id(self)] = self
        try:
            data: bytes = self._source.read(size if size is not None and size >= 0 else None)
        finally:
            del self._bodies.waiting[id(self)]
        return data

    def refuse(self, padding: int = 0) -> bytes:
        """Answer the request, with so many spaces at the end; the body of the answer."""
        self.answered = True
        body = TOO_SLOW + b" " * padding
        self._answer(408, [("content-type", "application/json"), ("connection", "close")], body)
        return body


class Bodies:
    """The bodies that requests wait for.

    `cut(bodies)` refuses each of these and ends its connection. While more than `crowd` bodies are waited for, each
    may take CROWDED_BODY_SECONDS only.
    """

    def __init__(self, crowd: int, cut: Callable[[list[Body]], None]) -> None:
        self._crowd, self._cut = crowd, cut
        self.waiting: dict[int, Body] = {}

    def start(self) -> None:
        """Look at them from now on, until the process ends."""
        threading.Thread(target=self._run, name="bodies", daemon=True).start()

    def overdue(self, now: float) -> list[Body]:
        """Those that take too long at this monotonic time and were not told so yet."""
        waiting = list(self.waiting.values())
        patience = BODY_SECONDS if len(waiting) <= self._crowd else CROWDED_BODY_SECONDS
        return [body for body in waiting if not body.answered and now - body.since > patience]

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            late = self.overdue(time.monotonic())
            if late:
                try:
                    self._cut(late)
                except Exception:  # the next look may fare better
                    logger.exception("requests whose bodies came too slowly could not be ended")

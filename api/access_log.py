"""One line for each request: who did what to which object, and what came of it.

It names users, and what they asked for by its path: no parameters, headers or bodies, where secrets may stand. Lines
are put together here and not by a logging handler, which would cost ten times as much, and written some at a time by
a thread of their own: a line by itself would cost a short request a third of its time.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from select import PIPE_BUF

from api.told import Told
from imagestream_es.logfmt import value

PROBES = ("/healthz", "/livez", "/readyz")
"""Asked all the time, of no interest: what they find is logged where it is found."""
LONGEST = 200
"""Characters of what a client chose that stand in a line: it stays in one write, which nobody comes between."""

TOGETHER = 0.01
"""How many seconds a line waits for others."""
MOST_WAITING = 10_000


class AccessLog:
    """Hears of requests. `write` takes a line with its end; `clock` is in seconds since the epoch."""

    def __init__(self, write: Callable[[bytes], object], clock: Callable[[], float] = time.time) -> None:
        self._write = write
        self._clock = clock
        self._stamp = (-1, "")

    def __call__(self, told: Told, seconds: float) -> None:
        """Write the line of a request."""
        if told.path.startswith(PROBES) and not told.resource:
            return
        line = [f"time={self._time()} level=info logger=access message=request audit_id={told.audit_id}"]
        if told.user:
            line.append(f"user={_short(told.user)}")
        if told.acting_as:
            line.append(f"acting_as={_short(told.acting_as)}")
        line.append(f"verb={told.verb}")
        if told.resource:
            line.append(f"resource={told.resource}")
            if told.namespace:
                line.append(f"namespace={_short(told.namespace)}")
            if told.name:
                line.append(f"name={_short(told.name)}")
        else:
            line.append(f"path={_short(told.path)}")
        line.append(f"code={told.code} seconds={seconds:.6f}\n")
        self._write(" ".join(line).encode())

    def _time(self) -> str:
        now = self._clock()
        second, stamp = self._stamp
        if second != int(now):
            second = int(now)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._stamp = second, stamp
        return f"{stamp}.{int(now * 1000) % 1000:03}+00:00"


def _short(text: str) -> str:
    return _value(text if len(text) <= LONGEST else text[:LONGEST] + "...")


_value = lru_cache(maxsize=4096)(value)
"""Remembers what was shortened, and not the long texts themselves."""


class Lines:
    """Takes lines with their ends, and hands them to `write` soon, as many together as stay in one piece in a pipe.

    While `write` comes to nothing, as one to a pipe that nobody empties, some lines wait; then those who bring more.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._waiting: deque[bytes] = deque()
        self._some = threading.Event()
        self._closed = False
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def __call__(self, line: bytes) -> None:
        """Take a line."""
        self._waiting.append(line)
        if not self._some.is_set():
            self._some.set()
        if self._closed or len(self._waiting) > MOST_WAITING:
            self._write_all()

    def close(self) -> None:
        """Write what waits; what comes later is written at once."""
        self._closed = True
        self._some.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._some.wait()
            time.sleep(TOGETHER)
            self._some.clear()  # first this: what comes now sets it again
            self._write_all()

    def _write_all(self) -> None:
        with self._turn:
            piece = b""
            while self._waiting:
                line = self._waiting.popleft()
                if piece and len(piece) + len(line) > PIPE_BUF:
                    self._write(piece)
                    piece = b""
                piece += line
            if piece:
                self._write(piece)


def to_stderr(lines: bytes) -> None:
    """Write lines where the service's own log goes; a log that can't be written stops no request."""
    with suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), lines)

"""One line for each request: who did what to which object, and what came of it.

It names users, and what they asked for by its path: no parameters, headers or bodies, where secrets may stand. Lines
are put together here and not by a logging handler, which would cost ten times as much.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from api.told import Told
from imagestream_es.logfmt import value

PROBES = ("/healthz", "/livez", "/readyz")
"""Asked all the time, of no interest: what they find is logged where it is found."""
LONGEST = 200
"""Characters of what a client chose that stand in a line: it stays in one write, which nobody comes between."""


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
    return value(text if len(text) <= LONGEST else text[:LONGEST] + "...")


def to_stderr(line: bytes) -> None:
    """Write a line where the service's own log goes; a log that can't be written stops no request."""
    with suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), line)

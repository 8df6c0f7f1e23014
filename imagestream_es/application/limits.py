"""How much one user may ask for, so that nobody's script takes the service from all others."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST = 10_000
"""Users that are remembered; those who asked for nothing of late are not needed."""


class TooMany(Exception):
    """A user asks for more than they may; `retry_after` is in whole seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(slots=True)
class _Use:
    left: float
    """Requests that may come at once, as it was at `since`"""
    since: float
    running: int = 0


def _nothing() -> None:
    pass


class Limits:
    """Lets each user ask `per_second` times a second and `at_once` times at the same moment; None for no limit.

    Who was idle may ask for a second's worth at once. `now` is in seconds of a clock that never jumps.
    """

    def __init__(self, per_second: int | None, at_once: int | None, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._now = now
        self._lock = threading.Lock()
        self._users: dict[str, _Use] = {}

    def begin(self, user: str) -> Callable[[], None]:
        """A request of a user begins; answers what is to be called once when it is answered. Raises TooMany."""
        if self._per_second is None and self._at_once is None:
            return _nothing
        with self._lock:
            use = self._begin(user)

        def end() -> None:
            with self._lock:
                use.running -= 1

        return end

    def _begin(self, user: str) -> _Use:
        now, burst = self._now(), float(self._per_second or 0)
        use = self._users.get(user)
        if use is None:
            self._forget_idle(now)
            use = self._users[user] = _Use(burst, now)
        if self._at_once is not None and use.running >= self._at_once:
            message = f"too many requests at once: a user may have {self._at_once} under way, watches not counted"
            raise TooMany(message, 1)
        if self._per_second is not None:
            use.left = min(burst, use.left + (now - use.since) * self._per_second)
            use.since = now
            if use.left < 1:
                message = f"too many requests: a user may send {self._per_second} a second"
                raise TooMany(message, math.ceil((1 - use.left) / self._per_second))
            use.left -= 1
        use.running += 1
        return use

    def _forget_idle(self, now: float) -> None:
        """Drop users who would be let in as if they had never come."""
        if len(self._users) >= MOST:
            self._users = {user: use for user, use in self._users.items() if use.running or now - use.since < 1}

"""Who is next: keys that have work, each in one worker's hands at a time, some of them only after a while."""

from __future__ import annotations

import heapq
import threading
import time
from itertools import count


class Turns:
    """A queue of keys. A key stands in it once, and is not given out while a worker has it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []
        self._due: dict[str, float] = {}
        self._taken: dict[str, float | None] = {}
        self._order = count()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, key: str, delay: float = 0.0) -> None:
        """Have a key taken after `delay` seconds, or sooner if that was said before."""
        due = time.monotonic() + delay
        with self._changed:
            if key in self._taken:
                again = self._taken[key]
                self._taken[key] = due if again is None else min(due, again)
            else:
                self._enter(key, due)

    def _enter(self, key: str, due: float) -> None:
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._changed.notify()

    def take(self) -> str | None:
        """Wait for a key whose time has come; None once the queue is closed."""
        with self._changed:
            while not self._closed:
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                due, _, key = heapq.heappop(self._heap)
                if self._due.get(key) == due:  # else it was entered again with an earlier time, and taken then
                    del self._due[key]
                    self._taken[key] = None
                    return key
            return None

    def done(self, key: str, again: float | None = None) -> None:
        """Give a taken key back; it is taken again after `again` seconds, or if it was put meanwhile."""
        with self._changed:
            put_meanwhile = self._taken.pop(key)
            times = [] if put_meanwhile is None else [put_meanwhile]
            if again is not None:
                times.append(time.monotonic() + again)
            if times:
                self._enter(key, min(times))

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

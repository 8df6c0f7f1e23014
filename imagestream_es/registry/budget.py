"""How much one piece of work may take from the network: time and bytes, whatever the other side does."""

from __future__ import annotations

import threading
import time

from imagestream_es.registry.errors import BadAnswer, Exhausted


class _Bytes:
    def __init__(self, left: int) -> None:
        self.left = left
        self.lock = threading.Lock()


class Budget:
    """Seconds, counted on the monotonic clock from now on, and bytes; several threads may draw on one."""

    def __init__(self, seconds: float, size: int) -> None:
        self._end = time.monotonic() + seconds
        self._bytes = _Bytes(size)

    def within(self, seconds: float) -> Budget:
        """A part of this budget that ends after `seconds` at the latest; the bytes are shared."""
        part = Budget(seconds, 0)
        part._end = min(part._end, self._end)
        part._bytes = self._bytes
        return part

    def left(self) -> float:
        """The seconds that are left, more than 0. Raises Exhausted."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise Exhausted("the registry took too long to answer")
        return left

    def spend(self, size: int) -> None:
        """Take bytes. Raises BadAnswer: asking again would give as much."""
        with self._bytes.lock:
            self._bytes.left -= size
            if self._bytes.left < 0:
                raise BadAnswer("there is too much to download")

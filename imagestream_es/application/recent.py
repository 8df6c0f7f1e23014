"""Memory for what can be had again, but not for nothing: what was used last stays, up to a number of bytes."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from typing import Any

OVERHEAD = 1024
"""About how many bytes it takes to keep something, beside its own."""


class Recent:
    """The things used last, of `capacity` bytes at most.

    They are of two generations: what is used of the old one moves to the young one, and when that is half of all, it
    becomes the old one. So finding something takes no lock.
    """

    def __init__(self, capacity: int) -> None:
        self._half = capacity // 2
        self._young: dict[Hashable, tuple[Any, int]] = {}
        self._old: dict[Hashable, tuple[Any, int]] = {}
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """What is kept under a key, None if nothing is."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                return None
            self._put(key, *found)
        return found[0]

    def get_all(self, keys: Iterable[Hashable]) -> list[Any]:
        """What is kept under each of many keys."""
        young = self._young
        return [(young.get(key) or (self.get(key), 0))[0] for key in keys]

    def put(self, key: Hashable, thing: object, size: int) -> None:
        """Keep something of about `size` bytes, in place of what was kept before."""
        if size + OVERHEAD <= self._half:
            self._put(key, thing, size + OVERHEAD)

    def _put(self, key: Hashable, thing: object, size: int) -> None:
        with self._lock:
            before = self._young.pop(key, None)
            self._size += size - (before[1] if before else 0)
            if self._size > self._half:
                self._old, self._young, self._size = self._young, {}, size
            self._young[key] = thing, size

"""The answers that are kept, in as many bytes as there may be."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass

from api.ready import Ready
from imagestream_es.access.policy import Action
from imagestream_es.application.freshness import Stamps

OVERHEAD = 2048
"""About how many bytes are taken by what is kept beside an answer's body."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a read, the stamps under which it was read, and what one must be allowed to do to get it.

    `name` is that in the path.
    """

    ready: Ready
    stamps: Stamps
    action: Action
    name: str


class Answers:
    """The answers used last, `capacity` bytes of them at most.

    Two generations: what is used in the old one moves to the young one, and when that is half of all, it becomes the
    old one. So finding something takes no lock.
    """

    def __init__(self, capacity: int) -> None:
        self._half = capacity // 2
        self._young: dict[Hashable, Kept] = {}
        self._old: dict[Hashable, Kept] = {}
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Kept | None:
        """What is kept under a key."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Hashable, kept: Kept) -> None:
        """Keep an answer, in place of the one before."""
        size = kept.ready.size + OVERHEAD
        if size > self._half:
            return
        with self._lock:
            before = self._young.pop(key, None)
            self._size += size - (before.ready.size + OVERHEAD if before else 0)
            if self._size > self._half:
                self._old, self._young, self._size = self._young, {}, size
            self._young[key] = kept

"""Tells whether what was read is still so, in a dictionary look-up: what answers are kept by.

A reader takes stamps of its subjects before it reads. They hold as long as nothing of those subjects is changed. The
writer takes them away before it commits and gives none until it has: so nobody is shown what was before somebody else
has seen what is, and what was read from an old snapshot never counts as new.

Where several processes write to one database, what the others did is looked up in the log before stamps are trusted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from eventsourcing.persistence import PersistenceError

from imagestream_es.persistence.store import Store

Subject = str
"""What may change: a stream (`namespace/name`), an image (its name), or one of those that follow."""
STREAMS = "/"
"""The streams of all namespaces; `namespace/` stands for those of one."""
IMAGES = "images"
"""All images."""
KNOWN_IMAGES = "known images"
"""The images that are there, apart from new ones."""

MOST = 100_000
"""Subjects that have stamps; beyond that all are forgotten, which costs everybody one reading."""
FARTHEST = 10_000
"""Events of other processes that are looked at one by one; behind more of them nothing holds any more."""

Stamps = Sequence[tuple[Subject, object]]


def changed_by(originator: str, version: int) -> tuple[Subject, ...]:
    """The subjects of an event: of a stream, or of an image whose first event has version 1."""
    namespace, slash, _ = originator.partition("/")
    if slash:
        return originator, f"{namespace}/", STREAMS
    return (originator, IMAGES) if version == 1 else (originator, IMAGES, KNOWN_IMAGES)


class Freshness:
    """The stamps of a service. `shared` is the store if other processes write to it too."""

    def __init__(self, shared: Store | None = None) -> None:
        self._shared = shared
        self._head = 0
        self._stamps: dict[Subject, object] = {}
        self._changing: set[Subject] = set()
        self._lock = threading.Lock()

    def stamps(self, subjects: Sequence[Subject]) -> Stamps | None:
        """Stamps of what is to be read next; None while that is being changed."""
        with self._lock:
            if len(self._stamps) > MOST:
                self._stamps.clear()
            if not self._changing.isdisjoint(subjects):
                return None
            return tuple((subject, self._stamps.setdefault(subject, object())) for subject in subjects)

    def holds_at(self, stamps: Stamps) -> int | None:
        """A position, as new as can be, at which what was read is still so; None if it is not, or nobody knows."""
        if self._shared is not None and not self._look_around(self._shared):
            return None
        head, now = self._head, self._stamps  # first the position: what holds afterwards held there
        for subject, stamp in stamps:
            if now.get(subject) is not stamp:
                return None
        return head

    @contextmanager
    def changing(self, subjects: Iterable[Subject], head: int) -> Iterator[None]:
        """Around a commit that changes these subjects, and after which the log ends at `head`. One at a time."""
        with self._lock:
            self._changing.update(subjects)
            for subject in self._changing:
                self._stamps.pop(subject, None)
        try:
            yield
            if self._shared is None:
                self._head = head
        finally:
            with self._lock:
                self._changing.clear()

    def forget(self) -> None:
        """Nothing that was read before holds any more."""
        with self._lock:
            self._stamps.clear()

    def _look_around(self, store: Store) -> bool:
        """Take note of what other processes have committed; answers whether that could be read."""
        after = self._head
        try:
            with store.reading() as rows:
                head = rows.head()
                near = head - after <= FARTHEST
                events = rows.originators(after, head) if near and head > after else []
        except PersistenceError:
            return False
        if head > after:
            with self._lock:
                if not near:
                    self._stamps.clear()
                for event in events:
                    for subject in changed_by(*event):
                        self._stamps.pop(subject, None)
                self._head = max(head, self._head)
        return True

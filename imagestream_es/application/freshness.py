"""Tells whether what was read is still so, in a dictionary look-up: what answers are kept by.

A reader takes stamps of its subjects before it reads. They hold as long as nothing of those subjects is changed. The
writer takes them away before it commits and gives none until it has: so nobody is shown what was before somebody else
has seen what is, and what was read from an old snapshot never counts as new.

Where several processes write to one database, what the others did is looked up in the log before stamps are trusted.
Where they don't, another one may still replace the views, as a replay does: that is looked for now and then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from eventsourcing.persistence import PersistenceError

from imagestream_es.persistence import read_model
from imagestream_es.persistence.store import Rows, Store

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
LONGEST = 600
"""Characters of a subject that has stamps; no stream or image has a longer name."""
FARTHEST = 10_000
"""Events of other processes that are looked at one by one; behind more of them nothing holds any more."""

LOOK_EVERY = 1.0
"""Seconds between two looks for what others did, where nobody else writes events."""

Stamps = Sequence[tuple[Subject, object]]


def changed_by(originator: str, version: int) -> tuple[Subject, ...]:
    """The subjects of an event: of a stream, or of an image whose first event has version 1."""
    namespace, slash, _ = originator.partition("/")
    if slash:
        return originator, f"{namespace}/", STREAMS
    return (originator, IMAGES) if version == 1 else (originator, IMAGES, KNOWN_IMAGES)


class Freshness:
    """The stamps of a service; `shared` if other processes write to its store too. `now` is in seconds."""

    def __init__(
        self, store: Store | None = None, *, shared: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._shared = shared
        self._now = now
        self._due = float("-inf") if store is not None else float("inf")
        self._head = 0
        self._replays = -1
        self._stamps: dict[Subject, object] = {}
        self._changing: set[Subject] = set()
        self._lock = threading.Lock()

    def stamps(self, subjects: Sequence[Subject]) -> Stamps | None:
        """Stamps of what is to be read next; None while that is being changed, and for what cannot be there."""
        with self._lock:
            if len(self._stamps) > MOST:
                self._stamps.clear()
            if not self._changing.isdisjoint(subjects) or any(len(subject) > LONGEST for subject in subjects):
                return None
            return tuple((subject, self._stamps.setdefault(subject, object())) for subject in subjects)

    def holds_at(self, stamps: Stamps) -> int | None:
        """A position, as new as can be, at which what was read is still so; None if it is not, or nobody knows."""
        if (self._shared or self._now() >= self._due) and not self._look_around():
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
            if not self._shared:
                self._head = head
        finally:
            with self._lock:
                self._changing.clear()

    def _look_around(self) -> bool:
        """Take note of what other processes have done; answers whether that could be read."""
        assert self._store is not None
        after = self._head
        try:
            with self._store.glancing() as rows:
                head, replays = read_model.standing(rows)
                events = self._events(rows, after, head) if self._shared else []
        except PersistenceError:
            return False
        with self._lock:
            if events is None or replays != self._replays:
                self._stamps.clear()
            for event in events or ():
                for subject in changed_by(*event):
                    self._stamps.pop(subject, None)
            self._replays, self._due = replays, self._now() + LOOK_EVERY
            if self._shared:
                self._head = max(head, self._head)
        return True

    @staticmethod
    def _events(rows: Rows, after: int, head: int) -> list[tuple[str, int]] | None:
        """The ids and versions of what happened behind `after`; None for too much."""
        if head - after > FARTHEST:
            return None
        return rows.originators(after, head) if head > after else []

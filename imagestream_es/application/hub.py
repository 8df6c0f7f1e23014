"""Tells those who watch what was committed.

One thread follows the log. It works out a change once, and only if somebody watches its object, and hands it
to each of them; the rest of the log costs it nothing. Changes wait for slow watchers only as long as all that wait
take a bounded memory. A watcher that falls behind that loses its place but nothing else: it reads on in the log
from where it was. The writer never waits for anybody here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from eventsourcing.persistence import PersistenceError

from imagestream_es.application.limits import TooMany
from imagestream_es.persistence.read_model import standing
from imagestream_es.persistence.store import Store
from imagestream_es.projections.past import Change, Replay

logger = logging.getLogger(__name__)

WAITING = 32 << 20
"""About how many bytes of changes are kept for those who have not taken them yet; the newest one always is."""

TURNS = 8
"""How many watchers may read the log at the same time."""

Subject = tuple[str | None, str | None]
"""What is watched: namespace and name of a stream, None for any; namespace "" for images."""


class Subscription:
    """One watcher's place: every change of its subject behind `since`, in order, until it lags or is closed."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.since = 0
        self.lagging = False
        self.closed = False
        self._changes: deque[Change] = deque()
        self._signal = threading.Condition()

    def offer(self, change: Change) -> None:
        """Queue a change."""
        with self._signal:
            if not self.lagging:
                self._changes.append(change)
                self._signal.notify()

    def expire(self, position: int) -> None:
        """Keep no change up to `position` any longer: a watcher that has not taken it lags."""
        with self._signal:
            if self._changes and self._changes[0].position <= position:
                self._lag()

    def lag(self) -> None:
        """Send the watcher to the log for what it misses."""
        with self._signal:
            self._lag()

    def _lag(self) -> None:
        self._changes.clear()
        self.lagging = True
        self._signal.notify()

    def close(self) -> None:
        """Nothing more will come."""
        with self._signal:
            self.closed = True
            self._signal.notify()

    def reached(self, handed: int) -> int:
        """The position up to which nothing is left for the watcher to take, if all up to `handed` was handed out."""
        with self._signal:
            if self.lagging:
                return self.since
            return min(handed, self._changes[0].position - 1) if self._changes else handed

    def next(self, timeout: float) -> Change | None:
        """The next change; None when none came within `timeout` seconds, or `lagging` or `closed` was set."""
        with self._signal:
            if not self._changes and not self.lagging and not self.closed:
                self._signal.wait(timeout)
            return self._changes.popleft() if self._changes else None


class Hub:
    """Follows the log and serves subscriptions.

    `poll` is how often, in seconds, to look for what other processes committed; None if there are none.
    """

    def __init__(self, store: Store, poll: float | None) -> None:
        self._store = store
        self._poll = poll
        self._replay = Replay()
        self._generation = -1
        self._kept: deque[tuple[Change, Sequence[Subscription]]] = deque()
        self._kept_size = 0
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)
        self._head = 0
        self._position = 0
        self._handed = 0
        self._closed = False
        self._subscriptions: dict[Subject, set[Subscription]] = {}
        self._count = 0
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
        self.turns = threading.BoundedSemaphore(TURNS)

    def start(self) -> None:
        """Begin at the end of the log."""
        with self._store.reading() as rows:
            self._head = self._position = self._handed = rows.head()
        self._thread.start()

    def committed(self, head: int) -> None:
        """The log ends at `head` now."""
        with self._moved:
            self._head = max(head, self._head)
            self._moved.notify_all()

    def wait_until(self, position: int, timeout: float) -> int:
        """Wait, `timeout` seconds at most, until the log ends at `position` or later; answers where it ends."""
        deadline = time.monotonic() + timeout
        with self._moved:
            while self._head < position and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._moved.wait(left)
            return self._head

    @property
    def position(self) -> int:
        """Every change up to here was handed to those who subscribed before."""
        return self._handed

    @property
    def count(self) -> int:
        """How many subscriptions there are."""
        return self._count

    def subscribe(self, subject: Subject, most: int | None = None) -> Subscription:
        """A new subscription: it gets what comes behind its `since`, the caller reads what was before.

        Raises TooMany if there are `most` already.
        """
        subscription = Subscription(subject)
        with self._lock:
            if most is not None and self._count >= most:
                raise TooMany("as many watches are open as this server has room for; try again later", 1)
            subscription.closed = self._closed
            subscription.since = self._position
            self._subscriptions.setdefault(subject, set()).add(subscription)
            self._count += 1
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        with self._lock:
            same = self._subscriptions.get(subscription.subject, set())
            if subscription in same:
                same.discard(subscription)
                self._count -= 1
                if not same:
                    del self._subscriptions[subscription.subject]

    def close(self) -> None:
        """End every subscription, and the thread."""
        with self._moved:
            self._closed = True
            subscriptions = [one for same in self._subscriptions.values() for one in same]
            self._moved.notify_all()
        for subscription in subscriptions:
            subscription.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    # --- the thread

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._dispatch()
            except PersistenceError as error:
                logger.warning("the hub could not read the log: %s", error)
                time.sleep(0.5)
            except Exception:
                logger.exception("the hub failed; watchers read on in the log")

    def _wait_for_work(self) -> bool:
        with self._moved:
            while not self._closed and self._head <= self._position:
                self._moved.wait(self._poll)
                if self._poll is not None:
                    break
            return not self._closed

    def _dispatch(self) -> None:
        if self._poll is not None:
            with self._store.reading() as rows:
                self.committed(rows.head())
        with self._lock:
            after, until = self._position, self._head
            subscriptions = {subject: tuple(same) for subject, same in self._subscriptions.items()}
            # Whoever subscribes from here on is not handed this batch, so it begins behind it.
            self._position = until
        if not subscriptions:
            self._forget()
        elif after < until:
            try:
                self._hand_out(after, until, subscriptions)
            except BaseException:
                for same in subscriptions.values():
                    for subscription in same:
                        subscription.lag()
                self._forget()
                raise
        self._handed = until

    def _forget(self) -> None:
        self._replay = Replay()
        self._kept.clear()
        self._kept_size = 0

    def _hand_out(self, after: int, until: int, subscriptions: dict[Subject, tuple[Subscription, ...]]) -> None:
        with self._store.reading() as rows:
            _, generation = standing(rows)
            if generation != self._generation:  # the views were replaced, from which came what is kept
                self._replay, self._generation = Replay(), generation
            for position, stored in rows.log(after, until):
                originator = str(stored.originator_id)
                concerned = [one for subject in subjects(originator) for one in subscriptions.get(subject, ())]
                if not concerned:
                    self._replay.forget(originator)
                    continue
                change = self._replay.change(rows, position, stored)
                if change is not None:
                    for subscription in concerned:
                        subscription.offer(change)
                    self._keep(change, concerned)

    def _keep(self, change: Change, concerned: Sequence[Subscription]) -> None:
        self._kept.append((change, concerned))
        self._kept_size += change.size
        while self._kept_size > WAITING and len(self._kept) > 1:
            old, subscriptions = self._kept.popleft()
            self._kept_size -= old.size
            for subscription in subscriptions:
                subscription.expire(old.position)


def subjects(originator: str) -> tuple[Subject, ...]:
    """The subjects under which a stream or image may be watched."""
    namespace, slash, name = originator.partition("/")
    if not slash:
        return ("", originator), ("", None)
    return (namespace, name), (namespace, None), (None, name), (None, None)

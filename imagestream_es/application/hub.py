"""Tells those who watch what was committed.

One thread follows the log. It works out a change once, and only if somebody watches its object, and hands it
to each of them; the rest of the log costs it nothing. A watcher that does not keep up loses its place in the
queue but nothing else: it reads on in the log from where it was. The writer never waits for anybody here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from eventsourcing.persistence import PersistenceError

from imagestream_es.persistence.store import Store
from imagestream_es.projections.past import Change, Replay

logger = logging.getLogger(__name__)

WAITING = 8 << 20
"""About how many bytes of changes may wait for one watcher before it has to read them from the log."""

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
        self._size = 0
        self._signal = threading.Condition()

    def offer(self, change: Change) -> None:
        """Queue a change, or note that there are too many."""
        with self._signal:
            if self.lagging:
                return
            if self._changes and self._size + change.size > WAITING:
                self._lag()
                return
            self._changes.append(change)
            self._size += change.size
            self._signal.notify()

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
            if not self._changes:
                return None
            change = self._changes.popleft()
            self._size -= change.size
            return change


class Hub:
    """Follows the log and serves subscriptions.

    `poll` is how often, in seconds, to look for what other processes committed; None if there are none.
    """

    def __init__(self, store: Store, poll: float | None) -> None:
        self._store = store
        self._poll = poll
        self._replay = Replay()
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)
        self._head = 0
        self._position = 0
        self._handed = 0
        self._closed = False
        self._subscriptions: dict[Subject, set[Subscription]] = {}
        self._count = 0
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)

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

    def subscribe(self, subject: Subject) -> Subscription:
        """A new subscription: it gets what comes behind its `since`, the caller reads what was before."""
        subscription = Subscription(subject)
        with self._lock:
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
            self._replay = Replay()
        elif after < until:
            try:
                self._hand_out(after, until, subscriptions)
            except BaseException:
                for same in subscriptions.values():
                    for subscription in same:
                        subscription.lag()
                self._replay = Replay()
                raise
        self._handed = until

    def _hand_out(self, after: int, until: int, subscriptions: dict[Subject, tuple[Subscription, ...]]) -> None:
        with self._store.reading() as rows:
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


def subjects(originator: str) -> tuple[Subject, ...]:
    """The subjects under which a stream or image may be watched."""
    namespace, slash, name = originator.partition("/")
    if not slash:
        return ("", originator), ("", None)
    return (namespace, name), (namespace, None), (None, name), (None, None)

"""Gives every user who writes an opaque id, by which events name them for ever.

The log itself holds no name: whoever is forgotten is only an id from then on, and the log stays what it is.

The service's own acts, and those of callers who said nothing of themselves, are named in the log as they are, with
names that begin with "system:". An id holds no colon, so it is never taken for one; and a client who proved to be
somebody has an id, whatever the name.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable

from eventsourcing.persistence import PersistenceError

from imagestream_es.access.identity import ANONYMOUS, UNSECURED, User, can_be_name
from imagestream_es.application.writer import Unavailable
from imagestream_es.persistence import principals
from imagestream_es.persistence.principals import Principal
from imagestream_es.persistence.store import Store

LEASE = 1.0
"""Seconds for which an id is used before the store is asked whether anybody was forgotten since."""
SEEN_EVERY = 60.0
"""Seconds between two times that it is written when users were last seen."""
MOST = 10_000
"""Users that are remembered between requests."""

REGISTRY, PUSHERS = "system:registry", "registry"
"""Who pushes if the registry names nobody, and the issuer of those whom it names."""
OWN = "system:"
UNPROVEN = frozenset({UNSECURED.issuer, ANONYMOUS.issuer})
"""Issuers of those who said nothing of themselves: their names are the service's own."""

_logger = logging.getLogger(__name__)


def new_id() -> str:
    """An id that was never given before and tells nothing: 20 hexadecimal digits."""
    return secrets.token_hex(10)


class Principals:
    """Knows the ids of users and the names of ids.

    What is remembered is used for `LEASE` seconds at most; `forgetting` relies on that. `clock` is in milliseconds
    since the epoch, `now` in seconds of a clock that never jumps.
    """

    def __init__(self, store: Store, clock: Callable[[], int], now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, str], str] = {}
        self._forgotten = -1
        self._valid_until = float("-inf")
        self._seen: dict[str, int] = {}
        self._write_seen_at = now() + SEEN_EVERY

    def id_of(self, user: User) -> str:
        """The id of a user who is about to write; who has none gets one, durable when this returns.

        Raises Unavailable.
        """
        if user.issuer in UNPROVEN:
            return user.name
        key = user.issuer, user.name
        found = self._ids.get(key) if self._now() < self._valid_until else None
        if found is None:
            found = self._look_up(key)
        self._seen[found] = self._clock()
        if self._now() >= self._write_seen_at:
            self._write_seen()
        return found

    def pusher(self, name: str) -> str:
        """The id of a user of the registry; of the registry itself if it names nobody. Raises Unavailable."""
        return self.id_of(User(name, issuer=PUSHERS)) if can_be_name(name) else REGISTRY

    def names(self, ids: Iterable[str]) -> dict[str, str]:
        """The names of those ids that are known; the service's own names stand for themselves. Raises Unavailable."""
        wanted = set(ids)
        own = {one: one for one in wanted if one.startswith(OWN)}
        others = sorted(wanted - own.keys())
        if not others:
            return own
        try:
            with self._store.reading() as rows:
                return own | principals.names(rows, others)
        except PersistenceError as error:
            raise _unavailable(error) from error

    def ids(self, name: str) -> list[str]:
        """What a name stands under in the log: the ids of all users of that name, and an own name itself.

        Raises Unavailable.
        """
        own = [name] if name.startswith(OWN) else []
        try:
            with self._store.reading() as rows:
                return own + principals.ids(rows, name)
        except PersistenceError as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """Write when users were last seen."""
        self._write_seen()

    def _look_up(self, key: tuple[str, str]) -> str:
        with self._lock:
            start = self._now()
            if start < self._valid_until and key in self._ids:  # somebody else was faster
                return self._ids[key]
            try:
                forgotten, found = self._read(key)
            except PersistenceError as error:
                raise _unavailable(error) from error
            if forgotten != self._forgotten or len(self._ids) >= MOST:
                self._ids, self._forgotten = {}, forgotten
            self._ids[key] = found
            self._valid_until = start + LEASE
            return found

    def _read(self, key: tuple[str, str]) -> tuple[int, str]:
        """How often somebody was forgotten, and the id that this user has since then."""
        with self._store.reading() as rows:
            forgotten, found = principals.forgotten(rows), principals.find(rows, *key)
        if found is not None:
            return forgotten, found
        at = self._clock()
        with self._store.writing() as rows:
            principals.add(rows, Principal(new_id(), *key, at, at))
            forgotten, found = principals.forgotten(rows), principals.find(rows, *key)
        assert found is not None
        return forgotten, found

    def _write_seen(self) -> None:
        """Write it in one go. It may come late, or be lost with the process: nothing hangs on it."""
        with self._lock:
            self._write_seen_at = self._now() + SEEN_EVERY
            seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            with self._store.writing() as rows:
                principals.see(rows, tuple(seen.items()))  # others may still add to it
        except PersistenceError as error:
            _logger.warning("it could not be noted when users were last seen: %s", error)


def forget(store: Store, name: str, at: int, sleep: Callable[[float], None] = time.sleep) -> int:
    """Erase everybody of a name, and wait until no running service uses it any more; answers how many there were.

    The log is not touched. Raises PersistenceError, NotErased.
    """
    with store.erasing(principals.TABLE) as rows:
        gone = principals.forget(rows, name, at)
    sleep(LEASE)
    return gone


def _unavailable(error: PersistenceError) -> Unavailable:
    _logger.error("the table of principals could not be used: %s", error)
    return Unavailable("the store can't tell who users are now", may_be_stored=False)

"""Pushes to the internal registry become history: kept durably when they are told, worked off afterwards.

Each repository has its pushes worked off in the order of their arrival by one thread at a time. What came of a
push is committed together with the events that it led to, so it leads to them once, whenever the service is
killed. While the registry does not answer, the pushes of a repository wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import Raw, Struct

from imagestream_es.application.commands import Caller, Commands, anyone
from imagestream_es.application.tally import Tally
from imagestream_es.application.turns import Turns
from imagestream_es.application.writer import Decision, Unavailable, Work, Writer
from imagestream_es.domain.errors import AlreadyExists, NotFound
from imagestream_es.domain.events import Origin
from imagestream_es.domain.image_stream import RESOURCE, DesiredStream
from imagestream_es.domain.references import stream_repository
from imagestream_es.persistence import inbox, read_model
from imagestream_es.persistence.inbox import Arrival, Pushed, Waiting
from imagestream_es.persistence.store import Store
from imagestream_es.registry.documents import InvalidManifest
from imagestream_es.registry.errors import BadAnswer, Overloaded, RegistryError, Unknown
from imagestream_es.registry.fetch import NotAnImage, fetch_pushed, stored_document
from imagestream_es.registry.internal import IMAGE_BYTES, InternalRegistry
from imagestream_es.registry.notifications import Push, read_notification, without_names

T = TypeVar("T")

WEBHOOK, SWEEP = "webhook", "sweep"
"""Doors through which pushes come in."""

WORKERS = 4
FETCH_SECONDS = 60.0
"""For an image with all its parts."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between tries while the registry does not answer."""
PATIENCE = 5
"""Tries with a registry that answers, but nothing of use."""
KEPT = 30 * 24 * 3600 * 1000
"""Milliseconds that the ids of settled pushes are remembered."""
CLOSING_SECONDS = 2.0

MAPPED, UNCHANGED, LATE, GONE = "mapped", "unchanged", "late", "gone"
ARTIFACT, INVALID, UNREADABLE = "artifact", "invalid manifest", "unreadable"

_logger = logging.getLogger(__name__)

Documents = Mapping[str, Mapping[str, Raw]]
"""Documents of images by name."""


class Receipt(Struct, frozen=True):
    """What came of notifications: how many pushes were stored, and how many were known already."""

    stored: int
    known: int


class _NoImage(Exception):
    """The image was known a moment ago, and is not any more."""


class Pushes:
    """Keeps pushes and works them off; without a `registry` to read from they wait.

    `tally` counts outcomes. `actor_of` tells by what id events name a user of the registry, "" being nobody.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        commands: Commands,
        clock: Callable[[], int],
        registry: InternalRegistry | None,
        tally: Tally,
        actor_of: Callable[[str], str],
    ) -> None:
        self._store = store
        self._writer = writer
        self._commands = commands
        self._clock = clock
        self._registry = registry
        self._tally = tally
        self._actor_of = actor_of
        self._turns = Turns()
        self._failures: dict[str, int] = {}
        self._threads = [
            threading.Thread(target=self._run, name=f"pushes-{number}", daemon=True) for number in range(WORKERS)
        ]

    def start(self) -> None:
        """Work off what waits, and what comes. Raises PersistenceError."""
        if self._registry is None:
            return
        self.wake()
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look for pushes that wait, also of another process that has died. Raises PersistenceError."""
        with self._store.reading() as rows:
            repositories = inbox.repositories(rows)
        for repository in repositories:
            self._turns.put(repository)

    def close(self) -> None:
        """Stop; what is not worked off waits for the next start."""
        self._turns.close()
        end = time.monotonic() + CLOSING_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(end - time.monotonic(), 0))

    # --- the inbox

    def keep(self, door: str, pushes: Sequence[tuple[Push, bytes]]) -> Receipt:
        """Keep pushes, each with what came, unless their ids are known; durable when it returns. Raises Unavailable."""
        received = self._clock()
        arrivals = [
            Arrival(push.id, push.repository, door, received, without_names(raw, self._actor_of(push.actor)))
            for push, raw in pushes
        ]

        def decide(work: Work) -> int:
            added = inbox.add(work.rows, arrivals)
            if added:
                work.keeps = True
            return added

        try:
            added = self._execute(decide) if arrivals else 0
        finally:  # also when the outcome is unknown: they may be there
            for repository in dict.fromkeys(arrival.repository for arrival in arrivals):
                self._turns.put(repository)
        return Receipt(added, len(arrivals) - added)

    def forget_old(self) -> None:
        """Drop what was settled long ago. Raises Unavailable."""
        before = self._clock() - KEPT

        def decide(work: Work) -> int:
            dropped = inbox.forget(work.rows, before)
            if dropped:
                work.keeps = True
            return dropped

        self._execute(decide)

    def _execute(self, decide: Callable[[Work], T]) -> T:
        return self._writer.execute(Decision(decide, _as_it_is, None, anyone), dry=False)

    # --- working off

    def _run(self) -> None:
        while (repository := self._turns.take()) is not None:
            again: float | None = LONGEST_PAUSE
            try:
                again = self._work_off_one(repository)
            except Unavailable as error:
                _logger.warning("a push to %s waits: %s", repository, error)
                again = self._pause(repository)
            except Exception:
                _logger.exception("a push to %s could not be worked off", repository)
                again = self._pause(repository)
            finally:
                self._turns.done(repository, again)

    def _pause(self, repository: str) -> float:
        failures = self._failures[repository] = self._failures.get(repository, 0) + 1
        return min(SHORTEST_PAUSE * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE)

    def _work_off_one(self, repository: str) -> float | None:
        """Settle the oldest push of a repository; answers after how many seconds to come again, None for not."""
        with self._store.reading() as rows:
            waiting = inbox.oldest(rows, repository)
        if waiting is None:
            return None
        push = read_notification(waiting.body, 0).push
        if push is None:  # what was usable once is not any more
            self._settle(waiting, None, UNREADABLE)
            return 0.0
        try:
            documents = self._documents(push)
        except Unknown:
            self._settle(waiting, None, GONE)
        except NotAnImage:
            self._settle(waiting, push, ARTIFACT)
        except InvalidManifest as error:
            _logger.warning("%s:%s was pushed with a manifest that cannot be used: %s", repository, push.tag, error)
            self._settle(waiting, push, INVALID)
        except RegistryError as error:
            hopeless = isinstance(error, BadAnswer) and not isinstance(error, Overloaded)
            if not hopeless or self._failures.get(repository, 0) < PATIENCE:
                _logger.warning("a push to %s waits: %s", repository, error)
                return self._pause(repository)
            _logger.error("a push to %s:%s cannot be read: %s", repository, push.tag, error)
            self._settle(waiting, None, UNREADABLE)
        else:
            try:
                self._map(waiting, push, documents)
            except _NoImage:
                return 0.0
        self._failures.pop(repository, None)
        return 0.0

    def _documents(self, push: Push) -> Documents:
        """The images that the push makes known, parts of a list first; none if the image is known."""
        with self._store.reading() as rows:
            known = read_model.load_image(rows, push.digest)
        if known is not None and known.exists:
            return {}
        assert self._registry is not None
        now = datetime.fromtimestamp(self._clock() // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        client = self._registry.client(push.repository, FETCH_SECONDS, IMAGE_BYTES)
        found = fetch_pushed(client, push.repository, push.digest, self._repository(push), now=now)
        return {image["metadata"]["name"]: stored_document(image) for image in (*found.parts, found.image)}

    def _repository(self, push: Push) -> str:
        return stream_repository(self._commands.registry, push.namespace, push.name)

    def _map(self, waiting: Waiting, push: Push, documents: Documents) -> None:
        actor = push.principal or self._actor_of(push.actor)
        by = Origin(at=self._clock(), actor=actor, door=waiting.door, request=push.id)
        uids = {name: self._commands.make_uid() for name in documents}

        def decide(work: Work) -> str:
            if not inbox.waits(work.rows, waiting.number):
                return ""
            outcome = LATE
            if not _is_late(work, push):
                stream = work.stream(push.namespace, push.name)
                if stream is None:
                    raise NotFound(RESOURCE, push.name)
                for name, document in documents.items():
                    image = work.image_of(name)
                    if not image.exists:
                        image.register(by, uids[name], document)
                if not work.image_of(push.digest).exists:
                    raise _NoImage
                stream.map_image(by, push.tag, push.digest, f"{self._repository(push)}@{push.digest}")
                outcome = MAPPED if stream.pending else UNCHANGED
                _remember(work, push)
            inbox.settle(work.rows, waiting.number, outcome, by.at)
            work.keeps = True
            return outcome

        while True:
            try:
                self._count(self._execute(decide))
                return
            except NotFound:
                self._begin_stream(push, by)

    def _begin_stream(self, push: Push, by: Origin) -> None:
        with suppress(AlreadyExists):  # somebody else was faster
            self._commands.create_image_stream(Caller(by=by), push.namespace, push.name, DesiredStream())

    def _settle(self, waiting: Waiting, push: Push | None, outcome: str) -> None:
        """Note that nothing came of a push; `push` if that need not be tried again while the tag stays there."""
        at = self._clock()

        def decide(work: Work) -> str:
            if not inbox.waits(work.rows, waiting.number):
                return ""
            if push is not None and not _is_late(work, push):
                _remember(work, push)
            inbox.settle(work.rows, waiting.number, outcome, at)
            work.keeps = True
            return outcome

        self._count(self._execute(decide))

    def _count(self, outcome: str) -> None:
        if outcome:
            self._tally.add(outcome)


def _is_late(work: Work, push: Push) -> bool:
    """Whether something that the registry did later with this tag was settled before."""
    known = inbox.newest(work.rows, push.repository, push.tag)
    return known is not None and push.time < known.time


def _remember(work: Work, push: Push) -> None:
    inbox.remember(work.rows, push.repository, push.tag, Pushed(push.time, push.digest))


def _as_it_is(value: T) -> T:
    return value

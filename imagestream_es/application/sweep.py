"""Repairs what a registry could not tell: compares what its tags point to with what the histories say.

Notifications are lost with the registry process that had them waiting. A sweep finds tags that point to another
image than the newest entry of their history, and than what was last pushed as far as is known: so a tag that was
moved or deleted through the API stays as it is. What still differs after a while, in which late notifications had
time to arrive, is kept like a push that was told. Only the last state can be repaired; a tag that is gone from the
registry is left alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from uuid import uuid4

import orjson
from eventsourcing.persistence import PersistenceError
from msgspec import Struct
from msgspec.structs import asdict

from imagestream_es.application.pushes import SWEEP, Pushes
from imagestream_es.application.tally import Tally
from imagestream_es.application.writer import Unavailable
from imagestream_es.persistence import inbox, read_model
from imagestream_es.persistence.store import Store
from imagestream_es.registry.client import RegistryClient, Tagged
from imagestream_es.registry.errors import RegistryError, Unknown
from imagestream_es.registry.internal import LISTING_BYTES, InternalRegistry
from imagestream_es.registry.notifications import Push, media_type_problem, read_notification, repository_problem

REQUESTS_AT_ONCE = 4
CATALOG_SECONDS = 600.0
REPOSITORY_SECONDS = 300.0
FIRST_RETRY = 5.0
"""Seconds until a sweep that failed is tried again; each further time it is twice as long."""
CLOCK_STEP = 1.1
"""Seconds, the least to wait: registries tell the time in whole seconds, and what seems older counts as late."""
SETTLING_LOOKS, SETTLING_PAUSE = 200, 0.05
"""How often, and after how many seconds each, a sweep looks whether what it found is worked off."""
CLOSING_SECONDS = 2.0

_logger = logging.getLogger(__name__)


class Swept(Struct):
    """What a sweep saw: how many repositories and tags, how many it repaired, how many it could not ask for."""

    repositories: int = 0
    tags: int = 0
    repaired: int = 0
    failed: int = 0


class Stopped(Exception):
    """The service is shutting down, or no registry is configured."""


class Sweeper:
    """Sweeps at start, on request, and every `interval` seconds; waits `grace` seconds before it repairs."""

    def __init__(
        self,
        store: Store,
        pushes: Pushes,
        registry: InternalRegistry | None,
        clock: Callable[[], int],
        tally: Tally,
        *,
        interval: float,
        grace: float,
    ) -> None:
        self._store = store
        self._pushes = pushes
        self._registry = registry
        self._clock = clock
        self._tally = tally
        self._interval = interval
        self._grace = max(grace, CLOCK_STEP)
        self._asked: list[Future[Swept]] = []
        self._wake = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin the first sweep."""
        if self._registry is not None:
            self._thread.start()

    def request(self) -> Future[Swept]:
        """Ask for a sweep that begins after now; the answer is there when it is over. Raises Stopped."""
        future: Future[Swept] = Future()
        with self._wake:
            if self._registry is None:
                raise Stopped("no registry is configured (--registry-url)")
            if self._closed.is_set():
                raise Stopped("the service is shutting down")
            self._asked.append(future)
            self._wake.notify()
        return future

    def noticed(self) -> None:
        """Sweep soon if there is something to sweep."""
        if self._registry is not None and not self._closed.is_set():
            self.request()

    def close(self) -> None:
        """Stop, also a sweep that is under way."""
        with self._wake:
            self._closed.set()
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSING_SECONDS)
        self._answer(list(self._asked), Stopped("the service is shutting down"))

    def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            with self._wake:
                asked = list(self._asked)
            outcome: Swept | Exception
            try:
                outcome = self.sweep()
                self._pushes.forget_old()
                self._pushes.wake()
                failures = 0
                _logger.info("swept the registry", extra=asdict(outcome))
            except Exception as error:
                outcome = error
                failures += 1
                if isinstance(error, RegistryError | PersistenceError | Unavailable):
                    _logger.warning("the registry could not be swept: %s", error)
                elif not self._closed.is_set():
                    _logger.exception("the registry could not be swept")
            self._answer(asked, outcome)
            self._pause(failures)

    def _pause(self, failures: int) -> None:
        retry = FIRST_RETRY * 2.0 ** min(failures - 1, 16) if failures else self._interval
        with self._wake:
            if not self._asked and not self._closed.is_set():
                self._wake.wait(min(retry, self._interval))

    def _answer(self, asked: Sequence[Future[Swept]], outcome: Swept | Exception) -> None:
        with self._wake:
            for future in asked:
                if future.done():  # when the service was told to stop
                    continue
                self._asked.remove(future)
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    # --- one sweep

    def sweep(self) -> Swept:
        """Compare everything once, and have repaired what differs. Raises RegistryError, PersistenceError."""
        swept = Swept()
        suspects: dict[str, list[str]] = {}
        for repository in self._repositories():
            self._go_on(0)
            found = self._compare(swept, repository, None)
            if found:
                suspects[repository] = [tag for tag, _ in found]
        if suspects:
            self._go_on(self._grace)
            for repository, tags in suspects.items():
                swept.repaired += self._repair(repository, self._compare(swept, repository, tags))
        self._await(suspects)
        return swept

    def _await(self, repositories: Iterable[str]) -> None:
        """Give what was found the time to be worked off, so that who asked for the sweep sees it done."""
        left = set(repositories)
        for _ in range(SETTLING_LOOKS):
            with self._store.reading() as rows:
                left &= set(inbox.repositories(rows))
            if not left:
                return
            self._go_on(SETTLING_PAUSE)

    def _go_on(self, after: float) -> None:
        """Wait so many seconds. Raises Stopped."""
        if self._closed.wait(after):
            raise Stopped("the service is shutting down")

    def _repositories(self) -> list[str]:
        assert self._registry is not None
        found = self._registry.client("", CATALOG_SECONDS, LISTING_BYTES).repositories()
        return [repository for repository in found if not repository_problem(repository)]

    def _compare(self, swept: Swept, repository: str, tags: Sequence[str] | None) -> list[tuple[str, Tagged]]:
        """The tags (None: all) of a repository that point to something else than is known here."""
        assert self._registry is not None
        client = self._registry.client(repository, REPOSITORY_SECONDS, LISTING_BYTES)
        try:
            wanted = client.tags(repository) if tags is None else tags
        except Unknown:  # all its manifests are untagged, or gone
            wanted = []
        except RegistryError as error:
            _logger.warning("the tags of %s could not be listed: %s", repository, error)
            swept.failed += 1
            return []
        found = self._all_tagged(client, repository, wanted)
        if tags is None:
            swept.repositories += 1
            swept.tags += len(found)
            swept.failed += sum(isinstance(one, RegistryError) for one in found)
        known = self._known(repository, wanted)
        return [
            (tag, one)
            for tag, one in zip(wanted, found, strict=True)
            if isinstance(one, Tagged) and one.digest not in known[tag] and not media_type_problem(one.media_type)
        ]

    def _all_tagged(
        self, client: RegistryClient, repository: str, tags: Sequence[str]
    ) -> list[Tagged | RegistryError | None]:
        """What tags point to, asked some at a time. Raises Stopped."""
        found: list[Tagged | RegistryError | None] = [None] * len(tags)
        numbers = iter(range(len(tags)))
        turn = threading.Lock()

        def ask() -> None:
            while not self._closed.is_set():
                with turn:
                    number = next(numbers, None)
                if number is None:
                    return
                found[number] = _tagged(client, repository, tags[number])

        # Unlike those of a pool, these keep no one who wants to stop: a registry may be slow to answer.
        threads = [threading.Thread(target=ask, name="sweep", daemon=True) for _ in tags[:REQUESTS_AT_ONCE]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._go_on(0)
        return found

    def _known(self, repository: str, tags: Iterable[str]) -> dict[str, set[str]]:
        """For each tag, the digest on top of its history and the one that was last pushed."""
        namespace, _, name = repository.partition("/")
        with self._store.reading() as rows:
            stream = read_model.load_stream(rows, namespace, name)
            pushed = inbox.pushed(rows, repository)
        known: dict[str, set[str]] = {tag: set() for tag in tags}
        for tag, digests in known.items():
            if tag in pushed:
                digests.add(pushed[tag].digest)
            newest = stream.newest(tag) if stream is not None else None
            if newest is not None:
                digests.add(newest.image)
        return known

    def _repair(self, repository: str, differing: Iterable[tuple[str, Tagged]]) -> int:
        pushes = [self._push(repository, tag, found) for tag, found in differing]
        self._tally.add("swept", len(pushes))
        return self._pushes.keep(SWEEP, pushes).stored

    def _push(self, repository: str, tag: str, found: Tagged) -> tuple[Push, bytes]:
        """What the registry would have told."""
        now = self._clock()
        at = datetime.fromtimestamp(now / 1000 if found.time is None else found.time, UTC)
        target = {"mediaType": found.media_type, "digest": found.digest, "repository": repository, "tag": tag}
        event = {"id": f"sweep:{uuid4()}", "timestamp": at.isoformat(), "action": "push", "target": target}
        raw = orjson.dumps(event)
        push = read_notification(raw, now * 1_000_000).push
        assert push is not None
        return push, raw


def _tagged(client: RegistryClient, repository: str, tag: str) -> Tagged | RegistryError | None:
    try:
        return client.tagged(repository, tag)
    except Unknown:  # deleted meanwhile
        return None
    except RegistryError as error:
        _logger.warning("the tag %s:%s could not be read: %s", repository, tag, error)
        return error

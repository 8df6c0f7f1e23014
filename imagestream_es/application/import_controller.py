"""Imports that nobody asks for by hand: of tags that still lack their image, and of scheduled tags at intervals.

A thread looks into the log for streams whose spec may have changed, a few times a second at most and only when
something was committed; pushes are passed over in the database. What a stream needs is then read from the views,
and again right before an import, so nothing here has to be remembered over a restart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from imagestream_es.application.commands import Caller
from imagestream_es.application.fetching import Failure, ImageImport, ImageResult, Policy, RepositoryImport
from imagestream_es.application.hub import Hub
from imagestream_es.application.import_schedule import Attempt, Ended, Schedule
from imagestream_es.application.imports import ImportRequest, ImportResult, Imports
from imagestream_es.application.queries import Queries
from imagestream_es.application.tally import Tally
from imagestream_es.application.writer import Unavailable
from imagestream_es.domain.errors import Conflict, NotFound
from imagestream_es.domain.events import EVENTS, ImageMapped, Origin, StreamEvent
from imagestream_es.domain.image_stream import ImageStream
from imagestream_es.domain.import_needs import PASSING, WHOLE_REPOSITORY, Need, import_needs
from imagestream_es.persistence import read_model
from imagestream_es.persistence.store import Rows

ACTOR = "system:import-controller"
DOOR = "import"

WORKERS = 8
PAUSE = 0.2
"""Seconds between two looks into the log, so that a busy log costs a few of them and not one for each commit."""
PATIENCE = 1.0
"""Seconds that a stop waits for imports under way; what they fetch after that is thrown away."""

INSECURE = "openshift.io/image.insecureRepository"
"""Annotation of a stream with "true": its repository may be asked without TLS."""

IMPORTED, UNCHANGED, FAILED, SUPERSEDED = "imported", "unchanged", "failed", "superseded"
"""How an attempt can come out for a tag; superseded: what asked for it was changed meanwhile."""

# A push can only make an import needless, and that is seen right before it.
_TOPICS = [event.TOPIC for event in EVENTS if issubclass(event, StreamEvent) and event is not ImageMapped]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Outcome:
    """What came of one tag."""

    result: str
    ended: Ended
    failure: Failure | None = None


class ImportController:
    """Keeps what streams import up to date. `outcomes` counts what came of the tags so far.

    `interval` is that of scheduled imports in seconds; `clock` never goes back.
    """

    def __init__(
        self,
        queries: Queries,
        hub: Hub,
        imports: Imports,
        interval: float,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self.outcomes = Tally()
        self._queries = queries
        self._hub = hub
        self._imports = imports
        self._clock = clock
        self._schedule = Schedule(interval, random)
        self._position = -1
        self._stopped = threading.Event()
        # Also held while a stream is read: so what is known of it never becomes older.
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._follow, name="import-needs", daemon=True)]
        for number in range(WORKERS):
            self._threads.append(threading.Thread(target=self._work, name=f"import-{number}", daemon=True))

    def start(self) -> None:
        """Begin, with what is in the views."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no more imports, and do not wait for those under way."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End, and let imports under way end if they are quick about it."""
        self.stop()
        deadline = self._clock() + PATIENCE
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - self._clock()))

    # --- learning what is needed

    def look(self) -> None:
        """Take in what was committed since the last look; at first, every stream. Raises Unavailable."""
        with self._changed:
            self._position = self._queries.reading(self._begin if self._position < 0 else self._read_on)
            self._changed.notify_all()

    def _begin(self, rows: Rows) -> int:
        for stream in read_model.each_stream(rows):
            self._schedule.begin(stream.id, import_needs(stream), self._clock())
            if self._stopped.is_set():
                break
        return rows.head()

    def _read_on(self, rows: Rows) -> int:
        head = rows.head()
        for originator in rows.touched(self._position, head, _TOPICS):
            stream = read_model.load_stream(rows, *_names(originator))
            self._schedule.update(originator, import_needs(stream) if stream else {}, self._clock())
        return head

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                self.look()
                self._hub.wait_until(self._position + 1, 60.0)
            except Unavailable as error:
                _logger.warning("the import controller could not read the log: %s", error)
            except Exception:
                _logger.exception("the import controller could not find out what to import")
            self._stopped.wait(PAUSE)

    # --- importing

    def run_due(self) -> int:
        """Import what is due now and may be asked for now, here and one after another; answers how many attempts."""
        attempts = 0
        while True:
            with self._changed:
                attempt = self._schedule.take(self._clock())
            if attempt is None:
                return attempts
            self._make(attempt)
            attempts += 1

    def _work(self) -> None:
        while True:
            with self._changed:
                attempt = self._wait_for_work()
            if attempt is None:
                return
            self._make(attempt)

    def _wait_for_work(self) -> Attempt | None:
        while not self._stopped.is_set():
            now = self._clock()
            attempt = self._schedule.take(now)
            if attempt is not None:
                return attempt
            self._changed.wait(min(self._schedule.wait(now), threading.TIMEOUT_MAX))
        return None

    def _make(self, attempt: Attempt) -> None:
        """Make an attempt, whatever comes of it, and note that."""
        met, outcomes = attempt, dict.fromkeys(attempt.needs, _Outcome(FAILED, Ended.FAILED_FOR_NOW))
        try:
            stream, needs = self._read(attempt.stream)
            still = {name: needs[name] for name in attempt.needs if name in needs}
            met = Attempt(attempt.stream, attempt.registry, still)
            outcomes = {} if stream is None or not still else self._import(stream, met)
        except Unavailable as error:
            if not self._stopped.is_set():
                _logger.warning("an import could not be stored: %s", error)
        except Exception:
            _logger.exception("an import failed")
        if not self._stopped.is_set():
            self._settle(met, outcomes)

    def _settle(self, attempt: Attempt, outcomes: Mapping[str, _Outcome]) -> None:
        self._tell(attempt, outcomes)
        ended = {name: one.ended for name, one in outcomes.items() if one.result != SUPERSEDED}
        with self._changed:
            try:
                _, needs = self._read(attempt.stream)
            except Unavailable:
                needs = dict(attempt.needs)
            self._schedule.settle(attempt, ended, needs, self._clock())
            self._changed.notify_all()

    def _read(self, originator: str) -> tuple[ImageStream | None, dict[str, Need]]:
        stream = self._queries.reading(lambda rows: read_model.load_stream(rows, *_names(originator)))
        return stream, import_needs(stream) if stream else {}

    def _import(self, stream: ImageStream, attempt: Attempt) -> dict[str, _Outcome]:
        caller = Caller(by=Origin(at=self._imports.clock(), actor=ACTOR, door=DOOR))
        request = _request(stream, attempt.needs)
        try:
            result = self._imports.refresh(caller, stream, request, self._is_wanted)
        except (Conflict, NotFound):
            return dict.fromkeys(attempt.needs, _Outcome(SUPERSEDED, Ended.DONE))
        tags = [name for name in attempt.needs if name != WHOLE_REPOSITORY]
        outcomes = {tag: _outcome(stream, result, tag, found) for tag, found in zip(tags, result.images, strict=True)}
        if result.repository is not None:
            with self._changed:
                self._schedule.charge(attempt.registry, len(result.repository.images), self._clock())
            outcomes[WHOLE_REPOSITORY] = _repository_outcome(result, result.repository.failure)
        return outcomes

    def _is_wanted(self, result: ImportResult) -> bool:
        """Whether a result should be stored: not one that came too late, or a repository that will be tried again."""
        repository = result.repository
        unlisted = repository is not None and not repository.images and _passes(repository.failure)
        return not self._stopped.is_set() and not unlisted

    def _tell(self, attempt: Attempt, outcomes: Mapping[str, _Outcome]) -> None:
        for name, outcome in outcomes.items():
            self.outcomes.add(outcome.result)
            failure = outcome.failure
            details = {"reason": failure.reason, "detail": failure.message} if failure else {}
            _logger.info(
                "import",
                extra={
                    "stream": attempt.stream,
                    "tag": name or "*",
                    "source": attempt.needs[name].source,
                    "result": outcome.result,
                    **details,
                },
            )


def _names(originator: str) -> tuple[str, str]:
    namespace, _, name = originator.partition("/")
    return namespace, name


def _request(stream: ImageStream, needs: Mapping[str, Need]) -> ImportRequest:
    images: list[ImageImport] = []
    repository = None
    for name, need in needs.items():
        if need.spec is None:
            policy = Policy(insecure=stream.annotations.get(INSECURE) == "true")
            repository = RepositoryImport(need.source, policy)
        else:
            images.append(ImageImport(need.source, name, _policy(need)))
    return ImportRequest(images, repository)


def _policy(need: Need) -> Policy:
    assert need.spec is not None
    return Policy(
        insecure=need.spec.insecure,
        scheduled=need.spec.scheduled,
        import_mode=need.spec.import_mode,
        reference_policy=need.spec.reference_policy,
    )


def _outcome(before: ImageStream, result: ImportResult, tag: str, found: ImageResult) -> _Outcome:
    if found.image is None:
        return _failed(found.failure)
    moved = result.changed and result.stream is not None and result.stream.stream.newest(tag) != before.newest(tag)
    return _Outcome(IMPORTED if moved else UNCHANGED, Ended.DONE)


def _repository_outcome(result: ImportResult, failure: Failure | None) -> _Outcome:
    if failure is not None:
        return _failed(failure)
    return _Outcome(IMPORTED if result.changed else UNCHANGED, Ended.DONE)


def _failed(failure: Failure | None) -> _Outcome:
    return _Outcome(FAILED, Ended.FAILED_FOR_NOW if _passes(failure) else Ended.FAILED, failure)


def _passes(failure: Failure | None) -> bool:
    return failure is not None and failure.reason == PASSING

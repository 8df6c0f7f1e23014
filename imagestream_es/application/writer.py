"""The one writer: decides commands in turn and commits them together.

Callers hand in a decision and wait, or leave word whom to tell. The writer drains what waits, opens one transaction,
runs each decision on the state that the ones before it left, and commits events and views in one durable write. Then it
answers. So commands never race inside a process, a busy moment costs one flush for many commands, and a lone command
does not wait for company.

One decision that is refused never touches another: what it had begun is taken back. If the commit fails,
every caller hears it, and memory is read anew from the store.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from eventsourcing.persistence import InterfaceError, OperationalError, PersistenceError, StoredEvent

from imagestream_es.application.freshness import Freshness, Subject, changed_by
from imagestream_es.application.tally import Tally
from imagestream_es.domain.errors import AlreadyDone, DomainError
from imagestream_es.domain.events import LogStarted, Origin
from imagestream_es.domain.idempotency import Claim
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import ImageStream
from imagestream_es.domain.tags import TagEvent
from imagestream_es.persistence import idempotency, read_model
from imagestream_es.persistence.event_mapper import EventMapper, Recorded
from imagestream_es.persistence.store import OutcomeUnknown, Rows, Store
from imagestream_es.projections.workspace import Streams, Workspace

T = TypeVar("T")
V = TypeVar("V")
R = TypeVar("R")

LOG_ID = "/log"
"""Id of the genesis event's aggregate; no stream and no image can have it."""

MAX_BATCH = 256

_logger = logging.getLogger(__name__)


class Unavailable(Exception):
    """The store could not take the command; `stored` says whether it may have been stored all the same."""

    def __init__(self, message: str, *, may_be_stored: bool) -> None:
        super().__init__(message)
        self.may_be_stored = may_be_stored


class Work(Workspace):
    """What a decision works on: a workspace that also answers what the domain may ask, and seals events.

    A decision that writes rows of its own sets `keeps`, as the last thing it does: nothing takes them back but a
    failure of the store.
    """

    def __init__(
        self,
        rows: Rows,
        streams: Streams,
        mapper: EventMapper,
        head: int,
        registries: Sequence[str],
        time: int | None = None,
    ) -> None:
        super().__init__(rows, streams, time=time)
        self.registry, self.registries = registries[0], registries
        self.head = head
        self.keeps = False
        self.changed: set[Subject] = set()
        self._mapper = mapper
        self._touched: dict[int, ImageStream | Image] = {}
        self._unwritten: list[tuple[int, StoredEvent]] = []
        self.may_pull: Callable[[str, str], bool]

    def stream_of(self, namespace: str, name: str) -> ImageStream:
        """The stream of that name, existing or not."""
        stream = super().stream_of(namespace, name)
        self._touched[id(stream)] = stream
        return stream

    def image_of(self, name: str) -> Image:
        """The image of that name, existing or not."""
        image = super().image_of(name)
        self._touched[id(image)] = image
        return image

    def stream(self, namespace: str, name: str) -> ImageStream | None:
        """The stream of that name, None if there is none."""
        stream = self.stream_of(namespace, name)
        return stream if stream.exists else None

    def has_stream(self, namespace: str, name: str) -> bool:
        """Whether there is a stream of that name."""
        return self.stream_of(namespace, name).exists

    def newest(self, namespace: str, name: str, tag: str) -> TagEvent | None:
        """The newest entry of a tag of a stream, None without one."""
        return self.stream_of(namespace, name).newest(tag)

    def images_in(self, namespace: str, name: str, wanted: str) -> Sequence[TagEvent]:
        """Entries of a stream's histories whose image `wanted` names or abbreviates; one for each image."""
        stream = self.stream(namespace, name)
        if stream is None:
            return ()
        self.flush()
        return list(read_model.find_images(self.rows, stream, wanted).values())

    def history(self, stream: ImageStream, tag: str) -> tuple[TagEvent, ...]:
        """What is shown of a tag's history, newest first."""
        self.flush()
        return read_model.shown_entries(self.rows, stream.number, tag, stream.repository)

    def seal(self) -> bool:
        """Give the pending events their positions and stage them; answers whether there were any."""
        head = self.head
        touched, self._touched = self._touched.values(), {}
        # Images come before the streams that name them.
        for image in touched:
            if isinstance(image, Image) and image.pending:
                first = image.version - len(image.pending) + 1
                for version, event in enumerate(image.pending, first):
                    image.position = self._append(Recorded(image.id, version, event))
                self.staging.image(image)
                image.pending = []
        for stream in touched:
            if isinstance(stream, ImageStream) and stream.pending:
                first = stream.version - len(stream.pending) + 1
                for version, (change, tags) in enumerate(stream.pending, first):
                    stream.place(change, self._append(Recorded(stream.id, version, change)))
                    self.staging.stream(stream, tags, self.time)
                stream.pending = []
        return self.head > head

    def _append(self, recorded: Recorded) -> int:
        self.head += 1
        self.changed.update(changed_by(recorded.originator_id, recorded.originator_version))
        self.tick(self.head, recorded.event.by)
        self._unwritten.append((self.head, self._mapper.to_stored_event(recorded)))
        return self.head

    def abandon(self, reason: Exception) -> None:
        """Take back what the decision under way has begun."""
        for aggregate in self._touched.values():
            # A refusal comes before anything is changed in part, any other error may come at any moment.
            if aggregate.pending or not isinstance(reason, DomainError):
                self.forget(aggregate)
        self._touched.clear()

    def flush(self) -> None:
        """Write events and rows staged so far."""
        if self._unwritten:
            self.rows.append(self._unwritten)
            self._unwritten = []
            read_model.set_folded_until(self.rows, self.head, self.time)
        super().flush()


@dataclass(frozen=True)
class Decision(Generic[T, V, R]):
    """A command, cut where threads meet.

    `decide` runs in the writer and makes events; `keep` runs there right after, when they have their
    positions, and takes what the answer needs out of the writer's reach; `look` reads the answer from the
    views once they show it, None if it is what was kept. `may_pull` tells from which other streams the caller may
    take images.

    With a `claim` it is decided only if nothing was done under its key before; else AlreadyDone is raised. `memo` is
    kept with that where the log does not tell all of the answer. `images` are the names of images that it will ask
    for: one query has those of all who wait at hand.
    """

    decide: Callable[[Work], T]
    keep: Callable[[T], V]
    look: Callable[[Rows, V], R] | None
    may_pull: Callable[[str, str], bool]
    claim: Claim | None = None
    memo: bytes = b""
    images: tuple[str, ...] = ()

    def answer(self, rows: Rows, kept: V) -> R:
        """The answer, as the views tell it now."""
        return cast("R", kept) if self.look is None else self.look(rows, kept)


class _Job:
    """A decision that waits for its turn, and its caller for what becomes of it."""

    def __init__(self, decision: Decision[Any, Any, Any], *, dry: bool) -> None:
        self.decision = decision
        self.dry = dry
        self.settled = False
        self._result: Any = None
        self._refusal: BaseException | None = None
        self._heard: list[Callable[[], None]] = []
        # One thread waits for one other, once: a lock that is held until then does that at a tenth of a Future's cost.
        self._wait = threading.Lock()
        self._wait.acquire()

    def settle(self, result: Any, refusal: BaseException | None) -> None:
        """Have the caller answered."""
        self._result, self._refusal, self.settled = result, refusal, True
        self._wait.release()
        self._tell()

    def then(self, heard: Callable[[], None]) -> None:
        """Have somebody told when it is settled, which it may be already."""
        self._heard.append(heard)
        if self.settled:
            self._tell()

    def _tell(self) -> None:
        """Tell who wants to be told: of two threads, the one that takes that up."""
        with suppress(IndexError):
            heard = self._heard.pop()
            try:
                heard()
            except BaseException:  # what has come about stands, and the writer goes on
                _logger.exception("what became of a command could not be told")

    def outcome(self) -> Any:
        """Wait for it. Raises what the decision raised, and Unavailable."""
        self._wait.acquire()
        if self._refusal is None:
            return self._result
        try:
            raise self._refusal
        finally:
            self._refusal = None  # which holds this very frame


_STORE_FAILURES = (OperationalError, InterfaceError, OutcomeUnknown)
"""What fails for every command alike."""


class _Rollback(Exception):
    pass


class Begun(Generic[R]):
    """A command that was handed in."""

    def __init__(self, job: _Job, store: Store, outcomes: Tally) -> None:
        self._job, self._store, self._outcomes = job, store, outcomes

    def then(self, heard: Callable[[], None]) -> None:
        """Have somebody told as soon as there is an outcome, by the writer's thread or this one. They must be quick."""
        self._job.then(heard)

    def outcome(self) -> R:
        """Wait for the answer, which there is once what was decided is durable; to be asked once.

        Raises what the decision raises, and Unavailable.
        """
        try:
            answer = self._answer()
        except AlreadyDone:
            raise  # and recalled then
        except Exception as error:
            self._outcomes.add(_outcome(error))
            raise
        self._outcomes.add("rehearsed" if self._job.dry else "accepted")
        return answer

    def _answer(self) -> R:
        kept, look = self._job.outcome(), self._job.decision.look
        if self._job.dry or look is None:
            return cast("R", kept)
        try:
            with self._store.reading() as rows:
                return cast("R", look(rows, kept))
        except PersistenceError as error:
            message = "the change was stored, but the store can't show it now"
            raise Unavailable(message, may_be_stored=True) from error


class Writer:
    """The thread that decides and commits. `committed` hears the new head after each commit.

    `registry` is the host of the internal registry, `aliases` are other hosts under which it is known. What a commit
    changes is taken out of `freshness`.

    `outcomes` counts what became of commands, `batches` how many times so many were committed together.
    """

    def __init__(
        self,
        store: Store,
        registry: str,
        committed: Callable[[int], None],
        aliases: Sequence[str] = (),
        freshness: Freshness | None = None,
    ) -> None:
        self._store = store
        self._freshness = freshness or Freshness()
        self._registries = registry, *aliases
        self._committed = committed
        self._mapper = EventMapper()
        self._streams: Streams = Streams()
        self._head = -1
        self._time: int | None = None
        self._generation = -1
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._door = threading.Lock()
        self._closed = False
        self._failed = False
        self._refusal: str | None = None
        self._under_way: Sequence[_Job] = ()
        self.outcomes = Tally()
        self.batches: Counter[int] = Counter()

    def refuse(self, reason: str) -> None:
        """Take no commands from now on, and say why; before `start`, which then does not begin the log either."""
        self._refusal = reason

    def start(self, by: Origin, log_id: str) -> None:
        """Write the first event of an empty log, then take commands. Raises PersistenceError."""
        if self._refusal is None:
            self._begin_log(by, log_id)
        self._thread.start()

    def _begin_log(self, by: Origin, log_id: str) -> None:
        with self._store.writing() as rows:
            if rows.head() == 0:
                event = LogStarted(by=by, log=log_id)
                rows.append([(1, self._mapper.to_stored_event(Recorded(LOG_ID, 1, event)))])
                read_model.set_folded_until(rows, 1, by.at)

    def execute(self, decision: Decision[T, V, R], *, dry: bool) -> R:
        """Run a decision and answer once what it decided is durable; a `dry` one is taken back.

        Raises what the decision raises, and Unavailable.
        """
        return self.begin(decision, dry=dry).outcome()

    def begin(self, decision: Decision[T, V, R], *, dry: bool) -> Begun[R]:
        """Hand a decision in, and wait for nothing."""
        job = _Job(decision, dry=dry)
        with self._door:
            reason = self._reason_to_refuse()
            if reason:
                job.settle(None, Unavailable(reason, may_be_stored=False))
            else:
                self._jobs.put(job)
        return Begun(job, self._store, self.outcomes)

    def _reason_to_refuse(self) -> str:
        if self._refusal is not None:
            return f"nothing can be written: {self._refusal}"
        if self._failed:
            return "the writer has failed; the service must be restarted"
        return "the service is shutting down" if self._closed else ""

    def recall(self, look: Callable[[Rows], R]) -> R:
        """Read what a command answered that was done before. Raises Unavailable, and what `look` raises."""
        try:
            with self._store.reading() as rows:
                answer = look(rows)
        except PersistenceError as error:
            message = "the change was stored before, but the store can't show it now"
            raise Unavailable(message, may_be_stored=True) from error
        self.outcomes.add("recalled")
        return answer

    @property
    def waiting(self) -> int:
        """How many commands wait for their turn."""
        return self._jobs.qsize()

    def check(self) -> None:
        """Raises Unavailable if commands can't be taken any more."""
        if not self._thread.is_alive():
            raise Unavailable("the writer does not run", may_be_stored=False)

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._door:  # behind it comes nothing any more
            self._closed = True
            self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._take_turns()
        except BaseException:
            _logger.critical("the writer has failed: nothing can be written until a restart", exc_info=True)
            self._give_up()

    def _give_up(self) -> None:
        """Let nobody wait for a writer that is gone."""
        with self._door:
            self._failed = True
        abandoned = [*self._under_way]
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                abandoned.append(job)
        for job in abandoned:
            if not job.settled:
                message = "the writer failed; whether the change was stored is unknown"
                job.settle(None, Unavailable(message, may_be_stored=job in self._under_way))

    def _take_turns(self) -> None:
        while True:
            job = self._jobs.get()
            batch: list[_Job] = []
            while job is not None:
                batch.append(job)
                if len(batch) == MAX_BATCH or self._jobs.empty():
                    break
                job = self._jobs.get()
            self._under_way = batch
            for rehearsal in (one for one in batch if one.dry):
                self._rehearse(rehearsal)
            commands = [one for one in batch if not one.dry]
            if commands:
                self.batches[len(commands)] += 1
                self._commit(commands)
            if job is None:
                return

    def _begin(self, rows: Rows) -> Work:
        head, generation = read_model.standing(rows)
        if (head, generation) != (self._head, self._generation):
            # Another process wrote in between, or replaced the views: what is remembered may be old.
            self._streams.clear()
            self._generation, self._time = generation, None
        return Work(rows, self._streams, self._mapper, head, self._registries, self._time)

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            with ExitStack() as around, self._store.writing() as rows:
                work = self._begin(rows)
                before = work.head
                done = _done(rows, jobs)
                work.fetch(list(dict.fromkeys(name for job in jobs for name in job.decision.images)))
                answers = [(job, *_decide_once(work, job, done)) for job in jobs]
                work.flush()
                time = work.time
                if work.head == before and not work.keeps:
                    raise _Rollback
                around.enter_context(self._freshness.changing(work.changed, work.head))
            self._head, self._time = work.head, time
        except _Rollback:
            self._head, self._time = before, time
        except Exception as error:
            self._streams.clear()
            self._head = -1
            if len(jobs) == 1 or isinstance(error, _STORE_FAILURES):
                self._fail(jobs, error)
            else:
                # Something that one of them brought can't be stored. Nothing was: so each goes alone.
                for job in jobs:
                    self._commit([job])
            return
        if self._head > before:
            self._committed(self._head)
        for job, result, refusal in answers:
            job.settle(result, refusal)

    def _rehearse(self, job: _Job) -> None:
        try:
            with self._store.writing() as rows:
                # A cache of its own: nothing of this may be remembered.
                work = Work(rows, Streams(), self._mapper, rows.head(), self._registries)
                result, refusal = _decide(work, job)
                work.flush()
                if refusal is None:
                    result = job.decision.answer(rows, result)
                raise _Rollback
        except _Rollback:
            job.settle(result, refusal)
        except Exception as error:
            self._fail([job], error)

    def _fail(self, jobs: Sequence[_Job], error: Exception) -> None:
        unknown = isinstance(error, OutcomeUnknown)
        if isinstance(error, PersistenceError):
            _logger.error("the store did not take a batch of %d commands: %s", len(jobs), error)
        else:
            _logger.exception("a batch of %d commands failed", len(jobs))
        if not isinstance(error, _STORE_FAILURES):
            # It is the command that fails, and would again: not the moment.
            for job in jobs:
                job.settle(None, error)
            return
        message = (
            "the store failed while it committed; whether the change was stored is unknown"
            if unknown
            else "the store could not take the change; nothing was stored"
        )
        for job in jobs:
            job.settle(None, Unavailable(message, may_be_stored=unknown))


def _outcome(error: Exception) -> str:
    """What became of a command that raised this, in a word."""
    if isinstance(error, Unavailable):
        return "unknown" if error.may_be_stored else "unavailable"
    return "refused" if isinstance(error, DomainError) else "failed"


def _done(rows: Rows, jobs: Sequence[_Job]) -> set[tuple[str, str]]:
    """Under which of the keys that the jobs claim something was done."""
    claimed = [job.decision.claim.id for job in jobs if job.decision.claim is not None]
    return set(idempotency.find(rows, claimed)) if claimed else set()


def _decide_once(work: Work, job: _Job, done: set[tuple[str, str]]) -> tuple[Any, BaseException | None]:
    """Decide, unless it is `done` under the same key: then and there another process, or this batch, did it."""
    claim, memo = job.decision.claim, job.decision.memo
    if claim is None:
        return _decide(work, job)
    if claim.id in done:
        return None, AlreadyDone()
    before = work.head
    result, refusal = _decide(work, job)
    if refusal is None:
        done.add(claim.id)
        if memo or work.head == before:  # of this the log does not tell, or not everything
            idempotency.remember(work.rows, claim, work.head, memo)
            work.keeps = True
    return result, refusal


def _decide(work: Work, job: _Job) -> tuple[Any, BaseException | None]:
    work.may_pull = job.decision.may_pull
    try:
        result = job.decision.decide(work)
    except PersistenceError:
        raise
    except Exception as refusal:
        work.abandon(refusal)
        return None, refusal
    work.seal()
    return job.decision.keep(result), None

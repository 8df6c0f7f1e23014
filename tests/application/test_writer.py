"""The one writer: commands are decided in turn, committed together, and never touch one another."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import checker
import msgspec
import pytest
from eventsourcing.persistence import DatabaseError, OperationalError
from msgspec import Raw

from imagestream_es.application import writer as writer_module
from imagestream_es.application.commands import Caller, Commands, Expected
from imagestream_es.application.queries import Queries
from imagestream_es.application.writer import Begun, Decision, Unavailable, Work, Writer
from imagestream_es.domain.errors import AlreadyDone, AlreadyExists, Conflict, NotFound
from imagestream_es.domain.events import ImageMapped, Origin, Put, StreamUpdated
from imagestream_es.domain.image_stream import DesiredStream, ImageStream
from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import OutcomeUnknown, Rows, Store

BY = Origin(at=1_700_000_000_000, actor="system:test", door="test")
CALLER = Caller(by=BY)


class Unreliable:
    """A store that fails when it is told to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.recorder = store.recorder
        self.create_tables = store.create_tables
        self.close = store.close
        self.at_begin: Exception | None = None
        self.before_commit: Exception | None = None
        self.after_commit: Exception | None = None
        self.at_read: Exception | None = None
        self.begun = 0

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        self._fail("at_read")
        with self._store.reading() as rows:
            yield rows

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        self.begun += 1
        self._fail("at_begin")
        with self._store.writing() as rows:
            yield rows
            self._fail("before_commit")
        self._fail("after_commit")

    def _fail(self, place: str) -> None:
        error = getattr(self, place)
        setattr(self, place, None)
        if error is not None:
            raise error


class Bench:
    """A writer at work on a store, with all that is needed to hand it commands at the same moment."""

    def __init__(self, store: Store) -> None:
        self.store = Unreliable(store)
        self.store.create_tables()
        self.heads: list[int] = []
        self.writer = Writer(self.store, "registry", self.heads.append)
        self.writer.start(BY, "log")
        uids = iter(range(10**9))
        self.commands = Commands(self.writer, "registry", lambda: f"uid-{next(uids)}")
        self.queries = Queries(self.store)
        self._pool = ThreadPoolExecutor(64)

    def close(self) -> None:
        self.writer.close()
        self._pool.shutdown()
        self.store.close()

    def execute(self, decide: Callable[[Work], Any], *, dry: bool = False, look: Any = None) -> Any:
        def keep(found: Any) -> Any:
            return found.copy() if isinstance(found, ImageStream) else found

        look = look or (lambda _, kept: kept)
        return self.writer.execute(Decision(decide, keep, look, lambda *_: True), dry=dry)

    def create(self, name: str, **desired: Any) -> Any:
        return self.commands.create_image_stream(CALLER, "shop", name, DesiredStream(**desired))

    def push(self, name: str, number: int, *, dry: bool = False) -> None:
        image = f"sha256:{number:064x}"
        reference = f"registry/shop/{name}@{image}"
        document = {"dockerImageReference": Raw(b'"%s"' % reference.encode())}
        self.commands.map_image(CALLER, "shop", name, "t", image, document, reference, managed=False, dry=dry).outcome()

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        """Make the calls so that the writer finds them waiting together, in this order; answers or exceptions."""
        entered, released = threading.Event(), threading.Event()

        def hold(_: Work) -> None:
            entered.set()
            released.wait(10)

        gate = self._pool.submit(self.execute, hold)
        assert entered.wait(10)
        waiting: list[Future[Any]] = []
        for call in calls:
            waiting.append(self._pool.submit(call))
            while self.writer._jobs.qsize() < len(waiting):
                time.sleep(0.001)
        released.set()
        gate.result(10)
        return [one.exception(10) or one.result() for one in waiting]

    def log(self) -> list[tuple[str, int, str]]:
        """The log as (aggregate, version, topic), without its first event."""
        with self.store.reading() as rows:
            found = list(rows.log(0, rows.head()))
        assert [position for position, _ in found] == list(range(1, len(found) + 1))
        return [(str(one.originator_id), one.originator_version, one.topic) for _, one in found[1:]]

    def shown(self, name: str) -> list[int]:
        """The numbers of the images that the stream's tag shows, oldest first."""
        view = self.queries.image_stream("shop", name)
        assert view is not None
        return [int(entry.image.removeprefix("sha256:"), 16) for entry in view.items.get("t", ())][::-1]

    def check(self) -> None:
        """The views are what the log gives, and what the writer remembers is what the views say."""
        with self.store.reading() as rows:
            live = checker.views(rows)
        assert live == checker.folded_anew(self.store)
        for one, version in {one: version for one, version, _ in self.log()}.items():
            space, slash, name = one.partition("/")
            if slash:
                assert self.execute(partial(Work.stream_of, namespace=space, name=name)).version == version


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(SQLiteStore(str(tmp_path / "log.db")))
    yield bench
    bench.close()


def label(bench: Bench, name: str, value: Any, then: Callable[[], Any] = lambda: None) -> Callable[[], Any]:
    """A command that labels a stream, and then does something that may go wrong."""

    def decide(work: Work) -> None:
        stream = work.stream_of("shop", name)
        stream.update(BY, DesiredStream(labels={"l": value}), work)
        then()

    return lambda: bench.execute(decide)


def crash() -> None:
    raise ZeroDivisionError


# --- group commit


def test_a_lone_command_is_committed_at_once_and_alone(bench: Bench) -> None:
    bench.create("web")
    bench.push("web", 1)
    assert bench.heads == [2, 4]
    assert bench.log() == [
        ("shop/web", 1, "imagestream.created"),
        (f"sha256:{1:064x}", 1, "image.registered"),
        ("shop/web", 2, "imagestream.image-mapped"),
    ]


def test_commands_that_wait_are_committed_together_in_their_order(bench: Bench) -> None:
    bench.create("web")
    begun = bench.store.begun
    bench.together(*(lambda number=number: bench.push("web", number) for number in range(1, 7)))
    assert bench.shown("web") == [1, 2, 3, 4, 5, 6]
    assert bench.store.begun == begun + 2  # one for what held them up
    assert bench.heads == [2, 14]
    bench.check()


def test_a_batch_has_a_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_BATCH", 3)
    bench.create("web")
    bench.together(*(lambda number=number: bench.push("web", number) for number in range(1, 8)))
    assert bench.heads == [2, 8, 14, 16]
    assert bench.shown("web") == [1, 2, 3, 4, 5, 6, 7]


def test_what_changes_nothing_is_not_committed(bench: Bench) -> None:
    bench.create("web")
    bench.push("web", 1)
    bench.push("web", 1)
    with pytest.raises(AlreadyExists):
        bench.create("web")
    assert bench.heads == [2, 4]


def test_a_command_sees_what_the_ones_before_it_in_the_batch_decided(bench: Bench) -> None:
    answers = bench.together(
        lambda: bench.push("web", 1),
        lambda: bench.create("web"),
        lambda: bench.push("web", 2),
        lambda: bench.create("web"),
    )
    assert [type(answer) for answer in (answers[0], answers[3])] == [NotFound, AlreadyExists]
    assert answers[1].stream.position == 2
    assert answers[2] is None
    assert bench.shown("web") == [2]
    bench.check()


def test_each_answer_shows_the_state_right_after_its_own_command(bench: Bench) -> None:
    first = bench.create("web").stream.position

    def update(value: str, position: int) -> Any:
        desired = DesiredStream(labels={"l": value})
        return bench.commands.update_image_stream(CALLER, "shop", "web", desired, Expected(position=position))

    answers = bench.together(
        lambda: update("one", first),
        lambda: update("late", first),
        lambda: update("two", first + 1),
        lambda: bench.push("web", 1),
    )
    assert (answers[0].stream.labels, answers[0].stream.position) == ({"l": "one"}, first + 1)
    assert isinstance(answers[1], Conflict)
    assert (answers[2].stream.labels, answers[2].stream.position) == ({"l": "two"}, first + 2)
    assert answers[2].items == {}
    bench.check()


# --- commands that go wrong beside others


def test_a_refused_command_does_not_touch_its_neighbours(bench: Bench) -> None:
    bench.create("web")

    def refuse() -> None:
        raise Conflict("imagestreams", "web")

    answers = bench.together(
        lambda: bench.push("web", 1), label(bench, "web", "refused", refuse), lambda: bench.push("web", 2)
    )
    assert [type(answer) for answer in answers] == [type(None), Conflict, type(None)]
    assert bench.shown("web") == [1, 2]
    assert ("shop/web", 3, "imagestream.image-mapped") in bench.log()
    assert not any(topic == "imagestream.updated" for _, _, topic in bench.log())
    bench.check()


def test_a_command_that_crashes_after_it_made_events_does_not_touch_its_neighbours(bench: Bench) -> None:
    bench.create("web")
    bench.create("other")

    def decide(work: Work) -> None:
        for name in ("web", "other", "new"):
            stream = work.stream_of("shop", name)
            if stream.exists:
                stream.update(BY, DesiredStream(labels={"l": "crashed"}), work)
            else:
                stream.create(BY, "uid", DesiredStream(), work)
        work.image_of("sha256:crashed").register(BY, "uid", {})
        crash()

    answers = bench.together(lambda: bench.push("web", 1), lambda: bench.execute(decide), lambda: bench.push("web", 2))
    assert [type(answer) for answer in answers] == [type(None), ZeroDivisionError, type(None)]
    assert bench.shown("web") == [1, 2]
    assert {one for one, _, _ in bench.log()} == {
        "shop/web",
        "shop/other",
        f"sha256:{1:064x}",
        f"sha256:{2:064x}",
    }
    with pytest.raises(NotFound):
        bench.push("new", 3)
    assert bench.queries.image("sha256:crashed") is None
    bench.check()


def test_a_stream_that_was_half_changed_when_a_command_crashed_is_read_anew(bench: Bench) -> None:
    bench.create("web")

    def decide(work: Work) -> None:
        work.stream_of("shop", "web").generation = 99
        crash()

    with pytest.raises(ZeroDivisionError):
        bench.execute(decide)
    assert bench.execute(lambda work: work.stream_of("shop", "web").generation) == 1
    bench.push("web", 1)
    bench.check()


@pytest.mark.parametrize("first", [True, False], ids=["before-the-others", "behind-the-others"])
@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(lambda: StreamUpdated(by=BY, labels={"l": object()}), id="no-json"),  # type: ignore[dict-item]
        pytest.param(lambda: StreamUpdated(by=BY, labels={"l": "\ud800"}), id="no-unicode"),
        pytest.param(
            lambda: ImageMapped(by=BY, put=(Put(tag="t", image="i", generation=2**70, reference="r"),)), id="no-column"
        ),
    ],
)
def test_an_event_that_can_not_be_stored_does_not_touch_its_neighbours(
    bench: Bench, poison: Callable[[], Any], *, first: bool
) -> None:
    bench.create("web")

    def decide(work: Work) -> None:
        work.stream_of("shop", "web")._record(poison())

    calls: list[Callable[[], Any]] = [lambda: bench.push("web", 1), lambda: bench.push("web", 2)]
    calls.insert(0 if first else 2, lambda: bench.execute(decide))
    answers = bench.together(*calls)
    assert isinstance(answers.pop(0 if first else 2), Exception)
    assert answers == [None, None]
    assert bench.shown("web") == [1, 2]
    bench.push("web", 3)
    bench.check()


# --- dry runs


def test_a_dry_run_answers_like_a_real_one_and_leaves_nothing(bench: Bench) -> None:
    desired = DesiredStream(labels={"a": "b"})
    dry = bench.commands.create_image_stream(CALLER, "shop", "web", desired, dry=True)
    assert bench.queries.image_stream("shop", "web") is None
    assert bench.heads == []
    real = bench.commands.create_image_stream(CALLER, "shop", "web", desired)
    assert (dry.stream.labels, dry.stream.position) == (real.stream.labels, real.stream.position)
    bench.push("web", 1, dry=True)
    assert bench.shown("web") == []
    assert bench.queries.image(f"sha256:{1:064x}") is None
    bench.push("web", 1)
    assert bench.shown("web") == [1]
    bench.check()


def test_a_dry_run_is_refused_like_a_real_one(bench: Bench) -> None:
    with pytest.raises(NotFound):
        bench.push("web", 1, dry=True)
    bench.create("web")
    with pytest.raises(AlreadyExists):
        bench.commands.create_image_stream(CALLER, "shop", "web", DesiredStream(), dry=True)
    with pytest.raises(ZeroDivisionError):
        bench.execute(lambda _: crash(), dry=True)
    bench.check()


def test_a_dry_run_beside_others_leaves_nothing_to_them(bench: Bench) -> None:
    bench.create("web")
    answers = bench.together(
        lambda: bench.push("web", 1),
        lambda: bench.push("web", 2, dry=True),
        lambda: bench.commands.delete_image_stream(CALLER, "shop", "web", Expected(), dry=True),
        lambda: bench.push("web", 3),
    )
    assert [isinstance(answer, Exception) for answer in answers] == [False] * 4
    assert bench.shown("web") == [1, 3]
    bench.check()


def test_a_dry_run_that_the_store_fails_is_unavailable_and_certainly_not_stored(bench: Bench) -> None:
    bench.create("web")
    bench.store.at_begin = OperationalError("no")
    with pytest.raises(Unavailable) as failure:
        bench.push("web", 1, dry=True)
    assert failure.value.may_be_stored is False
    bench.push("web", 1)
    bench.check()


# --- a store that fails


@pytest.mark.parametrize("place", ["at_begin", "before_commit"])
def test_when_a_commit_fails_everybody_hears_it_and_nothing_is_stored(bench: Bench, place: str) -> None:
    bench.create("web")
    bench.push("web", 1)
    stored = bench.log()

    def fail() -> None:
        # At this moment the writer is at work on something else, which does not come to a commit.
        setattr(bench.store, place, OperationalError("disk I/O error"))
        bench.push("web", 2)

    answers = bench.together(
        fail,
        lambda: bench.push("web", 3),
        lambda: bench.push("nowhere", 4),
    )
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert [answer.may_be_stored for answer in answers] == [False] * 3
    assert bench.log() == stored
    assert bench.heads == [2, 4]
    bench.push("web", 5)
    assert bench.shown("web") == [1, 5]
    bench.check()


def test_an_unknown_outcome_is_told_when_the_change_was_stored(bench: Bench) -> None:
    bench.create("web")
    bench.store.after_commit = OutcomeUnknown("connection lost")
    with pytest.raises(Unavailable) as failure:
        bench.push("web", 1)
    assert failure.value.may_be_stored is True
    assert bench.shown("web") == [1]
    bench.push("web", 2)
    assert bench.shown("web") == [1, 2]
    bench.check()


def test_an_unknown_outcome_is_told_when_the_change_was_not_stored(bench: Bench) -> None:
    bench.create("web")
    bench.store.before_commit = OutcomeUnknown("connection lost")
    with pytest.raises(Unavailable) as failure:
        bench.push("web", 1)
    assert failure.value.may_be_stored is True
    bench.push("web", 2)
    assert bench.shown("web") == [2]
    bench.check()


def test_a_stored_change_that_can_not_be_shown_is_not_told_as_refused(bench: Bench) -> None:
    bench.store.at_read = OperationalError("no connection")
    with pytest.raises(Unavailable) as failure:
        bench.create("web")
    assert failure.value.may_be_stored is True
    bench.push("web", 1)
    assert bench.shown("web") == [1]


def test_a_stored_change_whose_answer_shows_nothing_needs_no_read(bench: Bench) -> None:
    bench.create("web")
    bench.store.at_read = OperationalError("no connection")
    bench.push("web", 1)
    with pytest.raises(Unavailable):
        bench.shown("web")
    assert bench.shown("web") == [1]


class _FailingCommit(sqlite3.Connection):
    """An SQLite connection whose COMMIT fails once with an error of the disk, and whose ROLLBACK may fail too."""

    failures: list[str] = []  # noqa: RUF012

    def cursor(self, *args: Any) -> Any:
        return super().cursor(_FailingCursor)


class _FailingCursor(sqlite3.Cursor):
    def execute(self, sql: str, *values: Any) -> Any:
        if sql in _FailingCommit.failures:
            _FailingCommit.failures.remove(sql)
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(sql, *values)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=_FailingCommit))
    bench = Bench(SQLiteStore(str(tmp_path / "failing.db")))
    yield bench
    _FailingCommit.failures.clear()
    bench.close()


@pytest.mark.parametrize("failures", [["COMMIT"], ["COMMIT", "ROLLBACK"]], ids=["commit", "commit-and-rollback"])
def test_sqlite_goes_on_after_a_commit_that_failed_and_tells_that_its_outcome_is_unknown(
    failing: Bench, failures: list[str]
) -> None:
    failing.create("web")
    _FailingCommit.failures.extend(failures)
    with pytest.raises(Unavailable) as failure:
        failing.push("web", 1)
    assert failure.value.may_be_stored is True
    assert _FailingCommit.failures == []
    assert failing.shown("web") == []
    failing.push("web", 2)
    assert failing.shown("web") == [2]
    failing.check()


def test_a_full_disk_refuses_for_certain_and_room_on_it_is_enough_to_go_on(small_disk: Path) -> None:
    bench = Bench(SQLiteStore(str(small_disk / "log.db")))
    try:
        bench.create("web")
        stored = 0
        filling = "x" * 20_000
        desired = {"annotations": {"filling": filling}}
        failure = None
        while failure is None:
            try:
                bench.create(f"filling-{stored}", **desired)
                stored += 1
            except Unavailable as error:
                failure = error
        assert failure.may_be_stored is False
        assert 10 < stored < 200
        with pytest.raises(Unavailable):
            bench.create("still-full", **desired)
        assert len(bench.queries.image_streams("shop").found) == stored + 1  # reading goes on

        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        bench.create("roomy", **desired)
        bench.push("web", 1)
        names = {view.stream.name for view in bench.queries.image_streams("shop").found}
        assert names == {"web", "roomy", *(f"filling-{number}" for number in range(stored))}
        bench.check()
        with bench.store.reading() as rows:
            assert rows.all("PRAGMA integrity_check") == [("ok",)]
    finally:
        bench.close()


# --- the end


def test_closing_finishes_what_waits(bench: Bench) -> None:
    bench.create("web")
    closing = threading.Thread(target=bench.writer.close)

    def push_and_close() -> None:
        closing.start()
        bench.push("web", 2)

    answers = bench.together(lambda: bench.push("web", 1), push_and_close)
    closing.join(10)
    assert answers[0] is None
    # The second is early enough, or is told that it is too late; it is never left waiting.
    assert answers[1] is None or isinstance(answers[1], Unavailable)
    assert bench.shown("web") == ([1, 2] if answers[1] is None else [1])


def test_a_closed_writer_refuses_for_certain(bench: Bench) -> None:
    bench.create("web")
    bench.writer.close()
    with pytest.raises(Unavailable) as failure:
        bench.push("web", 1)
    assert failure.value.may_be_stored is False
    bench.writer.close()


def test_a_command_that_comes_while_the_writer_closes_is_answered(bench: Bench) -> None:
    """It must not be left in the queue when the writer looked there for the last time."""
    bench.create("web")
    arrived, late = threading.Event(), threading.Event()

    class Slow(SimpleQueue[Any]):
        """Takes its time to take a command, but not to take the end."""

        def put(self, item: Any, *_: Any) -> None:
            if item is not None:
                arrived.set()
                late.wait(0.3)
            super().put(item)

    bench.writer._jobs.put(None)  # wakes the thread, which ends …
    bench.writer._thread.join()
    bench.writer._jobs = Slow()
    bench.writer._thread = threading.Thread(target=bench.writer._run, daemon=True)  # … and begins anew
    bench.writer._thread.start()
    answers: list[Any] = []

    def push() -> None:
        try:
            bench.push("web", 1)
            answers.append("done")
        except Unavailable as error:
            answers.append(error)

    pushing = threading.Thread(target=push, daemon=True)
    pushing.start()
    assert arrived.wait(10)
    bench.writer.close()
    late.set()
    pushing.join(10)
    assert not pushing.is_alive()
    assert bench.shown("web") == ([1] if answers == ["done"] else [])


# --- two writers on one database


@pytest.fixture
def benches(postgres_url: str) -> Iterator[tuple[Bench, Bench]]:
    from imagestream_es.persistence.postgres import PostgresStore  # noqa: PLC0415 (its driver is heavy)

    one, other = Bench(PostgresStore(postgres_url)), Bench(PostgresStore(postgres_url))
    yield one, other
    one.close()
    other.close()


def test_only_the_first_of_two_writers_begins_the_log(benches: tuple[Bench, Bench]) -> None:
    one, _ = benches
    with one.store.reading() as rows:
        ((position, first),) = rows.log(0, rows.head())
    assert (position, first.topic) == (1, "log.started")


def test_two_writers_decide_on_what_the_other_one_wrote(benches: tuple[Bench, Bench]) -> None:
    one, other = benches
    one.create("web")
    with pytest.raises(AlreadyExists):
        other.create("web")
    for number in range(1, 11):
        (one, other)[number % 2].push("web", number)
    assert one.shown("web") == other.shown("web") == list(range(1, 11))
    versions = [version for name, version, _ in one.log() if name == "shop/web"]
    assert versions == list(range(1, 12))
    position = other.queries.image_stream("shop", "web").stream.position  # type: ignore[union-attr]
    one.commands.delete_image_stream(CALLER, "shop", "web", Expected(position=position))
    with pytest.raises(NotFound):
        other.push("web", 11)
    other.create("web")
    assert one.shown("web") == []
    one.check()


def test_two_writers_that_work_at_once_take_nothing_from_one_another(benches: tuple[Bench, Bench]) -> None:
    one, other = benches
    one.create("web")

    def push(bench: Bench, numbers: range) -> None:
        for number in numbers:
            bench.push("web", number)

    threads = [
        threading.Thread(target=push, args=(bench, range(start, start + 25)))
        for bench, start in ((one, 100), (other, 200), (one, 300), (other, 400))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = one.shown("web")
    for start in (100, 200, 300, 400):
        assert [number for number in shown if start <= number < start + 100] == list(range(start, start + 25))
    versions = [version for name, version, _ in one.log() if name == "shop/web"]
    assert versions == list(range(1, 102))
    one.check()
    other.check()


def test_a_change_of_one_writer_conflicts_with_what_a_client_of_the_other_had_seen(
    benches: tuple[Bench, Bench],
) -> None:
    one, other = benches
    seen = one.create("web").stream.position
    other.push("web", 1)
    with pytest.raises(Conflict):
        one.commands.update_image_stream(CALLER, "shop", "web", DesiredStream(), Expected(position=seen))


def test_a_poisonous_command_on_postgresql_does_not_touch_its_neighbours(benches: tuple[Bench, Bench]) -> None:
    bench, _ = benches
    bench.create("web")

    def decide(work: Work) -> None:
        put = Put(tag="nul\0", image="i", generation=1, reference="r")
        work.stream_of("shop", "web")._record(ImageMapped(by=BY, put=(put,)))

    answers = bench.together(lambda: bench.push("web", 1), lambda: bench.execute(decide), lambda: bench.push("web", 2))
    assert (answers[0], type(answers[1]), answers[2]) == (None, DatabaseError, None)
    assert bench.shown("web") == [1, 2]
    bench.check()


def test_the_database_going_away_is_unavailable_and_its_return_is_enough_to_go_on(
    benches: tuple[Bench, Bench],
) -> None:
    bench, other = benches
    bench.create("web")
    everybody_else = "pid <> pg_backend_pid() AND datname = current_database()"
    with other.store.writing() as rows:
        rows.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {everybody_else}")
    outcomes = []
    for number in range(1, 40):
        try:
            bench.push("web", number)
            outcomes.append(number)
        except Unavailable:
            time.sleep(0.05)
        if len(outcomes) == 3:
            break
    assert len(outcomes) == 3
    assert bench.shown("web")[-3:] == outcomes
    bench.check()


def test_the_first_event_tells_who_began_the_log_and_its_id(bench: Bench) -> None:
    with bench.store.reading() as rows:
        ((_, first),) = rows.log(0, rows.head())
    event = EventMapper().decode(first.topic, first.state)
    assert (first.originator_id, first.originator_version, event.by) == ("/log", 1, BY)
    assert b'"log":"log"' in first.state


# --- the writer itself fails


def test_a_writer_that_died_says_so_and_lets_nobody_wait(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: int) -> None:
        raise MemoryError

    bench.writer.check()
    bench.writer._committed = broken
    with pytest.raises(Unavailable) as unknown:
        bench.create("one")
    assert unknown.value.may_be_stored
    bench.writer._thread.join(60)
    with pytest.raises(Unavailable, match="does not run"):
        bench.writer.check()
    with pytest.raises(Unavailable, match="must be restarted") as refused:
        bench.create("two")
    assert not refused.value.may_be_stored
    assert "nothing can be written until a restart" in caplog.text
    assert bench.queries.image_stream("shop", "one") is not None


def test_commands_that_waited_for_a_writer_that_died_were_not_stored(bench: Bench) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def decide(work: Work) -> None:
        begun.set()
        go_on.wait(60)
        raise SystemExit

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(bench.execute, decide)
        assert begun.wait(60)
        second = pool.submit(bench.create, "two")
        while not bench.writer.waiting:
            time.sleep(0.001)
        go_on.set()
        for future, may_be_stored in ((first, True), (second, False)):
            error = future.exception(60)
            assert isinstance(error, Unavailable)
            assert error.may_be_stored is may_be_stored
    assert bench.queries.image_stream("shop", "two") is None


# --- outcomes that nobody waits for


def begun(bench: Bench, number: int) -> Begun[None]:
    image = f"sha256:{number:064x}"
    document = {"dockerImageReference": Raw(b'"registry/shop/web@%s"' % image.encode())}
    reference = f"registry/shop/web@{image}"
    return bench.commands.map_image(CALLER, "shop", "web", "t", image, document, reference, managed=False)


def test_who_does_not_wait_is_told_once_it_is_durable(bench: Bench) -> None:
    bench.create("web")
    told: list[list[int]] = []
    heard = threading.Event()

    def hear() -> None:
        told.append(bench.shown("web"))
        heard.set()

    begun(bench, 1).then(hear)

    assert heard.wait(10)
    assert told == [[1]]


def test_who_asks_late_is_told_at_once(bench: Bench) -> None:
    bench.create("web")
    mapping = begun(bench, 1)
    bench.push("web", 2)
    told: list[str] = []

    mapping.then(lambda: told.append(threading.current_thread().name))

    assert told == [threading.current_thread().name]


def test_many_are_each_told_once(bench: Bench) -> None:
    bench.create("web")
    told: list[int] = []
    for number in range(200):
        begun(bench, number).then(lambda number=number: told.append(number))
    bench.push("web", 200)
    assert sorted(told) == list(range(200))


@pytest.mark.parametrize("error", [ValueError, SystemExit])  # a panic of the server's is no Exception either
def test_what_fails_when_it_is_told_does_not_end_the_writer(
    bench: Bench, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error

    bench.create("web")
    begun(bench, 1).then(fail)
    bench.push("web", 2)
    assert bench.shown("web") == [1, 2]
    assert "could not be told" in caplog.text


def test_a_refusal_is_told_like_any_outcome(bench: Bench) -> None:
    refused = begun(bench, 1)
    heard = threading.Event()
    refused.then(heard.set)
    assert heard.wait(10)
    with pytest.raises(NotFound):
        refused.outcome()
    assert bench.writer.outcomes.counts()["refused"] == 1


def test_what_is_begun_after_the_end_is_refused(bench: Bench) -> None:
    bench.create("web")
    bench.writer.close()
    with pytest.raises(Unavailable, match="shutting down"):
        begun(bench, 1).outcome()


# --- idempotency keys


def keyed(key: str, actor: str = "u-1", fingerprint: str = "f") -> Caller:
    return Caller(by=msgspec.structs.replace(BY, actor=actor, key=key, fingerprint=fingerprint))


def push_as(bench: Bench, caller: Caller, number: int) -> Callable[[], None]:
    image = f"sha256:{number:064x}"
    document = {"dockerImageReference": Raw(b'"registry/shop/web@%s"' % image.encode())}
    return lambda: bench.commands.map_image(
        caller, "shop", "web", "t", image, document, f"registry/shop/web@{image}", managed=False
    ).outcome()


def test_of_commands_under_one_key_in_a_batch_the_first_is_done(bench: Bench) -> None:
    bench.create("web")
    answers = bench.together(
        push_as(bench, keyed("a"), 1),
        push_as(bench, keyed("a"), 2),
        push_as(bench, keyed("b"), 3),
        push_as(bench, keyed("a", actor="u-2"), 4),
        push_as(bench, keyed("a"), 1),
    )
    assert [type(one) for one in answers] == [type(None), AlreadyDone, type(None), type(None), AlreadyDone]
    assert bench.shown("web") == [1, 3, 4]
    bench.check()


def test_a_refused_command_leaves_its_key_to_the_next_in_the_batch(bench: Bench) -> None:
    bench.create("web")
    refused, done = bench.together(
        lambda: bench.commands.delete_image_stream(keyed("a"), "shop", "none", Expected()),
        push_as(bench, keyed("a"), 1),
    )
    assert isinstance(refused, NotFound)
    assert done is None
    assert bench.shown("web") == [1]


def test_a_command_that_changes_nothing_keeps_its_key(bench: Bench) -> None:
    bench.create("web")
    update = partial(bench.commands.update_image_stream, keyed("a"), "shop", "web", DesiredStream(), Expected())
    head = bench.writer._head
    same, again = bench.together(update, update)
    assert same.stream.position == head
    assert isinstance(again, AlreadyDone)
    with pytest.raises(AlreadyDone):
        push_as(bench, keyed("a"), 1)()
    assert bench.shown("web") == []


def test_a_dry_run_leaves_its_key_free(bench: Bench) -> None:
    bench.create("web")
    bench.commands.update_image_stream(
        keyed("a"), "shop", "web", DesiredStream(labels={"a": "b"}), Expected(), dry=True
    )
    push_as(bench, keyed("a"), 1)()
    assert bench.shown("web") == [1]


@pytest.mark.parametrize("place", ["at_begin", "before_commit"])
def test_a_commit_that_fails_leaves_the_keys_free(bench: Bench, place: str) -> None:
    bench.create("web")
    setattr(bench.store, place, OperationalError("disk full"))
    with pytest.raises(Unavailable):
        push_as(bench, keyed("a"), 1)()
    push_as(bench, keyed("a"), 1)()
    assert bench.shown("web") == [1]


def test_a_command_of_unknown_outcome_that_was_stored_is_not_done_again(bench: Bench) -> None:
    bench.create("web")
    bench.store.after_commit = OutcomeUnknown("gone")
    with pytest.raises(Unavailable) as told:
        push_as(bench, keyed("a"), 1)()
    assert told.value.may_be_stored
    with pytest.raises(AlreadyDone):
        push_as(bench, keyed("a"), 1)()
    assert bench.shown("web") == [1]


def test_a_poisonous_command_leaves_the_keys_of_its_neighbours_right(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.create("web")
    append = bench.writer._mapper.to_stored_event

    def poisoned(recorded: Any) -> Any:
        if getattr(recorded.event.by, "key", "") == "poison":
            raise ValueError("can't be stored")
        return append(recorded)

    monkeypatch.setattr(bench.writer._mapper, "to_stored_event", poisoned)
    answers = bench.together(
        push_as(bench, keyed("a"), 1), push_as(bench, keyed("poison"), 2), push_as(bench, keyed("a"), 1)
    )
    assert [type(one) for one in answers] == [type(None), ValueError, AlreadyDone]
    monkeypatch.undo()
    push_as(bench, keyed("poison"), 2)()
    assert bench.shown("web") == [1, 2]
    bench.check()


def test_a_batch_without_keys_looks_none_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[list[Any]] = []

    def spy(rows: Rows, ids: list[Any]) -> dict[Any, Any]:
        looked.append(ids)
        return {}

    monkeypatch.setattr("imagestream_es.persistence.idempotency.find", spy)
    bench.create("web")
    bench.together(*(partial(bench.push, "web", number) for number in range(1, 4)))
    assert looked == []
    bench.together(push_as(bench, keyed("a"), 4), partial(bench.push, "web", 5), push_as(bench, keyed("b"), 6))
    assert looked == [[("u-1", "a"), ("u-1", "b")]]


def test_two_writers_do_once_what_both_are_told_under_one_key(benches: tuple[Bench, Bench]) -> None:
    one, other = benches
    one.create("web")
    gate = threading.Barrier(4)

    def push(bench: Bench, number: int) -> Any:
        gate.wait(30)
        try:
            return push_as(bench, keyed(f"key-{number}"), number)()
        except AlreadyDone:
            return "again"

    for number in range(1, 16):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(push, (one, other, one, other), [number] * 4))
        assert sorted(answers, key=str) == [None, "again", "again", "again"]
    assert one.shown("web") == other.shown("web") == list(range(1, 16))
    one.check()


def documents(bench: Bench) -> list[bytes | None]:
    with bench.store.reading() as rows:
        return [document for (document,) in rows.all("SELECT document FROM images")]


def test_an_image_that_never_changed_is_told_by_its_event_alone(bench: Bench) -> None:
    name = f"sha256:{1:064x}"
    bench.create("web")
    bench.push("web", 1)
    assert documents(bench) == [None]
    registered = bench.queries.image(name)
    assert list(registered.document) == ["dockerImageReference"]
    bench.commands.update_image(CALLER, name, lambda image: {**image.document, "x": Raw(b"1")})
    assert documents(bench) != [None]
    assert list(bench.queries.image(name).document) == ["dockerImageReference", "x"]
    bench.commands.delete_image(CALLER, name, Expected())
    assert bench.queries.image(name) is None
    bench.push("web", 1)
    assert documents(bench) == [None]
    again = bench.queries.image(name)
    assert (again.document, again.version) == (registered.document, 4)
    assert again.uid != registered.uid
    bench.check()


def test_an_image_is_known_in_the_batch_that_registered_it_whatever_fails_in_between(bench: Bench) -> None:
    bench.create("web")
    bench.create("other")

    def fail(work: Work) -> None:
        assert work.image_of(f"sha256:{1:064x}").exists
        raise RuntimeError("in the middle")

    outcomes = bench.together(
        partial(bench.push, "web", 1), partial(bench.execute, fail), partial(bench.push, "other", 1)
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), RuntimeError, type(None)]
    assert bench.shown("web") == bench.shown("other") == [1]
    bench.check()

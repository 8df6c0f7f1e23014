"""What every store promises, in memory, in an SQLite file and in PostgreSQL alike."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import DatabaseError, IntegrityError, PersistenceError, StoredEvent
from msgspec import Raw

from imagestream_es.domain.actions import MOVED, REVERTED
from imagestream_es.domain.events import LogStarted, Origin
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import ImageStream, Tag
from imagestream_es.domain.past import Scope
from imagestream_es.domain.tags import ObjectReference, TagEvent, TagEventCondition, TagReference
from imagestream_es.persistence import read_model, tag_history
from imagestream_es.persistence.bulk import Changes
from imagestream_es.persistence.event_mapper import EventMapper, Recorded
from imagestream_es.persistence.merkle import Checkpoint, Tree
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Rows, Store, make_tree

BASE = "registry/shop/web"
Open = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opener(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens the test's database once more, as another process would; memory has only the one store."""
    with ExitStack() as stack:
        if kind == "memory":
            only = SQLiteStore(None)
            stack.callback(only.close)
            yield lambda: only
            return
        make = partial(_open, _place(kind, tmp_path, request))

        def open_again() -> Store:
            store = make()
            stack.callback(store.close)
            return store

        yield open_again


def _place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return str(tmp_path / "log.db") if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))


def _open(place: str) -> Store:
    if place.startswith("postgresql:"):
        from imagestream_es.persistence.postgres import PostgresStore  # noqa: PLC0415 (its driver is heavy)

        return PostgresStore(place)
    return SQLiteStore(place)


@pytest.fixture
def store(opener: Open) -> Store:
    store = opener()
    store.create_tables()
    return store


def event(originator: str, version: int, state: bytes = b"{}", topic: str = "thing.happened") -> StoredEvent:
    return StoredEvent(originator, version, topic, state)


def append(store: Store, *events: StoredEvent) -> None:
    with store.writing() as rows:
        head = rows.head()
        rows.append((head + place, one) for place, one in enumerate(events, 1))


def whole_log(store: Store) -> list[tuple[int, StoredEvent]]:
    with store.reading() as rows:
        return list(rows.log(0, rows.head()))


# --- the log


def test_an_empty_log_has_no_head_and_no_events(store: Store) -> None:
    with store.reading() as rows:
        assert rows.head() == 0
        assert list(rows.log(0, read_model.NOW)) == []
        assert list(rows.history("shop/web", 0, read_model.NOW)) == []


def test_events_come_back_in_the_order_of_their_positions(store: Store) -> None:
    first, second, third = event("b", 1, b'{"n":1}'), event("a", 1, b'{"n":2}'), event("b", 2, bytes(range(256)))
    append(store, first, second)
    append(store, third)
    assert whole_log(store) == [(1, first), (2, second), (3, third)]
    with store.reading() as rows:
        assert rows.head() == 3


def test_the_log_is_read_from_behind_one_position_up_to_another(store: Store) -> None:
    append(store, *(event("a", version) for version in range(1, 6)))
    with store.reading() as rows:
        assert [position for position, _ in rows.log(1, 4)] == [2, 3, 4]
        assert [position for position, _ in rows.log(4, 99)] == [5]
        assert [position for position, _ in rows.log(5, 5)] == []


def test_a_history_is_of_one_aggregate_behind_a_version_up_to_a_position(store: Store) -> None:
    append(store, event("a", 1), event("b", 1), event("a", 2), event("b", 2), event("a", 3))
    with store.reading() as rows:
        assert [(at, one.originator_version) for at, one in rows.history("a", 0, 5)] == [(1, 1), (3, 2), (5, 3)]
        assert [at for at, _ in rows.history("a", 0, 4)] == [1, 3]
        assert [at for at, _ in rows.history("a", 1, 5)] == [3, 5]
        assert [at for at, _ in rows.history("A", 0, 5)] == []


def test_a_log_longer_than_one_fetch_comes_back_whole(store: Store) -> None:
    append(store, *(event("a", version) for version in range(1, 4502)))
    assert [position for position, _ in whole_log(store)] == list(range(1, 4502))


def test_two_logs_can_be_read_side_by_side_in_one_transaction(store: Store) -> None:
    append(store, *(event("a", version) for version in range(1, 2101)))
    with store.reading() as rows:
        pairs = list(zip(rows.log(0, 2100), rows.history("a", 0, 2100), strict=True))
    assert len(pairs) == 2100
    assert all(one == other for one, other in pairs)


def test_a_taken_position_is_refused(store: Store) -> None:
    append(store, event("a", 1))
    with pytest.raises(IntegrityError), store.writing() as rows:
        rows.append([(1, event("b", 1))])
    assert whole_log(store) == [(1, event("a", 1))]


def test_a_taken_version_of_an_aggregate_is_refused(store: Store) -> None:
    append(store, event("a", 1))
    with pytest.raises(IntegrityError), store.writing() as rows:
        rows.append([(2, event("a", 1))])
    assert whole_log(store) == [(1, event("a", 1))]


def test_a_batch_with_one_taken_version_leaves_nothing_of_itself(store: Store) -> None:
    append(store, event("a", 1))
    with pytest.raises(IntegrityError):
        append(store, event("b", 1), event("a", 1), event("c", 1))
    assert whole_log(store) == [(1, event("a", 1))]
    append(store, event("d", 1))
    assert whole_log(store)[1:] == [(2, event("d", 1))]


def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_works(store: Store) -> None:
    def fail() -> None:
        with store.writing() as rows:
            rows.append([(1, event("a", 1))])
            read_model.set_folded_until(rows, 1, 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.reading() as rows:
        assert rows.head() == 0
        assert read_model.folded_until(rows) == -1
    append(store, event("a", 1))
    assert whole_log(store) == [(1, event("a", 1))]


def test_a_writing_transaction_sees_what_it_has_written(store: Store) -> None:
    with store.writing() as rows:
        rows.append([(1, event("a", 1))])
        assert rows.head() == 1
        assert list(rows.log(0, 1)) == [(1, event("a", 1))]


def test_what_a_reading_transaction_writes_is_not_kept(store: Store) -> None:
    append(store, event("a", 1))
    # A store may refuse it outright.
    with suppress(PersistenceError), store.reading() as rows:
        rows.run("DELETE FROM stored_events")
    assert whole_log(store) == [(1, event("a", 1))]


def test_a_store_that_was_closed_and_opened_again_has_everything(kind: str, opener: Open) -> None:
    if kind == "memory":
        return
    first = opener()
    first.create_tables()
    append(first, event("a", 1), event("a", 2))
    first.close()
    second = opener()
    second.create_tables()
    assert [position for position, _ in whole_log(second)] == [1, 2]


# --- transactions beside one another


def test_reading_sees_one_snapshot_while_a_writer_commits(kind: str, store: Store) -> None:
    append(store, event("a", 1))
    writer = threading.Thread(target=append, args=(store, event("a", 2)))
    with store.reading() as rows:
        assert rows.head() == 1
        writer.start()
        # In memory the writer waits for readers; elsewhere it commits beside them.
        writer.join(0.2 if kind == "memory" else 10)
        assert writer.is_alive() is (kind == "memory")
        assert rows.head() == 1
        assert list(rows.log(0, 9)) == [(1, event("a", 1))]
    writer.join(10)
    with store.reading() as rows:
        assert rows.head() == 2


def test_each_statement_of_a_glance_sees_what_is_committed_by_then(kind: str, store: Store) -> None:
    append(store, event("a", 1))
    with store.glancing() as rows:
        assert rows.head() == 1
        if kind == "memory":
            return  # there, the writer waits for readers
        append(store, event("a", 2))
        assert rows.head() == 2
        assert rows.originators(0, 2) == [("a", 1), ("a", 2)]


def test_what_is_not_committed_is_not_seen(kind: str, store: Store) -> None:
    if kind == "memory":
        return  # there, readers wait for the writer
    with store.writing() as rows:
        rows.append([(1, event("a", 1))])
        with store.reading() as others:
            assert others.head() == 0
    assert len(whole_log(store)) == 1


def test_a_second_writer_waits_for_the_first(kind: str, opener: Open, store: Store) -> None:
    other = store if kind == "memory" else opener()
    second = threading.Thread(target=append, args=(other, event("b", 1)))
    with store.writing() as rows:
        rows.append([(1, event("a", 1))])
        second.start()
        second.join(0.2)
        assert second.is_alive()
    second.join(10)
    assert whole_log(store) == [(1, event("a", 1)), (2, event("b", 1))]


def test_threads_that_write_take_turns(kind: str, opener: Open, store: Store) -> None:
    names = ["a", "b", "c", "d"]
    stores = {name: store if kind == "memory" else opener() for name in names}
    threads = [threading.Thread(target=_write_ten, args=(stores[name], name)) for name in names]
    _run_all(threads)
    _check_turns(store, names, 10)


def _write_ten(store: Store, name: str) -> None:
    for version in range(1, 11):
        append(store, event(name, version))


def test_processes_that_write_take_turns(
    kind: str, store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "memory":
        return
    names, place = ["a", "b"], _place(kind, tmp_path, request)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_write_ten_elsewhere, args=(place, name)) for name in names]
    _run_all(processes)
    assert [process.exitcode for process in processes] == [0, 0]
    _check_turns(store, names, 10)


def _write_ten_elsewhere(place: str, name: str) -> None:
    store = _open(place)
    store.create_tables()
    _write_ten(store, name)
    store.close()


def _run_all(workers: list[Any]) -> None:
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)


def _check_turns(store: Store, names: list[str], each: int) -> None:
    log = whole_log(store)
    assert [position for position, _ in log] == list(range(1, each * len(names) + 1))
    for name in names:
        versions = [one.originator_version for _, one in log if one.originator_id == name]
        assert versions == list(range(1, each + 1))


# --- tables and the first event


def test_tables_can_be_created_again_without_effect(store: Store) -> None:
    append(store, event("a", 1))
    store.create_tables()
    assert whole_log(store) == [(1, event("a", 1))]


def test_tables_can_be_created_by_many_at_once(kind: str, opener: Open) -> None:
    # Of an SQLite file one process is the owner: there, the many are its threads.
    stores = [opener() for _ in range(6)] if kind == "postgres" else [opener()] * 6
    start = threading.Barrier(len(stores))
    failures: list[BaseException] = []

    def create(store: Store) -> None:
        start.wait()
        try:
            store.create_tables()
        except BaseException as error:
            failures.append(error)

    _run_all([threading.Thread(target=create, args=(store,)) for store in stores])
    assert failures == []
    append(stores[0], event("a", 1))
    assert whole_log(stores[-1]) == [(1, event("a", 1))]


def test_the_first_event_of_a_log_is_its_beginning(store: Store) -> None:
    mapper = EventMapper()
    started = LogStarted(by=Origin(at=5, actor="system:imagestream-es", door="service"), log="some-id")
    append(store, mapper.to_stored_event(Recorded("/log", 1, started)))
    ((position, stored),) = whole_log(store)
    assert (position, stored.originator_id, stored.topic) == (1, "/log", "log.started")
    assert mapper.decode(stored.topic, stored.state) == started


def test_sqlite_is_set_to_survive_a_power_cut(tmp_path: Path) -> None:
    store = SQLiteStore(str(tmp_path / "log.db"))
    store.create_tables()
    for transaction in (store.reading, store.writing):
        with transaction() as rows:
            assert rows.one("PRAGMA journal_mode") == ("wal",)
            assert rows.one("PRAGMA synchronous") == (2,)  # FULL
    store.close()


def test_sqlite_is_not_used_where_it_can_not_be_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    class Stubborn(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            return super().execute(sql.replace("synchronous=FULL", "synchronous=NORMAL"), *values)

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Stubborn))
    store = SQLiteStore(str(tmp_path / "log.db"))
    with pytest.raises(Exception, match="the log would not be durable"):
        store.create_tables()
    store.close()


# --- the library's recorder


def test_the_recorder_reads_what_transactions_wrote(store: Store) -> None:
    append(store, event("a", 1), event("b", 1), event("a", 2, b"\x00\xff"))
    recorder = store.recorder
    assert recorder.max_notification_id() == 3
    assert list(recorder.select_events("a")) == [event("a", 1), event("a", 2, b"\x00\xff")]
    assert [one.originator_version for one in recorder.select_events("a", gt=1)] == [2]
    assert [one.originator_version for one in recorder.select_events("a", lte=1)] == [1]
    assert [one.originator_version for one in recorder.select_events("a", desc=True, limit=1)] == [2]
    found = recorder.select_notifications(1, 10)
    assert [(one.id, one.originator_id, one.originator_version) for one in found] == [
        (1, "a", 1),
        (2, "b", 1),
        (3, "a", 2),
    ]
    assert [one.id for one in recorder.select_notifications(1, 1, inclusive_of_start=False)] == [2]
    assert [one.id for one in recorder.select_notifications(None, 10, stop=2)] == [1, 2]


def test_transactions_read_what_the_recorder_wrote(store: Store) -> None:
    append(store, event("a", 1))
    positions = store.recorder.insert_events([event("b", 1, topic="other"), event("a", 2)])
    assert list(positions or ()) == [2, 3]
    assert whole_log(store) == [(1, event("a", 1)), (2, event("b", 1, topic="other")), (3, event("a", 2))]
    append(store, event("c", 1))
    assert store.recorder.max_notification_id() == 4
    assert [one.id for one in store.recorder.select_notifications(1, 9, topics=["other"])] == [2]


def test_the_recorder_refuses_a_taken_version_and_burns_no_position(store: Store) -> None:
    assert list(store.recorder.insert_events([event("a", 1)]) or ()) == [1]
    with pytest.raises(IntegrityError):
        store.recorder.insert_events([event("b", 1), event("a", 1)])
    assert list(store.recorder.insert_events([event("c", 1)]) or ()) == [2]


def test_recorder_and_transactions_write_in_turns(store: Store) -> None:
    def record() -> None:
        for version in range(1, 21):
            store.recorder.insert_events([event("recorder", version)])

    def write() -> None:
        for version in range(1, 21):
            append(store, event("transaction", version))

    _run_all([threading.Thread(target=record), threading.Thread(target=write)])
    _check_turns(store, ["recorder", "transaction"], 20)


# --- the views

SPEC = TagReference(
    name="latest",
    source=ObjectReference("ImageStreamTag", "other:1", "elsewhere"),
    annotations={"a": "ü"},
    generation=3,
    import_mode="PreserveOriginal",
)
NEWEST = TagEvent(7, f"{BASE}@sha256:bb", "sha256:bb", 2)
FAILED = TagEventCondition("ImportSuccess", "False", 9, "Unauthorized", "no", 4)


def a_stream(number: int = 1, namespace: str = "shop", name: str = "web") -> ImageStream:
    stream = ImageStream(namespace, name)
    stream.number, stream.position, stream.version, stream.exists = number, number + 10, 4, True
    stream.uid, stream.created, stream.generation, stream.repository = "uid", 5, 3, BASE
    stream.labels, stream.annotations = {"l": "1"}, {"z": "ü\u0000☃", "a": ""}
    stream.finalizers, stream.owners, stream.deletion = ("f",), ({"uid": "u", "controller": True},), 8
    stream.local_lookup, stream.source_repository, stream.generate_name = True, "quay.io/a/b", "we"
    stream.tags = {"latest": Tag(SPEC, NEWEST, (FAILED,)), "bare": Tag()}
    return stream


def fields(thing: Any) -> dict[str, Any]:
    return {slot: getattr(thing, slot) for slot in type(thing).__slots__}


def save(rows: Rows, stream: ImageStream) -> None:
    read_model.save_streams(rows, [read_model.stream_row(stream)])
    read_model.save_tags(rows, [(stream.number, name, tag) for name, tag in stream.tags.items()])


def test_a_stream_comes_back_as_it_was_saved(store: Store) -> None:
    stream = a_stream()
    with store.writing() as rows:
        save(rows, stream)
    with store.reading() as rows:
        found = read_model.load_stream(rows, "shop", "web")
        assert found is not None
        assert fields(found) == fields(stream)
        assert read_model.load_stream(rows, "shop", "Web") is None
        assert read_model.load_stream(rows, "web", "shop") is None


def test_a_stream_that_changed_replaces_its_row(store: Store) -> None:
    stream = a_stream()
    with store.writing() as rows:
        save(rows, stream)
    stream.version, stream.position, stream.exists, stream.labels = 5, 20, False, {}
    stream.tags = {}
    with store.writing() as rows:
        read_model.save_streams(rows, [read_model.stream_row(stream)])
        read_model.save_tags(rows, [(1, "latest", None), (1, "bare", None), (1, "never", None)])
    with store.reading() as rows:
        found = read_model.load_stream(rows, "shop", "web")
        assert found is not None
        assert fields(found) == fields(stream)
        assert read_model.streams(rows, None) == []


def test_the_streams_with_the_most_events_are_as_many_as_have_so_many_together(store: Store) -> None:
    with store.writing() as rows:
        for number, (version, exists) in enumerate([(5, True), (20, True), (9, False), (8, True), (5, True)], 1):
            stream = a_stream(number, name=f"s{number}")
            stream.version, stream.exists = version, exists
            save(rows, stream)
    with store.reading() as rows:
        assert read_model.longest_places(rows, 5, 100) == [(2, 12, 20), (4, 14, 8), (1, 11, 5), (5, 15, 5)]
        assert read_model.longest_places(rows, 6, 100) == [(2, 12, 20), (4, 14, 8)]
        assert read_model.longest_places(rows, 5, 33) == [(2, 12, 20), (4, 14, 8), (1, 11, 5)]
        assert read_model.longest_places(rows, 5, 13) == [(4, 14, 8), (1, 11, 5)]
        assert read_model.longest_places(rows, 5, 4) == []


def test_streams_are_listed_in_the_order_of_bytes_and_without_those_deleted(store: Store) -> None:
    names = [("b", "a"), ("a", "z"), ("a", "a.b"), ("a", "a-b"), ("a", "a0"), ("c", "gone")]
    with store.writing() as rows:
        for number, (namespace, name) in enumerate(names, 1):
            stream = a_stream(number, namespace, name)
            stream.exists = name != "gone"
            save(rows, stream)
    with store.reading() as rows:
        found = [(stream.namespace, stream.name) for stream in read_model.streams(rows, None)]
        assert found == [("a", "a-b"), ("a", "a.b"), ("a", "a0"), ("a", "z"), ("b", "a")]
        assert [stream.name for stream in read_model.streams(rows, "b")] == ["a"]
        assert fields(read_model.streams(rows, "b")[0]) == fields(a_stream(1, "b", "a"))
        assert read_model.streams(rows, "nowhere") == []


def entry(image: str, *, created: int | None = 1, reference: str | None = None, generation: int = 1) -> TagEvent:
    return TagEvent(created, f"{BASE}@{image}" if reference is None else reference, image, generation)


def put(rows: Rows, position: int, item: TagEvent, tag: str = "t", number: int = 1) -> None:
    row = read_model.change_row(number, tag, position, MOVED, item, base=BASE)
    read_model.insert_changes(rows, [row])


def shown(rows: Rows, tag: str = "t", until: int = read_model.NOW) -> list[TagEvent]:
    """A history at a position, which is the same among those of all tags and alone."""
    found = read_model.shown_histories(rows, {1: BASE}, until).get(1, {}).get(tag, [])
    assert list(read_model.shown_entries(rows, 1, tag, BASE, until)) == found
    return found


def test_a_history_is_shown_newest_first_as_it_was_at_any_position(store: Store) -> None:
    one, two, three = entry("sha256:a"), entry("sha256:b", created=None), entry("", reference="docker.io/x:1")
    with store.writing() as rows:
        for position, item in ((2, one), (4, two), (9, three)):
            put(rows, position, item)
        put(rows, 5, entry("sha256:z"), tag="other")
        put(rows, 6, entry("sha256:y"), number=2)
    with store.reading() as rows:
        assert shown(rows) == [three, two, one]
        assert [shown(rows, until=until) for until in (1, 2, 3, 4, 8)] == [[], [one], [one], [two, one], [two, one]]


def test_the_default_pull_spec_is_not_stored(store: Store) -> None:
    with store.writing() as rows:
        put(rows, 1, entry("sha256:a"))
        put(rows, 2, entry("sha256:b", reference="elsewhere/x@sha256:b"))
        stored = rows.all("SELECT reference FROM tag_changes ORDER BY position")
        assert stored == [(None,), ("elsewhere/x@sha256:b",)]
        assert shown(rows) == [entry("sha256:b", reference="elsewhere/x@sha256:b"), entry("sha256:a")]


def test_hiding_the_newest_entry_leaves_the_past_as_it_was(store: Store) -> None:
    one, two, three = entry("sha256:a"), entry("sha256:b"), entry("sha256:c")
    with store.writing() as rows:
        put(rows, 1, one)
        put(rows, 2, two)
        read_model.hide_newest(rows, 1, "t", 3)
        put(rows, 3, three)
        read_model.hide_newest(rows, 1, "nothing there", 3)
    with store.reading() as rows:
        assert shown(rows) == shown(rows, until=3) == [three, one]
        assert shown(rows, until=2) == [two, one]


def test_hiding_all_leaves_the_past_and_other_tags_as_they_were(store: Store) -> None:
    one, two = entry("sha256:a"), entry("sha256:b")
    with store.writing() as rows:
        put(rows, 1, one)
        put(rows, 2, two)
        put(rows, 3, one, tag="other")
        read_model.hide_all(rows, 1, "t", 4)
    with store.reading() as rows:
        assert shown(rows) == shown(rows, until=4) == []
        assert shown(rows, "other") == [one]
        assert shown(rows, until=3) == [two, one]


def test_a_history_that_only_lost_entries_keeps_the_rows_of_the_others(store: Store) -> None:
    items = [entry(f"sha256:{name}") for name in "abcd"]
    with store.writing() as rows:
        for position, item in enumerate(items, 1):
            put(rows, position, item)
        read_model.replace_entries(rows, 1, "t", 5, [items[3], items[1]], BASE)
    with store.reading() as rows:
        assert shown(rows) == shown(rows, until=5) == [items[3], items[1]]
        assert shown(rows, until=4) == items[::-1]
        kept = rows.all("SELECT position FROM tag_changes WHERE hidden IS NULL ORDER BY position")
        assert kept == [(2,), (4,)]


def test_a_history_written_anew_is_shown_in_the_order_given(store: Store) -> None:
    old, new = [entry("sha256:a"), entry("sha256:b")], [entry("sha256:x"), entry("sha256:b"), entry("sha256:x")]
    with store.writing() as rows:
        put(rows, 1, old[0])
        put(rows, 2, old[1])
        read_model.replace_entries(rows, 1, "t", 3, new, BASE)
    with store.reading() as rows:
        assert shown(rows) == shown(rows, until=3) == new
        assert shown(rows, until=2) == old[::-1]


def test_a_history_replaced_by_nothing_is_empty(store: Store) -> None:
    with store.writing() as rows:
        put(rows, 1, entry("sha256:a"))
        read_model.replace_entries(rows, 1, "t", 2, [], BASE)
    with store.reading() as rows:
        assert shown(rows) == []
        assert shown(rows, until=1) == [entry("sha256:a")]


@pytest.mark.parametrize("room", [0, 7, 1000])
def test_changes_that_are_written_all_at_once_are_those_written_one_by_one(store: Store, room: int) -> None:
    """Whether the images of all tags, of some, or of none are remembered meanwhile."""

    def changes(*positions: int) -> list[tuple[Any, ...]]:
        return [
            read_model.change_row(
                1, f"t{at % 2}", at, MOVED, entry(f"sha256:{at % 5 % 3:064}"), BASE, time=at, shown=at != 8
            )
            for at in positions
        ]

    def written(insert: Callable[[Rows, Any], None], rows: Rows) -> list[tuple[Any, ...]]:
        insert(rows, changes(1, 2, 3, 7))
        insert(rows, changes(8, 9, 12))
        read_model.hide_newest(rows, 1, "t0", 13)
        read_model.replace_entries(rows, 1, "t1", 14, [entry("sha256:x"), entry(f"sha256:{1:064}")], BASE)
        insert(rows, changes(15, 16))
        return sorted_changes(rows)

    with store.writing() as rows:
        expected = written(read_model.insert_changes, rows)
        read_model.clear(rows)
        bulk = Changes(rows, room)
        bulk.order()
        written(lambda rows, added: bulk.add(rows, [bulk.told((row[0], row[1]), row) for row in added]), rows)
        bulk.end()
    with store.reading() as rows:
        assert sorted_changes(rows) == expected
        assert {row[4] for row in expected} == {MOVED, REVERTED, None}


def sorted_changes(rows: Rows) -> list[tuple[Any, ...]]:
    return rows.all("SELECT * FROM tag_changes ORDER BY stream, tag, position, slot")


ALIKE = f"sha256:{'a' * 62}01", f"sha256:{'a' * 62}02"
"""Names that an index does not tell apart."""


def put_alike(store: Store) -> None:
    """One of them moved to the other and back."""
    append(store, *(event("log", version) for version in (1, 2, 3)))
    with store.writing() as rows:
        save(rows, a_stream())
        for position, name in enumerate((ALIKE[0], ALIKE[1], ALIKE[0]), 1):
            put(rows, position, entry(name))


def test_images_whose_names_begin_alike_are_told_apart(store: Store) -> None:
    put_alike(store)
    with store.reading() as rows:
        found = {name: tag_history.usages(rows, name, Scope()) for name in (*ALIKE, f"sha256:{'a' * 64}")}
        assert [[usage.since[0] for usage in usages] for usages in found.values()] == [[1, 3], [2], []]
        touching = tag_history.changes(rows, Scope(image=ALIKE[1]), behind=None, newest_first=False, limit=9)
        assert [(change.place[0], change.action) for change in touching] == [(2, MOVED), (3, REVERTED)]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_no_question_for_an_image_goes_through_the_table(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_alike(store)
    plans: list[str] = []
    with store.reading() as rows:
        everything = rows.all

        def spy(sql: str, *values: Any) -> list[tuple[Any, ...]]:
            plans.extend(row[3] for row in everything(f"EXPLAIN QUERY PLAN {sql}", *values) if "tag_changes" in row[3])
            return everything(sql, *values)

        monkeypatch.setattr(rows, "all", spy)
        tag_history.usages(rows, ALIKE[0], Scope(namespace="shop"))
        tag_history.changes(rows, Scope(image=ALIKE[0]), behind=None, newest_first=True, limit=9)
    assert sum("INDEX tag_changes_image (<expr>=?" in plan for plan in plans) == 3
    assert not [plan for plan in plans if plan.startswith("SCAN")]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_whether_a_tag_had_an_image_before_is_found_without_its_history(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[str] = []
    with store.writing() as rows:
        write = rows.many

        def spy(sql: str, values: Iterable[Sequence[Any]]) -> None:
            each = list(values)
            plans.extend(row[3] for row in rows.all(f"EXPLAIN QUERY PLAN {sql}", *each[0]) if "tag_changes" in row[3])
            write(sql, each)

        monkeypatch.setattr(rows, "many", spy)
        put(rows, 1, entry("sha256:ab"))
    assert plans == ["SEARCH tag_changes USING INDEX tag_changes_image (<expr>=? AND stream>? AND stream<?)"]


def test_images_are_found_by_name_and_by_prefix_in_the_order_of_bytes(store: Store) -> None:
    stream = a_stream()
    names = ["sha256:ab", "sha256:aB", "sha256:ab0", "sha256:ac", "sha512:ab", "a%c", "ab_", "abü", "a\U0010fffe"]
    with store.writing() as rows:
        save(rows, stream)
        for position, name in enumerate(names, 1):
            put(rows, position, entry(name))
        put(rows, 20, entry("", reference="docker.io/x:1"))
        put(rows, 21, entry("sha256:abhidden"))
        read_model.hide_newest(rows, 1, "t", 22)
        put(rows, 23, entry("sha256:abother"), number=2)
    with store.reading() as rows:

        def found(wanted: str) -> list[str]:
            return list(read_model.find_images(rows, stream, wanted))

        assert found("sha256:ab") == ["sha256:ab"]
        assert found("sha256:a") == ["sha256:ac", "sha256:ab0", "sha256:aB", "sha256:ab"]
        assert found("ab") == ["abü", "ab_", "sha256:ab0", "sha256:ab", "sha512:ab"]
        assert found("aB") == ["sha256:aB"]
        assert found("a%") == ["a%c"]
        assert found("ab_") == ["ab_"]
        assert found("a\U0010fffe") == ["a\U0010fffe"]
        assert found("sha") == ["sha512:ab", "sha256:ac", "sha256:ab0", "sha256:aB", "sha256:ab"]
        assert found("x") == []
        assert sorted(found("")) == sorted(names)


def test_an_image_is_found_with_its_first_entry_by_tag_and_then_by_age(store: Store) -> None:
    stream = a_stream()
    with store.writing() as rows:
        put(rows, 1, entry("sha256:a", reference="old"), tag="b")
        put(rows, 2, entry("sha256:a", reference="newest"), tag="c")
        put(rows, 3, entry("sha256:a", reference="newer"), tag="b")
    with store.reading() as rows:
        assert read_model.find_images(rows, stream, "sha256:a")["sha256:a"].reference == "newer"


def test_images_are_found_as_they_were_shown_at_a_position(store: Store) -> None:
    stream = a_stream()
    with store.writing() as rows:
        put(rows, 2, entry("sha256:a"))
        put(rows, 4, entry("sha256:b"))
        read_model.hide_all(rows, 1, "t", 6)
    with store.reading() as rows:
        found = [sorted(read_model.find_images(rows, stream, "sha256:", until)) for until in range(1, 8)]
    assert found == [[], ["sha256:a"], ["sha256:a"], *[["sha256:a", "sha256:b"]] * 2, [], []]


def an_image(name: str) -> Image:
    image = Image(name)
    image.version, image.position, image.exists = 3, 12, True
    image.uid, image.created, image.deletion = "uid", 4, 6
    image.document = {"metadata": Raw(b'{"labels":{"a":"\xc3\xbc"}}'), "x": Raw(b"1.50")}
    return image


def plain(image: Image) -> dict[str, Any]:
    return fields(image) | {"document": {key: bytes(value) for key, value in image.document.items()}}


def test_an_image_comes_back_as_it_was_saved(store: Store) -> None:
    with store.writing() as rows:
        read_model.save_images(rows, map(read_model.image_row, [an_image("sha256:b"), an_image("sha256:B")]))
    with store.reading() as rows:
        found = read_model.load_image(rows, "sha256:b")
        assert found is not None
        assert plain(found) == plain(an_image("sha256:b"))
        assert read_model.load_image(rows, "sha256:c") is None
        assert [image.name for image in read_model.images(rows)] == ["sha256:B", "sha256:b"]


def test_an_image_that_is_gone_is_not_listed_but_still_known(store: Store) -> None:
    image = an_image("sha256:a")
    with store.writing() as rows:
        read_model.save_images(rows, map(read_model.image_row, [image, an_image("sha256:b")]))
    image.exists, image.document, image.version = False, {}, 4
    with store.writing() as rows:
        read_model.save_images(rows, map(read_model.image_row, [image]))
    with store.reading() as rows:
        assert [one.name for one in read_model.images(rows)] == ["sha256:b"]
        found = read_model.load_image(rows, "sha256:a")
        assert found is not None
        assert plain(found) == plain(image)


def test_more_images_than_one_statement_takes_are_found(store: Store) -> None:
    names = [f"sha256:{number:04}" for number in range(1201)]
    with store.writing() as rows:
        read_model.save_images(rows, map(read_model.image_row, [an_image(name) for name in names]))
    with store.reading() as rows:
        assert sorted(read_model.images_named(rows, [*names, "sha256:none"])) == names


def test_histories_of_more_streams_than_one_statement_takes_are_found(store: Store) -> None:
    numbers = range(1, 1202)
    with store.writing() as rows:
        for number in numbers:
            put(rows, number, entry("sha256:a"), number=number)
    with store.reading() as rows:
        found = read_model.shown_histories(rows, dict.fromkeys(numbers, BASE))
        assert sorted(found) == list(numbers)
        assert all(tags == {"t": [entry("sha256:a")]} for tags in found.values())


def test_the_views_know_how_far_they_are_folded(store: Store) -> None:
    with store.writing() as rows:
        assert read_model.folded_until(rows) == -1
        read_model.set_folded_until(rows, 7, 0)
        assert read_model.folded_until(rows) == 7
        read_model.set_folded_until(rows, 8, 5)
    with store.reading() as rows:
        assert (read_model.folded_until(rows), read_model.folded_time(rows)) == (8, 5)


def test_views_of_another_shape_count_as_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.writing() as rows:
        read_model.set_folded_until(rows, 7, 0)
    monkeypatch.setattr(read_model, "SHAPE", read_model.SHAPE + 1)
    with store.reading() as rows:
        assert read_model.folded_until(rows) == -1


def test_clearing_empties_every_view_and_leaves_the_log(store: Store) -> None:
    append(store, event("a", 1))
    with store.writing() as rows:
        save(rows, a_stream())
        put(rows, 1, entry("sha256:a"))
        read_model.save_images(rows, map(read_model.image_row, [an_image("sha256:a")]))
        read_model.set_folded_until(rows, 1, 0)
        read_model.clear(rows)
    with store.reading() as rows:
        counts = [rows.one(f"SELECT COUNT(*) FROM {table}") for table in read_model.KEYS]
        assert counts == [(0,)] * len(read_model.KEYS)
        assert read_model.folded_until(rows) == 0
    assert len(whole_log(store)) == 1


def test_views_come_in_the_same_order_from_every_store(store: Store) -> None:
    tags = ["b", "B", "a-b", "a.b", "ä", "a", "A"]
    with store.writing() as rows:
        for position, tag in enumerate(tags, 1):
            put(rows, position, entry("sha256:a"), tag=tag)
        found = [tag for (tag,) in rows.each("SELECT tag FROM tag_changes ORDER BY tag")]
    assert all(one.encode() < other.encode() for one, other in pairwise(found))
    assert len(found) == len(tags)


def test_postgresql_compares_bytes_whatever_the_language_of_its_database(postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2] + "_en"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'"
        )
        store = _open(f"{postgres_url}_en")
        try:
            store.create_tables()
            test_views_come_in_the_same_order_from_every_store(store)
            test_streams_are_listed_in_the_order_of_bytes_and_without_those_deleted(store)
            with store.writing() as rows:
                read_model.clear(rows)
            test_images_are_found_by_name_and_by_prefix_in_the_order_of_bytes(store)
        finally:
            store.close()
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_tables_of_views_of_another_shape_make_room_for_new_ones(store: Store) -> None:
    """A new program may want other columns: what an older one left must not stand in their way."""
    with store.writing() as rows:
        read_model.set_folded_until(rows, 0, 0)
        rows.run("UPDATE projection SET value = value + 1 WHERE name = 'shape'")
        rows.run("DROP TABLE tags")
        rows.run("CREATE TABLE tags (stream BIGINT PRIMARY KEY)")
    store.create_tables()
    with store.writing() as rows:
        read_model.save_tags(rows, [(1, "latest", b"{}")])
        assert read_model.folded_until(rows) == -1, "the views must be folded anew"


# --- the tree over the log


def kept(store: Store) -> tuple[Checkpoint, list[int]]:
    """The tree that is kept at the head, and the sizes at which it is kept."""
    with store.reading() as rows:
        return rows.tree().checkpoint(), [size for size, _ in rows.trees()]


def computed(store: Store) -> Checkpoint:
    tree = Tree()
    for position, stored in whole_log(store):
        tree.append(position, stored)
    return tree.checkpoint()


def test_the_tree_of_an_empty_log_is_empty(store: Store) -> None:
    assert kept(store) == (Tree().checkpoint(), [])


def test_the_tree_grows_with_the_log_whatever_was_appended_together(store: Store) -> None:
    version = 0
    for count in (1, 1, 253, 1, 1, 255, 600, 3):
        append(store, *(event("a", version + place) for place in range(1, count + 1)))
        version += count
        assert kept(store)[0] == computed(store)
    assert kept(store)[1] == [256, 512, 768, 1024, version]
    with store.reading() as rows:
        for size in (0, 1, 255, 256, 257, 900, version):
            tree = Tree()
            for position, stored in rows.log(0, size):
                tree.append(position, stored)
            assert rows.tree_at(size).checkpoint() == tree.checkpoint()
        with pytest.raises(DatabaseError, match="the log has no 1116 events"):
            rows.tree_at(version + 1)


def test_the_library_s_door_grows_the_tree_too(store: Store) -> None:
    store.recorder.insert_events([event("a", 1), event("b", 1)])
    assert kept(store) == (computed(store), [2])


def test_a_transaction_that_fails_takes_its_part_of_the_tree_with_it(store: Store) -> None:
    append(store, event("a", 1))

    def fail() -> None:
        with store.writing() as rows:
            rows.append([(2, event("a", 2))])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert kept(store) == (computed(store), [1])


def test_what_another_process_appended_is_in_the_tree_that_grows_on(opener: Open) -> None:
    one, other = opener(), opener()
    one.create_tables()
    for version in range(1, 7):
        append(one if version % 2 else other, event("a", version))
    assert kept(one) == kept(other) == (computed(one), [6])


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM tree",
        "UPDATE tree SET size = 3",
        "UPDATE tree SET peaks = (SELECT state FROM stored_events LIMIT 1)",
    ],
)
def test_nothing_is_appended_to_a_log_whose_tree_was_lost(store: Store, damage: str) -> None:
    append(store, event("a", 1), event("a", 2))
    with store.writing() as rows:
        rows.run(damage)
    with pytest.raises(DatabaseError, match=r"Merkle tree .* run verify"):
        append(store, event("a", 3))
    assert len(whole_log(store)) == 2


def test_a_log_that_has_no_tree_gets_the_one_that_it_would_have_had(store: Store) -> None:
    assert make_tree(store) is None
    append(store, *(event("a", version) for version in range(1, 600)))
    assert make_tree(store) is None
    with store.reading() as rows:
        before = list(rows.trees())
    with store.writing() as rows:
        rows.run("DELETE FROM tree")
    assert make_tree(store) == computed(store)
    with store.reading() as rows:
        assert list(rows.trees()) == before


def test_the_tree_of_a_transaction_that_failed_is_not_the_one_that_grows_on(opener: Open) -> None:
    one, other = opener(), opener()
    one.create_tables()
    append(one, event("a", 1))

    def fail() -> None:
        with one.writing() as rows:
            rows.append([(2, event("a", 2, b"never"))])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    append(other, event("b", 1))
    append(one, event("a", 2))
    assert kept(one) == (computed(one), [3])

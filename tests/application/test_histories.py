"""Many clients on few streams: what they were told agrees with the one order of the log."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import checker
import pytest
from checker import Logged, Operation, Outcome
from msgspec import Raw

from imagestream_es.application.commands import Caller, Commands, Expected, TagWrite
from imagestream_es.application.queries import Queries
from imagestream_es.application.writer import Writer
from imagestream_es.domain.errors import Conflict
from imagestream_es.domain.events import Origin, StreamEvent
from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.domain.tags import ObjectReference, TagReference
from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Store

SEED = random.SystemRandom().randrange(10**9)
STREAMS = ["one", "two", "three"]
SPACE = "team"


# --- the checker itself


def a_true_history(seed: int) -> tuple[list[Operation], list[Logged]]:
    """What clients see of a perfect service: each operation takes effect at one moment between start and end."""
    choice = random.Random(seed)
    operations: list[Operation] = []
    log: list[Logged] = []
    heads = dict.fromkeys(STREAMS, checker.NONE)
    versions = dict.fromkeys(STREAMS, 0)
    for number in range(400):
        stream = choice.choice(STREAMS)
        start, end = number - choice.uniform(0.1, 3), number + choice.uniform(0.1, 3)
        asked = Operation(stream=stream, key=f"write-{number}", start=start, end=end)
        kind = choice.random()
        if kind < 0.3:
            operations.append(replace(asked, key="", seen=heads[stream]))
            continue
        expected = heads[stream] if kind > 0.6 else None
        if kind > 0.8:  # another one was faster, at a moment between
            rival = f"rival-{number}"
            heads[stream], versions[stream] = len(log) + 1, versions[stream] + 1
            log.append(Logged(len(log) + 1, stream, versions[stream], rival))
            operations.append(replace(asked, key=rival, seen=heads[stream]))
            operations.append(replace(asked, expected=expected, outcome=Outcome.CONFLICT))
            continue
        outcome = Outcome.UNKNOWN if choice.random() < 0.1 else Outcome.DONE
        if outcome is Outcome.DONE or choice.random() < 0.5:
            heads[stream], versions[stream] = len(log) + 1, versions[stream] + 1
            log.append(Logged(len(log) + 1, stream, versions[stream], asked.key))
        tells = outcome is Outcome.DONE and choice.random() < 0.7
        seen = heads[stream] if tells else None
        operations.append(replace(asked, expected=expected, outcome=outcome, seen=seen))
    return operations, log


def renumbered(log: Sequence[Logged]) -> list[Logged]:
    """The log with the positions and versions that are due where events stand now."""
    versions = dict.fromkeys(STREAMS, 0)
    result = []
    for position, event in enumerate(log, 1):
        versions[event.stream] += 1
        result.append(replace(event, position=position, version=versions[event.stream]))
    return result


def silent(operations: Sequence[Operation]) -> list[Operation]:
    """The writes, with answers that show no positions, as a mapping's does not: only keys and times are left."""
    writes = [one for one in operations if one.key and one.outcome is not Outcome.CONFLICT]
    return [replace(one, seen=None, expected=None) for one in writes]


History = tuple[list[Operation], list[Logged]]


def lost(operations: list[Operation], log: list[Logged]) -> History:
    gone = next(one.key for one in operations if one.key and one.outcome is Outcome.DONE)
    return silent(operations), renumbered([event for event in log if event.key != gone])


def lost_at_the_end(operations: list[Operation], log: list[Logged]) -> History:
    done = {one.key for one in operations if one.outcome is Outcome.DONE}
    last = max(event for event in log if event.key in done)
    return operations, [event for event in log if event.position < last.position]


def moved(operations: list[Operation], log: list[Logged]) -> History:
    told = next(one for one in operations if one.key and one.seen and one.expected is None)
    at = next(place for place, event in enumerate(log) if event.key == told.key)
    return operations, renumbered([*log[:at], log[at + 1], log[at], *log[at + 2 :]])


def moved_to_another_stream(operations: list[Operation], log: list[Logged]) -> History:
    event = log[0]
    assert checker.problems(silent(operations), log) == []
    other = next(stream for stream in STREAMS if stream != event.stream)
    return silent(operations), renumbered([replace(event, stream=other), *log[1:]])


def duplicated(operations: list[Operation], log: list[Logged]) -> History:
    return silent(operations), renumbered([*log, log[-1]])


def invented(operations: list[Operation], log: list[Logged]) -> History:
    return operations, renumbered([*log, replace(log[-1], key="nobody's")])


def version_left_out(operations: list[Operation], log: list[Logged]) -> History:
    return operations, [*log[:-1], replace(log[-1], version=log[-1].version + 1)]


def position_used_again(operations: list[Operation], log: list[Logged]) -> History:
    return silent(operations), [*log[:-1], replace(log[-1], position=log[-2].position)]


def refused_and_stored(operations: list[Operation], log: list[Logged]) -> History:
    stored = {event.key for event in log}
    place = next(place for place, one in enumerate(operations) if one.key in stored)
    operations[place] = replace(operations[place], outcome=Outcome.REFUSED, seen=None)
    return operations, log


def stale_read(operations: list[Operation], log: list[Logged]) -> History:
    """A read that shows the state before a write that had been answered."""
    place, read = max((place, one) for place, one in enumerate(operations) if not one.key)
    earlier = [event.position for event in log if event.stream == read.stream]
    operations[place] = replace(read, seen=earlier[len(earlier) // 2])
    return operations, log


def read_goes_back(operations: list[Operation], log: list[Logged]) -> History:
    """Two reads with one unanswered write between them: the second may not unsee it."""
    *_, before, last = [event for event in log if event.stream == STREAMS[0]]
    operations = [one for one in operations if one.key and one.key != last.key]
    operations.append(Operation(stream=last.stream, key=last.key, start=0, outcome=Outcome.UNKNOWN))
    operations.append(Operation(stream=last.stream, start=1000, end=1001, seen=last.position))
    operations.append(Operation(stream=last.stream, start=1002, end=1003, seen=before.position))
    return operations, log


def read_of_the_future(operations: list[Operation], log: list[Logged]) -> History:
    place, read = next((place, one) for place, one in enumerate(operations) if not one.key)
    newest = max(event.position for event in log if event.stream == read.stream)
    operations[place] = replace(read, seen=newest)
    return operations, log


def read_of_nothing(operations: list[Operation], log: list[Logged]) -> History:
    place, read = max((place, one) for place, one in enumerate(operations) if not one.key)
    operations[place] = replace(read, seen=len(log) + 5)
    return operations, log


def false_conflict(operations: list[Operation], log: list[Logged]) -> History:
    """A refusal though nobody else had written."""
    head = max(event.position for event in log if event.stream == STREAMS[0])
    refusal = Operation(stream=STREAMS[0], key="unlucky", start=900, end=901, expected=head, outcome=Outcome.CONFLICT)
    return [*operations, refusal], log


def conflict_with_the_future(operations: list[Operation], log: list[Logged]) -> History:
    """A refusal for the sake of a write that was asked for only later."""
    head = max(event.position for event in log if event.stream == STREAMS[0])
    version = sum(event.stream == STREAMS[0] for event in log)
    refusal = Operation(stream=STREAMS[0], key="unlucky", start=900, end=901, expected=head, outcome=Outcome.CONFLICT)
    later = Operation(stream=STREAMS[0], key="later", start=902, end=903)
    return [*operations, refusal, later], [*log, Logged(len(log) + 1, STREAMS[0], version + 1, "later")]


def real_time_inversion(operations: list[Operation], log: list[Logged]) -> History:
    """Two writes that do not overlap, stored in the wrong order; their answers show no positions."""
    return silent(operations), renumbered([*log[100:], *log[:100]])


def lost_update(operations: list[Operation], log: list[Logged]) -> History:
    """A compare-and-set that was stored behind another write than the one it had seen."""
    place, write = max(
        (place, one)
        for place, one in enumerate(operations)
        if one.expected and one.expected > 1 and one.outcome is Outcome.DONE
    )
    operations[place] = replace(write, expected=(write.expected or 0) - 1)
    return operations, log


MUTANTS: list[tuple[Callable[[list[Operation], list[Logged]], History], str]] = [
    (lost, "was acknowledged and is lost"),
    (lost_at_the_end, "was acknowledged and is lost"),
    (moved, "was acknowledged at position"),
    (moved_to_another_stream, "and is stored with"),
    (duplicated, "is stored 2 times"),
    (invented, "was never asked for"),
    (version_left_out, "is due"),
    (position_used_again, "comes after"),
    (refused_and_stored, "was refused and is stored"),
    (stale_read, "was known"),
    (read_goes_back, "was known"),
    (read_of_the_future, "was asked for"),
    (read_of_nothing, "is not in the log"),
    (false_conflict, "that was none"),
    (conflict_with_the_future, "that was none"),
    (real_time_inversion, "is stored before it"),
    (lost_update, "and was stored behind"),
]


@pytest.mark.parametrize("seed", range(20))
def test_the_checker_finds_nothing_in_a_true_history(seed: int) -> None:
    operations, log = a_true_history(seed)
    assert len(log) > 100
    assert checker.problems(operations, log) == []


@pytest.mark.parametrize(("mutate", "told"), MUTANTS, ids=[mutate.__name__ for mutate, _ in MUTANTS])
@pytest.mark.parametrize("seed", range(5))
def test_the_checker_finds_what_is_wrong(
    seed: int, mutate: Callable[[list[Operation], list[Logged]], History], told: str
) -> None:
    found = checker.problems(*mutate(*a_true_history(seed)))
    assert any(told in problem for problem in found), found


def test_an_unknown_outcome_is_never_held_against_anybody() -> None:
    asked = Operation(stream="one", key="k", start=1, end=2, outcome=Outcome.UNKNOWN)
    later = Operation(stream="one", key="l", start=3, end=4)
    events = [Logged(1, "one", 1, "l"), Logged(2, "one", 2, "k")]
    assert checker.problems([asked, later], events) == []
    assert checker.problems([asked, later], events[:1]) == []


def test_the_checker_takes_several_requests_under_one_key_as_one_write() -> None:
    lost = Operation(stream="s", key="k", start=1, outcome=Outcome.UNKNOWN)
    done = Operation(stream="s", key="k", start=3, end=4, seen=2)
    event = Logged(2, "s", 1, "k")
    assert checker.problems([lost, done, done], [event]) == []
    assert checker.problems([lost, done], []) == ["k was acknowledged and is lost"]
    other = Operation(stream="s", key="k", start=5, end=6, seen=3)
    assert checker.problems([done, other], [event]) == ["k was acknowledged at position 2 and then at 3"]
    refused = Operation(stream="s", key="k", start=5, end=6, outcome=Outcome.REFUSED)
    assert "k was acknowledged, and when it was asked for again it was not" in checker.problems(
        [done, refused], [event]
    )
    twice = checker.problems([lost, done], [event, Logged(3, "s", 2, "k")])
    assert "k is stored 2 times" in twice


# --- the service


@dataclass
class Client:
    """Issues random commands through one service, and keeps what it was told."""

    commands: Commands
    queries: Queries
    name: str
    seed: int
    told: list[Operation] = field(default_factory=list)
    counted: int = 0

    def run(self, count: int) -> None:
        choice = random.Random(f"{self.seed}/{self.name}")
        kinds = [self.map_image, self.move_tag, self.count]
        for number in range(count):
            (act,) = choice.choices(kinds, [75, 10, 15])
            stream = choice.choice(STREAMS)
            if choice.random() < 0.05:
                self.read(stream)
            act(stream, f"{self.name}-{number}")

    def map_image(self, stream: str, key: str) -> None:
        image = f"sha256:{key}"
        reference = f"registry/{SPACE}/{stream}@{image}"
        document = {"dockerImageReference": Raw(b'"%s"' % reference.encode())}
        start = time.monotonic()
        self.commands.map_image(
            caller(key), SPACE, stream, "pushed", image, document, reference, managed=False
        ).outcome()
        self._note(stream, key, start)

    def move_tag(self, stream: str, key: str) -> None:
        tag = TagReference(name="moved", source=ObjectReference("DockerImage", f"quay.io/team/{key}:1"), reference=True)
        start = time.monotonic()
        view, _ = self.commands.put_tag(caller(key), SPACE, stream, "moved", TagWrite(tag=tag), "imagestreamtags")
        self._note(stream, key, start, seen=view.stream.position)

    def count(self, stream: str, key: str) -> None:
        """Read a number and write the next one, if nobody else has in between."""
        found = self.read(stream)
        seen, number = found
        desired = DesiredStream(annotations={"count": str(number + 1)})
        start = time.monotonic()
        try:
            view = self.commands.update_image_stream(caller(key), SPACE, stream, desired, Expected(position=seen))
        except Conflict:
            self._note(stream, key, start, expected=seen, outcome=Outcome.CONFLICT)
        else:
            self.counted += 1
            self._note(stream, key, start, expected=seen, seen=view.stream.position)

    def read(self, stream: str) -> tuple[int, int]:
        """Position and count of a stream."""
        start = time.monotonic()
        streams = self.queries.streams_with_heads(SPACE).found
        found = next(one for one in streams if one.name == stream)
        self._note(stream, "", start, seen=found.position)
        return found.position, int(found.annotations.get("count", 0))

    def _note(
        self,
        stream: str,
        key: str,
        start: float,
        *,
        outcome: Outcome = Outcome.DONE,
        expected: int | None = None,
        seen: int | None = None,
    ) -> None:
        end = time.monotonic()
        self.told.append(
            Operation(stream=stream, key=key, start=start, end=end, outcome=outcome, expected=expected, seen=seen)
        )


def caller(key: str) -> Caller:
    return Caller(by=Origin(at=1_700_000_000_000, actor="system:test", door="test", key=key))


@dataclass(frozen=True)
class Service:
    """The commands and questions of one process."""

    commands: Commands
    queries: Queries


@pytest.fixture
def serve() -> Iterator[Callable[[Store], Service]]:
    """`serve(store)` starts a service on the store, as a process of its own would."""
    with ExitStack() as stack:

        def start(store: Store) -> Service:
            stack.callback(store.close)
            store.create_tables()
            writer = Writer(store, "registry", lambda _: None)
            writer.start(caller("").by, "log")
            stack.callback(writer.close)
            uids = iter(range(10**9))
            return Service(Commands(writer, "registry", lambda: f"uid-{next(uids)}"), Queries(store))

        yield start


def check_many_clients(services: Sequence[Service], store: Store, clients: int, commands: int) -> None:
    """Let clients loose on the services, then check all that they were told."""
    print(f"seed {SEED}")
    created = []
    for name in STREAMS:
        key, start = f"create-{name}", time.monotonic()
        view = services[0].commands.create_image_stream(caller(key), SPACE, name, DesiredStream())
        created.append(Operation(stream=name, key=key, start=start, end=time.monotonic(), seen=view.stream.position))
    crowd = [
        Client(services[number % len(services)].commands, services[number % len(services)].queries, f"c{number}", SEED)
        for number in range(clients)
    ]
    threads = [threading.Thread(target=client.run, args=(commands // clients,)) for client in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    told = [*created, *(one for client in crowd for one in client.told)]
    assert sum(bool(one.key) for one in told) == commands + len(STREAMS), "a client broke down"
    log = stream_log(store)
    assert checker.problems(told, log) == []
    check_histories(services[-1].queries, store)
    assert any(one.outcome is Outcome.CONFLICT for one in told)
    found = services[0].queries.streams_with_heads(SPACE).found
    # A stream on which every count lost its race has none.
    counts = [int(stream.annotations.get("count", 0)) for stream in found]
    assert sum(counts) == sum(client.counted for client in crowd) > 0


def stream_log(store: Store) -> list[Logged]:
    mapper = EventMapper()
    with store.reading() as rows:
        return [
            Logged(
                position,
                str(stored.originator_id).removeprefix(f"{SPACE}/"),
                stored.originator_version,
                mapper.decode(stored.topic, stored.state).by.key,
            )
            for position, stored in rows.log(0, rows.head())
            if str(stored.originator_id).startswith(f"{SPACE}/")
        ]


def check_histories(queries: Queries, store: Store) -> None:
    """The history of a tag is the pushes of the log, newest first: nobody's push is lost, none is out of order."""
    mapper = EventMapper()
    for name in STREAMS:
        with store.reading() as rows:
            events = [mapper.decode(one.topic, one.state) for _, one in rows.history(f"{SPACE}/{name}", 0, rows.head())]
        puts = [put for event in events if isinstance(event, StreamEvent) for put in event.put]
        pushed = [put.image for put in puts if put.tag == "pushed"]
        view = queries.image_stream(SPACE, name)
        assert view is not None
        assert len(pushed) > 20
        assert [entry.image for entry in view.items["pushed"]] == pushed[::-1]


def test_ten_thousand_commands_of_eight_clients_on_sqlite(serve: Callable[[Store], Service], tmp_path: Path) -> None:
    store = SQLiteStore(str(tmp_path / "log.db"))
    check_many_clients([serve(store)], store, clients=8, commands=10_000)


def test_a_thousand_commands_through_two_services_on_one_postgresql(
    serve: Callable[[Store], Service], postgres_url: str
) -> None:
    from imagestream_es.persistence.postgres import PostgresStore  # noqa: PLC0415 (its driver is heavy)

    stores = [PostgresStore(postgres_url), PostgresStore(postgres_url)]
    check_many_clients([serve(store) for store in stores], stores[0], clients=8, commands=1_000)

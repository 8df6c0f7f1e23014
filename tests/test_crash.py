"""A service that is killed, broken or tampered with: nothing acknowledged is lost, and nothing wrong goes unnoticed."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import checker
import pytest
from checker import Logged, Operation, Outcome
from click.testing import CliRunner, Result
from eventsourcing.persistence import OperationalError

from api import create_app
from imagestream_es import verification
from imagestream_es.bootstrap import build
from imagestream_es.cli import main
from imagestream_es.persistence import read_model
from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.persistence.postgres import PostgresStore
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Store
from imagestream_es.settings import Settings

SEED = random.SystemRandom().randrange(10**9)
ROUNDS, RETRY_ROUNDS = 20, 6
TWIN_WRITES = 150
CLIENTS = 8
STREAMS = ["one", "two", "three"]
SPACE = "/apis/image.openshift.io/v1/namespaces/team"
COMMAND = Path(sys.executable).with_name("imagestream-es")

Start = Callable[..., Any]


# --- killed at any moment


class Client:
    """Writes to a service, one request after another, until it is gone; keeps what it was told."""

    def __init__(self, address: str, name: str, seed: str, first: threading.Event, header: str = "Audit-ID") -> None:
        self.told: list[Operation] = []
        self.sent: dict[str, tuple[str, str, str, str, Any, int | None]] = {}
        self.refusals: list[str] = []
        self._connection = http.client.HTTPConnection(address, timeout=30)
        self._name = name
        self._choice = random.Random(seed)
        self._first = first
        self._header = header

    def run(self) -> None:
        kinds = [self._push, self._move_tag, self._update]
        with suppress(OSError, http.client.HTTPException):
            for number in range(10**6):
                (act,) = self._choice.choices(kinds, [6, 2, 2])
                act(self._choice.choice(STREAMS), f"{self._name}-{number}")
                self._first.set()

    def create(self, stream: str) -> None:
        body = {"metadata": {"name": stream}}
        self._write("POST", "imagestreams", stream, f"create-{stream}", body)

    def _push(self, stream: str, key: str) -> None:
        digest = f"sha256:{self._choice.randrange(16**64):064x}"
        image = {"metadata": {"name": digest}, "dockerImageReference": f"quay.io/team/{stream}@{digest}"}
        body = {"metadata": {"name": stream, "namespace": "team"}, "image": image, "tag": "pushed"}
        self._write("POST", "imagestreammappings", stream, key, body)

    def _move_tag(self, stream: str, key: str) -> None:
        source = {"kind": "DockerImage", "name": f"quay.io/team/{key}:1"}
        body = {"metadata": {"name": f"{stream}:moved"}, "tag": {"reference": True, "from": source}}
        self._write("PUT", f"imagestreamtags/{stream}:moved", stream, key, body)

    def _update(self, stream: str, key: str) -> None:
        start = time.monotonic()
        status, found = self._ask("GET", f"imagestreams/{stream}", "", None)
        assert status == 200
        seen = int(found["metadata"]["resourceVersion"])
        self._note(Operation(stream=stream, start=start, end=time.monotonic(), seen=seen))
        del found["status"]
        found["metadata"]["annotations"] = {"key": key}
        self._write("PUT", f"imagestreams/{stream}", stream, key, found, expected=seen)

    def _write(self, method: str, path: str, stream: str, key: str, body: Any, expected: int | None = None) -> None:
        asked = Operation(stream=stream, key=key, start=time.monotonic(), outcome=Outcome.UNKNOWN, expected=expected)
        self.told.append(asked)  # and so it stays without an answer
        self.sent[key] = method, path, stream, key, body, expected
        status, answer = self._ask(method, path, key, body)
        outcome = {200: Outcome.DONE, 201: Outcome.DONE, 409: Outcome.CONFLICT}.get(status, Outcome.REFUSED)
        if outcome is Outcome.REFUSED:
            self.refusals.append(f"{status} {answer}")
        version = answer.get("metadata", {}).get("resourceVersion")
        self.told[-1] = Operation(
            stream=stream,
            key=key,
            start=asked.start,
            end=time.monotonic(),
            outcome=outcome,
            expected=expected,
            seen=int(version) if version and outcome is Outcome.DONE else None,
        )

    def _note(self, operation: Operation) -> None:
        self.told.append(operation)

    def _ask(self, method: str, path: str, key: str, body: Any) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json", **({self._header: key} if key else {})}
        self._connection.request(method, f"{SPACE}/{path}", json.dumps(body) if body else None, headers)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def again(self, address: str) -> None:
        """Ask again for what was asked for last."""
        self._connection = http.client.HTTPConnection(address, timeout=30)
        for key in list(self.sent)[-3:]:
            self._write(*self.sent[key])


def test_no_acknowledged_write_is_lost_when_the_service_is_killed_again_and_again(start_service: Start) -> None:
    print(f"seed {SEED}")
    moments = random.Random(SEED)
    service = start_service()
    creator = Client(service.address, "creator", "0", threading.Event())
    for stream in STREAMS:
        creator.create(stream)
    clients = [creator]
    for turn in range(ROUNDS):
        first = threading.Event()
        crowd = [
            Client(service.address, f"r{turn}-c{number}", f"{SEED}/{turn}/{number}", first) for number in range(CLIENTS)
        ]
        threads = [threading.Thread(target=client.run) for client in crowd]
        for thread in threads:
            thread.start()
        assert first.wait(30)
        time.sleep(moments.uniform(0.02, 0.5))
        service.kill()
        for thread in threads:
            thread.join()
        clients += crowd
        service.restart()
        report = verification.verify(Settings(data_dir=service.data_dir), _silence)
        assert report.ok, report.differences
    status, _ = service.stop()
    assert status == 0

    told = [one for client in clients for one in client.told]
    assert [refusal for client in clients for refusal in client.refusals] == []
    assert checker.problems(told, stream_log(service.data_dir)) == []
    assert sum(one.outcome is Outcome.DONE and bool(one.key) for one in told) > ROUNDS * CLIENTS
    assert any(one.outcome is Outcome.UNKNOWN for one in told)
    verified = subprocess.run([COMMAND, "verify", "--data-dir", service.data_dir], capture_output=True, check=False)
    assert (verified.returncode, verified.stdout[:9]) == (0, b"Verified ")


def test_what_is_asked_for_again_under_its_key_is_done_once_whenever_the_service_is_killed(
    start_service: Start,
) -> None:
    print(f"seed {SEED}")
    moments = random.Random(SEED)
    service = start_service()
    creator = Client(service.address, "creator", "0", threading.Event(), "Idempotency-Key")
    for stream in STREAMS:
        creator.create(stream)
    clients = [creator]
    for turn in range(RETRY_ROUNDS):
        first = threading.Event()
        crowd = [
            Client(service.address, f"r{turn}-c{number}", f"{SEED}/{turn}/{number}", first, "Idempotency-Key")
            for number in range(CLIENTS)
        ]
        threads = [threading.Thread(target=client.run) for client in crowd]
        for thread in threads:
            thread.start()
        assert first.wait(30)
        time.sleep(moments.uniform(0.02, 0.5))
        service.kill()
        for thread in threads:
            thread.join()
        service.restart()
        clients += crowd
        threads = [threading.Thread(target=client.again, args=(service.address,)) for client in crowd]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    creator.again(service.address)
    assert service.stop()[0] == 0

    told = [one for client in clients for one in client.told]
    assert [refusal for client in clients for refusal in client.refusals] == []
    assert checker.problems(told, stream_log(service.data_dir, "key")) == []
    unknown = {one.key for one in told if one.outcome is Outcome.UNKNOWN}
    assert unknown, "nobody was cut off: the test is blind"
    assert unknown <= {one.key for one in told if one.outcome in (Outcome.DONE, Outcome.CONFLICT)}


class Twin(Client):
    """One of two who ask for the same under the same keys."""

    def run(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            for number in range(TWIN_WRITES):
                act = self._choice.choice([self._push, self._move_tag])
                act(self._choice.choice(STREAMS), f"twin-{number}")
                self._first.set()


def test_of_two_services_on_one_database_that_are_asked_for_the_same_one_does_it_though_one_is_killed(
    start_service: Start, postgres_url: str
) -> None:
    doomed, other = (start_service("--database-url", postgres_url) for _ in range(2))
    creator = Client(doomed.address, "creator", "0", threading.Event(), "Idempotency-Key")
    for stream in STREAMS:
        creator.create(stream)
    first = threading.Event()
    twins = [Twin(one.address, "twin", str(SEED), first, "Idempotency-Key") for one in (doomed, other)]
    threads = [threading.Thread(target=twin.run) for twin in twins]
    for thread in threads:
        thread.start()
    assert first.wait(30)
    time.sleep(0.5)
    doomed.kill()
    for thread in threads:
        thread.join()
    clients = [creator, *twins]
    assert [refusal for client in clients for refusal in client.refusals] == []
    assert len([one for one in twins[1].told if one.outcome is Outcome.DONE]) == TWIN_WRITES
    store = PostgresStore(postgres_url)
    try:
        log = logged(store, "key")
    finally:
        store.close()
    assert checker.problems([one for client in clients for one in client.told], log) == []
    assert len(log) == len(STREAMS) + TWIN_WRITES


DEADLY = """
import os
from imagestream_es.application.hub import Hub

committed = Hub.committed

def die(self, head):
    if os.path.exists(os.environ["DEADLY"]):
        os.kill(os.getpid(), 9)
    committed(self, head)

Hub.committed = die
"""
"""Has a service die right after a commit, before anybody is answered, while a file is there."""


@pytest.mark.parametrize("body", [{"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": None}}])
def test_a_retry_after_a_death_between_commit_and_answer_gets_the_answer(
    body: dict[str, Any], start_service: Start, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    trigger = tmp_path / "now"
    service = start_service(env={"PYTHONPATH": str(tmp_path), "DEADLY": str(trigger)})
    stream, headers = json.dumps({"metadata": {"name": "web"}}).encode(), {"Content-Type": "application/json"}
    assert service.request(f"{SPACE}/imagestreams", "POST", stream, headers)[0] == 201

    def patch() -> tuple[int, bytes]:
        keyed = {"Content-Type": "application/merge-patch+json", "Idempotency-Key": "k"}
        found: tuple[int, bytes] = service.request(
            f"{SPACE}/imagestreams/web", "PATCH", json.dumps(body).encode(), keyed
        )
        return found

    trigger.touch()
    with suppress(OSError, http.client.HTTPException):
        patch()
    trigger.unlink()
    if body["metadata"]["labels"] is not None:  # what changes nothing tells nobody of its commit
        service.process.wait(30)
    service.kill()
    service.restart()
    events = len(stream_log(service.data_dir))
    first, again = patch(), patch()
    assert first == again
    assert first[0] == 200
    assert len(stream_log(service.data_dir)) == events
    service.stop()
    assert run("verify", service.data_dir).exit_code == 0


def stream_log(directory: Path, named_by: str = "request") -> list[Logged]:
    """The events of the streams in the log, with the id, or the key, of the request that made each."""
    store = SQLiteStore(str(directory / "imagestream.db"))
    try:
        return logged(store, named_by)
    finally:
        store.close()


def logged(store: Store, named_by: str) -> list[Logged]:
    mapper = EventMapper()
    with store.reading() as rows:
        return [
            Logged(
                position,
                str(stored.originator_id).removeprefix("team/"),
                stored.originator_version,
                getattr(mapper.decode(stored.topic, stored.state).by, named_by),
            )
            for position, stored in rows.log(0, rows.head())
            if str(stored.originator_id).startswith("team/")
        ]


def _silence(done: int, total: int) -> None:
    pass


# --- a disk that fails


WRITER = textwrap.dedent(
    """
    import os, sys
    from eventsourcing.persistence import PersistenceError, StoredEvent
    from imagestream_es.persistence.sqlite import SQLiteStore
    from imagestream_es.persistence.store import OutcomeUnknown

    store = SQLiteStore(sys.argv[1])
    for number in range(1, 9):
        try:
            with store.writing() as rows:
                rows.append([(rows.head() + 1, StoredEvent(f"event-{number}", 1, "t", b"{}"))])
            told = "done"
        except OutcomeUnknown:
            told = "unknown"
        except PersistenceError:
            told = "refused"
        print(f"event-{number}", told, flush=True)
        if told != "done":
            os.kill(os.getpid(), 9)
    """
)


@pytest.mark.parametrize(("call", "error"), [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC")])
def test_whatever_call_to_the_disk_fails_no_stored_event_was_told_as_refused(
    call: str, error: str, tmp_path: Path, require: Callable[[str], str]
) -> None:
    """The process is killed right after the failure: then what the disk holds is all there is."""
    answers: list[str] = []
    for when in (1, 2, 4, 7, 12):
        path = tmp_path / f"{when}.db"
        store = SQLiteStore(str(path))
        store.create_tables()
        store.close()
        fault = [require("strace"), "-f", "-qq", "-o", os.devnull, "-P", f"{path}-wal", "-P", str(path)]
        fault += ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
        found = subprocess.run(
            [*fault, sys.executable, "-c", WRITER, path], capture_output=True, text=True, check=False, timeout=60
        )
        told = dict(line.split() for line in found.stdout.splitlines())
        with sqlite3.connect(path) as connection:
            stored = {name for (name,) in connection.execute("SELECT originator_id FROM stored_events")}
        assert told, found.stderr
        assert {name for name, answer in told.items() if answer == "done"} <= stored
        assert not stored & {name for name, answer in told.items() if answer == "refused"}
        answers += told.values()
    assert set(answers) - {"done"}, "no call failed: the test is blind"


@contextmanager
def failing_disk(service: Any, strace: str, call: str, error: str) -> Iterator[None]:
    """While it lasts, every such call of a running service on its database fails."""
    database = service.data_dir / "imagestream.db"
    fault = [
        strace,
        "-f",
        "-qq",
        "-o",
        os.devnull,
        "-P",
        str(database),
        "-P",
        f"{database}-wal",
        "-p",
        str(service.pid),
    ]
    tracer = subprocess.Popen([*fault, "-e", f"trace={call}", "-e", f"inject={call}:error={error}"])
    try:
        tracers = Path(f"/proc/{service.pid}/task")
        while not all(f"TracerPid:\t{tracer.pid}" in (task / "status").read_text() for task in tracers.iterdir()):
            assert tracer.poll() is None, "strace could not follow the service"
            time.sleep(0.02)
        yield
    finally:
        tracer.terminate()
        tracer.wait(30)


@pytest.mark.parametrize(("call", "error"), [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC")])
def test_while_the_disk_fails_nothing_is_written_and_when_it_is_well_again_the_service_is_too(
    call: str, error: str, start_service: Start, require: Callable[[str], str]
) -> None:
    service = start_service()

    def create(name: str) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"metadata": {"name": name}}).encode()
        status, answer = service.request(f"{SPACE}/imagestreams", "POST", body, {"Content-Type": "application/json"})
        return status, json.loads(answer)

    assert create("before")[0] == 201
    refused, unknown = set(), set()
    with failing_disk(service, require("strace"), call, error):
        for number in range(4):
            status, answer = create(f"during-{number}")
            assert (status, answer["reason"]) == (503, "ServiceUnavailable")
            (refused if "nothing was stored" in answer["message"] else unknown).add(f"during-{number}")
            assert service.request(f"{SPACE}/imagestreams/before")[0] == 200
    assert create("after")[0] == 201
    names = {one["metadata"]["name"] for one in json.loads(service.request(f"{SPACE}/imagestreams")[1])["items"]}
    assert {"before", "after"} <= names
    assert not names & refused
    assert names <= {"before", "after"} | unknown
    service.stop()
    verified = run("verify", service.data_dir)
    assert verified.exit_code == 0, verified.output


def test_on_a_full_disk_the_service_goes_on_reading_and_room_is_enough_to_write_again(
    small_disk: Path, start_service: Start
) -> None:
    service = start_service("--data-dir", str(small_disk))

    def create(number: int) -> int:
        annotations = {"filling": "x" * 100_000}
        body = {"metadata": {"name": f"filling-{number}", "annotations": annotations}}
        headers = {"Content-Type": "application/json"}
        status, _ = service.request(f"{SPACE}/imagestreams", "POST", json.dumps(body).encode(), headers)
        return int(status)

    statuses = [create(number) for number in range(30)]
    done = statuses.count(201)
    assert 3 < done < 30
    assert set(statuses) == {201, 503}
    status, body = service.request(f"{SPACE}/imagestreams")
    assert (status, len(json.loads(body)["items"])) == (200, done)
    assert service.request("/readyz")[0] == 200
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert create(100) == 201
    service.stop()
    assert run("verify", small_disk).exit_code == 0


def test_a_store_that_can_not_be_read_is_answered_with_503_and_when_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = build(Settings(data_dir=tmp_path, import_controller="off"))
    try:
        client = create_app(services.settings, services).test_client()
        failing = Mock(side_effect=OperationalError("unable to open database file"))
        monkeypatch.setattr(SQLiteStore, "reading", failing)
        answer = client.get(f"{SPACE}/imagestreams/web")
        assert answer.status_code == 503
        assert json.loads(answer.data)["reason"] == "ServiceUnavailable"
        assert int(answer.headers["Retry-After"]) > 0
        assert "database file" not in answer.text
        assert client.get("/readyz").status_code >= 500
        monkeypatch.undo()
        assert client.get(f"{SPACE}/imagestreams/web").status_code == 404
    finally:
        services.close()


# --- the operator's commands


def run(command: str, directory: Path) -> Result:
    """Run a command of the operator's on a directory; what is not told in one line is raised."""
    found = CliRunner().invoke(main, [command, "--data-dir", str(directory)])
    if not isinstance(found.exception, SystemExit | None):
        raise found.exception
    return found


def serve(directory: Path) -> subprocess.CompletedProcess[str]:
    """Try to start a service on a directory that it should refuse."""
    command = [str(COMMAND), "serve", "--data-dir", str(directory), "--bind", "127.0.0.1:0"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def kept_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a service that has seen a bit of everything, and was stopped."""
    directory = tmp_path_factory.mktemp("kept")
    services = build(Settings(data_dir=directory, import_controller="off"))
    client = create_app(services.settings, services).test_client()

    def ask(method: str, path: str, body: Any = None, **headers: str) -> None:
        answer = client.open(f"{SPACE}/{path}", method=method, json=body, headers=headers)
        assert answer.status_code < 300, answer.text

    for stream in STREAMS:
        ask("POST", "imagestreams", {"metadata": {"name": stream, "labels": {"of": "test"}}})
    for number in range(140):
        digest = f"sha256:{number:064x}"
        image = {"metadata": {"name": digest}, "dockerImageReference": f"quay.io/team/one@{digest}"}
        body = {"metadata": {"name": "one", "namespace": "team"}, "image": image, "tag": f"t{number % 3}"}
        ask("POST", "imagestreammappings", body)
    ask("DELETE", "imagestreamtags/one:t2", **{"Idempotency-Key": "once"})
    ask("DELETE", "imagestreams/three")
    services.close()
    return directory


@pytest.fixture
def directory(kept_directory: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return Path(shutil.copytree(kept_directory, tmp_path / "data"))


def edit(directory: Path, statement: str) -> None:
    with sqlite3.connect(directory / "imagestream.db") as connection:
        assert connection.execute(statement).rowcount > 0


def dump(directory: Path) -> dict[str, list[tuple[Any, ...]]]:
    store = SQLiteStore(str(directory / "imagestream.db"))
    try:
        with store.reading() as rows:
            return checker.views(rows)
    finally:
        store.close()


def test_a_second_service_on_the_same_directory_is_refused_and_told_why(service: Any) -> None:
    second = serve(service.data_dir)
    assert (second.returncode, second.stdout) == (1, "")
    assert re.fullmatch(
        rf"Error: {re.escape(str(service.data_dir))} is in use by another imagestream-es process "
        rf"\(pid {service.pid}\); stop that one first, or choose another --data-dir\n",
        second.stderr,
    )
    assert service.request("/readyz")[0] == 200


def test_a_directory_is_free_again_after_its_service_was_killed(service: Any) -> None:
    service.kill()
    service.restart()
    assert service.request("/readyz")[0] == 200


def test_replay_gives_the_same_views_again(directory: Path) -> None:
    before = dump(directory)
    assert all(before.values())
    replayed = run("replay", directory)
    assert replayed.stdout == f"Rebuilt the views from {len(stream_log(directory)) + 141} events.\n"
    assert replayed.exit_code == 0
    assert dump(directory) == before


@pytest.mark.parametrize("table", [*read_model.KEYS, "projection"])
def test_replay_restores_views_that_were_lost(directory: Path, table: str) -> None:
    before = dump(directory)
    edit(directory, f"DELETE FROM {table}")
    assert run("replay", directory).exit_code == 0
    assert dump(directory) == before
    assert run("verify", directory).exit_code == 0


def test_a_service_that_finds_no_views_makes_them_at_its_start(directory: Path, start_service: Start) -> None:
    before = dump(directory)
    for table in before:
        edit(directory, f"DELETE FROM {table}")
    edit(directory, "DELETE FROM projection")
    service = start_service("--data-dir", str(directory))
    service.stop()
    assert dump(directory) == before


def test_verify_finds_nothing_wrong_and_changes_nothing(directory: Path) -> None:
    before = (directory / "imagestream.db").read_bytes()
    verified = run("verify", directory)
    first, second, last = verified.stdout.splitlines()
    events = len(stream_log(directory)) + 141
    assert first == f"Verified {events} events: the log is sound and all views agree with it."
    assert re.fullmatch(r"[1-9]\d* checkpoints of the service agree with it\.", second)
    assert re.fullmatch(rf"Checkpoint: {events}:[0-9a-f]{{64}}", last)
    assert verified.exit_code == 0
    assert (directory / "imagestream.db").read_bytes() == before


def test_verify_works_beside_a_service_that_is_written_to(service: Any) -> None:
    first = threading.Event()
    client = Client(service.address, "writer", str(SEED), first)
    for stream in STREAMS:
        client.create(stream)
    writing = threading.Thread(target=client.run)
    writing.start()
    assert first.wait(30)
    results = [run("verify", service.data_dir) for _ in range(2)]
    service.stop()
    writing.join()
    assert [(one.exit_code, one.stderr[:7]) for one in results] == [(0, "verify:")] * 2


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE streams SET version = 7 WHERE name = 'two'",
            "streams: in the row of id 3, version is 7, the log gives",
        ),
        (
            "UPDATE streams SET namespace = 'other' WHERE name = 'one'",
            "streams: in the row of id 2, namespace is 'other'",
        ),
        ("DELETE FROM streams WHERE name = 'one'", "streams: the row of id 2 is missing from the view"),
        ("DELETE FROM tags WHERE tag = 't0'", "tags: the row of stream 2, tag t0 is missing from the view"),
        (
            "INSERT INTO tags SELECT stream, 't9', document FROM tags WHERE tag = 't0'",
            "tags: the view has a row of stream 2, tag t9 that the log does not give",
        ),
        (
            "UPDATE tag_changes SET image = 'sha256:evil' WHERE position = 6",
            "tag_changes: in the row of stream 2, tag t0, position 6, slot 0, image is 'sha256:evil', the log gives",
        ),
        (
            "UPDATE tag_changes SET hidden = 99 WHERE position = 6",
            "tag_changes: in the row of stream 2, tag t0, position 6, slot 0, hidden is 99, the log gives None",
        ),
        ("UPDATE snapshots SET document = '{}'", "snapshots: in the row of stream 2, position"),
        ("DELETE FROM images WHERE name LIKE '%05'", f"images: the row of name sha256:{5:064} is missing"),
        (
            "UPDATE images SET document = '{}' WHERE name LIKE '%05'",
            f"images: in the row of name sha256:{5:064}, document is",
        ),
        (
            "UPDATE projection SET value = 3 WHERE name = 'position'",
            "the views are folded up to position 3, the log ends",
        ),
    ],
)
def test_verify_names_the_row_of_a_view_that_was_changed(directory: Path, statement: str, told: str) -> None:
    edit(directory, statement)
    verified = run("verify", directory)
    assert verified.exit_code == 1
    assert told in verified.stdout


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM stored_events WHERE rowid = 17", "no event at position 17: what comes behind position 16"),
        ("DELETE FROM stored_events WHERE rowid = 1", "no event at position 1: what comes behind position 0"),
        ("DELETE FROM stored_events WHERE rowid = (SELECT MAX(rowid) FROM stored_events)", "the log ends at"),
        ("UPDATE stored_events SET originator_version = 999 WHERE rowid = 17", "with versions from 999 to 999"),
        ("UPDATE stored_events SET rowid = 999 WHERE rowid = 17", "no event at position 17"),
        (
            "UPDATE stored_events SET state = replace(state, 'sha256:', 'sha512:') WHERE rowid = 6",
            "what is stored at position 6 is no event",
        ),
        (
            "UPDATE stored_events SET state = CAST(replace(state, 'sha256:', 'sha512:') AS BLOB) WHERE rowid = 6",
            "tag_changes: in the row of stream 2, tag t0, position 6",
        ),
        ("UPDATE stored_events SET state = substr(state, 5) WHERE rowid = 6", "position 6"),
        ("UPDATE stored_events SET topic = 'imagestream.unheard-of' WHERE rowid = 6", "position 6"),
        (
            "UPDATE stored_events SET topic = 'imagestream.tag-deleted',"
            """ state = replace(state, '"put":', '"dropped":["none"],"put":') WHERE rowid = 6""",
            "position 6",
        ),
    ],
)
def test_verify_finds_a_log_that_was_tampered_with(directory: Path, statement: str, told: str) -> None:
    edit(directory, statement)
    verified = run("verify", directory)
    assert verified.exit_code == 1
    assert told in verified.output


def test_a_service_does_not_start_on_a_log_that_it_can_not_read_and_tells_where(
    directory: Path,
) -> None:
    edit(directory, "UPDATE stored_events SET state = substr(state, 5) WHERE rowid = 6")
    edit(directory, "DELETE FROM projection")
    failed = serve(directory)
    assert failed.returncode == 1
    assert "position 6" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_service_does_not_start_on_a_log_that_lost_its_end_until_the_loss_is_accepted(
    directory: Path, start_service: Start
) -> None:
    edit(directory, "DELETE FROM stored_events WHERE rowid > 20")
    failed = serve(directory)
    assert failed.returncode == 1
    assert "the log ends at 20: what came behind is lost" in failed.stderr
    assert "Traceback" not in failed.stderr
    log = run("verify", directory).stdout.split()[-1]
    start_service("--data-dir", str(directory), "--accept-log", log).stop()
    assert run("verify", directory).exit_code == 0

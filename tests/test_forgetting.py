"""A person is forgotten while the service runs: no byte of the name is left, and the log is what it was."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from imagestream_es.access.identity import User
from imagestream_es.application.principals import Principals
from imagestream_es.cli import main
from imagestream_es.persistence import principals as table
from imagestream_es.persistence.sqlite import SQLiteStore

NAME = "wilhelmina-murray"
SECRET = "the-hook-secret"
DIGEST = f"sha256:{7:064x}"
SPACE = "/apis/image.openshift.io/v1/namespaces/team"


@pytest.fixture
def run() -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], env={})

    return run


@pytest.fixture
def start(start_service: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Starts a service that takes pushes in; the images are known, so the registry need not be there."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)

    def start(*options: str) -> Any:
        registry = ["--registry-url", "http://127.0.0.1:9", "--registry-webhook-secret-file", str(secret)]
        return start_service(*registry, *options)

    return start


def prepare(service: Any) -> None:
    body = json.dumps({"metadata": {"name": "app"}, "image": {"metadata": {"name": DIGEST}}, "tag": "first"})
    for resource in ("imagestreams", "imagestreammappings"):
        status, answer = service.request(f"{SPACE}/{resource}", "POST", body.encode())
        assert status == 201, answer


def push(service: Any, tag: str, name: str) -> None:
    """Have the registry tell that somebody pushed the known image."""
    target = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": DIGEST}
    event = {
        "id": f"id-{tag}",
        "timestamp": "2016-01-01T00:00:00Z",
        "action": "push",
        "target": {**target, "repository": "team/app", "tag": tag},
        "actor": {"name": name},
    }
    headers = {"Authorization": f"Bearer {SECRET}"}
    status, _ = service.request("/hooks/registry", "POST", json.dumps({"events": [event]}).encode(), headers)
    assert status == 202


def tags(service: Any) -> set[str]:
    found = json.loads(service.request(f"{SPACE}/imagestreams/app")[1])
    return {tag["tag"] for tag in found["status"]["tags"]}


def await_tag(service: Any, tag: str) -> None:
    end = time.monotonic() + 60
    while tag not in tags(service):
        assert time.monotonic() < end
        time.sleep(0.02)


def actors(connection: Any, tag: str) -> set[str]:
    """Who put an entry on a tag, as the log names them."""
    events = [json.loads(bytes(state)) for (state,) in connection.execute("SELECT state FROM stored_events").fetchall()]
    return {event["by"]["actor"] for event in events if any(put["tag"] == tag for put in event.get("put", ()))}


def log_of(connection: Any) -> list[Any]:
    found = connection.execute("SELECT * FROM stored_events").fetchall()
    return sorted(tuple(bytes(part) if isinstance(part, memoryview) else part for part in row) for row in found)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[list[str], Callable[[Any], Any]]]:
    """Options that name a database, and how to look into it."""
    if request.param == "sqlite":
        yield [], lambda service: closing(sqlite3.connect(service.data_dir / "imagestream.db"))
    else:
        url = request.getfixturevalue("postgres_url")
        yield ["--database-url", url], lambda _: psycopg.connect(url, autocommit=True)


def test_a_person_is_forgotten_while_the_service_runs_and_comes_back_as_another(start, run, place) -> None:
    options, look = place
    service = start(*options)
    where = options or ["--data-dir", str(service.data_dir)]
    prepare(service)
    push(service, "before", NAME)
    push(service, "others", "somebody-else")
    await_tag(service, "others")
    await_tag(service, "before")
    listed = run("principals", "list", *where).output.splitlines()
    assert [line.split()[1:3] for line in listed] == [
        ["NAME", "ISSUER"],
        ["somebody-else", "registry"],
        [NAME, "registry"],
    ]
    with look(service) as connection:
        before = log_of(connection)
        (first,) = actors(connection, "before")
        assert run("principals", "forget", NAME, *where).output == "Forgot 1 user of that name.\n"
        assert log_of(connection) == before
    assert NAME not in run("principals", "list", *where).output
    again = run("principals", "forget", NAME, *where)
    assert (again.exit_code, again.output) == (0, "Nobody of that name is known.\n")
    push(service, "after", NAME)
    await_tag(service, "after")
    with look(service) as connection:
        (second,) = actors(connection, "after")
        assert first != second
        (other,) = actors(connection, "others")
    ids = [line.split()[0] for line in run("principals", "list", *where).output.splitlines()[1:]]
    assert ids == [other, second]
    assert run("verify", *where).exit_code == 0


def test_no_byte_of_the_name_is_left_in_any_file(start, run) -> None:
    """With many others around it, such that the table has pages that were split and filled again."""
    service = start()
    prepare(service)
    push(service, "before", NAME)
    await_tag(service, "before")
    with closing(SQLiteStore(str(service.data_dir / "imagestream.db"))) as store:
        known = Principals(store, lambda: 1)
        for issuer in range(4):
            for number in range(25):
                known.id_of(User(f"person {number} {'x' * (7 * number)}", issuer=f"oidc:{issuer}"))
            known.id_of(User(NAME, issuer=f"oidc:{issuer}"))
        known.id_of(User(f"{NAME} {'y' * 9000}", issuer="long"))
        staying = [one for one in everybody(store) if not one.name.startswith(NAME)]
    assert files_with_name(service)
    for name, gone in ((NAME, 5), (f"{NAME} {'y' * 9000}", 1)):
        found = run("principals", "forget", name, "--data-dir", service.data_dir)
        assert (found.exit_code, found.output.split()[1]) == (0, str(gone))
    assert files_with_name(service) == []
    with closing(SQLiteStore(str(service.data_dir / "imagestream.db"))) as store:
        assert everybody(store) == staying
    service.stop()
    assert files_with_name(service) == []


def everybody(store: SQLiteStore) -> list[table.Principal]:
    with store.reading() as rows:
        return table.everybody(rows)


def files_with_name(service: Any) -> list[str]:
    """The files that the service wrote and that hold the name, what it wrote to stderr included."""
    files = [path for path in service.data_dir.parent.rglob("*") if path.is_file()]
    return [path.name for path in files if NAME.encode() in path.read_bytes()]


def test_the_service_goes_on_writing_while_somebody_is_forgotten(start, run) -> None:
    service = start()
    prepare(service)
    done = threading.Event()
    refused = []

    def write() -> None:
        number = 0
        while not done.is_set():
            body = json.dumps({"metadata": {"name": f"other-{number}"}}).encode()
            status, answer = service.request(f"{SPACE}/imagestreams", "POST", body)
            number += 1
            if status != 201:
                refused.append(answer)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        push(service, "before", NAME)
        assert run("principals", "forget", NAME, "--data-dir", service.data_dir).output.startswith("Forgot 1 ")
    finally:
        done.set()
        writer.join()
    assert refused == []
    assert files_with_name(service) == []


def test_a_reader_of_the_past_delays_only_the_bytes(start, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagestream_es.persistence.sqlite.CHECKPOINT_TRIES", 1)
    service = start()
    prepare(service)
    push(service, "before", NAME)
    await_tag(service, "before")
    with closing(sqlite3.connect(service.data_dir / "imagestream.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM stored_events").fetchone()
        found = run("principals", "forget", NAME, "--data-dir", service.data_dir)
        assert found.exit_code == 1
        assert "may still be in it. Run this again" in found.output
    assert NAME not in run("principals", "list", "--data-dir", service.data_dir).output
    again = run("principals", "forget", NAME, "--data-dir", service.data_dir)
    assert (again.exit_code, again.output) == (0, "Nobody of that name is known.\n")
    assert files_with_name(service) == []


def test_in_postgres_no_byte_of_the_table_is_left(postgres_url: str, postgres_cluster: str, run, tmp_path) -> None:
    from imagestream_es.persistence.postgres import PostgresStore  # noqa: PLC0415 (its driver is heavy)

    with closing(PostgresStore(postgres_url)) as store, psycopg.connect(postgres_url, autocommit=True) as connection:
        store.create_tables()
        known = Principals(store, lambda: 1)
        for number in range(50):
            known.id_of(User(f"person {number}", issuer="oidc"))
        known.id_of(User(NAME, issuer="oidc"))
        connection.execute("CHECKPOINT")
        directory = Path(one(connection, "SHOW data_directory"))
        assert NAME.encode() in table_file(connection, directory)
        assert run("principals", "forget", NAME, "--database-url", postgres_url).output.startswith("Forgot 1 ")
        connection.execute("CHECKPOINT")
        database = one(connection, "SELECT oid FROM pg_database WHERE datname = current_database()")
        files = [path for path in (directory / "base" / str(database)).iterdir() if path.is_file()]
        assert b"person 7" in table_file(connection, directory)
        assert [path for path in files if NAME.encode() in path.read_bytes()] == []


def one(connection: Any, query: str) -> Any:
    return connection.execute(query).fetchone()[0]


def table_file(connection: Any, directory: Path) -> bytes:
    return (directory / one(connection, "SELECT pg_relation_filepath('principals')")).read_bytes()


def test_a_killed_service_leaves_no_event_of_an_unknown_user(start) -> None:
    service = start()
    prepare(service)
    told = threading.Event()

    def tell() -> None:
        with suppress(OSError, AssertionError):
            for number in range(10**6):
                push(service, f"tag-{number}", f"user-{number}")
                if number == 20:
                    told.set()

    thread = threading.Thread(target=tell)
    thread.start()
    assert told.wait(60)
    service.kill()
    thread.join()
    with closing(sqlite3.connect(service.data_dir / "imagestream.db")) as connection:
        known = {found for (found,) in connection.execute("SELECT id FROM principals")}
        events = connection.execute("SELECT state FROM stored_events").fetchall()
    actors = {json.loads(state)["by"]["actor"] for (state,) in events}
    users = {actor for actor in actors if not actor.startswith("system:")}
    assert users
    assert users <= known


# --- the command


def test_what_a_name_holds_does_nothing_to_a_terminal(run, tmp_path: Path) -> None:
    with closing(SQLiteStore(str(tmp_path / "imagestream.db"))) as store:
        store.create_tables()
        Principals(store, lambda: 86_400_000).id_of(User("a\x1b[2Jb", issuer="oidc:\n"))
    heading, line = run("principals", "list", "--data-dir", tmp_path).output.splitlines()
    assert heading.split("  ")[0] == "ID"
    assert line.split()[1:] == [r"'a\x1b[2Jb'", r"'oidc:\n'", "1970-01-02T00:00:00Z", "1970-01-02T00:00:00Z"]


def test_without_a_log_the_command_says_where_it_looked(run, tmp_path: Path) -> None:
    for arguments in (("list",), ("forget", "alice")):
        found = run("principals", *arguments, "--data-dir", tmp_path)
        assert found.exit_code == 1
        assert f"there is no log at {tmp_path}/imagestream.db" in found.output

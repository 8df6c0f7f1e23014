"""Views are folded anew while the service runs, by a replay that may be interrupted, on both kinds of store."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checker
import pytest
from click.testing import CliRunner, Result
from eventsourcing.persistence import StoredEvent
from histories import Step, World, histories, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.application.commands import Commands
from imagestream_es.application.writer import Writer
from imagestream_es.bootstrap import open_store
from imagestream_es.cli import main
from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.persistence import read_model, shadow, tables
from imagestream_es.persistence.directory import DirectoryInUse, DirectoryLock
from imagestream_es.projections import projector
from imagestream_es.recovery import refill
from imagestream_es.recovery import replay as replaying
from imagestream_es.settings import Settings
from imagestream_es.verification import verify

KINDS = ["sqlite", "postgresql"]
PUSHES = 700


def quiet(_done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def log() -> list[tuple[int, StoredEvent]]:
    """Some hundred events."""
    world = World()
    for name in ("web", "base"):
        world.commands.create_image_stream(world.caller(None), "shop", name, DesiredStream())
    for number in range(PUSHES):
        push(world, world.commands, number)
    with world.store.reading() as rows:
        found = list(rows.log(0, rows.head()))
    world.close()
    return found


def push(world: World, commands: Commands, number: int) -> None:
    image, name, tag = f"sha256:{number % 50:064x}", ("web", "base")[number % 2], f"v{number % 3}"
    commands.map_image(world.caller(None), "shop", name, tag, image, {}, f"r@{image}", managed=False).outcome()


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path, log: list[tuple[int, StoredEvent]]) -> Settings:
    """Where that log is."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    found = Settings(data_dir=tmp_path / "data", database_url=url)
    found.data_dir.mkdir()
    with closing(open_store(found)) as store:
        store.create_tables()
        with store.writing() as rows:
            refill.fill(rows, log, len(log), quiet)
    return found


def options(settings: Settings) -> list[str]:
    if settings.database_url:
        return ["--database-url", settings.database_url]
    return ["--data-dir", str(settings.data_dir)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def views(settings: Settings) -> dict[str, Any]:
    with closing(open_store(settings)) as store, store.reading() as rows:
        return checker.views(rows)


def spoil(settings: Settings) -> None:
    """Damage every view but the one that says how far they are folded."""
    with closing(open_store(settings)) as store, store.writing() as rows:
        for view in tables.VIEWS:
            if view != "projection":
                rows.run(f"DELETE FROM {view} WHERE EXISTS (SELECT 1)")


def test_a_replay_gives_the_views_that_the_commands_gave(settings: Settings) -> None:
    before = views(settings)
    spoil(settings)
    assert not verify(settings, quiet).ok
    for _ in range(3):  # the names of what it makes take turns
        told = run("replay", *options(settings))
        assert told.exit_code == 0, told.output
        assert re.fullmatch(r"Rebuilt the views from \d+ events\.\n", told.stdout)
        assert views(settings) == before
        assert verify(settings, quiet).ok


def test_a_replay_leaves_no_table_and_no_index_of_its_own(settings: Settings) -> None:
    before = made(settings)
    for _ in range(2):
        assert run("replay", *options(settings)).exit_code == 0
        with closing(open_store(settings)) as store:
            store.create_tables()  # as the service does at its start
        assert made(settings) == before


def made(settings: Settings) -> list[tuple[str, str]]:
    """The tables and indexes of a store; both names of an index are one."""
    query = (
        "SELECT tablename, indexname FROM pg_indexes WHERE schemaname NOT LIKE 'pg%'"
        if settings.database_url
        else "SELECT tbl_name, name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        " UNION ALL SELECT name, '' FROM sqlite_master WHERE type = 'table'"
    )
    with closing(open_store(settings)) as store, store.reading() as rows:
        return sorted((table, re.sub(r"_b$|\d$", "", index)) for table, index in rows.all(query))


def test_one_projection_is_its_table(settings: Settings) -> None:
    before = views(settings)
    spoil(settings)
    told = run("replay", "--projection", "images", "--projection", "moments", *options(settings))
    assert told.stdout.startswith("Rebuilt images, moments from ")
    after = views(settings)
    assert {view for view in before if after[view] == before[view]} >= {"images", "moments"}
    assert after["streams"] == after["tag_changes"] == []


def test_a_projection_that_there_is_not_is_told_of_in_one_line(settings: Settings) -> None:
    refused = run("replay", "--projection", "imags", *options(settings))
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "name one of streams, tags, tag_changes" in refused.stderr


def test_one_projection_can_not_join_views_that_are_behind(settings: Settings) -> None:
    with closing(open_store(settings)) as store, store.writing() as rows:
        read_model.set_folded_until(rows, 5, 0)
    assert "replay all of them" in run("replay", "--projection", "images", *options(settings)).stderr
    assert run("replay", *options(settings)).exit_code == 0
    assert verify(settings, quiet).ok


def test_only_one_replay_runs_on_a_log(settings: Settings) -> None:
    with closing(open_store(settings)) as store, store.alone("replay"):
        refused = run("replay", *options(settings))
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "another replay is under way" in refused.stderr
    assert run("replay", *options(settings)).exit_code == 0


def test_without_a_log_there_is_nothing_to_replay(tmp_path: Path) -> None:
    refused = run("replay", "--data-dir", tmp_path)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert list(tmp_path.iterdir()) == []


# --- interrupted


def begun(settings: Settings, after: int) -> None:
    """A replay that ended when it had folded so many transactions."""

    class Killed(Exception):
        pass

    def progress(_done: int, _total: int) -> None:
        nonlocal after
        after -= 1
        if after == 0:
            raise Killed

    with pytest.raises(Killed):
        replaying.replay(settings, (), progress)


@pytest.fixture
def served(settings: Settings) -> Iterator[None]:
    """To who replays, a service seems to run."""
    with DirectoryLock(settings.data_dir):
        yield


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch, served: None) -> None:
    monkeypatch.setattr(replaying, "TAIL", 100)


def test_an_interrupted_replay_goes_on_from_where_it_stood(settings: Settings, small_steps: None) -> None:
    before = views(settings)
    begun(settings, 2)
    assert views(settings) == before
    told = run("replay", *options(settings))
    assert re.match(r"Went on behind position \d{3}, where a replay was interrupted\.\n", told.stdout), told.output
    assert verify(settings, quiet).ok
    assert views(settings) == before


def test_what_happened_since_an_interrupted_replay_is_folded_too(settings: Settings, small_steps: None) -> None:
    begun(settings, 3)
    world = World()
    with closing(open_store(settings)) as store:
        writer = Writer(store, "registry:5000", lambda _: None)
        writer.start(world.caller(None).by, "log")
        commands = Commands(writer, "registry:5000", world._uid)
        for number in range(30):
            push(world, commands, number)
        writer.close()
    world.close()
    assert run("replay", *options(settings)).stdout.startswith("Went on")
    assert verify(settings, quiet).ok


@pytest.mark.parametrize("change", ["log", "program", "shape"])
def test_a_replay_that_folded_something_else_is_not_gone_on_with(
    change: str, settings: Settings, small_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(settings, 2)
    with closing(open_store(settings)) as store:
        if change == "log":
            with store.writing() as rows:
                rows.run(f"UPDATE stored_events SET originator_id = 'shop/other' WHERE {rows.POSITION} = 9")
                rows.regrow()
        elif change == "program":
            monkeypatch.setattr(replaying, "version", lambda _: "0")
        else:
            with store.shadow() as rows:
                rows.run("UPDATE projection SET value = 0 WHERE name = 'shape'")
    assert "Went on" not in run("replay", *options(settings)).stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_replay_does_the_views_no_harm_and_is_gone_on_with(
    number: int, settings: Settings, served: None
) -> None:
    before = views(settings)
    program = (
        "import os, sys\nfrom imagestream_es.cli import main\nfrom imagestream_es.recovery import replay\n"
        "replay.TAIL = 100\nfollow, fold, calls = replay._follow, replay.projector.fold, []\n"
        "def folded(*some):\n    calls.append(1)\n    done = fold(*some)\n"
        f"    len(calls) == 3 and os.kill(os.getpid(), {int(number)})\n    return done\n"
        "replay.projector.fold = folded\nmain(sys.argv[1:])"
    )
    assert ended_by(number, program, settings)
    assert views(settings) == before
    assert verify(settings, quiet).ok
    assert run("replay", *options(settings)).stdout.startswith("Went on behind position")
    assert views(settings) == before


def ended_by(number: int, program: str, settings: Settings) -> bool:
    """Whether a signal ended a program that replays."""
    ended = subprocess.run(
        [sys.executable, "-c", program, "replay", *options(settings)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode == (130 if number == signal.SIGINT else -number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_killed_replay_where_no_service_runs_begins_anew(number: int, settings: Settings) -> None:
    before, there = views(settings), made(settings)
    program = (
        "import os, sys\nfrom imagestream_es.cli import main\nfrom imagestream_es.projections import projector\n"
        "end = projector.Changes.end\n"
        f"def ended(*of):\n    end(*of)\n    os.kill(os.getpid(), {int(number)})\n"
        "projector.Changes.end = ended\nmain(sys.argv[1:])"
    )
    assert ended_by(number, program, settings)
    assert views(settings) == before
    assert verify(settings, quiet).ok
    assert run("replay", *options(settings)).stdout.startswith("Rebuilt")
    assert (views(settings), made(settings)) == (before, there)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_no_service_begins_while_a_replay_folds_all_at_once_and_no_replay_does_so_beside_a_service(
    settings: Settings,
) -> None:
    directory = DirectoryLock(settings.data_dir)
    with closing(open_store(settings)) as store:
        with store.shadow_alone() as rows, pytest.raises(DirectoryInUse), directory:
            pytest.fail(f"a service began beside {rows}")
        with directory, store.shadow_alone() as rows:
            assert rows is None


def test_what_was_left_after_the_swap_is_cleared_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made(settings)
    with closing(open_store(settings)) as store:
        kind, drop = type(store), type(store).drop_shadow

    def killed(store: Any) -> None:
        with store.reading() as rows:
            _, generation = read_model.standing(rows)
        if generation:
            raise KeyboardInterrupt
        drop(store)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "drop_shadow", killed)
        with pytest.raises(KeyboardInterrupt):
            replaying.replay(settings, ("images",), quiet)
    assert verify(settings, quiet).ok
    assert run("replay", *options(settings)).exit_code == 0
    assert verify(settings, quiet).ok
    assert made(settings) == before


def test_without_room_a_replay_gives_up_and_takes_none(small_disk: Path, log: list[tuple[int, StoredEvent]]) -> None:
    settings = Settings(data_dir=small_disk)
    with closing(open_store(settings)) as store:
        store.create_tables()
        with store.writing() as rows:
            refill.fill(rows, log, len(log), quiet)
    before = views(settings)
    filling = small_disk / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while shutil.disk_usage(small_disk).free > 250_000:
            file.write(bytes(10_000))
    told = run("replay", *options(settings))
    assert (told.exit_code, told.stderr.count("Error: ")) == (1, 1), told.output
    assert "there is no room for a second set of the views" in told.stderr
    assert views(settings) == before
    filling.unlink()
    with closing(open_store(settings)) as store:
        assert not store.has_shadow()
    assert run("replay", *options(settings)).exit_code == 0
    assert verify(settings, quiet).ok


@thoroughly
@given(st.booleans(), histories)
def test_whatever_was_commanded_a_replay_gives_the_same_views(at_once: bool, steps: list[Step]) -> None:
    world = World()
    try:
        for _ in world.live_through(steps):
            pass
        with world.store.reading() as rows:
            before = checker.views(rows)
        with pytest.MonkeyPatch.context() as patch:
            if not at_once:
                patch.setattr(replaying, "_fold_at_once", lambda *_: 0)
            replaying.refold(world.store, shadow.chosen(()), quiet)
        with world.store.reading() as rows:
            assert checker.views(rows) == before
    finally:
        world.close()


def test_no_column_has_the_name_of_a_view(settings: Settings) -> None:
    with closing(open_store(settings)) as store, store.reading() as rows:
        columns = {column for table in (*tables.KEPT, *tables.VIEWS) for column in rows.columns(table)}
    assert not columns & set(tables.VIEWS)  # or `shadowed` would take it for one


def test_views_of_another_shape_take_a_shadow_of_theirs_with_them(settings: Settings, small_steps: None) -> None:
    before, there = views(settings), made(settings)
    begun(settings, 2)
    with closing(open_store(settings)) as store:
        with store.writing() as rows:
            rows.run("UPDATE projection SET value = 0 WHERE name = 'shape'")
        store.create_tables()
        if settings.database_url is None:  # PostgreSQL keeps it where it is in nobody's way
            assert made(settings) == there
        projector.catch_up(store)
    assert views(settings) == before
    assert run("replay", *options(settings)).exit_code == 0
    assert (views(settings), made(settings)) == (before, there)


def test_who_reads_while_the_views_are_replaced_goes_on_with_what_was_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = views(settings)
    spoil(settings)
    wrong, waits = views(settings), threading.Event()
    monkeypatch.setattr(replaying, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: waits.set()))
    replay = threading.Thread(target=replaying.replay, args=(settings, (), quiet))
    with closing(open_store(settings)) as store:
        with store.reading() as rows:
            rows.head()
            replay.start()
            if settings.database_url is None:
                replay.join()
                assert views(settings) == right
            else:
                assert waits.wait(120)  # it can't end before this does, and lets others read meanwhile
                assert views(settings) == wrong
            assert checker.views(rows) == wrong
        replay.join()
    assert views(settings) == right


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)  # on SQLite nobody waits for those who read
def test_a_replay_that_can_not_end_for_those_who_read_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "TRIES", 2)
    with closing(open_store(settings)) as store, store.reading() as rows:
        rows.head()
        told = run("replay", *options(settings))
    assert (told.exit_code, told.stderr.count("Error: ")) == (1, 1)
    assert "run this again when they are done" in told.stderr
    assert run("replay", *options(settings)).stdout.startswith("Went on")


# --- while the service runs


@pytest.mark.parametrize("kind", KINDS)
def test_the_service_goes_on_under_replays(
    kind: str, start_service: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    service = start_service(*(["--database-url", url] if url else []))
    place = ["--database-url", url] if url else ["--data-dir", str(service.data_dir)]
    base = "/apis/image.openshift.io/v1/namespaces/shop"
    headers = {"Content-Type": "application/json"}

    def create(number: int) -> int:
        body = json.dumps({"metadata": {"name": f"s{number}"}, "spec": {"tags": [{"name": "t"}]}}).encode()
        return int(service.request(f"{base}/imagestreams", "POST", body, headers)[0])

    def listed() -> list[str]:
        status, body = service.request(f"{base}/imagestreams")
        assert status == 200, body
        return [item["metadata"]["name"] for item in json.loads(body)["items"]]

    made, wrong, ended = 0, [], threading.Event()
    for made in range(1, 41):
        assert create(made) == 201

    def read() -> None:
        while not ended.is_set():
            least = made
            found = listed()
            if len(found) < least:
                wrong.append(f"{len(found)} of {least}")

    watched: list[str] = []

    def watch() -> None:
        _, body = service.request(f"{base}/imagestreams?watch=1&resourceVersion=1&timeoutSeconds=8")
        watched.extend(json.loads(one)["object"]["metadata"]["name"] for one in body.splitlines())

    threads = [threading.Thread(target=read), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    command = [str(Path(sys.executable).with_name("imagestream-es")), "replay", *place]
    replays = 0
    try:
        while replays < 3 or threads[1].is_alive():
            under_way = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            while under_way.poll() is None:
                assert create(made + 1) == 201
                made += 1  # now that it is acknowledged, each list must have it
            assert under_way.returncode == 0, under_way.communicate()
            under_way.communicate()
            replays += 1
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong
    everything = [f"s{number}" for number in range(1, made + 1)]
    assert sorted(listed()) == sorted(everything)
    assert watched == everything[: len(watched)]
    assert len(watched) > 40
    verified = run("verify", *place)
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize("kind", KINDS)
def test_a_running_service_forgets_what_it_kept_of_the_views_before(
    kind: str, start_service: Any, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    service = start_service(*(["--database-url", url] if url else []))
    settings = Settings(data_dir=service.data_dir, database_url=url)
    base = "/apis/image.openshift.io/v1/namespaces/shop/imagestreams"
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"metadata": {"name": "web"}, "spec": {"tags": [{"name": "t"}]}}).encode()
    assert service.request(base, "POST", body, headers)[0] == 201
    service.stop()
    with closing(open_store(settings)) as store, store.writing() as rows:
        ((document,),) = rows.all("SELECT document FROM streams")
        rows.run("UPDATE streams SET document = ?", bytes(document).replace(b'"uid":"', b'"uid":"not-'))
    service.restart()
    patch = {"Content-Type": "application/merge-patch+json"}
    refused = b'{"metadata":{"resourceVersion":"1","labels":{"a":"b"}}}'
    assert service.request(f"{base}/web", "PATCH", refused, patch)[0] == 409  # now the writer has read it
    assert b'"uid":"not-' in service.request(base)[1]
    assert run("replay", *options(settings)).exit_code == 0
    deadline = time.monotonic() + 60
    while b'"uid":"not-' in service.request(base)[1]:
        assert time.monotonic() < deadline, "the service still tells what was in the views before"
        time.sleep(0.1)
    assert service.request(f"{base}/web", "PATCH", b'{"metadata":{"labels":{"a":"b"}}}', patch)[0] == 200
    assert verify(settings, quiet).ok


@pytest.mark.drill
@pytest.mark.parametrize("kind", KINDS)
def test_replays_killed_again_and_again_under_load_do_no_harm(
    kind: str, start_service: Any, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    service = start_service(*(["--database-url", url] if url else []))
    settings = Settings(data_dir=service.data_dir, database_url=url)
    base, headers = "/apis/image.openshift.io/v1/namespaces/shop/imagestreams", {"Content-Type": "application/json"}
    statuses: list[int] = []
    ended, chance = threading.Event(), random.Random(7)

    def write() -> None:
        while not ended.is_set():
            body = {"metadata": {"name": f"s{len(statuses)}"}, "spec": {"tags": [{"name": "t"}]}}
            statuses.append(service.request(base, "POST", json.dumps(body).encode(), headers)[0])

    writer = threading.Thread(target=write)
    writer.start()
    command = [str(Path(sys.executable).with_name("imagestream-es")), "replay", *options(settings)]
    try:
        for _ in range(12):
            under_way = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with suppress(subprocess.TimeoutExpired):
                under_way.wait(chance.uniform(0.3, 3))
            under_way.kill()
            under_way.wait()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
    finally:
        ended.set()
        writer.join()
    assert set(statuses) == {201}
    listed = json.loads(service.request(base)[1])["items"]
    assert {item["metadata"]["name"] for item in listed} == {f"s{number}" for number in range(len(statuses))}
    assert verify(settings, quiet).ok

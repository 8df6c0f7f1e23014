"""Backups, exports and what comes back from them, on both kinds of store."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import checker
import msgspec
import psycopg
import pytest
from click.testing import CliRunner, Result
from eventsourcing.persistence import StoredEvent
from histories import Step, World, histories, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.application.commands import Commands
from imagestream_es.application.writer import Writer
from imagestream_es.bootstrap import build, open_store
from imagestream_es.cli import main
from imagestream_es.domain.image_stream import DesiredStream
from imagestream_es.persistence import inbox, tables
from imagestream_es.persistence.directory import DirectoryLock
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Store
from imagestream_es.projections import projector
from imagestream_es.recovery import refill, wholeness
from imagestream_es.recovery.export import event_of, line
from imagestream_es.settings import Settings, SettingsError

KINDS = ["sqlite", "postgresql"]
LOG_ID = "00000000-0000-4000-8000-000000000000"


def run(*arguments: object, **env: str) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], env=env)


def good(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """The options that name a store of a kind: a new data directory, or the test's one database."""

    def place(kind: str) -> list[str]:
        if kind == "sqlite":
            return ["--data-dir", str(tmp_path / f"data{len(list(tmp_path.iterdir()))}")]
        return ["--database-url", str(request.getfixturevalue("postgres_url"))]

    return place


def opened(options: list[str]) -> Store:
    option, value = options
    settings = Settings(database_url=value) if option == "--database-url" else Settings(data_dir=Path(value))
    if option == "--data-dir":
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    return open_store(settings)


def live(options: list[str], tags: int = 30) -> None:
    """A log of some streams, with a user, a waiting push, and an image."""
    world = World()
    with closing(opened(options)) as store:
        store.create_tables()
        writer = Writer(store, "registry:5000", lambda _: None)
        writer.start(world.caller(None).by, LOG_ID)
        commands = Commands(writer, "registry:5000", world._uid)
        for name in ("web", "base"):
            commands.create_image_stream(world.caller(None), "shop", name, DesiredStream())
        for number in range(tags):
            image = f"sha256:{number % 7:064}"
            document = {
                "dockerImageReference": msgspec.Raw(b'"r"'),
                "dockerImageMetadata": msgspec.Raw('{"a":"ü"}'.encode()),
            }
            commands.map_image(
                world.caller(None), "shop", "web", f"v{number % 3}", image, document, f"r@{image}", managed=False
            ).outcome()
        writer.close()
        with store.writing() as rows:
            inbox.add(rows, [inbox.Arrival("1", "shop/web", "webhook", 5, b"{}")])
            rows.run("INSERT INTO principals (id, issuer, name, first_seen, last_seen) VALUES ('u','i','Ann',1,2)")
    world.close()


def contents(options: list[str]) -> dict[str, Any]:
    with closing(opened(options)) as store, store.reading() as rows:
        return {
            "log": [
                (position, e.originator_id, e.originator_version, e.topic, bytes(e.state))
                for position, e in rows.log(0, rows.head())
            ],
            "tree": [(size, bytes(peaks)) for size, peaks in rows.trees()],
            "views": checker.views(rows),
            "people": rows.all("SELECT id, name FROM principals ORDER BY id"),
            "pushes": rows.all("SELECT number, id, repository FROM pushes ORDER BY number"),
        }


def checkpoint(result: Result) -> str:
    (found,) = re.findall(r"^Checkpoint: (\d+:[0-9a-f]{64})$", result.output, re.MULTILINE)
    return str(found)


@pytest.mark.parametrize("kind", KINDS)
def test_every_table_of_a_store_is_on_the_page_of_tables(kind: str, place: Any) -> None:
    options = place(kind)
    with closing(opened(options)) as store:
        store.create_tables()
        query = {
            "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
            "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
        }[kind]
        with store.reading() as rows:
            assert {name for (name,) in rows.all(query)} == {*tables.KEPT, *tables.VIEWS}


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_a_backup_comes_back_whole_in_either_kind_of_store(
    source: str, target: str, place: Any, tmp_path: Path
) -> None:
    options = place(source)
    live(options)
    before = contents(options)
    made = good("backup", tmp_path / "backup", *options)
    if source == target == "postgresql":
        with psycopg.connect(options[1], autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    elsewhere = place(target)
    restored = good("restore", tmp_path / "backup", *elsewhere)
    assert checkpoint(restored) == checkpoint(made)
    assert contents(elsewhere) == before
    verified = good("verify", *elsewhere)
    assert checkpoint(verified) == checkpoint(made)


def test_a_backup_says_what_it_holds(place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    made = good("backup", tmp_path / "backup", *options)
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == ["imagestream.db", "manifest.json"]
    manifest = json.loads((tmp_path / "backup/manifest.json").read_text())
    assert manifest["checkpoint"] == checkpoint(made)
    assert manifest["position"] == len(contents(options)["log"])
    assert set(manifest["files"]) == {"imagestream.db"}
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0


def test_a_backup_in_which_one_bit_flipped_is_refused(place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    good("backup", tmp_path / "backup", *options)
    file = tmp_path / "backup/imagestream.db"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    for more in ([], ["--until", "5"]):
        refused = run("restore", tmp_path / "backup", "--data-dir", tmp_path / "new", *more)
        assert refused.exit_code == 1
        assert "is not the file that was backed up" in refused.stderr
        assert not (tmp_path / "new/imagestream.db").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_brought_back_over_a_log(kind: str, place: Any, tmp_path: Path) -> None:
    options = place(kind)
    live(options)
    before = contents(options)
    good("backup", tmp_path / "backup", *options)
    good("export", "--output", tmp_path / "log.jsonl", *options)
    commands: list[tuple[object, ...]] = [
        ("restore", tmp_path / "backup"),
        ("restore", tmp_path / "backup", "--until", "3"),
        ("import", tmp_path / "log.jsonl"),
    ]
    for command in commands:
        refused = run(*command, *options)
        assert refused.exit_code == 1
        assert refused.stderr.count("Error: ") == 1
    assert contents(options) == before


def test_a_checkpoint_file_that_is_left_stays_as_it_is(place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    good("backup", tmp_path / "backup", *options)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/checkpoints").write_text("kept")
    good("restore", tmp_path / "backup", "--data-dir", tmp_path / "new")
    assert (tmp_path / "new/checkpoints").read_text() == "kept"


def test_what_is_there_is_not_written_over(place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    (tmp_path / "there").write_text("mine")
    for command in (("backup", tmp_path / "there"), ("export", "--output", tmp_path / "there")):
        refused = run(*command, *options)
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert "is there already" in refused.stderr
    assert (tmp_path / "there").read_text() == "mine"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.zst"])
def test_an_export_gives_the_same_log_tree_and_views(kind: str, name: str, place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    before = contents(options)
    exported = good("export", "--output", tmp_path / name, *options)
    elsewhere = place(kind)
    imported = good("import", tmp_path / name, "--checkpoint", checkpoint(exported), *elsewhere)
    after = contents(elsewhere)
    assert [after[part] for part in ("log", "tree", "views")] == [before[part] for part in ("log", "tree", "views")]
    assert (after["people"], after["pushes"]) == ([], [])
    verified = good("verify", *elsewhere)
    assert checkpoint(verified) == checkpoint(imported) == checkpoint(exported)


def test_an_export_names_nobody(place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    good("export", "--output", tmp_path / "log.jsonl", *options)
    assert "Ann" not in (tmp_path / "log.jsonl").read_text()


def test_a_line_is_a_cloud_event_with_the_stored_json(place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options, tags=1)
    text = good("export", "--output", "-", *options).stdout
    first, *_, last = [json.loads(one) for one in text.splitlines()]
    assert first["source"] == last["source"] == f"urn:uuid:{LOG_ID}"
    data = last.pop("data")
    time = last.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert data["put"][0]["tag"] == "v0"
    assert last == {
        "specversion": "1.0",
        "id": "5",
        "source": f"urn:uuid:{LOG_ID}",
        "type": "imagestream.image-mapped",
        "subject": "shop/web",
        "datacontenttype": "application/json",
        "position": "5",
        "version": 2,
    }


states = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@given(states | st.binary(min_size=1) | st.sampled_from([b'{"a": 1}', b'{"a":1,"a":2}', b'"\\u00e9"', b"1E5", b"-0"]))
def test_the_stored_bytes_come_back_whatever_they_are(state: bytes) -> None:
    event = StoredEvent("shop/web", 3, "topic", state)
    written = line(LOG_ID, 7, event)
    assert b"\n" not in written
    assert event_of(written) == (7, event)


@given(states)
def test_a_line_may_be_laid_out_anew_on_the_way(state: bytes) -> None:
    event = StoredEvent("shop/web", 3, "topic", msgspec.json.encode(msgspec.json.decode(state)))
    written = msgspec.json.format(line(LOG_ID, 7, event), indent=2)
    assert event_of(written) == (7, event)


@thoroughly
@given(histories)
def test_whatever_was_commanded_its_export_gives_the_same_tree_and_views(steps: list[Step]) -> None:
    world, copy = World(), SQLiteStore(None)
    try:
        for _ in world.live_through(steps):
            pass
        copy.create_tables()
        with world.store.reading() as rows, copy.writing() as target:
            lines = [line(LOG_ID, position, event) for position, event in rows.log(0, rows.head())]
            filled = refill.fill(target, map(event_of, lines), len(lines), lambda *_: None)
            assert filled == rows.tree().checkpoint()
            assert list(target.trees()) == list(rows.trees())
            assert checker.views(target) == checker.views(rows)
    finally:
        copy.close()
        world.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [*lines[:3], *lines[4:]], "lines are missing"),
        (lambda lines: [lines[1], lines[0]], "lines are missing, or in another order"),
        (lambda lines: [*lines[:3], lines[3][:40]], "line 4 can't be read"),
        (lambda lines: lines[:-1], "and not"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b'"v2"', b'"v1"')], "and not"),
        (lambda _: [], "holds no events"),
    ],
)
def test_a_file_that_was_changed_is_refused_and_leaves_nothing(
    change: Any, told: str, place: Any, tmp_path: Path
) -> None:
    options = place("sqlite")
    live(options)
    exported = good("export", "--output", tmp_path / "log.jsonl", *options)
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
    (tmp_path / "log.jsonl").write_bytes(b"".join(one + b"\n" for one in change(lines)))
    new = tmp_path / "new"
    refused = run("import", tmp_path / "log.jsonl", "--checkpoint", checkpoint(exported), "--data-dir", new)
    assert refused.exit_code == 1
    assert told in refused.stderr
    assert [path.name for path in new.iterdir()] == ["lock"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", ["backup", "data"])
def test_a_log_comes_back_as_it_was_at_a_position(kind: str, kept: str, place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    good("backup", tmp_path / "backup", *options)
    before = contents(options)
    elsewhere = place(kind)
    good("restore", tmp_path / "backup" if kept == "backup" else options[1], "--until", "12", *elsewhere)
    after = contents(elsewhere)
    assert after["log"] == before["log"][:12]
    assert (after["people"], after["pushes"]) == (before["people"], [])
    good("verify", *elsewhere)


def test_a_time_names_the_last_event_not_after_it(place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    with closing(opened(options)) as store, store.reading() as rows:
        times = {position: refill.time_of(event) for position, event in rows.log(0, rows.head())}
        assert refill.position_at(rows, "2023-11-14T22:13:25Z") == max(
            p for p, t in times.items() if t <= 1_700_000_005_000
        )
        assert refill.position_at(rows, "2123-11-14T22:13:25+01:00") == rows.head()


@pytest.mark.parametrize("until", ["0", "99999", "1999-01-01T00:00Z", "yesterday"])
def test_a_moment_that_is_none_is_told_in_one_line(until: str, place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    refused = run("restore", options[1], "--until", until, "--data-dir", tmp_path / "new")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "new/imagestream.db").exists()


def test_a_directory_that_is_no_backup_is_told_in_one_line(tmp_path: Path) -> None:
    refused = run("restore", tmp_path, "--data-dir", tmp_path / "new")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "manifest.json" in refused.stderr


@pytest.mark.parametrize("command", ["restore", "restore until", "import"])
def test_nothing_is_brought_back_under_a_running_service(
    command: str, words: dict[str, list[object]], tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    with DirectoryLock(tmp_path / "new"):
        refused = run(*words[command])
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "in use by another imagestream-es process" in refused.stderr


# --- interrupted

ON_RENAME = "Path.rename = lambda *_: os.kill(os.getpid(), {signal}) or time.sleep(60)"
"""Interrupts a command just before its last step."""

ON_PROGRESS = "cli._lines = lambda *_: lambda done, _: done >= {after} and os.kill(os.getpid(), {signal})"
"""Interrupts a command when it tells of so many events."""


def interrupted(when: str, number: int, *words: object, after: int = 1) -> subprocess.CompletedProcess[str]:
    program = (
        "import os, sys, time\nfrom pathlib import Path\nfrom imagestream_es import cli\n"
        "from imagestream_es.projections import projector\nprojector.BATCH = 10\n"
        f"{when.format(signal=int(number), after=after)}\ncli.main(sys.argv[1:])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == (130 if number == signal.SIGINT else -number), ended
    assert "Traceback" not in ended.stderr
    if number == signal.SIGINT:
        assert "\nInterrupted. " in ended.stderr
    return ended


@pytest.fixture
def words(place: Any, tmp_path: Path) -> dict[str, list[object]]:
    """Each long command, on a log or a copy of it; what it makes is `result` or in `new`."""
    options = place("sqlite")
    live(options)
    good("backup", tmp_path / "backup", *options)
    good("export", "--output", tmp_path / "log.jsonl", *options)
    new, result = tmp_path / "new", tmp_path / "result"
    return {
        "backup": ["backup", result, *options],
        "restore": ["restore", tmp_path / "backup", "--data-dir", new],
        "restore until": ["restore", tmp_path / "backup", "--until", "30", "--data-dir", new],
        "export": ["export", "--output", result, *options],
        "import": ["import", tmp_path / "log.jsonl", "--data-dir", new],
        "verify": ["verify", *options],
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("command", ["backup", "restore", "export", "import"])
def test_a_command_that_ends_before_its_end_leaves_nothing_half_done(
    command: str, number: int, words: dict[str, list[object]], tmp_path: Path
) -> None:
    interrupted(ON_RENAME, number, *words[command])
    assert not (tmp_path / "result").exists()
    assert not (tmp_path / "new/imagestream.db").exists()
    good(*words[command])
    assert [path.name for path in tmp_path.rglob("*.unfinished*")] == []


@pytest.mark.parametrize("command", ["backup", "restore until", "export", "verify"])
def test_a_command_ends_at_once_when_it_is_interrupted(
    command: str, words: dict[str, list[object]], tmp_path: Path
) -> None:
    before = sorted(path.name for path in tmp_path.rglob("*"))
    ended = interrupted(ON_PROGRESS, signal.SIGINT, *words[command])
    assert ended.stdout == ""
    after = sorted(path.name for path in tmp_path.rglob("*"))
    assert [name for name in after if name not in before] in ([], ["lock", "new"])
    good(*words[command])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_import_goes_on_from_where_it_stood(kind: str, number: int, place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    exported = good("export", "--output", tmp_path / "log.jsonl.zst", *options)
    before, elsewhere = contents(options), place(kind)
    for after in (20, 40):
        ended = interrupted(ON_PROGRESS, number, "import", tmp_path / "log.jsonl.zst", *elsewhere, after=after)
        assert "Went on" not in ended.stdout
        assert contents(elsewhere)["log"] == [] if kind == "postgresql" else not database(elsewhere).exists()
    imported = good("import", tmp_path / "log.jsonl.zst", "--checkpoint", checkpoint(exported), *elsewhere)
    assert imported.stdout.startswith("Went on behind position 40, where an import was interrupted.\n")
    found = contents(elsewhere)
    assert [found[part] for part in ("log", "tree", "views")] == [before[part] for part in ("log", "tree", "views")]
    assert checkpoint(good("verify", *elsewhere)) == checkpoint(exported)
    if kind == "postgresql":
        with closing(opened(elsewhere)) as store:
            assert not store.has(wholeness.UNFINISHED)  # type: ignore[attr-defined]
            store.create_tables()  # as the service does when it starts
    else:
        assert [path.name for path in Path(elsewhere[1]).rglob("*.unfinished*")] == []


def test_no_service_begins_another_log_beside_an_import_that_was_interrupted(
    words: dict[str, list[object]], tmp_path: Path
) -> None:
    interrupted(ON_PROGRESS, signal.SIGKILL, *words["import"], after=20)
    with pytest.raises(SettingsError, match=r"run that command again, or remove"):
        build(Settings(data_dir=tmp_path / "new", import_controller="off"))
    good(*words["import"])
    build(Settings(data_dir=tmp_path / "new", import_controller="off")).close()


@pytest.mark.parametrize("command", ["backup", "restore", "restore until", "export", "import"])
def test_a_disk_that_fails_is_told_in_one_line_and_leaves_nothing_half_done(
    command: str, words: dict[str, list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        failed = run(*words[command])
    assert (failed.exit_code, failed.stderr.count("Error: "), failed.stdout) == (1, 1, ""), failed.output
    assert "Input/output error" in failed.stderr
    assert not (tmp_path / "result").exists()
    assert not (tmp_path / "new/imagestream.db").exists()
    good(*words[command])


def test_an_import_for_which_there_was_no_room_goes_on_when_there_is(
    small_disk: Path, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "BATCH", 10)
    options = place("sqlite")
    live(options, tags=400)
    exported = good("export", "--output", tmp_path / "log.jsonl", *options)
    (small_disk / "filling").write_bytes(bytes(2_500_000))
    failed = run("import", tmp_path / "log.jsonl", "--data-dir", small_disk / "data")
    assert (failed.exit_code, failed.stderr.count("Error: "), failed.stdout) == (1, 1, ""), failed.output
    assert "full" in failed.stderr
    assert not (small_disk / "data/imagestream.db").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    imported = good("import", tmp_path / "log.jsonl", "--data-dir", small_disk / "data")
    assert imported.stdout.startswith("Went on behind position ")
    assert checkpoint(imported) == checkpoint(exported)
    good("verify", "--data-dir", small_disk / "data")


def database(options: list[str]) -> Path:
    return Path(options[1]) / "imagestream.db"


@pytest.mark.parametrize("kind", KINDS)
def test_an_import_does_not_go_on_with_another_file(kind: str, place: Any, tmp_path: Path) -> None:
    options = place("sqlite")
    live(options)
    good("export", "--output", tmp_path / "log.jsonl", *options)
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)
    others = {"short.jsonl": lines[:12], "other.jsonl": [line.replace(b'"v1"', b'"v9"') for line in lines]}
    elsewhere = place(kind)
    interrupted(ON_PROGRESS, signal.SIGKILL, "import", tmp_path / "log.jsonl", *elsewhere, after=20)
    for name, text in others.items():
        (tmp_path / name).write_bytes(b"".join(text))
        refused = run("import", tmp_path / name, *elsewhere)
        assert (refused.exit_code, refused.stderr.count("Error: ")) == (1, 1), (name, refused.output)
        assert "was interrupted here behind 20 events" in refused.stderr
    assert good("import", tmp_path / "log.jsonl", *elsewhere).stdout.startswith("Went on behind position 20")


def test_an_import_whose_end_is_refused_begins_anew(place: Any, tmp_path: Path) -> None:
    options, elsewhere = place("sqlite"), place("postgresql")
    live(options)
    good("export", "--output", tmp_path / "log.jsonl", *options)
    refused = run("import", tmp_path / "log.jsonl", "--checkpoint", f"9:{'0' * 64}", *elsewhere)
    assert "export again, or use another file" in refused.stderr
    assert not good("import", tmp_path / "log.jsonl", *elsewhere).stdout.startswith("Went on")


def test_an_import_does_not_take_the_place_of_a_log_that_came_to_be_meanwhile(place: Any, tmp_path: Path) -> None:
    options, elsewhere = place("sqlite"), place("postgresql")
    live(options)
    good("export", "--output", tmp_path / "log.jsonl", *options)
    interrupted(ON_PROGRESS, signal.SIGKILL, "import", tmp_path / "log.jsonl", *elsewhere, after=20)
    live(elsewhere, tags=2)
    before = contents(elsewhere)
    assert "holds a log already" in run("import", tmp_path / "log.jsonl", *elsewhere).stderr
    assert contents(elsewhere) == before


@pytest.mark.drill
@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_was_destroyed_comes_back_from_a_backup_under_load(
    kind: str, start_service: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    service = start_service(*(["--database-url", url] if url else []))
    options = ["--database-url", url] if url else ["--data-dir", service.data_dir]
    json_type = {"Content-Type": "application/json"}

    def make(number: int) -> None:
        body = json.dumps({"metadata": {"name": f"s{number}"}, "spec": {"tags": [{"name": "t"}]}}).encode()
        path = "/apis/image.openshift.io/v1/namespaces/shop/imagestreams"
        assert service.request(path, "POST", body, json_type)[0] == 201

    for number in range(50):
        make(number)
    command = [
        str(Path(sys.executable).with_name("imagestream-es")),
        "backup",
        str(tmp_path / "backup"),
        *map(str, options),
    ]
    under_way = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    number = 50
    while under_way.poll() is None:
        make(number)
        number += 1
    for more in range(number, number + 20):
        make(more)
    assert under_way.stdout is not None
    told = under_way.stdout.read()
    assert under_way.returncode == 0
    service.kill()
    if url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    else:
        shutil.rmtree(service.data_dir)
    restored = good("restore", tmp_path / "backup", *options)
    assert f"Checkpoint: {checkpoint(restored)}\n" in told
    good("verify", *options)
    with closing(opened([str(one) for one in options])) as store, store.writing() as rows:
        before = checker.views(rows)
        for view in tables.VIEWS:
            rows.run(f"DELETE FROM {view}")
    good("replay", *options)
    with closing(opened([str(one) for one in options])) as store, store.reading() as rows:
        assert checker.views(rows) == before
        assert len(before["streams"]) >= 50
    good("verify", *options)

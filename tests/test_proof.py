"""A log that is not the one that it was is noticed at start and by `verify`, and nothing is written to it."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import OperationalError
from flask.testing import FlaskClient

from api import create_app
from imagestream_es import verification
from imagestream_es.bootstrap import build
from imagestream_es.persistence.checkpoints import CheckpointFile, CheckpointFileInUse
from imagestream_es.persistence.merkle import Checkpoint
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.projections import projector
from imagestream_es.settings import Settings, SettingsError
from imagestream_es.verification import Report

STREAMS = "/apis/image.openshift.io/v1/namespaces/team/imagestreams"


@contextmanager
def serving(directory: Path, **more: Any) -> Iterator[FlaskClient]:
    """A service in this process, stopped at the end."""
    app = create_app(Settings(data_dir=directory, import_controller="off", access_log="off", **more))
    try:
        yield app.test_client()
    finally:
        app.extensions["imagestream"].close()


def create(client: FlaskClient, name: str, status: int = 201) -> dict[str, Any]:
    answer = client.post(STREAMS, json={"metadata": {"name": name}})
    assert answer.status_code == status, answer.text
    return json.loads(answer.data)  # type: ignore[no-any-return]


def names(client: FlaskClient) -> list[str]:
    return [item["metadata"]["name"] for item in json.loads(client.get(STREAMS).data)["items"]]


def check(directory: Path, kept: Checkpoint | None = None, **more: Any) -> Report:
    return verification.verify(Settings(data_dir=directory, **more), lambda *_: None, kept)


def lines(directory: Path) -> list[str]:
    return (directory / "checkpoints").read_text().splitlines()


def edit(directory: Path, *statements: str) -> None:
    with closing(sqlite3.connect(directory / "imagestream.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The data of a service that was stopped, with five events, and stopped again at eight."""
    directory = tmp_path / "data"
    with serving(directory) as client:
        for number in range(4):
            create(client, f"early-{number}")
    shutil.copytree(directory, tmp_path / "older")
    with serving(directory) as client:
        for number in range(3):
            create(client, f"late-{number}")
    return directory


@pytest.fixture
def rolled_back(directory: Path, tmp_path: Path) -> Path:
    """An older database, put back beside what was remembered since."""
    shutil.copy(tmp_path / "older" / "imagestream.db", directory / "imagestream.db")
    return directory


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


# --- checkpoints


def test_at_a_clean_stop_the_last_checkpoint_is_the_log(directory: Path) -> None:
    report = check(directory)
    assert report.ok, report.differences
    assert (report.events, report.log.size) == (8, 8)
    assert lines(directory)[-1].split()[0] == str(report.log)
    assert report.checkpoints == len(lines(directory)) >= 2


def test_a_start_without_a_change_adds_no_checkpoint(directory: Path) -> None:
    before = lines(directory)
    with serving(directory):
        pass
    assert lines(directory) == before


def test_a_commit_is_remembered_while_the_service_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        create(client, "web")
        wait_for(lambda: any(line.startswith("2:") for line in lines(tmp_path)))
        assert check(tmp_path).ok


def test_checkpoints_go_where_they_are_wanted(tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    with serving(tmp_path / "data", checkpoint_file=place) as client:
        create(client, "web")
    assert place.read_text().splitlines()[-1].startswith("2:")
    assert not (tmp_path / "data" / "checkpoints").exists()
    assert check(tmp_path / "data", checkpoint_file=place).checkpoints > 0


def test_a_checkpoint_file_that_can_not_be_made_or_is_another_s_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--checkpoint-file .*cannot write .*No such file"):
        build(Settings(data_dir=tmp_path, checkpoint_file=tmp_path / "nowhere" / "file"))
    other = CheckpointFile(tmp_path / "others")
    with pytest.raises(CheckpointFileInUse):
        build(Settings(data_dir=tmp_path, checkpoint_file=tmp_path / "others"))
    other.close()


def test_a_full_disk_for_the_checkpoints_stops_nothing_and_is_told(
    tmp_path: Path, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place = small_disk / "checkpoints"
    filling = small_disk / "filling"
    with serving(tmp_path, checkpoint_file=place) as client:
        with pytest.raises(OSError, match="No space left"):
            fill(filling)
        for number in range(200):  # a page of the disk has room for some lines
            create(client, f"web-{number}")
            if "no checkpoint could be written" in caplog.text:
                break
            time.sleep(0.6)
        assert "No space left" in caplog.text
        create(client, "one-more")
        assert client.get("/readyz").status_code == 200
        filling.unlink()
        wait_for(lambda: "checkpoints are written again" in caplog.text)
    report = check(tmp_path, checkpoint_file=place)
    assert report.ok, report.differences
    assert place.read_text().splitlines()[-1].split()[0] == str(report.log)


# --- at start


def test_a_log_behind_its_last_checkpoint_is_read_and_not_written(rolled_back: Path) -> None:
    database, remembered = (rolled_back / "imagestream.db").read_bytes(), lines(rolled_back)
    with serving(rolled_back) as client:
        refused = create(client, "new", 503)
        assert refused["reason"] == "ServiceUnavailable"
        assert "the log ends at position 5, its last checkpoint is 8:" in refused["message"]
        assert "imagestream-es verify" in refused["message"]
        assert "--accept-log" in refused["message"]
        dry = client.post(f"{STREAMS}?dryRun=All", json={"metadata": {"name": "new"}})
        assert dry.status_code == 503
        assert names(client) == [f"early-{number}" for number in range(4)]
        ready = client.get("/readyz")
        assert (ready.status_code, "[-]log failed" in ready.text) == (500, True)
        assert client.get("/livez").status_code == 200
    assert (rolled_back / "imagestream.db").read_bytes() == database
    assert lines(rolled_back) == remembered
    assert any("behind position 5 up to 8 are lost" in one for one in check(rolled_back).differences)


def test_an_empty_log_beside_a_checkpoint_is_not_begun_anew(directory: Path) -> None:
    (directory / "imagestream.db").unlink()
    with serving(directory) as client:
        assert "the log ends at position 0" in create(client, "new", 503)["message"]
    assert check(directory).events == 0


def test_a_log_that_is_accepted_goes_on_and_this_stays_visible(rolled_back: Path) -> None:
    log = str(check(rolled_back).log)
    with serving(rolled_back, accept_log=log) as client:
        create(client, "new")
        assert client.get("/readyz").status_code == 200
    accepted = [line for line in lines(rolled_back) if line.endswith(" accepted")]
    assert [line.split()[0] for line in accepted] == [log]
    report = check(rolled_back)
    assert report.ok, report.differences
    assert report.accepted is not None
    assert str(report.accepted.checkpoint) == log
    with serving(rolled_back, accept_log=log) as client:  # left in the configuration
        create(client, "newer")
        assert len(names(client)) == 6
    assert sum(line.endswith(" accepted") for line in lines(rolled_back)) == 1
    assert check(rolled_back).ok


def test_only_the_log_that_was_named_is_accepted(rolled_back: Path) -> None:
    with serving(rolled_back, accept_log=f"5:{'ab' * 32}") as client:
        message = create(client, "new", 503)["message"]
    assert "what came behind is lost, and it is not 5:abab" in message
    assert not any(line.endswith("accepted") for line in lines(rolled_back))


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE stored_events SET state = CAST(state || ' ' AS BLOB) WHERE rowid = 3", "are not those of its Merkle"),
        ("UPDATE stored_events SET topic = 'x' WHERE rowid = 8", "are not those of its Merkle"),
        ("UPDATE tree SET peaks = zeroblob(32)", "are not those of its Merkle"),
        ("UPDATE tree SET peaks = zeroblob(3)", "can't be read"),
        ("UPDATE tree SET size = 4", "its Merkle tree at 4"),
        ("DELETE FROM tree", "its Merkle tree at 0"),
    ],
)
def test_a_log_that_is_not_its_tree_is_not_written(directory: Path, statement: str, told: str) -> None:
    edit(directory, statement)
    with serving(directory) as client:
        assert told in create(client, "new", 503)["message"]
        assert len(names(client)) == 7
    assert not check(directory).ok


def forge(directory: Path) -> None:
    """Alter an event as somebody does who knows of the tree, and not of the checkpoints."""
    edit(
        directory,
        "UPDATE stored_events SET state = CAST(replace(CAST(state AS TEXT), 'early-1', 'early-7') AS BLOB),"
        " originator_id = 'team/early-7' WHERE rowid = 3",
        *(f"DELETE FROM {view}" for view in ("streams", "tags", "tag_changes", "snapshots", "images", "projection")),
    )
    with closing(SQLiteStore(str(directory / "imagestream.db"))) as store, store.writing() as rows:
        rows.regrow()


def test_a_log_beside_its_last_checkpoint_is_read_and_not_written(directory: Path) -> None:
    forge(directory)
    with serving(directory) as client:
        assert "the log is another one than at its last checkpoint 8:" in create(client, "new", 503)["message"]
        assert "early-7" in names(client)
    (difference,) = check(directory).differences
    assert "up to" in difference
    assert "are not those of the checkpoints in" in difference
    with serving(directory, accept_log=str(check(directory).log)) as client:
        create(client, "new")
    assert check(directory).ok


def test_the_smallest_range_between_checkpoints_is_named(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        create(client, "early-0")
    for number in range(1, 5):
        with serving(tmp_path) as client:
            create(client, f"early-{number}")
    assert [line.partition(":")[0] for line in lines(tmp_path)][-5:] == ["2", "3", "4", "5", "6"]
    forge(tmp_path)  # now at position 3
    with serving(tmp_path):
        pass
    (difference,) = check(tmp_path).differences
    assert difference.startswith("the events behind position 2 up to 3 are not those of the checkpoints in")


def test_a_log_that_an_earlier_version_began_gets_its_tree_at_start(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = check(directory).log
    edit(directory, "DROP TABLE tree")
    (directory / "checkpoints").unlink()
    caplog.set_level(logging.INFO)
    with serving(directory) as client:
        assert f"made the Merkle tree over it: {log}" in caplog.text
        create(client, "new")
    assert check(directory, log).ok


def test_a_crash_within_the_last_second_leaves_a_log_that_goes_on(start_service: Callable[..., Any]) -> None:
    service = start_service()
    body = json.dumps({"metadata": {"name": "web"}}).encode()
    assert service.request(STREAMS, "POST", body, {"Content-Type": "application/json"})[0] == 201
    service.kill()
    service.restart()
    assert service.request(f"{STREAMS}/web", "DELETE")[0] == 200
    service.stop()
    assert check(service.data_dir).ok


def test_a_last_line_that_was_cut_off_stops_nothing(directory: Path) -> None:
    with (directory / "checkpoints").open("a") as file:
        file.write("9:0123")
    with serving(directory) as client:
        create(client, "new")
    assert check(directory).ok


def test_on_postgresql_checkpoints_are_kept_where_the_setting_says(tmp_path: Path, postgres_url: str) -> None:
    place, nowhere = tmp_path / "checkpoints", tmp_path / "data"
    with serving(nowhere, database_url=postgres_url) as client:
        create(client, "web")
    assert not nowhere.exists()
    with serving(nowhere, database_url=postgres_url, checkpoint_file=place) as client:
        create(client, "db")
    report = check(nowhere, database_url=postgres_url, checkpoint_file=place)
    assert report.ok, report.differences
    assert place.read_text().splitlines()[-1].split()[0] == str(report.log)
    place.write_text(f"9:{report.log.root.hex()} 2026-03-01T12:00:00.000Z\n")
    with serving(nowhere, database_url=postgres_url, checkpoint_file=place) as client:
        assert "its last checkpoint is 9:" in create(client, "new", 503)["message"]
    with serving(nowhere, database_url=postgres_url, checkpoint_file=place, accept_log=str(report.log)) as client:
        create(client, "new")
    assert check(nowhere, database_url=postgres_url, checkpoint_file=place).ok


def test_a_log_that_is_replaced_under_the_running_service_is_not_written_any_more(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        create(client, "early-1")
        create(client, "early-2")
        wait_for(lambda: lines(tmp_path)[-1:] != [] and lines(tmp_path)[-1].startswith("3:"))
        before = lines(tmp_path)
        forge(tmp_path)  # whatever is written behind it belongs to another log than the checkpoints
        wait_for(lambda: client.post(STREAMS, json={"metadata": {"generateName": "new"}}).status_code == 503)
        assert "another one than at its last checkpoint" in create(client, "new", 503)["message"]
        assert "[-]log failed" in client.get("/readyz").text
        assert lines(tmp_path) == before


def test_while_the_tree_is_gone_writes_are_refused_as_the_store_s_fault(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        create(client, "web")
        edit(tmp_path, "DELETE FROM tree")
        assert "nothing was stored" in create(client, "new", 503)["message"]
        assert names(client) == ["web"]


def test_what_was_altered_in_postgresql_is_named(tmp_path: Path, postgres_url: str) -> None:
    with serving(tmp_path, database_url=postgres_url) as client:
        for number in range(3):
            create(client, f"s{number}")
    assert check(tmp_path, database_url=postgres_url).ok
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE stored_events SET state = state || ' ' WHERE notification_id = 3")
    (altered,) = check(tmp_path, database_url=postgres_url).differences
    assert altered == "the events behind position 0 up to 4 are not those of the Merkle tree beside the log"
    with psycopg.connect(postgres_url) as connection:
        connection.execute("DELETE FROM stored_events WHERE notification_id = 3")
    missing = check(tmp_path, database_url=postgres_url)
    assert "there is no event at position 3" in missing.differences[0]
    assert missing.log.size == 2


def test_verify_without_room_for_its_copy_says_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(*_: Any, **_more: Any) -> int:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(projector, "fold", fold)
    with pytest.raises(OSError, match=r"database or disk is full\. Set TMPDIR to where there is room"):
        check(directory)


# --- an auditor's checkpoint


def test_the_log_is_held_against_a_checkpoint_that_somebody_kept(directory: Path, tmp_path: Path) -> None:
    early = check(tmp_path / "older").log
    assert early.size == 5
    assert check(directory, early).ok
    assert check(directory, Checkpoint(0, check(tmp_path / "older").log.root)).differences
    (altered,) = check(directory, Checkpoint(5, bytes(32))).differences
    assert altered == "the events behind position 0 up to 5 are not those of the checkpoint that was kept"
    (longer,) = check(directory, Checkpoint(9, bytes(32))).differences
    assert longer == (
        "the log ends at position 8; by the checkpoint that was kept, the events behind position 8 up to 9 are lost"
    )

"""Whatever is done to the files of a log, by a failing disk or by hand, is noticed, and the place of it is named."""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from api import create_app
from imagestream_es import verification
from imagestream_es.persistence import read_model
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import LANDMARK
from imagestream_es.projections import projector
from imagestream_es.settings import Settings
from imagestream_es.verification import Report

SEED = random.SystemRandom().randrange(10**9)
FLIPS = 60
SPACE = "/apis/image.openshift.io/v1/namespaces/team"
LOG = ("stored_events", "originator_id, originator_version, topic, state")
TABLES = [("tree", "peaks"), *((view, ", ".join(columns)) for view, columns in read_model.COLUMNS.items())]

Content = dict[str, list[tuple[Any, ...]]]


def check(directory: Path) -> Report:
    return verification.verify(Settings(data_dir=directory), lambda *_: None)


@pytest.fixture(scope="module")
def crashed_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a service that had begun with 486 events, had seen a hundred more, and was cut off."""
    directory = tmp_path_factory.mktemp("served")
    crashed = tmp_path_factory.mktemp("crashed")
    settings = Settings(data_dir=directory, import_controller="off")
    for part in (range(240), range(240, 300)):  # few enough for SQLite not to begin its write-ahead log anew
        app = create_app(settings)
        client = app.test_client()
        for number in part:
            if number % 50 == 0:
                assert (
                    client.post(f"{SPACE}/imagestreams", json={"metadata": {"name": f"s{number}"}}).status_code == 201
                )
            digest = f"sha256:{number:064x}"
            image = {"metadata": {"name": digest}, "dockerImageReference": f"quay.io/team/one@{digest}"}
            body = {"metadata": {"name": f"s{number - number % 50}", "namespace": "team"}, "image": image, "tag": "t"}
            assert client.post(f"{SPACE}/imagestreammappings", json=body).status_code == 201
        if part.start:
            shutil.copytree(directory, crashed, dirs_exist_ok=True)
            (crashed / "imagestream.db-shm").unlink()
        app.extensions["imagestream"].close()
    shutil.copy(directory / "checkpoints", crashed / "checkpoints")  # as written a moment before the cut
    assert (crashed / "imagestream.db-wal").stat().st_size > 100_000
    return crashed


@pytest.fixture(scope="module")
def stopped_directory(crashed_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with all of it in the one file."""
    directory = Path(shutil.copytree(crashed_directory, tmp_path_factory.mktemp("stopped"), dirs_exist_ok=True))
    with closing(sqlite3.connect(directory / "imagestream.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert check(directory).ok
    return directory


@pytest.fixture
def crashed(crashed_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(crashed_directory, tmp_path / "data"))


@pytest.fixture
def stopped(stopped_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped_directory, tmp_path / "data"))


def content(directory: Path) -> Content | None:
    """All rows that the log gives or that follow from it, read from a copy; None if they can't be read."""
    copy = directory.with_name("content")
    shutil.copytree(directory, copy)
    try:
        with closing(sqlite3.connect(copy / "imagestream.db")) as connection:
            return {
                table: connection.execute(f"SELECT * FROM {table} NOT INDEXED").fetchall()
                for table, _ in (LOG, *TABLES, ("projection", ""))
            }
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    finally:
        shutil.rmtree(copy)


def first_bad_position(had: Content, has: Content) -> int | None:
    """Where the log is another one first; None if nowhere."""
    pairs = zip_longest(had["stored_events"], has["stored_events"])
    return next((position for position, (one, other) in enumerate(pairs, 1) if one != other), None)


def names(report: Report, position: int) -> bool:
    """Whether a difference names the position, or a range of positions that holds it."""
    text = "\n".join(report.differences)
    ranges = [(int(low), int(high)) for low, high in re.findall(r"behind position (\d+) up to (\d+)", text)]
    ranges += [(int(at) - 1, int(at)) for at in re.findall(r"(?<!behind) position (\d+)", text)]
    ranges += [(int(low), 10**9) for low in re.findall(r"behind position (\d+)(?! up)", text)]
    return any(low < position <= high for low, high in ranges)


def flip(path: Path, choice: random.Random) -> str:
    """Flip one bit of a file; answers which."""
    data = bytearray(path.read_bytes())
    at, bit = choice.randrange(len(data)), choice.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"{path.name} byte {at} bit {bit}"


@pytest.mark.parametrize("flips", [FLIPS, pytest.param(10 * FLIPS, marks=pytest.mark.drill)])
@pytest.mark.parametrize("name", ["imagestream.db", "imagestream.db-wal"])
def test_a_flipped_bit_in_used_space_is_found(
    name: str, flips: int, crashed_directory: Path, stopped_directory: Path, tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    choice = random.Random(SEED)
    whole = stopped_directory if name == "imagestream.db" else crashed_directory
    had = content(Path(shutil.copytree(whole, tmp_path / "whole")))
    assert had is not None
    mattered = 0
    for _ in range(flips):
        directory = Path(shutil.copytree(whole, tmp_path / "data"))
        where = flip(directory / name, choice)
        damaged = {one.name: one.read_bytes() for one in directory.iterdir() if one.suffix != ".db-shm"}
        has = content(directory)
        report = check(directory)
        assert all((directory / path).read_bytes() == data for path, data in damaged.items()), "verify changes no file"
        if has != had:
            mattered += 1
            assert not report.ok, f"{where} went unnoticed"
            position = first_bad_position(had, has) if has is not None else None
            assert position is None or names(report, position), (where, position, report.differences)
        shutil.rmtree(directory)
    assert mattered > flips / 10, "hardly anything was hit: the test is blind"


def cut(path: Path, share: float) -> None:
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_database_that_was_cut_off_is_noticed(stopped: Path, share: float) -> None:
    cut(stopped / "imagestream.db", share)
    assert not check(stopped).ok


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_write_ahead_log_that_was_cut_off_is_noticed_although_what_is_left_is_sound(
    crashed: Path, share: float
) -> None:
    cut(crashed / "imagestream.db-wal", share)
    has = content(crashed)
    assert has is not None
    events = len(has["stored_events"])
    report = check(crashed)
    assert report.events == report.log.size == events
    assert any(f"the events behind position {events} up to" in one and "are lost" in one for one in report.differences)
    with closing(sqlite3.connect(crashed / "imagestream.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    refused_at_start(crashed)


def test_a_write_ahead_log_that_was_deleted_is_noticed(crashed: Path) -> None:
    (crashed / "imagestream.db-wal").unlink()
    assert any("are lost" in one for one in check(crashed).differences)
    refused_at_start(crashed)


def refused_at_start(directory: Path) -> None:
    app = create_app(Settings(data_dir=directory, import_controller="off", access_log="off"))
    try:
        answer = app.test_client().post(f"{SPACE}/imagestreams", json={"metadata": {"name": "new"}})
        assert answer.status_code == 503
        assert "--accept-log" in json.loads(answer.data)["message"]
        assert app.test_client().get(f"{SPACE}/imagestreams").status_code == 200
    finally:
        app.extensions["imagestream"].close()


# --- by hand

MOVE = "UPDATE stored_events SET rowid = {} WHERE rowid = {}"
EDITS = {
    "an event was deleted": (["DELETE FROM stored_events WHERE rowid = 300"], 300),
    "the first event was deleted": (["DELETE FROM stored_events WHERE rowid = 1"], 1),
    "the last event was deleted": (["DELETE FROM stored_events WHERE rowid = {head}"], "head"),
    "an event was deleted and the others closed up": (
        ["DELETE FROM stored_events WHERE rowid = 300", "UPDATE stored_events SET rowid = rowid - 1 WHERE rowid > 300"],
        300,
    ),
    "two events were swapped": ([MOVE.format(-1, 300), MOVE.format(300, 310), MOVE.format(310, -1)], 300),
    "bytes of an event were changed": (
        ["UPDATE stored_events SET state = CAST(replace(state, 'system:', 'System:') AS BLOB) WHERE rowid = 300"],
        300,
    ),
    "an event got another topic": (
        ["UPDATE stored_events SET topic = 'imagestream.tag-deleted' WHERE rowid = 300"],
        300,
    ),
    "an event went to another stream": (
        ["UPDATE stored_events SET originator_id = 'team/other', originator_version = 1 WHERE rowid = 301"],
        301,
    ),
    "an event was put in": (
        [
            "INSERT INTO stored_events SELECT {head} + 1, originator_id, 999, topic, state FROM stored_events"
            " WHERE rowid = 300"
        ],
        "head + 1",
    ),
}


def remember_nothing(directory: Path) -> None:
    pass


def fold_again(directory: Path) -> None:
    """What somebody does who knows of the views."""
    with closing(SQLiteStore(str(directory / "imagestream.db"))) as store:
        projector.rebuild(store)


def grow_again(directory: Path) -> None:
    """What somebody does who knows of the tree too, and has no access to the checkpoints."""
    with closing(SQLiteStore(str(directory / "imagestream.db"))) as store:
        with store.writing() as rows:
            rows.regrow()
        projector.rebuild(store)


@pytest.mark.parametrize("cover", [remember_nothing, fold_again, grow_again])
@pytest.mark.parametrize("kind", EDITS)
def test_what_was_done_by_hand_is_noticed_and_the_place_of_it_named(
    stopped: Path, kind: str, cover: Callable[[Path], None]
) -> None:
    statements, place = EDITS[kind]
    with closing(sqlite3.connect(stopped / "imagestream.db")) as connection:
        (head,) = connection.execute("SELECT MAX(rowid) FROM stored_events").fetchone()
        for statement in statements:
            assert connection.execute(statement.format(head=head)).rowcount > 0
        connection.commit()
    position = {"head": head, "head + 1": head + 1}.get(str(place), place)
    try:
        cover(stopped)
    except Exception as error:  # it can't be covered up
        print(error)
    if position == head + 1 and cover is grow_again:
        return  # it is an event like any other then
    report = check(stopped)
    assert not report.ok
    assert names(report, int(position)), report.differences


def test_what_was_altered_is_narrowed_down_without_a_checkpoint_near_it(stopped: Path) -> None:
    with closing(sqlite3.connect(stopped / "imagestream.db")) as connection:
        connection.execute("UPDATE stored_events SET state = CAST(state || ' ' AS BLOB) WHERE rowid = 300")
        connection.commit()
    (stopped / "checkpoints").unlink()
    (difference,) = check(stopped).differences
    assert difference == (
        f"the events behind position {LANDMARK} up to {2 * LANDMARK} are not those of the Merkle tree beside the log"
    )

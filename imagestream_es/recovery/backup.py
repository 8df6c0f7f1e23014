"""Backups: a directory with one SQLite file, whatever kind of store it comes from, and a manifest with hashes.

The file holds the log, the tree over it, and whatever else could not be folded again, the names of users included;
one made from a file has the views too. It goes back into either kind of store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path

import msgspec
from msgspec import Struct

from imagestream_es.bootstrap import database_file, open_store
from imagestream_es.maintenance import require_log
from imagestream_es.persistence import tables
from imagestream_es.persistence.sqlite import SQLiteStore, Use
from imagestream_es.persistence.store import Rows, Store
from imagestream_es.projections import projector
from imagestream_es.recovery.refill import fill, position_at
from imagestream_es.recovery.wholeness import Refusal, new_store, require_empty, whole_directory
from imagestream_es.settings import Settings

DATABASE, MANIFEST = "imagestream.db", "manifest.json"

FORMAT = 1


class File(Struct):
    """A file of a backup: its length in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


class Manifest(Struct):
    """What a backup says of itself: `checkpoint` is SIZE:ROOT of the tree, `position` the head of its log."""

    format: int
    time: str
    program: str
    position: int
    checkpoint: str
    files: dict[str, File]


def backup(settings: Settings, directory: Path, progress: projector.Progress) -> Manifest:
    """Make a backup in a new directory; the service may run meanwhile.

    Raises Refusal if the directory exists, NothingThere, OSError, PersistenceError.
    """
    if not settings.database_url:
        require_log(settings)
    with whole_directory(directory) as unfinished, closing(open_store(settings, to_read=True)) as store:
        file = unfinished / DATABASE
        store.save(str(file), progress)
        with _frozen(file) as rows:
            checkpoint = rows.tree().checkpoint()
            position = rows.head()
        if checkpoint.size != position:
            raise Refusal(f"the tree has {checkpoint.size} events and the log {position}: run verify on this log")
        manifest = Manifest(
            FORMAT,
            datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            version("imagestream-es"),
            position,
            str(checkpoint),
            {DATABASE: _hashed(file)},
        )
        (unfinished / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


def check(directory: Path) -> Manifest:
    """The manifest of a backup whose files are as it says. Raises Refusal if they are not, or it is no backup."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise Refusal(f"{directory} holds no {MANIFEST}: name a directory that `backup` made") from None
    except msgspec.MsgspecError as error:
        raise Refusal(f"{directory / MANIFEST} can't be read ({error}): use another backup") from error
    if manifest.format != FORMAT:
        raise Refusal(f"{directory} is of format {manifest.format}, and this program knows {FORMAT}: update it")
    for name, file in manifest.files.items():
        path = directory / name
        if Path(name).name != name or not path.is_file() or _hashed(path) != file:
            raise Refusal(f"{path} is not the file that was backed up: use another backup")
    return manifest


def restore(settings: Settings, source: Path, progress: projector.Progress) -> str:
    """Bring a whole backup back into an empty data directory or database; answers SIZE:ROOT of its log.

    Raises Refusal, DirectoryInUse, OSError, PersistenceError.
    """
    manifest = check(source)
    file = source / DATABASE
    if settings.database_url:
        with new_store(settings) as store, store.writing() as target, _frozen(file) as rows:
            require_empty(target)
            for table in tables.KEPT:
                tables.copy(rows, target, table, lambda _: None)
            projector.fold(target, target, 0, target.head(), progress, bulk=True)
            _agree(target, manifest)
        return manifest.checkpoint
    with new_store(settings, file) as store:
        projector.catch_up(store, progress)
        with store.reading() as rows:
            _agree(rows, manifest)
    return manifest.checkpoint


def restore_until(settings: Settings, source: Path, until: str, progress: projector.Progress) -> str:
    """Bring back a log as it was at a position or time, from a backup or a data directory; answers SIZE:ROOT.

    The names of users come along; what a registry told and was not settled does not.

    Raises Refusal, DirectoryInUse, OSError, PersistenceError.
    """
    with _source(source) as rows:
        last = position_at(rows, until)
        with new_store(settings) as store, store.writing() as target:
            require_empty(target)
            for table in tables.PEOPLE:
                tables.copy(rows, target, table, lambda _: None)
            with closing(rows.log(0, last)) as events:
                checkpoint = fill(target, events, last, progress)
    return str(checkpoint)


@contextmanager
def _source(directory: Path) -> Iterator[Rows]:
    if (directory / MANIFEST).exists():
        check(directory)
        with _frozen(directory / DATABASE) as rows:
            yield rows
        return
    settings = Settings(data_dir=directory)
    if not database_file(settings).exists():
        raise Refusal(f"{directory} is neither a backup nor a data directory: name one of them")
    with closing(open_store(settings, to_read=True)) as store, store.reading() as rows:
        yield rows


@contextmanager
def _frozen(file: Path) -> Iterator[Rows]:
    store: Store = SQLiteStore(str(file), Use.FROZEN)
    with closing(store), store.reading() as rows:
        yield rows


def _agree(rows: Rows, manifest: Manifest) -> None:
    found = rows.tree().checkpoint()
    if str(found) != manifest.checkpoint or rows.head() != manifest.position:
        raise Refusal(f"the log in the backup is {found}, and its manifest says {manifest.checkpoint}: use another one")


def _hashed(path: Path) -> File:
    with path.open("rb") as file:
        return File(path.stat().st_size, file_digest(file, "sha256").hexdigest())

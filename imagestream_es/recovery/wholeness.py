"""Files and stores that come to be whole or not at all, however the program ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from imagestream_es.bootstrap import database_file, open_store
from imagestream_es.persistence import tables
from imagestream_es.persistence.directory import DirectoryLock
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Rows, Store
from imagestream_es.settings import Settings


class Refusal(Exception):
    """What was asked for can't be done; says what to do instead."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write instead of `path`, which it becomes when the block ends well. Raises Refusal if that exists."""
    _refuse_existing(path)
    beside = _beside(path)
    beside.unlink(missing_ok=True)
    try:
        yield beside
        _settle(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A directory to fill instead of `path`, which it becomes when the block ends well.

    Raises Refusal if that exists.
    """
    _refuse_existing(path)
    beside = _beside(path)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700, parents=True)
    try:
        yield beside
        for file in beside.iterdir():
            _sync(file)
        _settle(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def new_store(settings: Settings, begin: Path | None = None) -> Iterator[Store]:
    """A store without a log that becomes the one that the settings name when the block ends well.

    In a file, it begins as a copy of `begin`. In a database, the block must do all in one transaction and begin it
    with `require_empty`. Raises Refusal if there is a log already, DirectoryInUse.
    """
    if settings.database_url:
        with closing(open_store(settings)) as store:
            store.create_tables()
            yield store
        return
    directory, path = Path(settings.data_dir), database_file(settings)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with DirectoryLock(directory):
        _refuse_existing(path)
        beside = _beside(path)
        _remove_database(beside)
        try:
            if begin is not None:
                shutil.copyfile(begin, beside)
            with closing(SQLiteStore(str(beside))) as store:
                store.create_tables()
                yield store
            # The last connection has moved the write-ahead log into the file.
            if Path(f"{beside}-wal").exists():
                raise Refusal(f"{beside} could not be finished: end who else uses it, and run this again")
            _settle(beside, path)
        finally:
            _remove_database(beside)


def require_empty(rows: Rows) -> None:
    """Raises Refusal if a store holds anything that is not only folded."""
    if tables.count(rows, tables.KEPT):
        raise Refusal("this database holds a log already: name an empty one with --database-url")


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise Refusal(f"{path} is there already, and is left as it is: name another place, or move it away")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.unfinished")


def _remove_database(path: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def _settle(beside: Path, path: Path) -> None:
    _sync(beside)
    beside.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

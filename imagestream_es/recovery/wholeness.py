"""Files and stores that come to be whole or not at all, however the program ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from imagestream_es.bootstrap import database_file, open_store, unfinished
from imagestream_es.persistence import tables
from imagestream_es.persistence.directory import DirectoryLock
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Rows, Store
from imagestream_es.settings import Settings

UNFINISHED = "imagestream_unfinished"
"""The schema of a store that is being made in several transactions."""


class Refusal(Exception):
    """What was asked for can't be done; says what to do instead."""


class AnotherOne(Refusal):
    """What was begun there is something else, and is left as it is."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write instead of `path`, which it becomes when the block ends well. Raises Refusal if that exists."""
    _refuse_existing(path)
    beside = unfinished(path)
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
    beside = unfinished(path)
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
        beside = unfinished(path)
        _remove_database(beside)
        try:
            if begin is not None:
                shutil.copyfile(begin, beside)
            with closing(SQLiteStore(str(beside))) as store:
                store.create_tables()
                yield store
            _settle_database(beside, path)
        finally:
            _remove_database(beside)


@contextmanager
def begun_store(settings: Settings) -> Iterator[Store]:
    """A store to be filled in any number of transactions, that becomes the one that the settings name at the end.

    If the block does not come to its end, the store is there the next time as it was; but not if it ends with a
    Refusal that is not AnotherOne. Raises Refusal if there is a log already, DirectoryInUse, InUse.
    """
    with ExitStack() as stack:
        if settings.database_url:
            store, finish, discard = _begun_in_schema(settings.database_url, stack)
        else:
            store, finish, discard = _begun_in_file(settings, stack)
        try:
            store.create_tables()
            yield store
        except AnotherOne:
            raise
        except Refusal:
            store.close()
            discard()
            raise
        finally:
            store.close()
        finish()


Begun = tuple[Store, Callable[[], None], Callable[[], None]]
"""A store, what makes it the one that was wanted, and what removes it."""


def _begun_in_file(settings: Settings, stack: ExitStack) -> Begun:
    directory, path = Path(settings.data_dir), database_file(settings)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    stack.enter_context(DirectoryLock(directory))
    _refuse_existing(path)
    beside = unfinished(path)
    return SQLiteStore(str(beside)), lambda: _settle_database(beside, path), lambda: _remove_database(beside)


def _begun_in_schema(url: str, stack: ExitStack) -> Begun:
    from imagestream_es.persistence.postgres import PostgresStore  # noqa: PLC0415 (its driver is heavy)

    home = stack.enter_context(closing(PostgresStore(url)))
    home.create_tables()
    stack.enter_context(home.alone("import"))
    with home.writing() as rows:
        require_empty(rows)
    home.make(UNFINISHED)

    def finish() -> None:
        with home.adopting(UNFINISHED) as rows:
            require_empty(rows)

    return PostgresStore(url, UNFINISHED), finish, lambda: home.drop(UNFINISHED)


def require_empty(rows: Rows) -> None:
    """Raises Refusal if a store holds anything that is not only folded."""
    if tables.count(rows, tables.KEPT):
        raise Refusal("this database holds a log already: name an empty one with --database-url")


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise Refusal(f"{path} is there already, and is left as it is: name another place, or move it away")


def _remove_database(path: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def _settle_database(beside: Path, path: Path) -> None:
    # The last connection has moved the write-ahead log into the file.
    if Path(f"{beside}-wal").exists():
        raise Refusal(f"{beside} could not be finished: end who else uses it, and run this again")
    _settle(beside, path)


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

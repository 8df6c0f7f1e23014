"""The embedded store: one SQLite file, written by one process.

Durability is set and read back at start: write-ahead log with `synchronous=FULL`, so that what was
acknowledged survives a power cut. The log's table names its position explicitly, so no VACUUM can
renumber it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

from eventsourcing.persistence import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    PersistenceError,
    StoredEvent,
)
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteDatastore,
)

from imagestream_es.persistence import read_model, shadow, tables
from imagestream_es.persistence.directory import DirectoryInUse, DirectoryLock, FileLock, in_use
from imagestream_es.persistence.store import DiskFull, Growth, NotErased, OutcomeUnknown, Row, Rows

CHECKPOINT_WAITS, CHECKPOINT_TRIES = 1000, 30
"""Milliseconds that one try to empty the write-ahead log waits for readers, and how often it is tried."""

_SORTING = -32768
"""Memory to sort in, as `PRAGMA cache_size` takes it: in KiB if it is negative."""

_PAGES = 2000
"""How many pages are copied between two reports of progress."""


class SQLiteRecorder(SQLiteApplicationRecorder):
    """The library's recorder over a table whose position is a column of its own."""

    def construct_create_table_statements(self) -> list[str]:
        """The log's table, that of the tree over it, the views' tables, and those that are kept beside them.

        Not the views' indexes, which have one name or another.
        """
        log = (
            "CREATE TABLE IF NOT EXISTS stored_events ("
            "rowid INTEGER PRIMARY KEY, "
            "originator_id TEXT NOT NULL, "
            "originator_version INTEGER NOT NULL, "
            "topic TEXT NOT NULL, "
            "state BLOB NOT NULL, "
            "UNIQUE (originator_id, originator_version))"
        )
        views = set(filter(shadow.index_names, tables.VIEW_STATEMENTS))
        return [log, *(_clustered(statement) for statement in tables.STATEMENTS if statement not in views)]

    def _insert_events(self, c: Any, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        head = self._max_notification_id(c) or 0
        positions = range(head + 1, head + 1 + len(stored_events))
        _Rows(c.sqlite_cursor, Growth()).append(zip(positions, stored_events, strict=True))
        return list(positions)


def _clustered(statement: str) -> str:
    return statement.replace("{clustered}", "WITHOUT ROWID")


class Use(Enum):
    """What a file is opened for: how, and the settings that are made and read back, each with what is then read."""

    SERVE = "rwc", ("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2)
    READ = "ro", ("query_only", "ON", 1)
    FROZEN = "ro&immutable=1", ("query_only", "ON", 1)
    SCRATCH = "rwc", ("journal_mode", "MEMORY", "memory"), ("synchronous", "OFF", 0), ("cache_size", "-65536", -65536)


class _Pool(SQLiteConnectionPool):
    """Connections to one file.

    Who writes has one that nobody else uses: what it remembers of the file is never out of date.
    """

    def __init__(self, name: str, use: Use, *, pool_size: int = 16, max_overflow: int = 48) -> None:
        self.use = use
        super().__init__(db_name=name, lock_timeout=5, pool_size=pool_size, max_overflow=max_overflow)
        alone = pool_size == 1 or self.is_sqlite_memory_mode
        self._writers = None if alone else _Pool(name, use, pool_size=1, max_overflow=0)

    def get_connection(self, timeout: float | None = None, *, is_writer: bool | None = None) -> SQLiteConnection:
        if is_writer and self._writers is not None:
            return self._writers.get_connection(timeout, is_writer=True)
        return super().get_connection(timeout, is_writer=is_writer)

    def put_connection(self, conn: SQLiteConnection) -> None:
        if conn.is_writer and self._writers is not None:
            self._writers.put_connection(conn)
        else:
            super().put_connection(conn)

    def close(self) -> None:
        super().close()
        if self._writers is not None:
            self._writers.close()

    def _create_connection(self) -> SQLiteConnection:
        try:
            connection = sqlite3.connect(
                self.db_name,
                uri=True,
                check_same_thread=False,
                isolation_level=None,
                cached_statements=256,
                timeout=self.lock_timeout or 5,
            )
            for setting in self.use.value[1:]:
                if not (self.is_sqlite_memory_mode and setting[0] == "journal_mode"):
                    _set(connection, *setting)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise InterfaceError(error) from error
        connection.row_factory = sqlite3.Row
        return SQLiteConnection(sqlite_conn=connection, max_age=self.max_age)


def _set(connection: sqlite3.Connection, pragma: str, value: str, expected: object) -> None:
    connection.execute(f"PRAGMA {pragma}={value}")
    (found,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    if found != expected:
        message = f"SQLite would not set {pragma}={value} (it is {found}): the log would not be durable"
        raise InterfaceError(message)


class SQLiteStore:
    """A store in the file `path`, or in memory if `path` is None.

    One that is opened to `READ` changes no file; one that is FROZEN is a file that nobody changes. What is kept in a
    SCRATCH file is gone with the program.
    """

    def __init__(self, path: str | None, use: Use = Use.SERVE) -> None:
        mode = use.value[0]
        name = f"file:{id(self)}?mode=memory&cache=shared" if path is None else f"file:{_quoted(path)}?mode={mode}"
        self._path = path
        self._datastore = SQLiteDatastore(db_name=":memory:", originator_id_type="text")
        self._datastore.pool.close()
        self._datastore.pool = pool = _Pool(name, use)
        self._is_in_memory = pool.is_sqlite_memory_mode
        self.recorder = SQLiteRecorder(self._datastore)
        self._growth = Growth()

    def create_tables(self) -> None:
        """Make what tables are missing; views of another shape make room for new ones."""
        self.recorder.create_table()
        with self.writing() as rows:
            if read_model.drop_other_shape(rows):
                for table in shadow.TABLES:
                    rows.run(f"DROP TABLE IF EXISTS {table}")
                _make_views(rows)
            _make_indexes(rows)

    @contextmanager
    def alone(self, task: str) -> Iterator[None]:
        """Be the only one at a task."""
        with FileLock(
            Path(f"{self._path}.{task}"), f"another {task} is under way, of pid {{holder}}: wait for its end"
        ):
            yield

    def has_shadow(self) -> bool:
        """Whether a shadow was begun and not finished."""
        with self.reading() as rows:
            return _exists(rows, "table", f"projection{shadow.NEW}")

    def make_shadow(self) -> None:
        """Drop what is left of a shadow, and make one with nothing in it."""
        self.drop_shadow()
        with self.writing() as rows:
            _make_views(_Shadow(rows))
            for statement in tables.VIEW_STATEMENTS:
                names = shadow.index_names(statement)
                if names is not None:
                    free = names[1] if _exists(rows, "index", names[0]) else names[0]
                    rows.run(shadow.shadowed(shadow.named(statement, free)))
            shadow.begin(_Shadow(rows))

    @contextmanager
    def shadow(self) -> Iterator[_Shadow]:
        """A transaction in which the views are the shadow's. Behind it is time for others, who waited for it."""
        with self.writing() as rows:
            began = time.monotonic()
            yield _Shadow(rows)
        if self._is_served():
            time.sleep(time.monotonic() - began)

    @contextmanager
    def shadow_alone(self) -> Iterator[_Shadow | None]:
        """Like `shadow`, for as long as it takes: no service can begin meanwhile. None if one runs."""
        with ExitStack() as stack:
            alone = self._hold(stack)
            yield _Shadow(stack.enter_context(self.writing())) if alone else None

    def _hold(self, stack: ExitStack) -> bool:
        """Let no service begin until the stack ends; answers whether none runs."""
        if self._path is not None:
            try:
                stack.enter_context(DirectoryLock(Path(self._path).parent))
            except DirectoryInUse:
                return False
        return True

    def turn(self) -> float:
        """While a service runs it is short: all of SQLite's writers wait for one another."""
        return 0.025 if self._is_served() else 1.0

    def _is_served(self) -> bool:
        return self._path is not None and in_use(Path(self._path).parent)

    @contextmanager
    def swapping(self, views: Sequence[str]) -> Iterator[_Shadow]:
        """Like `shadow`; when its block ends, `views` are those of the shadow."""
        with self.writing() as rows:
            filled = _Shadow(rows)
            yield filled
            position, moment = read_model.folded_until(filled), read_model.folded_time(filled)
            for view in views:
                rows.run(f"ALTER TABLE {view} RENAME TO {view}{shadow.OLD}")
                rows.run(f"ALTER TABLE {view}{shadow.NEW} RENAME TO {view}")
            rows.run(f"DROP TABLE projection{shadow.NEW}")
            read_model.replaced(rows, position, moment)

    def drop_shadow(self) -> None:
        """Drop what is left of a shadow, and of the views whose place it took."""
        for table in shadow.TABLES:
            with self.writing() as rows:
                rows.run(f"DROP TABLE IF EXISTS {table}")

    @contextmanager
    def reading(self) -> Iterator[_Rows]:
        """A transaction that sees one snapshot."""
        with self._connection(writer=False) as rows:
            rows.run("BEGIN")
            try:
                yield rows
            finally:
                rows.roll_back()

    @contextmanager
    def glancing(self) -> Iterator[_Rows]:
        """Statements that each see what is committed by then."""
        with self._connection(writer=False) as rows:
            yield rows

    @contextmanager
    def writing(self) -> Iterator[_Rows]:
        """The one transaction that writes."""
        with self._connection(writer=True) as rows, _committed(rows):
            yield rows

    @contextmanager
    def erasing(self, table: str) -> Iterator[_Rows]:  # noqa: ARG002 (all deleted bytes are wiped)
        """A writing transaction whose deletions leave no bytes behind, neither in the file nor in its log."""
        with self._connection(writer=True, kept=False) as rows:  # its settings are for this alone
            rows.run("PRAGMA secure_delete=ON")
            with _committed(rows):
                yield rows
            _empty_write_ahead_log(rows)

    def save(self, path: str, progress: Callable[[int, int], None]) -> None:
        """Write the whole database, as it is at one moment, to a new file; others may go on writing."""
        with self.reading() as rows:
            rows.head()  # the moment is that of the first read
            rows.save(path, progress)

    @contextmanager
    def _connection(self, *, writer: bool, kept: bool = True) -> Iterator[_Rows]:
        with self._datastore.get_connection(commit=writer) as connection:
            cursor = connection.cursor().sqlite_cursor
            cursor.row_factory = None
            try:
                yield _Rows(cursor, self._growth)
            except PersistenceError:
                kept = False  # whatever it remembers
                raise
            finally:
                cursor.close()
                # If it could not be rolled back, nobody could begin another transaction on this connection.
                stuck = cursor.connection.in_transaction
                if stuck or not (kept or self._is_in_memory):  # a database in memory ends with its connections
                    connection.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._datastore.close()


def _make_views(rows: Rows) -> None:
    for statement in tables.VIEW_STATEMENTS:
        if shadow.index_names(statement) is None:
            rows.run(_clustered(statement))


def _make_indexes(rows: Rows) -> None:
    """Make what indexes of the views are missing, under whichever of their names."""
    for statement in tables.VIEW_STATEMENTS:
        names = shadow.index_names(statement)
        if names is not None and not any(_exists(rows, "index", name) for name in names):
            rows.run(shadow.named(statement, names[0]))


def _exists(rows: Rows, kind: str, name: str) -> bool:
    return rows.one("SELECT 1 FROM sqlite_master WHERE type = ? AND name = ?", kind, name) is not None


@contextmanager
def _committed(rows: _Rows) -> Iterator[None]:
    """A transaction that writes, around a block."""
    rows.run("BEGIN IMMEDIATE")
    try:
        try:
            yield
        except BaseException:
            rows.roll_back()
            raise
        try:
            rows.run("COMMIT")
        except PersistenceError as error:
            # A failed COMMIT leaves the transaction open. If it can be rolled back, nothing is stored, unless
            # the disk failed: then the log may hold it already, and a crash would bring it back.
            if rows.roll_back() and not _disk_failed(error):
                raise
            raise OutcomeUnknown(error) from error
    finally:
        rows.detach()


def _empty_write_ahead_log(rows: _Rows) -> None:
    """Move all of it into the file, where others use the database too. Raises NotErased."""
    rows.run(f"PRAGMA busy_timeout={CHECKPOINT_WAITS}")  # writers wait as long
    for _ in range(CHECKPOINT_TRIES):
        (busy, *_frames) = rows.one("PRAGMA wal_checkpoint(TRUNCATE)") or (1,)
        if not busy:
            return
        time.sleep(0.1)
    message = (
        "the write-ahead log could not be emptied while others read the database: what was erased may still be "
        "in it. Run this again when no long command, such as verify, is running"
    )
    raise NotErased(message)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


class _Rows(Rows):
    POSITION = "rowid"

    def __init__(self, cursor: Any, growth: Growth) -> None:
        self._cursor = cursor
        self._growth = growth
        self._attached: list[str] = []

    def all(self, sql: str, *values: Any) -> list[Row]:
        with _translated:
            return self._cursor.execute(sql, values).fetchall()  # type: ignore[no-any-return]

    def one(self, sql: str, *values: Any) -> Row | None:
        with _translated:
            return self._cursor.execute(sql, values).fetchone()  # type: ignore[no-any-return]

    def damage(self) -> list[str]:
        return [message for (message,) in self.all("PRAGMA integrity_check") if message != "ok"]

    def interrupt(self) -> None:
        self._cursor.connection.interrupt()

    def each(self, sql: str, *values: Any) -> Iterator[Row]:
        cursor = self._cursor.connection.cursor()
        cursor.row_factory = None
        try:
            with _translated:
                yield from chain(cursor.execute(sql, values))  # chained, the cursor is closed below alone
        finally:
            with suppress(sqlite3.ProgrammingError):  # a connection that failed is closed already
                cursor.close()

    def run(self, sql: str, *values: Any) -> int:
        with _translated:
            return self._cursor.execute(sql, values).rowcount  # type: ignore[no-any-return]

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with _translated:
            self._cursor.executemany(sql, rows)

    @contextmanager
    def without_indexes(self, table: str) -> Iterator[None]:
        """Have a table without indexes in a block that writes all of it: they are then made by sorting."""
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
        indexes = self.all(query, self._name(table))
        (cache,) = self.one("PRAGMA cache_size") or (0,)
        self.run(f"PRAGMA cache_size={_SORTING}")
        try:
            for name, _ in indexes:
                self.run(f"DROP INDEX {name}")
            yield
            for _, statement in indexes:
                self.run(statement)
        finally:
            self.run(f"PRAGMA cache_size={cache}")

    def file(self) -> str | None:
        found = self.one("SELECT file FROM pragma_database_list WHERE name = 'main'")
        return (found and found[0]) or None

    def attach(self, file: Path, name: str) -> None:
        self.run(f"ATTACH ? AS {name}", str(file))
        self._attached.append(name)

    def detach(self) -> None:
        """Let go of all files that were attached; not inside a transaction."""
        while self._attached:
            self.run(f"DETACH {self._attached.pop()}")

    def _name(self, table: str) -> str:
        """Under which name a table is there."""
        return table

    def columns(self, table: str) -> list[str]:
        with _translated:
            return [column[0] for column in self._cursor.execute(f"SELECT * FROM {table} LIMIT 0").description]

    def save(self, path: str, progress: Callable[[int, int], None]) -> None:
        """Write the database as this transaction sees it to a new file, which is not on disk for certain then."""
        with _translated, closing(sqlite3.connect(path, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous=OFF")
            self._cursor.connection.backup(
                target, pages=_PAGES, progress=lambda _, remaining, total: progress(total - remaining, total)
            )

    def roll_back(self) -> bool:
        """End the transaction, if one is open, without effect; answers whether that worked."""
        try:
            if self._cursor.connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True


class _Shadow(_Rows):
    """A transaction to which the views are those of the shadow."""

    def __init__(self, rows: _Rows) -> None:
        super().__init__(rows._cursor, rows._growth)
        self._attached = rows._attached

    def all(self, sql: str, *values: Any) -> list[Row]:
        return super().all(shadow.shadowed(sql), *values)

    def one(self, sql: str, *values: Any) -> Row | None:
        return super().one(shadow.shadowed(sql), *values)

    def each(self, sql: str, *values: Any) -> Iterator[Row]:
        return super().each(shadow.shadowed(sql), *values)

    def run(self, sql: str, *values: Any) -> int:
        return super().run(shadow.shadowed(sql), *values)

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        super().many(shadow.shadowed(sql), rows)

    def _name(self, table: str) -> str:
        return shadow.shadowed(table)


def _disk_failed(error: PersistenceError) -> bool:
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_IOERR


class _Translation:
    """Raises what the driver raises in a block as the library's errors. At a fifth of a generator's cost."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case sqlite3.IntegrityError():
                raise IntegrityError(error) from error
            case sqlite3.OperationalError():
                full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
                raise (DiskFull if full else OperationalError)(error) from error
            case sqlite3.Error() | UnicodeDecodeError():  # the latter where the file is damaged
                raise DatabaseError(error) from error


_translated = _Translation()

"""The store on PostgreSQL, for services that must outlive a machine.

Writers of all processes take turns on the log's table lock and give out positions under it: so the order of
positions is the order of commits, and there are no gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, LiteralString
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import psycopg
from eventsourcing.persistence import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    PersistenceError,
    StoredEvent,
)
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.rows import tuple_row
from psycopg.sql import SQL

from imagestream_es.persistence import read_model, shadow, tables
from imagestream_es.persistence.directory import InUse
from imagestream_es.persistence.sqlite import SQLiteStore, Use
from imagestream_es.persistence.store import DiskFull, Growth, OutcomeUnknown, Row, Rows

HOME = "public"
"""The schema of all tables, but for those that are being made."""

SWAP_WAITS = 1500
"""Milliseconds that a replay waits at its end for those who read, while all others wait for it."""


class PostgresRecorder(PostgresApplicationRecorder):
    """The library's recorder, with the other tables beside the log and positions given out by us."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        super().__init__(datastore)
        self.sql_create_statements += [SQL(_types(statement)).format() for statement in tables.STATEMENTS]

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Append events behind the head of the log."""
        with _writing(self.datastore, Growth()) as rows:
            head = rows.head()
            positions = range(head + 1, head + 1 + len(stored_events))
            rows.append(zip(positions, stored_events, strict=True))
        return list(positions)


def _types(statement: str) -> LiteralString:
    return statement.replace("{clustered}", "").replace("BLOB", "BYTEA").replace(" TEXT", ' TEXT COLLATE "C"')


class PostgresStore:
    """A store in the database that `url` (postgresql://user:password@host:port/database) names.

    One in another `schema` than usual is in the making.
    """

    def __init__(self, url: str, schema: str = HOME) -> None:
        parts = urlsplit(url)
        self._datastore = PostgresDatastore(
            dbname=unquote(parts.path.lstrip("/")),
            host=parts.hostname or "",
            port=parts.port or 5432,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            connect_timeout=5,
            pool_size=4,
            max_overflow=28,
            max_waiting=256,
            lock_timeout=5,
            originator_id_type="text",
            schema=schema,
        )
        pool_kwargs = self._datastore.pool.kwargs
        if isinstance(pool_kwargs, dict):
            pool_kwargs |= {
                "target_session_attrs": "read-write",
                "connect_timeout": 3,
                "keepalives_idle": 3,
                "keepalives_interval": 1,
                "keepalives_count": 3,
                "tcp_user_timeout": 5000,
                "application_name": "imagestream-es",
                "options": f"-c search_path={schema}",
            }
        self._datastore.pool.reconnect_timeout = 3
        self.recorder = PostgresRecorder(self._datastore)
        self._growth = Growth()

    def create_tables(self) -> None:
        """Make what tables are missing; views of another shape make room for new ones.

        Processes that start together wait for one another.
        """
        with self._datastore.transaction(commit=True) as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('imagestream-es.create_tables'))")
            self.recorder.create_table()
            with self.writing() as rows:
                dropped = read_model.drop_other_shape(rows)
            if dropped:
                self.recorder.create_table()

    @contextmanager
    def reading(self) -> Iterator[_Rows]:
        """A transaction that sees one snapshot."""
        with _translated, self._datastore.transaction(commit=False) as cursor:
            # The lock comes before the snapshot: so no replay ends between that and the first look at a view, which
            # would then be a table whose rows this snapshot does not see.
            cursor.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE projection IN ACCESS SHARE MODE"
            )
            yield _Rows(cursor.connection, self._growth)

    @contextmanager
    def glancing(self) -> Iterator[_Rows]:
        """Statements that each see what is committed by then."""
        with _translated, self._datastore.get_connection() as connection:
            yield _Rows(connection, self._growth)

    @contextmanager
    def writing(self) -> Iterator[_Rows]:
        """The one transaction that writes."""
        with _writing(self._datastore, self._growth) as rows:
            yield rows

    @contextmanager
    def erasing(self, table: str) -> Iterator[_Rows]:
        """A writing transaction after which `table` is written anew, without the bytes of what was deleted.

        PostgreSQL's own write-ahead log keeps them until it is recycled, as an archive of it does.
        """
        with self.writing() as rows:
            yield rows
        with _translated, self._datastore.get_connection() as connection:
            _Rows(connection, self._growth).run(f"VACUUM FULL {table}")

    @contextmanager
    def alone(self, task: str) -> Iterator[None]:
        """Be the only one at a task."""
        lock = f"(hashtext('imagestream-es.{task}'))"
        with _translated, self._datastore.get_connection() as connection:
            rows = _Rows(connection, self._growth)
            if rows.one(f"SELECT pg_try_advisory_lock{lock}") != (True,):
                raise InUse(f"another {task} is under way on this database: wait for its end")
            try:
                yield
            finally:
                if not connection.broken:
                    rows.one(f"SELECT pg_advisory_unlock{lock}")

    def has(self, schema: str) -> bool:
        """Whether there is a schema."""
        with _translated, self._datastore.get_connection() as connection:
            rows = _Rows(connection, self._growth)
            return rows.one("SELECT 1 FROM pg_namespace WHERE nspname = ?", schema) is not None

    def make(self, schema: str) -> None:
        """Make a schema, if it is not there."""
        with _translated, self._datastore.get_connection() as connection:
            _Rows(connection, self._growth).run(f"CREATE SCHEMA IF NOT EXISTS {schema}")

    def drop(self, schema: str) -> None:
        """Drop a schema, if it is there, with all that is in it."""
        with _translated, self._datastore.get_connection() as connection:
            _Rows(connection, self._growth).run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")

    @contextmanager
    def adopting(self, schema: str) -> Iterator[_Rows]:
        """A transaction that writes; when its block ends, all tables are those that a store has made in a schema."""
        with self.writing() as rows:
            rows.run("LOCK TABLE projection IN ACCESS EXCLUSIVE MODE")
            yield rows
            _move(rows, schema, (*tables.KEPT, *tables.VIEWS))

    @contextmanager
    def shadow_alone(self) -> Iterator[None]:
        """None: nobody knows whether a service runs."""
        yield None

    def turn(self) -> float:
        """Nobody waits for it."""
        return 1.0

    def has_shadow(self) -> bool:
        """Whether a shadow was begun and not finished."""
        return self.has(shadow.SCHEMA)

    def make_shadow(self) -> None:
        """Drop what is left of a shadow, and make one with nothing in it."""
        with self._shadow() as rows:
            rows.run(f"DROP SCHEMA IF EXISTS {shadow.SCHEMA} CASCADE")
            rows.run(f"CREATE SCHEMA {shadow.SCHEMA}")
            for statement in tables.VIEW_STATEMENTS:
                rows.run(_types(statement))
            shadow.begin(rows)

    @contextmanager
    def shadow(self) -> Iterator[_Rows]:
        """A transaction in which the views are the shadow's. Nobody waits for it."""
        with self._shadow() as rows:
            yield rows

    @contextmanager
    def _shadow(self) -> Iterator[_Rows]:
        with _translated, self._datastore.get_connection() as connection, connection.transaction():
            rows = _Rows(connection, self._growth)
            rows.run("SET LOCAL synchronous_commit = off")  # what a crash takes is folded again
            _look_in_shadow(rows)
            yield rows

    @contextmanager
    def swapping(self, views: Sequence[str]) -> Iterator[_Rows]:
        """Like `shadow`; when its block ends, `views` are those of the shadow."""
        with self._shadow() as rows:
            for view in views:
                rows.run(f"ANALYZE {view}")
        with self.writing() as rows:
            # First those who read must come to an end: see `reading`. Others wait no longer than this behind them.
            rows.run(f"SET LOCAL lock_timeout = '{SWAP_WAITS}ms'")
            rows.run("LOCK TABLE projection IN ACCESS EXCLUSIVE MODE")
            _look_in_shadow(rows)
            yield rows
            position, moment = read_model.folded_until(rows), read_model.folded_time(rows)
            _move(rows, shadow.SCHEMA, views)
            read_model.replaced(rows, position, moment)

    def drop_shadow(self) -> None:
        """Drop what is left of a shadow."""
        self.drop(shadow.SCHEMA)

    def save(self, path: str, progress: Callable[[int, int], None]) -> None:
        """Copy all that must be kept, as it is at one moment, to a new SQLite file; others may go on writing."""
        done = 0
        copy = SQLiteStore(path, Use.SCRATCH)

        def copied(rows: int) -> None:
            nonlocal done
            done += rows
            progress(done, total)

        try:
            copy.create_tables()
            with self.reading() as source, copy.writing() as target:
                total = tables.count(source, tables.KEPT)
                for table in tables.KEPT:
                    tables.copy(source, target, table, copied)
        finally:
            copy.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._datastore.close()


def _move(rows: Rows, schema: str, names: Iterable[str]) -> None:
    """Replace tables by those of the same names in a schema, which ends."""
    rows.run(f"SET LOCAL search_path = {HOME}")
    for name in names:
        rows.run(f"DROP TABLE {HOME}.{name}")
        rows.run(f"ALTER TABLE {schema}.{name} SET SCHEMA {HOME}")
    rows.run(f"DROP SCHEMA {schema} CASCADE")


def _look_in_shadow(rows: Rows) -> None:
    """Find tables in the shadow, until the transaction ends, and in the usual schema what is not there."""
    rows.run(f"SET LOCAL search_path = {shadow.SCHEMA}, {HOME}")


@contextmanager
def _writing(datastore: PostgresDatastore, growth: Growth) -> Iterator[_Rows]:
    with _translated, datastore.get_connection() as connection:
        rows = _Rows(connection, growth)
        try:
            with connection.cursor() as cursor:  # all in one message to the server
                cursor.execute(
                    f"BEGIN; SET LOCAL lock_timeout = '{datastore.lock_timeout}s'; "
                    "LOCK TABLE stored_events IN EXCLUSIVE MODE"
                )
            yield rows
        except BaseException:
            if not connection.broken:
                rows.run("ROLLBACK")
            raise
        try:
            rows.run("COMMIT")
        except PersistenceError as error:
            raise OutcomeUnknown(str(error)) from error


class _Translation:
    """Raises what the driver raises in a block as the library's errors. At a fifth of a generator's cost."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case psycopg.IntegrityError():
                raise IntegrityError(str(error)) from error
            case psycopg.errors.DiskFull():
                raise DiskFull(str(error)) from error
            case psycopg.OperationalError() | psycopg.InterfaceError():
                raise OperationalError(str(error)) from error
            case psycopg.Error():
                raise DatabaseError(str(error)) from error


_translated = _Translation()


@lru_cache(maxsize=256)
def _dialect(text: str) -> bytes:
    return text.replace("%", "%%").replace("?", "%s").encode()


class _Rows(Rows):
    POSITION = "notification_id"

    def __init__(self, connection: psycopg.Connection[Any], growth: Growth) -> None:
        self._connection = connection
        self._growth = growth
        self._cursor = connection.cursor(row_factory=tuple_row)

    def all(self, sql: str, *values: Any) -> list[Row]:
        with _translated:
            return self._cursor.execute(_dialect(sql), values).fetchall()

    def one(self, sql: str, *values: Any) -> Row | None:
        with _translated:
            return self._cursor.execute(_dialect(sql), values).fetchone()

    def each(self, sql: str, *values: Any) -> Iterator[Row]:
        # A named cursor keeps the rows on the server.
        with _translated, self._connection.cursor(name=uuid4().hex, row_factory=tuple_row) as cursor:
            cursor.itersize = 2000
            yield from cursor.execute(_dialect(sql), values)

    def run(self, sql: str, *values: Any) -> int:
        with _translated:
            return self._cursor.execute(_dialect(sql), values).rowcount

    def columns(self, table: str) -> list[str]:
        with _translated:
            return [column.name for column in self._cursor.execute(f"SELECT * FROM {table} LIMIT 0").description or ()]

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with _translated:
            self._cursor.executemany(_dialect(sql), rows)

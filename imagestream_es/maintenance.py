"""What an operator does to a log: fold its views again, and check them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from imagestream_es.application.principals import forget as forget_in
from imagestream_es.bootstrap import database_file, milliseconds, open_store
from imagestream_es.persistence import read_model
from imagestream_es.persistence.directory import DirectoryLock
from imagestream_es.persistence.principals import Principal, everybody
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.persistence.store import Row, Rows, Store
from imagestream_es.projections import projector
from imagestream_es.settings import Settings


class NothingThere(Exception):
    """There is no log where the settings point."""


def principals(settings: Settings) -> list[Principal]:
    """Everybody whose id is in the log, by name; the service may run meanwhile. Raises NothingThere without a log."""
    with _opened(settings) as store, store.reading() as rows:
        return everybody(rows)


def forget(settings: Settings, name: str) -> int:
    """Erase everybody of a name; answers how many there were. The service may run meanwhile.

    Raises NothingThere without a log, NotErased.
    """
    with _opened(settings) as store:
        return forget_in(store, name, milliseconds())


@contextmanager
def _opened(settings: Settings) -> Iterator[Store]:
    if not settings.database_url:
        _require(settings)
    with closing(open_store(settings)) as store:
        yield store


@dataclass
class VerifyReport:
    """What a check found: how many events were folded, and every difference that was named."""

    events: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all agrees."""
        return not self.differences


def rebuild(settings: Settings, progress: projector.Progress) -> int:
    """Fold all views again from the log, with the service stopped; answers how many events were folded.

    Raises DirectoryInUse while a service runs on the directory, NothingThere without a log.
    """
    with ExitStack() as stack:
        if not settings.database_url:
            _require(settings)
            stack.enter_context(DirectoryLock(Path(settings.data_dir)))
        store = open_store(settings)
        stack.callback(store.close)
        store.create_tables()
        return projector.rebuild(store, progress)


def verify(settings: Settings, progress: projector.Progress) -> VerifyReport:
    """Fold the log into a fresh copy and compare it with the live views row by row.

    Also checks that positions and each aggregate's versions run from 1 without gaps. The service may run
    meanwhile: both are read in one snapshot. Raises NothingThere without a log.
    """
    if not settings.database_url:
        _require(settings)
    store = open_store(settings)
    fresh = SQLiteStore(None)
    report = VerifyReport()
    try:
        fresh.create_tables()
        with store.reading() as live, fresh.writing() as copy:
            head = live.head()
            report.differences.extend(_gaps(live, head))
            if not report.differences:
                report.events = projector.fold(live, copy, 0, head, progress)
                report.differences.extend(_first_difference(live, copy, head))
    finally:
        fresh.close()
        store.close()
    return report


def _require(settings: Settings) -> None:
    path = database_file(settings)
    if not path.exists():
        message = f"there is no log at {path}: point --data-dir at the directory that the service uses"
        raise NothingThere(message)


def _gaps(rows: Rows, head: int) -> Iterator[str]:
    row = rows.one(f"SELECT COUNT(*), MIN({rows.POSITION}) FROM stored_events")
    count, first = row or (0, None)
    if head and (count, first) != (head, 1):
        yield f"the log has {count} events from position {first} to {head}: some are missing"
    gap = rows.one(
        "SELECT originator_id, COUNT(*), MIN(originator_version), MAX(originator_version) FROM stored_events"
        " GROUP BY originator_id HAVING MIN(originator_version) <> 1 OR MAX(originator_version) <> COUNT(*)"
        " ORDER BY originator_id LIMIT 1"
    )
    if gap is not None:
        yield f"{gap[0]} has {gap[1]} events with versions from {gap[2]} to {gap[3]}: some are missing"


def _first_difference(live: Rows, copy: Rows, head: int) -> Iterator[str]:
    folded = read_model.folded_until(live)
    if folded != head:
        yield f"the views are folded up to position {folded}, the log ends at {head}"
        return
    for table, key in read_model.KEYS.items():
        columns = read_model.COLUMNS[table]
        query = f"SELECT {', '.join((*key, *columns))} FROM {table} ORDER BY {', '.join(key)}"
        for have, want in zip_longest(live.each(query), copy.each(query)):
            if have is None or want is None or _plain(have) != _plain(want):
                yield _describe(table, key, columns, have, want)
                return


def _plain(row: Row) -> Row:
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)


def _describe(table: str, key: tuple[str, ...], columns: tuple[str, ...], have: Row | None, want: Row | None) -> str:
    found, wanted = (row and row[: len(key)] for row in (have, want))
    # Both sides come in the order of keys: the lesser key is the one that the other side lacks.
    first = min(filter(None, (found, wanted)))
    where = ", ".join(f"{name} {value}" for name, value in zip(key, first, strict=True))
    if first != found:
        return f"{table}: the row of {where} is missing from the view"
    if first != wanted:
        return f"{table}: the view has a row of {where} that the log does not give"
    pairs = zip(columns, _plain(have or ())[len(key) :], _plain(want or ())[len(key) :], strict=True)
    names = [f"{name} is {mine!r}, the log gives {theirs!r}" for name, mine, theirs in pairs if mine != theirs]
    return f"{table}: in the row of {where}, {'; '.join(names)}"

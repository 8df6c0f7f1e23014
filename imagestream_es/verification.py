"""Checks a log and everything that was made of it, and says where the first fault is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from eventsourcing.persistence import DatabaseError, OperationalError, PersistenceError

from imagestream_es.bootstrap import checkpoint_path, open_store
from imagestream_es.maintenance import require_log
from imagestream_es.persistence import read_model
from imagestream_es.persistence.audit import Audit, Memory, missing_version, of_checkpoint, of_trees
from imagestream_es.persistence.checkpoints import Line, lines
from imagestream_es.persistence.merkle import Checkpoint, Tree
from imagestream_es.persistence.sqlite import SQLiteStore, Use
from imagestream_es.persistence.store import Row, Rows, Store
from imagestream_es.projections import projector
from imagestream_es.settings import Settings, SettingsError


@dataclass
class Report:
    """What a check found: every difference that was named, and what the log is as far as it could be read.

    `accepted` is the line with which an operator went on with a log that was not the one before.
    """

    events: int = 0
    checkpoints: int = 0
    accepted: Line | None = None
    log: Checkpoint = field(default_factory=lambda: Tree().checkpoint())
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all agrees."""
        return not self.differences


def verify(settings: Settings, progress: projector.Progress, kept: Checkpoint | None = None) -> Report:
    """Read the whole log in one snapshot and hold everything against it.

    Positions and versions without gaps; each event; the Merkle tree; the checkpoints of the service, and the one that
    somebody else has `kept`; the views, against a fold into a fresh copy (a temporary file); for SQLite also its own
    check of the file. The service may run meanwhile; nothing is changed. Raises NothingThere without a log,
    SettingsError if the checkpoint file can't be read, OSError if there is no room for the copy, PersistenceError if
    PostgreSQL does not answer.
    """
    if not settings.database_url:
        require_log(settings)
    report = Report()
    with ExitStack() as stack:
        remembered = stack.enter_context(_Remembered(checkpoint_path(settings), report))
        fresh = SQLiteStore(str(Path(stack.enter_context(TemporaryDirectory())) / "views.db"), Use.SCRATCH)
        stack.callback(fresh.close)
        fresh.create_tables()
        store = open_store(settings, to_read=True)
        stack.callback(store.close)
        try:
            _check(store, fresh, remembered, kept, progress, report)
        except PersistenceError as error:
            if settings.database_url:
                raise
            report.differences.append(f"the database can't be read: {error}")
    return report


class _Remembered:
    """The checkpoint file at `path`, as long as it was before the log was read."""

    def __init__(self, path: Path | None, report: Report) -> None:
        self._path = path
        self._report = report
        self._file: BinaryIO | None = None
        self._until = 0

    def __enter__(self) -> _Remembered:
        if self._path is not None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return self
            except OSError as error:
                raise SettingsError("checkpoint_file", f"cannot read {self._path}: {error.strerror}.") from error
            self._until = self._file.seek(0, 2)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def memories(self) -> Iterator[Memory]:
        """What its lines remember, in order; a line that is wrong by itself is reported."""
        if self._file is None:
            return
        size, differences = 0, self._report.differences
        for number, line in lines(self._file, self._until):
            if line is None:
                differences.append(f"line {number} of {self._path} can't be read")
            elif line.checkpoint.size < size:
                differences.append(f"line {number} of {self._path} goes back from {size} to {line.checkpoint.size}")
            else:
                size = line.checkpoint.size
                self._report.checkpoints += 1
                if line.accepted:
                    self._report.accepted = line
                yield of_checkpoint(line.checkpoint, f"the checkpoints in {self._path}")


def _check(
    store: Store,
    fresh: Store,
    remembered: _Remembered,
    kept: Checkpoint | None,
    progress: projector.Progress,
    report: Report,
) -> None:
    # What is written to the copy is never committed: there is nobody else to read it.
    with store.reading() as other, ThreadPoolExecutor(1) as beside, store.reading() as live, fresh.reading() as copy:
        damage = beside.submit(_damage, other)
        try:
            _hold(live, copy, remembered, kept, progress, report)
            report.differences += damage.result()
        except BaseException:
            other.interrupt()  # whoever interrupts does not want to wait for it
            raise


def _hold(
    live: Rows,
    copy: Rows,
    remembered: _Remembered,
    kept: Checkpoint | None,
    progress: projector.Progress,
    report: Report,
) -> None:
    head = live.head()
    read_model.drop_indexes(copy)
    others = [] if kept is None else [of_checkpoint(kept, "the checkpoint that was kept")]
    audit = Audit(live, [of_trees(live), remembered.memories(), others])
    unfolded: list[str] = []
    try:
        projector.fold(audit, copy, 0, head, progress, bulk=True)
    except OperationalError as error:  # of the copy: the audit keeps those of the log
        raise OSError(f"no copy of the views can be written: {error}. Set TMPDIR to where there is room") from error
    except DatabaseError as error:
        unfolded.append(str(error))
        audit.finish()
    report.events, report.log = audit.tree.size, audit.tree.checkpoint()
    report.differences += [*audit.findings, *unfolded, *_gaps(live)]
    if audit.tree.size == head and not unfolded:
        report.differences.extend(_first_difference(live, copy, head))


def _damage(rows: Rows) -> list[str]:
    found = rows.damage()
    return [f"SQLite finds {len(found)} faults in its file, the first: {found[0]}"] if found else []


def _gaps(rows: Rows) -> Iterator[str]:
    gap = missing_version(rows)
    if gap is not None:
        yield f"{gap[0]} has {gap[1]} events with versions from {gap[2]} to {gap[3]}: some are missing"


def _first_difference(live: Rows, copy: Rows, head: int) -> Iterator[str]:
    folded = read_model.folded_until(live)
    if folded != head:
        yield f"the views are folded up to position {folded}, the log ends at {head}"
        return
    for table, key in read_model.KEYS.items():
        columns = read_model.COLUMNS[table]
        for have, want in zip_longest(read_model.every_row(live, table), read_model.every_row(copy, table)):
            if have != want and (have is None or want is None or _plain(have) != _plain(want)):
                yield _describe(table, key, columns, have, want)
                return


def _plain(row: Row) -> Row:
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)


def _order(key: Row) -> list[tuple[int, Any]]:
    """What orders keys as the database does, also when a damaged one is of another type."""
    ranks: dict[type, int] = {type(None): 0, int: 1, float: 1, str: 2}
    return [(ranks.get(type(value), 3), value) for value in key]


def _describe(table: str, key: tuple[str, ...], columns: tuple[str, ...], have: Row | None, want: Row | None) -> str:
    found, wanted = (row and row[: len(key)] for row in (have, want))
    # Both sides come in the order of keys: the lesser key is the one that the other side lacks.
    first = min(filter(None, (found, wanted)), key=_order)
    where = ", ".join(f"{name} {value}" for name, value in zip(key, first, strict=True))
    if first != found:
        return f"{table}: the row of {where} is missing from the view"
    if first != wanted:
        return f"{table}: the view has a row of {where} that the log does not give"
    pairs = zip(columns, _plain(have or ())[len(key) :], _plain(want or ())[len(key) :], strict=True)
    names = [f"{name} is {mine!r}, the log gives {theirs!r}" for name, mine, theirs in pairs if mine != theirs]
    return f"{table}: in the row of {where}, {'; '.join(names)}"

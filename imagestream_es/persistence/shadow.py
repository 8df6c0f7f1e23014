"""A second set of the views, which a replay fills while the first one is in use, and which takes its place at the end.

Each kind of store keeps it where its statements need no other words for it: PostgreSQL in a schema of its own, SQLite
under names that end in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from imagestream_es.persistence import read_model, tables
from imagestream_es.persistence.bulk import HALF
from imagestream_es.persistence.store import Rows

SCHEMA = "imagestream_replay"
"""Where the shadow is on PostgreSQL."""

NEW, OLD = "_new", "_old"
"""How the names of the shadow's tables end on SQLite, and of those whose place it took."""

TABLES = tuple(f"{view}{end}" for view in ("projection", *tables.VIEWS) for end in (NEW, OLD))
"""Those tables of SQLite's; the first is that without which there is no shadow."""

_VIEW = re.compile(rf"(?<!{HALF}\.)\b({'|'.join(tables.VIEWS)})\b")
_INDEX = re.compile(r"CREATE INDEX IF NOT EXISTS (\w+) ON")


@lru_cache(maxsize=512)
def shadowed(sql: str) -> str:
    """A statement over the views, as one over the shadow of them under other names."""
    return _VIEW.sub(rf"\1{NEW}", sql)


def index_names(statement: str) -> tuple[str, str] | None:
    """The two names that an index of a view has in turns, where no name can be changed; None if it makes none."""
    found = _INDEX.match(statement)
    return None if found is None else (found[1], f"{found[1]}_b")


def named(statement: str, index: str) -> str:
    """The statement that makes an index, under this name."""
    return _INDEX.sub(f"CREATE INDEX {index} ON", statement)


def mark(rows: Rows) -> int:
    """What was noted of the log and the program when events were folded last; 0 for nothing."""
    found = rows.one("SELECT value FROM projection WHERE name = 'mark'")
    return int(found[0]) if found is not None else 0


def set_mark(rows: Rows, value: int) -> None:
    """Note what the log and the program are."""
    rows.run(
        "INSERT INTO projection (name, value) VALUES ('mark', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        value,
    )


def begin(rows: Rows) -> None:
    """Note that nothing is folded yet."""
    read_model.set_folded_until(rows, 0, 0)


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """The views of these names, each a table; all without any. Raises ValueError for a name that is none."""
    wanted, known = tuple(dict.fromkeys(names)), tuple(name for name in tables.VIEWS if name != "projection")
    for name in wanted:
        if name not in known:
            raise ValueError(f"there is no projection {name!r}: name one of {', '.join(known)}")
    return wanted or known

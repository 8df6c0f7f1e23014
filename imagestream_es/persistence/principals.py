"""Who the opaque ids in the log stand for, kept beside it so that a person can be forgotten.

This is no view: it cannot be folded from the log, and a replay leaves it alone.

- `principals`: one row for each user who ever wrote something: the id that events name, by whom the name is vouched
  for, the name, and when they were first and last seen (milliseconds since the epoch).
- `forgettings`: one row for each time that somebody was forgotten, without saying who. The highest number tells a
  running service that what it remembers may be forgotten since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from imagestream_es.persistence.store import Rows

TABLE = "principals"

TABLES = (
    "CREATE TABLE IF NOT EXISTS principals (id TEXT PRIMARY KEY, issuer TEXT NOT NULL, name TEXT NOT NULL,"
    " first_seen BIGINT NOT NULL, last_seen BIGINT NOT NULL, UNIQUE (issuer, name)) {clustered}",
    "CREATE INDEX IF NOT EXISTS principals_name ON principals (name)",
    "CREATE TABLE IF NOT EXISTS forgettings (number BIGINT PRIMARY KEY, at BIGINT NOT NULL) {clustered}",
)


class Principal(Struct, frozen=True):
    """A user as the table knows them; times are in milliseconds since the epoch."""

    id: str
    issuer: str
    name: str
    first_seen: int
    last_seen: int


_COLUMNS = ", ".join(Principal.__struct_fields__)
_SELECT = f"SELECT {_COLUMNS} FROM principals"
_INSERT = f"INSERT INTO principals ({_COLUMNS}) VALUES (?,?,?,?,?)"


def everybody(rows: Rows) -> list[Principal]:
    """Every principal, by name and issuer."""
    return [Principal(*row) for row in rows.all(f"{_SELECT} ORDER BY name, issuer")]


def find(rows: Rows, issuer: str, name: str) -> str | None:
    """The id of a user, None if they have none yet."""
    row = rows.one("SELECT id FROM principals WHERE issuer = ? AND name = ?", issuer, name)
    return None if row is None else str(row[0])


def add(rows: Rows, principal: Principal) -> None:
    """Keep a principal, unless that user has one: then that one stays."""
    rows.run(
        f"{_INSERT} ON CONFLICT (issuer, name) DO NOTHING",
        *(getattr(principal, field) for field in Principal.__struct_fields__),
    )


def see(rows: Rows, times: Iterable[tuple[str, int]]) -> None:
    """Note when ids were seen last; those that were forgotten meanwhile stay so."""
    rows.many("UPDATE principals SET last_seen = ? WHERE id = ?", [(at, principal) for principal, at in times])


def names(rows: Rows, ids: Sequence[str]) -> dict[str, str]:
    """The names of those ids that are known."""
    found: dict[str, str] = {}
    for start in range(0, len(ids), 500):  # SQLite takes a limited number of values in one statement
        some = ids[start : start + 500]
        marks = ",".join("?" * len(some))
        query = f"SELECT id, name FROM principals WHERE id IN ({marks})"
        found |= {str(one): str(name) for one, name in rows.all(query, *some)}
    return found


def ids(rows: Rows, name: str) -> list[str]:
    """The ids of all users of a name, whoever vouches for them."""
    return [str(one) for (one,) in rows.all("SELECT id FROM principals WHERE name = ? ORDER BY first_seen, id", name)]


def forgotten(rows: Rows) -> int:
    """How often somebody was forgotten."""
    row = rows.one("SELECT MAX(number) FROM forgettings")
    return (row and row[0]) or 0


def forget(rows: Rows, name: str, at: int) -> int:
    """Drop everybody of a name; answers how many. Those who stay are written anew.

    So no page of the table is left as it was: parts of a row may stand in it where no row is any more.
    """
    staying = [one for one in everybody(rows) if one.name != name]
    gone = rows.run("DELETE FROM principals") - len(staying)
    rows.many(_INSERT, [tuple(getattr(one, field) for field in Principal.__struct_fields__) for one in staying])
    rows.run("INSERT INTO forgettings (number, at) VALUES (?,?)", forgotten(rows) + 1, at)
    return gone

"""What a registry told and is not in the log yet: its pushes, kept until something has come of them.

This is no view: it cannot be folded from the log.

- `pushes`: one row for each push that was told, in the order of arrival. `body` is what came, without the names of
  persons, `door` how it came in; `outcome` is null while the push waits. Settled rows stay for a while, so that an id
  that comes again is known.
- `pushed_tags`: for each tag of a repository the push that was settled last: its time in the registry
  (nanoseconds since the epoch) and its digest.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from imagestream_es.persistence.store import Rows

TABLES = (
    "CREATE TABLE IF NOT EXISTS pushes (number BIGINT PRIMARY KEY, id TEXT NOT NULL UNIQUE, repository TEXT NOT NULL,"
    " door TEXT NOT NULL, received BIGINT NOT NULL, body BLOB NOT NULL, outcome TEXT, settled BIGINT) {clustered}",
    "CREATE INDEX IF NOT EXISTS pushes_waiting ON pushes (repository, number) WHERE outcome IS NULL",
    "CREATE INDEX IF NOT EXISTS pushes_settled ON pushes (settled) WHERE outcome IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS pushed_tags (repository TEXT NOT NULL, tag TEXT NOT NULL, time BIGINT NOT NULL,"
    " digest TEXT NOT NULL, PRIMARY KEY (repository, tag)) {clustered}",
)


class Arrival(Struct, frozen=True):
    """A push as it comes in; `received` is in milliseconds since the epoch."""

    id: str
    repository: str
    door: str
    received: int
    body: bytes


class Waiting(Struct, frozen=True):
    """A push that waits."""

    number: int
    door: str
    body: bytes


class Pushed(Struct, frozen=True):
    """What a tag was last pushed to, and when by the registry's clock (nanoseconds since the epoch)."""

    time: int
    digest: str


def add(rows: Rows, arrivals: Sequence[Arrival]) -> int:
    """Keep pushes, in order, but for those whose id is known; answers how many were new."""
    (last,) = rows.one("SELECT COALESCE(MAX(number), 0) FROM pushes") or (0,)
    added = 0
    for arrival in arrivals:
        added += rows.run(
            "INSERT INTO pushes (number, id, repository, door, received, body) VALUES (?,?,?,?,?,?)"
            " ON CONFLICT (id) DO NOTHING",
            last + added + 1,
            *(arrival.id, arrival.repository, arrival.door, arrival.received, arrival.body),
        )
    return added


def repositories(rows: Rows) -> list[str]:
    """The repositories for which pushes wait, those first that have waited longest."""
    query = "SELECT repository FROM pushes WHERE outcome IS NULL GROUP BY repository ORDER BY MIN(number)"
    return [repository for (repository,) in rows.all(query)]


def oldest(rows: Rows, repository: str) -> Waiting | None:
    """The push of a repository that has waited longest, None if none waits."""
    row = rows.one(
        "SELECT number, door, body FROM pushes WHERE repository = ? AND outcome IS NULL ORDER BY number LIMIT 1",
        repository,
    )
    return None if row is None else Waiting(row[0], row[1], bytes(row[2]))


def waits(rows: Rows, number: int) -> bool:
    """Whether a push still waits: another process may have settled it."""
    return rows.one("SELECT 1 FROM pushes WHERE number = ? AND outcome IS NULL", number) is not None


def settle(rows: Rows, number: int, outcome: str, at: int) -> None:
    """Note what came of a push, and when (milliseconds since the epoch)."""
    rows.run("UPDATE pushes SET outcome = ?, settled = ? WHERE number = ?", outcome, at, number)


def pushed(rows: Rows, repository: str) -> dict[str, Pushed]:
    """What is known of the tags of a repository, by name."""
    query = "SELECT tag, time, digest FROM pushed_tags WHERE repository = ?"
    return {tag: Pushed(time, digest) for tag, time, digest in rows.all(query, repository)}


def newest(rows: Rows, repository: str, tag: str) -> Pushed | None:
    """What is known of one tag, None without anything."""
    row = rows.one("SELECT time, digest FROM pushed_tags WHERE repository = ? AND tag = ?", repository, tag)
    return None if row is None else Pushed(*row)


def remember(rows: Rows, repository: str, tag: str, push: Pushed) -> None:
    """Note what a tag was last pushed to."""
    rows.run(
        "INSERT INTO pushed_tags (repository, tag, time, digest) VALUES (?,?,?,?)"
        " ON CONFLICT (repository, tag) DO UPDATE SET time = excluded.time, digest = excluded.digest",
        *(repository, tag, push.time, push.digest),
    )


def forget(rows: Rows, before: int) -> int:
    """Drop the pushes that were settled before a time; answers how many."""
    return rows.run("DELETE FROM pushes WHERE outcome IS NOT NULL AND settled < ?", before)

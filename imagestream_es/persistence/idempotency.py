"""Which requests were done under which keys.

What a request did stands in the log, with its key; the view `idempotency_keys` tells where. What the log can't tell is
kept here for a while: the requests that changed nothing, and answers that hold more than the state.

- `answers`: one row for each such request: where the log ended when it was done, and the compressed rest of the answer.
  `at` is when it came in, in milliseconds since the epoch. This is no view: it can't be folded from the log.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

from imagestream_es.domain.idempotency import Claim, Done
from imagestream_es.persistence.read_model import chunks
from imagestream_es.persistence.store import Row, Rows

TABLES = (
    "CREATE TABLE IF NOT EXISTS answers (actor TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL,"
    " position BIGINT NOT NULL, at BIGINT NOT NULL, memo BLOB NOT NULL, PRIMARY KEY (actor, key)) {clustered}",
    "CREATE INDEX IF NOT EXISTS answers_at ON answers (at)",
)

KEPT = 3 * 24 * 3600 * 1000
"""Milliseconds that a row is kept at least."""

Id = tuple[str, str]
"""An actor and a key."""


def find(rows: Rows, ids: Iterable[Id]) -> dict[Id, Done]:
    """What was done under these keys."""
    wanted = list(dict.fromkeys(ids))
    found = {
        (actor, key): Done(fingerprint, position, position, zlib.decompress(memo))
        for actor, key, fingerprint, position, memo in _rows(rows, "fingerprint, position, memo", "answers", wanted)
    }
    for actor, key, fingerprint, first, last in _rows(rows, "fingerprint, first, last", "idempotency_keys", wanted):
        known = found.get((actor, key))
        found[actor, key] = Done(fingerprint, first - 1, last, b"" if known is None else known.memo)
    return found


def _rows(rows: Rows, columns: str, table: str, ids: Sequence[Id]) -> Iterator[Row]:
    for some in chunks(ids):
        # SQLite takes a CROSS JOIN in its order: each key is looked up, and the table is not gone through.
        query = (
            f"WITH wanted (a, k) AS (VALUES {','.join(['(?,?)'] * len(some))})"
            f" SELECT actor, key, {columns} FROM wanted CROSS JOIN {table} WHERE actor = a AND key = k"
        )
        yield from rows.all(query, *(value for one in some for value in one))


def remember(rows: Rows, claim: Claim, position: int, memo: bytes) -> None:
    """Keep that a request was done when the log ended at a position; drop what is old."""
    rows.run("DELETE FROM answers WHERE at < ?", claim.at - KEPT)
    rows.run(
        "INSERT INTO answers (actor, key, fingerprint, position, at, memo) VALUES (?,?,?,?,?,?)",
        *(claim.actor, claim.key, claim.fingerprint, position, claim.at, zlib.compress(memo, 1)),
    )

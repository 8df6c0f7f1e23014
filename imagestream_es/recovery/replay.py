"""Folds views anew from the log while the service runs, into a shadow of them that takes their place at the end.

A replay that is interrupted leaves the views as they are, and goes on from where it stood when it is begun again: if
the program is the same, and the log has the events in it that were folded. Where no service runs, all is folded at
once, which takes a fraction of the time: then a replay that is interrupted begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, suppress
from hashlib import sha256
from importlib.metadata import version
from typing import NamedTuple

from eventsourcing.persistence import OperationalError, PersistenceError

from imagestream_es.bootstrap import open_store
from imagestream_es.maintenance import require_log
from imagestream_es.persistence import read_model, shadow
from imagestream_es.persistence.store import DiskFull, Rows, Store
from imagestream_es.projections import projector
from imagestream_es.projections.workspace import Streams
from imagestream_es.recovery.wholeness import Refusal
from imagestream_es.settings import Settings

TAIL = 500
"""So many events at most are left for the end, when nobody else writes."""

TRIES = 30
"""How often the end is tried, where others read for long."""


class Replayed(NamedTuple):
    """How many events are folded in the views now, and how many of them an interrupted replay had folded before."""

    events: int
    before: int


def replay(settings: Settings, names: Sequence[str], progress: projector.Progress) -> Replayed:
    """Fold the views of these names (all without any) from the log; the service may run meanwhile.

    Raises Refusal for a name that is none, InUse while another replay runs, NothingThere without a log,
    PersistenceError.
    """
    try:
        views = shadow.chosen(names)
    except ValueError as error:
        raise Refusal(str(error)) from error
    if not settings.database_url:
        require_log(settings)
    with closing(open_store(settings)) as store, store.alone("replay"):
        store.create_tables()
        if names:
            _require_level(store)
        return refold(store, views, progress)


def refold(store: Store, views: Sequence[str], progress: projector.Progress) -> Replayed:
    """Fold the whole log into the shadow, which may have been begun, and give it the place of these views.

    Raises Refusal if there is no room for it, PersistenceError.
    """
    before, streams = _begun(store), Streams()
    try:
        folded = before or _fold_at_once(store, progress)
        folded = _follow(store, streams, folded, progress)
        folded = _finish(store, views, streams, folded, progress)
    except DiskFull as error:
        with suppress(PersistenceError):
            store.drop_shadow()  # the service needs the room more
        raise Refusal("there is no room for a second set of the views, which are as they were: make some") from error
    store.drop_shadow()
    return Replayed(folded, before)


def _require_level(store: Store) -> None:
    """Some views can only join others that show the same events."""
    with store.reading() as rows:
        if read_model.folded_until(rows) != rows.head():
            raise Refusal("the views are not folded up to the end of the log: replay all of them, without --projection")


def _begun(store: Store) -> int:
    """Up to where a shadow is folded that is of use; a new one is made if there is none."""
    if store.has_shadow():
        with store.shadow() as rows:
            position = read_model.folded_until(rows)
            if 0 < position <= rows.head() and shadow.mark(rows) == _mark(rows, position) != 0:
                return position
    store.make_shadow()
    return 0


def _mark(rows: Rows, position: int) -> int:
    """What tells this program and the events up to a position from all others; 0 if the log's tree is lost."""
    try:
        root = str(rows.tree_at(position).checkpoint())
    except PersistenceError:
        return 0
    return int.from_bytes(sha256(f"{version('imagestream-es')} {root}".encode()).digest()[:7])


def _fold_at_once(store: Store, progress: projector.Progress) -> int:
    """Fold the whole log in one transaction, if no service runs; answers how many events."""
    with store.shadow_alone() as rows:
        return 0 if rows is None else projector.fold_whole(rows, progress)


def _follow(store: Store, streams: Streams, folded: int, progress: projector.Progress) -> int:
    """Fold until only a short tail is left, in transactions that are as long as others may wait for them."""
    batch = TAIL
    while True:
        began = time.monotonic()
        with store.shadow() as rows:
            head = rows.head()
            if head - folded <= TAIL:
                return folded
            until = min(folded + batch, head)
            projector.fold(rows, rows, folded, until, lambda *_: None, streams)
            shadow.set_mark(rows, _mark(rows, until))
            took = time.monotonic() - began
        folded = until
        batch = max(100, min(20_000, 2 * batch, int(batch * store.turn() / max(took, 0.001))))
        progress(folded, head)


def _finish(store: Store, views: Sequence[str], streams: Streams, folded: int, progress: projector.Progress) -> int:
    """Fold the last events while nobody writes, and put the shadow in its place."""
    for left in reversed(range(TRIES)):
        try:
            with store.swapping(views) as rows:
                head = rows.head()
                projector.fold(rows, rows, folded, head, lambda *_: None, streams)
            break
        except DiskFull:
            raise
        except OperationalError as error:
            if not left:
                told = f"the views can't be replaced while others read or write for so long ({error})"
                raise Refusal(f"{told}: run this again when they are done, and it goes on from here") from error
            # Somebody reads for long, as a backup does. Nothing was done: so it goes on from the last transaction.
            streams.clear()
            time.sleep(1)
            folded = _follow(store, streams, folded, progress)
    progress(head, head)
    return head

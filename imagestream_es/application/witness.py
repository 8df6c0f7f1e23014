"""Remembers outside the database what the log was, and says at start whether it still is.

A thread writes a checkpoint soon after each commit. At the next start the log must have the last one in it: what is
behind it has lost events, what is beside it was altered. Then nothing may be written, since whatever follows would
make the loss look like history; what is there can still be read, and an operator decides. So it is while the service
runs: a checkpoint is only put behind one that the log still has in it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from eventsourcing.persistence import DatabaseError, OperationalError, PersistenceError

from imagestream_es.persistence.checkpoints import CheckpointFile
from imagestream_es.persistence.merkle import Checkpoint
from imagestream_es.persistence.store import Rows, Store, TreeLost, make_tree

DELAY = 0.5
"""Seconds from a commit to its checkpoint; all commits in between share it."""

REMINDER = 60.0
"""Seconds after which a checkpoint file that still can't be written is told of again."""

ADVICE = (
    "Restore the log. Or, to go on with the log as it is, run `imagestream-es verify` and start once with "
    "--accept-log and the SIZE:ROOT that it ends with"
)

_logger = logging.getLogger(__name__)


class Refused(Exception):
    """The log is not the one that it was: nothing may be written."""


class Witness:
    """The checkpoints of one service, in `file`; without one it looks at the log alone.

    `clock` gives milliseconds since the epoch.
    """

    def __init__(self, store: Store, file: CheckpointFile | None, clock: Callable[[], int]) -> None:
        self.refusal: str | None = None
        self._store = store
        self._file = file
        self._clock = clock
        self._written: Checkpoint | None = None
        self._told = -REMINDER
        self._news = threading.Event()
        self._stop = threading.Event()
        self._refuse: Callable[[str], None] = lambda _: None
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)

    def examine(self, accepted: str | None) -> bool:
        """Hold the log against its tree and the last checkpoint; then `refusal` says why nothing may be written.

        `accepted` is the SIZE:ROOT of a log with which to go on even so; answers whether that was needed. Raises
        PersistenceError, OSError.
        """
        finding = self._finding()
        if finding is None:
            return False
        if accepted is not None and (found := self._accept(accepted)) is not None:
            _logger.warning("%s; going on with %s, as --accept-log says", finding, found)
            return True
        other = "" if accepted is None else f", and it is not {accepted} as --accept-log says"
        self._give_up(f"{finding}{other}. {ADVICE}")
        return False

    def _finding(self) -> str | None:
        try:
            if self._file is not None:
                self._written = self._file.last()
            if self._written is None:
                self._begin()
            with self._store.reading() as rows:
                _look(rows, self._written)
        except (Refused, ValueError) as finding:
            return str(finding)
        return None

    def _begin(self) -> None:
        made = make_tree(self._store)
        if made is not None:
            _logger.warning("no checkpoint is known of this log; made the Merkle tree over it: %s", made)

    def _accept(self, accepted: str) -> Checkpoint | None:
        """Make the log the one that is remembered, if it is what is accepted."""
        try:
            with self._store.writing() as rows:
                found = rows.regrow()
                if str(found) != accepted:
                    raise Refused
        except Refused:
            return None
        if self._file is not None:
            self._file.append(found, self._clock(), accepted=True)
            self._written = found
        return found

    def check(self) -> None:
        """Raises Refused if nothing may be written."""
        if self.refusal is not None:
            raise Refused(self.refusal)

    def start(self, refuse: Callable[[str], None]) -> None:
        """Begin to write checkpoints. `refuse` is told why nothing may be written, now or later."""
        self._refuse = refuse
        if self.refusal is not None:
            refuse(self.refusal)
        elif self._file is not None:
            self._news.set()  # after a crash the last one is behind
            self._thread.start()

    def committed(self, _head: int) -> None:
        """Hear that the log has grown."""
        self._news.set()

    def close(self) -> None:
        """Write the last checkpoint, then stop."""
        self._stop.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set() and self.refusal is None:
            self._news.wait()
            self._stop.wait(DELAY)
            self._news.clear()
            if not self._write():
                self._news.set()
        if self.refusal is None:
            self._write()

    def _write(self) -> bool:
        """Append a checkpoint if the log has grown as it should; answers whether nothing is left to do."""
        try:
            with self._store.reading() as rows:
                now = _look(rows, self._written)
            if self._file is not None and now.size and now != self._written:
                self._file.append(now, self._clock())
        except Refused as finding:
            self._give_up(f"{finding}. {ADVICE}")
            return True
        except (OSError, PersistenceError) as error:
            if time.monotonic() >= self._told + REMINDER:
                _logger.error("no checkpoint could be written, the last is %s: %s", self._written, error)
                self._told = time.monotonic()
            return False
        if self._told > -REMINDER:
            _logger.info("checkpoints are written again: %s", now)
            self._told = -REMINDER
        self._written = now
        return True

    def _give_up(self, reason: str) -> None:
        self.refusal = reason
        _logger.error("nothing is written: %s", reason)
        self._refuse(reason)


def _look(rows: Rows, last: Checkpoint | None) -> Checkpoint:
    """What the log is, if it seems to be sound and has its last checkpoint in it; raises Refused if not."""
    head = rows.head()
    if last is not None and last.size > head:
        raise Refused(f"the log ends at position {head}, its last checkpoint is {last}: what came behind is lost")
    try:
        tree = rows.tree()
        if tree.size != head:
            raise Refused(f"the log ends at position {head}, its Merkle tree at {tree.size}")
        if rows.tree_at(head).checkpoint() != tree.checkpoint():
            raise Refused(f"the last events of the log, up to position {head}, are not those of its Merkle tree")
        if last is not None and rows.tree_at(last.size).checkpoint() != last:
            raise Refused(f"the log is another one than at its last checkpoint {last}")
    except TreeLost as error:
        raise Refused(str(error)) from error
    except OperationalError:
        raise  # not of the log, but of the moment
    except DatabaseError as error:
        raise Refused(f"the log can't be held against its Merkle tree: {error}") from error
    return tree.checkpoint()

"""Remembers outside the database what the log was, and says at start whether it still is.

A thread writes a checkpoint soon after each commit. At the next start the log must have the last one in it: what is
behind it has lost events, what is beside it was altered. Then nothing may be written, since whatever follows would
make the loss look like history; what is there can still be read, and an operator decides.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from eventsourcing.persistence import DatabaseError, PersistenceError

from imagestream_es.persistence.checkpoints import CheckpointFile
from imagestream_es.persistence.merkle import Checkpoint
from imagestream_es.persistence.store import Rows, Store, make_tree

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


class _NotAccepted(Exception):
    pass


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
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)

    def examine(self, accepted: str | None) -> bool:
        """Hold the log against its tree and the last checkpoint; then `refusal` says why nothing may be written.

        `accepted` is the SIZE:ROOT of a log with which to go on even so; answers whether that was needed. Raises
        PersistenceError, OSError.
        """
        try:
            if self._file is not None:
                self._written = self._file.last()
            if self._written is None:
                self._begin()
            with self._store.reading() as rows:
                finding = _finding(rows, self._written)
        except ValueError as error:
            finding = str(error)
        if finding is None:
            return False
        if accepted is None:
            self.refusal = f"{finding}. {ADVICE}"
        else:
            self._accept(finding, accepted)
        if self.refusal is not None:
            _logger.error("nothing is written: %s", self.refusal)
            return False
        return True

    def _begin(self) -> None:
        made = make_tree(self._store)
        if made is not None:
            _logger.warning("no checkpoint is known of this log; made the Merkle tree over it: %s", made)

    def _accept(self, finding: str, accepted: str) -> None:
        try:
            with self._store.writing() as rows:
                found = rows.regrow()
                if str(found) != accepted.lower():
                    raise _NotAccepted
        except _NotAccepted:
            self.refusal = f"{finding}; and the log is {found}, not {accepted} as --accept-log says. {ADVICE}"
            return
        _logger.warning("%s; going on with %s, as --accept-log says", finding, found)
        if self._file is not None:
            self._file.append(found, self._clock(), accepted=True)
            self._written = found

    def check(self) -> None:
        """Raises Refused if nothing may be written."""
        if self.refusal is not None:
            raise Refused(self.refusal)

    def start(self) -> None:
        """Begin to write checkpoints, unless nothing may be written."""
        if self._file is not None and self.refusal is None:
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
        while not self._stop.is_set():
            self._news.wait()
            self._stop.wait(DELAY)
            self._news.clear()
            if not self._write():
                self._news.set()
        self._write()

    def _write(self) -> bool:
        try:
            with self._store.reading() as rows:
                now = rows.tree().checkpoint()
            if self._file is not None and now != self._written and now.size:
                self._file.append(now, self._clock())
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


def _finding(rows: Rows, last: Checkpoint | None) -> str | None:
    """What is wrong with a log at first sight, None if nothing is."""
    head = rows.head()
    if last is not None and last.size > head:
        return f"the log ends at position {head}, its last checkpoint is {last}: what came behind is lost"
    try:
        tree = rows.tree()
        if tree.size != head:
            return f"the log ends at position {head}, its Merkle tree at {tree.size}"
        if rows.tree_at(head).checkpoint() != tree.checkpoint():
            return f"the last events of the log, up to position {head}, are not those of its Merkle tree"
        if last is not None and rows.tree_at(last.size).checkpoint() != last:
            return f"the log is another one than at its last checkpoint {last}"
    except DatabaseError as error:
        return f"the log can't be held against its Merkle tree: {error}"
    return None

"""A long log is folded by two processes, each the half of what is in it.

Nearly all of the time is Python's, which uses one core. Streams and images are nothing to one another when they are
folded, so each process takes those of its half. Both go through the whole log: the time of the log and the idempotency
keys are told by all events.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

LONG = 100_000
"""From so many events on, a second process is worth its start."""

_OURS = 10
"""Of 16 parts of what is in a log: the other process has to start, and to sort what it has folded."""

_PROGRAM = "imagestream_es.recovery.half"


class HalfMissing(Exception):
    """The other process could not do its half: all is to be folded here."""


class OtherHalf:
    """A process that folds its half of a log into a file of its own."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path) -> None:
        self._process = process
        self._file = file

    def file(self) -> Path:
        """The database with the views that it has folded, when it is done. Raises HalfMissing."""
        if self._process.wait():
            raise HalfMissing
        return self._file


@contextmanager
def other_half(log: str | None, until: int) -> Iterator[OtherHalf | None]:
    """Have another process fold its half of the log in a file up to position `until`; None where there is none.

    It ends with the block, or with this process.
    """
    if log is None or until < LONG or (os.cpu_count() or 1) < 2:
        yield None
        return
    with ExitStack() as stack:
        yield _begun(log, until, stack)


def _begun(log: str, until: int, stack: ExitStack) -> OtherHalf | None:
    nobody = subprocess.DEVNULL  # what it can't do is told of when it is done here
    try:
        file = Path(stack.enter_context(TemporaryDirectory(prefix="imagestream-"))) / "half.db"
        process = subprocess.Popen(  # noqa: S603 (a program of ours)
            [sys.executable, "-P", "-m", _PROGRAM, log, str(file), str(until)],
            stdin=subprocess.PIPE,
            stdout=nobody,
            stderr=nobody,
            start_new_session=True,  # Ctrl-C is for who began it
        )
    except OSError:  # there is no room for it, or for another process
        return None
    stack.enter_context(process)
    stack.callback(process.kill)
    return OtherHalf(process, file)


def is_ours(originator: object) -> bool:
    """Whether an aggregate is of the half of who has begun the other process."""
    return crc32(str(originator).encode()) % 16 < _OURS

"""Locks by which processes keep out of each other's way: one directory has one service, one log one replay.

The embedded log is written by a single service.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

LOCK = "lock"
"""The file in a directory by which it is held."""


class InUse(Exception):
    """Another process is at it."""


class DirectoryInUse(InUse):
    """Another process holds the directory."""


class FileLock:
    """Holds a file for this process; the kernel lets go of it however the process ends.

    `message` is what InUse then says to others, with `{holder}` for the id of the process.
    """

    error: type[InUse] = InUse

    def __init__(self, path: Path, message: str) -> None:
        self._path = path
        self._message = message
        self._file = -1

    def __enter__(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)  # `in_use` may hold it for a moment
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 20).decode("ascii", "replace").strip()
            os.close(self._file)
            raise self.error(self._message.format(holder=holder or "unknown")) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


class DirectoryLock(FileLock):
    """Holds a directory for this process."""

    error = DirectoryInUse

    def __init__(self, directory: Path) -> None:
        name = str(directory).replace("{", "{{").replace("}", "}}")
        message = (
            f"{name} is in use by another imagestream-es process (pid {{holder}}); "
            "stop that one first, or choose another --data-dir"
        )
        super().__init__(directory / LOCK, message)


def in_use(directory: Path) -> bool:
    """Whether a process holds the directory now."""
    try:
        file = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False

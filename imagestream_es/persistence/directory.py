"""One directory has one service: the embedded log is written by a single process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class DirectoryInUse(Exception):
    """Another process holds the directory."""


class DirectoryLock:
    """Holds a directory for this process; the kernel lets go of it however the process ends."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._file = -1

    def __enter__(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 20).decode("ascii", "replace").strip()
            os.close(self._file)
            message = (
                f"{self._path.parent} is in use by another imagestream-es process (pid {holder or 'unknown'}); "
                "stop that one first, or choose another --data-dir"
            )
            raise DirectoryInUse(message) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

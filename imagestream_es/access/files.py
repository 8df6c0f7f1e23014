"""Files that are read again when they change.

What a file says is replaced as a whole, or not at all: while it can't be read or is wrong, what was read last holds.
A look follows symbolic links, so a mounted directory whose link is turned to a new one counts as changed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

INTERVAL = 2.0
"""Seconds between looks."""

_logger = logging.getLogger(__name__)

Signature = tuple[tuple[str, int, int, int, int], ...]


class WrongFile(Exception):
    """A file can't be used; the message names it, and its line if that is known."""


class Reread(Generic[T]):
    """What `parse` makes of the files that `find` finds; `value` is always whole.

    Raises WrongFile, if they can't be used, when it is made.
    """

    def __init__(self, find: Callable[[], Iterable[Path]], parse: Callable[[Sequence[Path]], T]) -> None:
        self._find = find
        self._parse = parse
        self._seen = self._look()
        self.value = parse(self._paths())

    def refresh(self) -> None:
        """Read again what has changed; what is wrong is logged, once, and what was read before stays."""
        try:
            seen = self._look()
            if seen == self._seen:
                return
            value = self._parse(self._paths())
        except WrongFile as error:
            problem = str(error)
            if problem != getattr(self, "_told", None):
                _logger.error("%s What was read before stays in force.", problem)
            self._told: str | None = problem
            return
        if seen != self._look():
            return  # it changed meanwhile: the next look takes all of it
        self._seen, self._told, self.value = seen, None, value
        _logger.info(
            "read again: %s", ", ".join(str(path) for path in self._paths()[:5]) or "nothing is there any more"
        )

    def _paths(self) -> list[Path]:
        try:
            return sorted(self._find())
        except OSError as error:
            raise WrongFile(f"{error.filename}: {error.strerror}.") from error

    def _look(self) -> Signature:
        paths = self._paths()
        try:
            found = [(str(path), os.stat(path)) for path in paths]
        except OSError as error:
            raise WrongFile(f"{error.filename}: {error.strerror}.") from error
        return tuple((name, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for name, one in found)


def read(path: Path) -> bytes:
    """The bytes of a file. Raises WrongFile."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise WrongFile(f"{path}: {error.strerror}.") from error


class Rereader:
    """A thread that looks at files again and again."""

    def __init__(self, refresh: Sequence[Callable[[], None]], interval: float = INTERVAL) -> None:
        self._refresh = refresh
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access files", daemon=True)

    def start(self) -> None:
        """Begin."""
        if self._refresh:
            self._thread.start()

    def close(self) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            for refresh in self._refresh:
                try:
                    refresh()
                except Exception:
                    _logger.exception("files could not be looked at")

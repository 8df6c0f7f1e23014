"""The file outside the database that remembers what the log was: it is only ever appended to.

A database that loses its end, or is replaced by an older one, is sound in itself; only what is kept elsewhere can
tell. Each line is a checkpoint and when it was written, `SIZE:ROOT 2026-03-01T12:00:00.000Z`. Two words may follow:
`accepted`, where an operator chose to go on with a log that did not agree with the lines before (which then no longer
count), and `torn`, put behind a line that a crash or a full disk cut off.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from imagestream_es.persistence.merkle import Checkpoint

_TAIL = 64 * 1024
"""Bytes at the end of the file among which the last line is looked for; a line has about a hundred."""

_LINE = re.compile(rb"(\d+:[0-9a-f]{64}) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)( accepted)?")


class CheckpointFileInUse(Exception):
    """Another process keeps its checkpoints there."""


class Line(NamedTuple):
    """One line of the file."""

    checkpoint: Checkpoint
    time: str
    accepted: bool

    @classmethod
    def read(cls, text: bytes) -> Self | None:
        """Read a line, without its end; None for a torn one. Raises ValueError if it is neither."""
        if text.endswith(b" torn"):
            return None
        match = _LINE.fullmatch(text)
        if match is None:
            raise ValueError("is no checkpoint")
        return cls(Checkpoint.parse(match[1].decode()), match[2].decode(), match[3] is not None)


class CheckpointFile:
    """The file of one service, held until it is closed. Raises CheckpointFileInUse, OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            message = f"{path} is in use by another process: give each its own --checkpoint-file"
            raise CheckpointFileInUse(message) from None
        directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)  # a file that is not in its directory is no file after a power cut
        finally:
            os.close(directory)

    def last(self) -> Checkpoint | None:
        """The last checkpoint that can be read; None if there are no lines. Raises ValueError if none can be read."""
        size = os.fstat(self._file).st_size
        lines = os.pread(self._file, _TAIL, max(size - _TAIL, 0)).split(b"\n")
        for text in reversed(lines[:-1]):
            try:
                line = Line.read(text)
            except ValueError:
                continue
            if line is not None:
                return line.checkpoint
        if len(lines) > 1:
            raise ValueError(f"no checkpoint can be read at the end of {self.path}")
        return None

    def append(self, checkpoint: Checkpoint, at: int, *, accepted: bool = False) -> None:
        """Append a line, durable when this returns; `at` is in milliseconds since the epoch. Raises OSError."""
        size = os.fstat(self._file).st_size
        torn = " torn\n" if size and os.pread(self._file, 1, size - 1) != b"\n" else ""
        moment = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{torn}{checkpoint} {moment}{' accepted' if accepted else ''}\n".encode()
        while line:
            line = line[os.write(self._file, line) :]
        os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def lines(file: BinaryIO, until: int) -> Iterator[tuple[int, Line | None]]:
    """The whole lines among the first `until` bytes of a file, each with its number from 1, None for one that can't be
    read; torn ones are left out, and so is everything before the last one that was accepted."""
    start, first = _last_accepted(file, until)
    file.seek(start)
    number, at = first, start
    for text in file:
        at += len(text)
        if at > until or not text.endswith(b"\n"):
            return
        try:
            line = Line.read(text[:-1])
            if line is not None:
                yield number, line
        except ValueError:
            yield number, None
        number += 1


def _last_accepted(file: BinaryIO, until: int) -> tuple[int, int]:
    """Where the last accepted line begins, and its number; the first line if none is accepted."""
    found, at = (0, 1), 0
    file.seek(0)
    for number, text in enumerate(file, 1):
        if at + len(text) > until:
            break
        if text.endswith(b" accepted\n"):
            found = at, number
        at += len(text)
    return found

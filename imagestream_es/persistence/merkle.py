"""The Merkle tree over the log, as RFC 6962 hashes it: one root that changes with any bit of any event.

Nothing here reads or writes: bytes of an event in, hashes out. An auditor needs no more than this page to compute the
root of a log, so nothing on it may ever change.

- A leaf is an event. Its bytes are, all numbers unsigned and big-endian: position (8 bytes), version in its aggregate
  (8), then the lengths (4 each) of the id of its aggregate, its topic and its stored state, then these three, texts as
  UTF-8. The leaf's hash is SHA-256 of a zero byte and these bytes.
- The hash of an inner node is SHA-256 of a byte of one and the hashes of its two children. Over n leaves, the left
  child spans as many as the largest power of two below n. The root over none is SHA-256 of nothing.

Positions count from 1 without gaps, so the leaf of position p is the p-th, and a size is a position too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from struct import Struct, error
from typing import Any, NamedTuple, Self

from eventsourcing.persistence import StoredEvent

HASH_BYTES = 32

_HEADER = Struct(">xQQIII").pack


Record = tuple[int, Any, int, str, bytes]
"""An event as the log holds it: position, id of its aggregate, version in it, topic, state."""


def record(position: int, event: StoredEvent) -> Record:
    """The event at a position as the log holds it."""
    return position, event.originator_id, event.originator_version, event.topic, event.state


def leaf_hash(position: int, originator: object, version: int, topic: str, state: bytes) -> bytes:
    """The hash of a `Record`, given by its parts. Raises ValueError if it is not stored as events are."""
    try:
        aggregate, kind = str(originator).encode(), topic.encode()
        header = _HEADER(position, version, len(aggregate), len(kind), len(state))
        return sha256(b"".join((header, aggregate, kind, state))).digest()
    except (TypeError, AttributeError, error, UnicodeError) as reason:
        raise ValueError(f"what is stored at position {position} is no event") from reason


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two."""
    return sha256(b"\1" + left + right).digest()


class Checkpoint(NamedTuple):
    """What was true of the log once: how many events it had, and the root over them; as text `SIZE:ROOT`."""

    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `SIZE:ROOT`, the root in hexadecimal. Raises ValueError."""
        match = re.fullmatch(r"(0|[1-9][0-9]{0,17}):([0-9a-fA-F]{64})", text)
        if match is None:
            raise ValueError(f"{text!r} is not SIZE:ROOT, a number and 64 hexadecimal digits.")
        return cls(int(match[1]), bytes.fromhex(match[2]))

    def __str__(self) -> str:
        return f"{self.size}:{self.root.hex()}"


class Tree:
    """The tree over a log that only grows: of all its hashes those that it still takes to go on.

    These are the roots of its largest complete subtrees, left to right, one for each bit in `size`: `peaks`.
    """

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)

    @classmethod
    def read(cls, size: int, stored: bytes) -> Self:
        """The tree that `write` gave. Raises ValueError if it is none."""
        if len(stored) != HASH_BYTES * size.bit_count():
            raise ValueError(f"{len(stored)} bytes are no tree over {size} events")
        return cls(size, (stored[at : at + HASH_BYTES] for at in range(0, len(stored), HASH_BYTES)))

    def write(self) -> bytes:
        """The peaks as bytes, to be kept beside the size."""
        return b"".join(self.peaks)

    def append(self, position: int, event: StoredEvent) -> None:
        """Add the next event. Raises ValueError if it is another one, or not stored as events are."""
        self.extend((record(position, event),))

    def extend(self, records: Iterable[Record]) -> None:
        """Add the next events, in order. Raises ValueError at one that is another, or not stored as events are."""
        for stored in records:
            if stored[0] != self.size + 1:
                raise ValueError(f"there is no event at position {self.size + 1}")
            self.add(leaf_hash(*stored))

    def add(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        size, peaks = self.size, self.peaks
        while size & 1:
            leaf = node_hash(peaks.pop(), leaf)
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves."""
        if not self.peaks:
            return sha256(b"").digest()
        root = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            root = node_hash(peak, root)
        return root

    def checkpoint(self) -> Checkpoint:
        """Size and root."""
        return Checkpoint(self.size, self.root())

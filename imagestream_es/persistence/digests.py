"""Names of images in few bytes, as the views hold them once for each change of a tag, and again in an index.

A digest of SHA-256 becomes the byte 1 and its 32 bytes, any other name the byte 0 and its text. This is the same for
ever one way and back, so packed names are equal when the names are.

An index over them holds only how they begin: that is a quarter of its bytes, and tells nearly all of them apart.
"""

from __future__ import annotations

import re

_PREFIX = "sha256:"
_begins_digest = re.compile(f"{_PREFIX}[0-9a-f]{{0,64}}").fullmatch


def packed(name: str) -> bytes:
    """The name of an image in few bytes."""
    try:
        data = bytes.fromhex(name[len(_PREFIX) :])
    except ValueError:
        data = b""
    # What was read may have been written in another way, and must come back as it was.
    return b"\1" + data if len(data) == 32 and name == _PREFIX + data.hex() else b"\0" + name.encode()


def unpacked(data: bytes) -> str:
    """The name that was packed."""
    return _PREFIX + data.hex()[2:] if data[0] == 1 else data[1:].decode()


_INDEXED = 9
"""So many bytes of a packed name are in an index."""


def indexed(column: str) -> str:
    """What an index holds of a column of packed names."""
    return f"substr({column}, 1, {_INDEXED})"


def is_name(column: str) -> str:
    """The condition that a column holds a packed name, found by an index: it takes the two values of `sought`."""
    return f"{indexed(column)} = ? AND {column} = ?"


def sought(data: bytes | None) -> tuple[bytes | None, bytes | None]:
    """The values of `is_name` for a packed name; None is no name."""
    return data and data[:_INDEXED], data


def beginning_with(prefix: str) -> list[tuple[bytes, bytes]]:
    """Where the packed forms are of all names that begin in a way: ranges, both ends included."""
    text = b"\0" + prefix.encode()
    ranges = [(text, text + b"\xff")]  # no text has this byte
    if _PREFIX.startswith(prefix):
        ranges.append((b"\1", b"\1" + b"\xff" * 32))
    elif _begins_digest(prefix):
        digits = prefix[len(_PREFIX) :]
        first, last = (b"\1" + bytes.fromhex(digits.ljust(64, filler)) for filler in "0f")
        ranges.append((first, last))
    return ranges

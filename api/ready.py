"""Answers to reads as bytes: encoded, compressed and named by an ETag once, and sent as often as they are asked for.

The ETag is a weak one, made from the bytes, or from a digest of what they were made from: compressed or not, what a
client has is the same object. That of a list is made from its items alone, so it stays while the log grows elsewhere
and the list's resourceVersion with it.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from api.reply import Reply

WORTH_COMPRESSING = 128 * 1024
"""From how many bytes on an answer is compressed for those who can read it."""
CHECK_EVERY_TIME = "no-cache, private"
NOT_MODIFIED = {"ETag", "Vary", "Cache-Control"}
LIST_HEAD = b'{"metadata":{"resourceVersion":"'

Headers = list[tuple[str, str]]


def behind_head(text: bytes, position: int) -> bytes | None:
    """What follows the `position` of a list in its text; None if that does not stand where `Ready` tells it."""
    head = _list_head(position)
    return text[len(head) :] if text.startswith(head) else None


def packed(parts: Sequence[bytes], encodings: str) -> tuple[Sequence[bytes], Headers]:
    """What is sent of a text in parts to a client that accepts these encodings, and the headers that say so."""
    common = [("Vary", "Accept, Accept-Encoding"), ("Cache-Control", CHECK_EVERY_TIME)]
    if sum(map(len, parts)) <= WORTH_COMPRESSING or not reads_gzip(encodings):
        return parts, common
    return (gzip.compress(b"".join(parts), 1),), [*common, ("Content-Encoding", "gzip")]


class Ready:
    """The answer that a text is, for clients that accept these encodings. Its `parts` are kept by others, too.

    `position` is that of a list as it was read: no part, as it is told anew each time. It is 0 for what is no list.
    `digest` is another one whenever the parts are; without one, it is made from them.
    """

    __slots__ = ("_headers", "_is_packed", "_parts", "_told", "etag", "position", "size")

    def __init__(
        self,
        parts: Sequence[bytes],
        content_type: str,
        encodings: str,
        position: int = 0,
        digest: bytes | None = None,
    ) -> None:
        self.position = position
        self.etag = f'W/"{(digest or sha256(b"".join(parts)).digest()).hex()[:32]}"'
        whole = (_list_head(position), *parts) if position else parts
        sent, headers = packed(whole, encodings)
        self._is_packed = sent is not whole
        self._parts = sent if self._is_packed else parts
        self._headers = (("Content-Type", content_type), ("ETag", self.etag), *headers)
        self._told = -1, b""  # the whole text as it was told last, and at which position
        self.size = sum(map(len, self._parts))

    def fits(self, position: int) -> bool:
        """Whether this can be told as of a newer position; what is compressed can't be changed any more."""
        return not self._is_packed or self.position in (0, position)

    def answer(self, environ: Mapping[str, Any], position: int = 0) -> Reply:
        """The reply to a request; a list's resourceVersion is `position`, unless it is newer itself."""
        if self.etag in environ.get("HTTP_IF_NONE_MATCH", ""):
            return Reply(304, [one for one in self._headers if one[0] in NOT_MODIFIED], [])
        return Reply(200, self._headers, [self._text(max(self.position, position) if self.position else 0)])

    def _text(self, position: int) -> bytes:
        """All of it, put together once for each position: whoever asks there is sent the same bytes."""
        at, text = self._told
        if at != position:
            text = b"".join((_list_head(position), *self._parts) if position and not self._is_packed else self._parts)
            self._told = position, text
        return text


def _list_head(position: int) -> bytes:
    return LIST_HEAD + b"%d" % position


@lru_cache(maxsize=256)
def reads_gzip(accept_encoding: str) -> bool:
    """Whether a client that sends this Accept-Encoding can read gzip."""
    return parse_accept_header(accept_encoding[:1024], Accept).quality("gzip") > 0

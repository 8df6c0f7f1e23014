"""Answers to reads as bytes: encoded, compressed and named by an ETag once, and sent as often as they are asked for.

The ETag is a weak one, made from the bytes: compressed or not, what a client has is the same object. That of a list is
made from its items alone, so it stays while the log grows elsewhere and the list's resourceVersion with it.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
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


def packed(text: bytes, encodings: str) -> tuple[bytes, Headers]:
    """What is sent of a text to a client that accepts these encodings, and the headers that say so."""
    common = [("Vary", "Accept, Accept-Encoding"), ("Cache-Control", CHECK_EVERY_TIME)]
    if len(text) <= WORTH_COMPRESSING or not reads_gzip(encodings):
        return text, common
    return gzip.compress(text, 1), [*common, ("Content-Encoding", "gzip")]


class Ready:
    """The answer that a text is, for clients that accept these encodings.

    `position` is that of a list as it was read, 0 for what is no list, and stays 0 where it can't be told anew.
    """

    __slots__ = ("_body", "_headers", "_is_packed", "etag", "position")

    def __init__(self, text: bytes, content_type: str, encodings: str, position: int = 0) -> None:
        self.position = position if text.startswith(LIST_HEAD) else 0
        items = text[len(LIST_HEAD) + len(str(position)) :] if self.position else text
        self.etag = f'W/"{sha256(items).hexdigest()[:32]}"'
        sent, headers = packed(text, encodings)
        self._is_packed = sent is not text
        self._body = sent if self._is_packed else items
        self._headers = (("Content-Type", content_type), ("ETag", self.etag), *headers)

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self._body)

    def fits(self, position: int) -> bool:
        """Whether this can be told as of a newer position; what is compressed can't be changed any more."""
        return not self._is_packed or self.position in (0, position)

    def answer(self, environ: Mapping[str, Any], position: int = 0) -> Reply:
        """The reply to a request; a list's resourceVersion is `position`, unless it is newer itself."""
        if self.etag in environ.get("HTTP_IF_NONE_MATCH", ""):
            return Reply(304, [one for one in self._headers if one[0] in NOT_MODIFIED], [])
        body = [self._body]
        if self.position and not self._is_packed:
            body.insert(0, LIST_HEAD + b"%d" % max(self.position, position))
        return Reply(200, self._headers, body)


@lru_cache(maxsize=256)
def reads_gzip(accept_encoding: str) -> bool:
    """Whether a client that sends this Accept-Encoding can read gzip."""
    return parse_accept_header(accept_encoding[:1024], Accept).quality("gzip") > 0

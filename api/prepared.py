"""Answers that stay the same as long as the server runs: bytes made once, which clients may keep."""

from __future__ import annotations

import gzip
from hashlib import sha256

from flask import Request, Response

WORTH_COMPRESSING = 4096
"""From how many bytes on a compressed copy is kept."""

CHECK_EVERY_TIME = "no-cache, private"


class Prepared:
    """One answer, with its ETag and a compressed copy. `content_type` is its Content-Type, as it is to be sent."""

    def __init__(self, body: bytes, content_type: str) -> None:
        self.etag = sha256(body).hexdigest()
        self._body = body
        self._content_type = content_type
        self._compressed = gzip.compress(body, mtime=0) if len(body) >= WORTH_COMPRESSING else None

    def answer(self, request: Request, cache_control: str = CHECK_EVERY_TIME) -> Response:
        """The answer to a request, which is 304 if the client has it already."""
        compressed = self._compressed is not None and request.accept_encodings.quality("gzip") > 0
        response = Response(self._compressed if compressed else self._body, content_type=self._content_type)
        if compressed:
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept, Accept-Encoding"
        response.headers["Cache-Control"] = cache_control
        response.set_etag(self.etag)
        response.make_conditional(request)
        return response

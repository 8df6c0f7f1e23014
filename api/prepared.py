"""Answers that stay the same as long as the server runs: bytes made once, which clients may keep."""

from __future__ import annotations

import gzip
from hashlib import sha256

import orjson
from flask import Request, Response
from werkzeug.exceptions import NotAcceptable

from api.negotiation import Form, negotiate

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


def prepared_json(value: object, form: Form = Form.JSON) -> Prepared:
    """A JSON value as an answer in a form of JSON."""
    return Prepared(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE), form.content_type)


def form_for(request: Request, *offers: Form) -> Form:
    """The form in which the client wants an answer. Raises NotAcceptable."""
    form = negotiate(request.headers.get("Accept"), offers)
    if form is None:
        accepted = ", ".join(offer.content_type for offer in offers)
        raise NotAcceptable(f"only the following media types are accepted: {accepted}")
    return form

"""Idempotency-Key: a write that is sent again is done once, and answered as it was the first time.

The answer is not stored. What was written stands in the log with its key, so the request is gone through once more as
of the moment before that, and where it would write, it reads what the write made.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from hashlib import sha256

from flask import Request
from msgspec import structs

from api.call import Answer, Call
from api.errors import Refusal
from api.headers import header
from api.resource import Resource
from imagestream_es.application.writer import Unavailable
from imagestream_es.domain.idempotency import Done

KEY, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
"""The header of a request, and that of an answer which is not the first one."""
COUNTS = ("If-Match", "If-None-Match", "X-Change-Reason")
"""The headers that make a request another one."""

_FORM = re.compile(r"[ -~]{1,255}")


def take_key(call: Call, target: Resource, request: Request) -> None:
    """Take in the key of a write; a dry run uses none. Raises Refusal."""
    key = header(request, KEY)
    if key is None or request.method in ("GET", "HEAD") or call.args.get("dryRun"):
        return
    if target.schema is None:  # a review: it is created, and only asks
        return
    if not _FORM.fullmatch(key):
        raise Refusal(400, f"{KEY} must be 1 to 255 printable ASCII characters")
    call.key, call.fingerprint = key, _fingerprint(call, request)


def _fingerprint(call: Call, request: Request) -> str:
    """What tells a request from others, in 32 hexadecimal digits."""
    asked = sorted((name, value) for name, value in request.args.items(multi=True) if name != "pretty")
    said = [(name, value) for name in COUNTS if (value := header(request, name)) is not None]
    digest = sha256(repr((request.method, request.path, asked, said, call.media_type)).encode())
    digest.update(call.data)
    return digest.hexdigest()[:32]


def once(call: Call, handle: Callable[[Call], Answer]) -> tuple[Answer, Call]:
    """The answer to a request, and the call that it answers: one that recalls, if it was done before.

    Raises Refusal if another request was made under its key, and what `handle` raises.
    """
    if not call.key:
        return handle(call), call
    again = recalled(call)
    if again is None:
        try:
            return done(handle(call)), call
        except Unavailable:
            raise
        except Exception:
            # It may be refused for what its twin did meanwhile.
            again = recalled(call)
            if again is None:
                raise
    return handle(again), again


def done(answer: Answer) -> Answer:
    """The answer, once that which it tells has come about. Raises what it was refused for."""
    if answer.begun is not None:
        answer.begun.outcome()
    return structs.replace(answer, begun=None)


def recalled(call: Call) -> Call | None:
    """The same call as of the moment before it was done, None if it was not. Raises Refusal, Unavailable."""
    done: Done | None = call.services.queries.done(call.identify().by.actor, call.key)
    if done is None:
        return None
    if done.fingerprint != call.fingerprint:
        message = f"{KEY} {call.key!r} was used for another request: send this one with a key of its own"
        raise Refusal(422, message, causes=[{"reason": "FieldValueInvalid", "message": message, "field": KEY}])
    return dataclasses.replace(call, at=done.before, done=done, warnings=[])

"""Reads of what was: `?asOf=` a position, or a time, in place of now."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from marshmallow import ValidationError

from api.call import Call, is_set
from api.errors import Refusal
from api.schemas.fields import parse_time

if TYPE_CHECKING:
    from api.resource import Resource

IMMUTABLE = "private, max-age=31536000, immutable"
"""How long an answer may be kept that can never become another."""

_FRACTION = re.compile(r"\.(\d{1,3})")


def go_back(call: Call, target: Resource, method: str) -> None:
    """Let a read be answered as of the moment that it asks for, if it asks for one.

    Raises Refusal for a moment that is none or lies beyond now, and where nothing can be read as of a moment.
    """
    text = call.args.get("asOf", "")
    if not text:
        return
    if method != "GET" or not target.as_of:
        raise Refusal(400, f"asOf is for reads of what has a past, as image streams have: not for {target.name}")
    if is_set(call.args, "watch"):
        raise Refusal(400, "asOf is forbidden for watch: a watch with a resourceVersion goes on from there")
    if call.args.get("resourceVersion", "") not in ("", "0") or call.args.get("resourceVersionMatch"):
        raise Refusal(400, "asOf and resourceVersion both name a moment: send one of them")
    call.at, call.settled = moment(call, text, "asOf")


def moment(call: Call, text: str, name: str) -> tuple[int, bool]:
    """The position that a parameter means, by itself or by a time, and whether it will always mean that one.

    A time behind the last event may come to mean another: an event that is older is perhaps on its way. Raises
    Refusal.
    """
    history = call.services.history
    head, newest = history.head()
    if text.isascii() and text.isdigit() and len(text) < 20:
        if int(text) > head:
            raise Refusal(400, f"{name}={text} lies beyond now: the log ends at position {head}")
        return int(text), True
    time = milliseconds(text, name)
    if time > max(call.services.clock(), newest):
        raise Refusal(400, f"{name}={text[:40]} lies beyond now")
    return history.position_at(time), time < newest


def milliseconds(text: str, name: str) -> int:
    """Milliseconds since the epoch of RFC 3339 text. Raises Refusal."""
    try:
        seconds = parse_time(text)
    except ValidationError:
        detail = "must be a position in the log, or a time such as 2030-01-31T12:00:00Z"
        raise Refusal(400, f'{name} {detail}, not "{text[:40]}"') from None
    fraction = _FRACTION.search(text)
    return seconds * 1000 + (int(fraction[1].ljust(3, "0")) if fraction else 0)

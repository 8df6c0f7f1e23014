"""Reads of streams in JSON, put together from texts that are drawn once for each version of a stream."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from api.call import Call
from api.listing import page_of
from api.resource import Resource
from imagestream_es.domain.errors import NotFound

PLAIN = {"limit", "resourceVersion", "timeout", "timeoutSeconds"}
"""The parameters that leave a read one of everything there is."""


@dataclass(frozen=True)
class Text:
    """The JSON of an answer; `position` is that of a list, 0 for what is none."""

    text: bytes
    position: int = 0
    whole: bool = True
    """Whether this is not just a page of a list"""


def drawn(target: Resource, call: Call) -> Text | None:
    """The JSON that answers a read of what is now; None if it is to be made from objects. Raises NotFound, Refusal."""
    if target.pen is None or call.door.legacy or not call.args.keys() <= PLAIN:
        return None
    if call.name and not call.namespace:
        return None
    drawings, pen = call.services.drawings, target.pen(call)
    if call.name:
        text = drawings.one(call.namespace, call.name, pen)
        if text is None:
            raise NotFound(target.name, call.name)
        return Text(text[:-1] + b"," + _kind(target.kind, call) + b"}\n")
    limit, listed = page_of(call).limit, drawings.all(call.namespace or None, pen)
    if len(listed.found) > limit > 0:
        return None
    head = b'{"metadata":{"resourceVersion":"%d"},"items":[' % listed.position
    return Text(
        b"".join((head, b",".join(listed.found), b"],", _kind(f"{target.kind}List", call), b"}\n")), listed.position
    )


def _kind(kind: str, call: Call) -> bytes:
    return orjson.dumps({"kind": kind, "apiVersion": call.door.api_version})[1:-1]

"""Reads of streams in JSON, put together from texts that are drawn once for each version of a stream."""

from __future__ import annotations

from collections.abc import Sequence
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
    """The text of an answer, as `Ready` takes it; `position` is that of a list that can be told anew, else 0."""

    parts: Sequence[bytes]
    position: int = 0
    digest: bytes | None = None
    lasts: bool = True
    """Whether it may be given again: it is no list that can't be told anew, nor just a page of one"""


def drawn(target: Resource, call: Call) -> Text | None:
    """The JSON that answers a read of what is now; None if it is to be made from objects. Raises NotFound, Refusal."""
    if target.pen is None or call.door.legacy or not call.args.keys() <= PLAIN:
        return None
    if call.name and not call.namespace:
        return None
    drawings, pen = call.services.drawings, target.pen(call.services.settings)
    if call.name:
        drawing = drawings.one(call.namespace, call.name, pen)
        if drawing is None:
            raise NotFound(target.name, call.name)
        *parts, last = drawing.parts
        return Text((*parts, last[:-1] + b"," + _kind(target.kind, call) + b"}\n"), digest=drawing.digest)
    limit, sheet = page_of(call).limit, drawings.all(call.namespace or None, pen)
    if len(sheet.drawings) > limit > 0:
        return None
    tail = b"]," + _kind(f"{target.kind}List", call) + b"}\n"
    return Text((b'"},"items":[', sheet.text, tail), sheet.head, sheet.digest)


def _kind(kind: str, call: Call) -> bytes:
    return orjson.dumps({"kind": kind, "apiVersion": call.door.api_version})[1:-1]

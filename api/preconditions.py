"""What a write says beside its object: which image the tag must name, and why it is done.

Both come in headers, and in annotations for clients that cannot set headers. If-Match compares with the image that
the tag names, never with a version of the object that was read: metadata.resourceVersion is for that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flask import Request

from api.call import Call
from api.errors import Refusal
from api.headers import header, text_of
from api.resource import Resource
from imagestream_es.domain.references import is_digest
from imagestream_es.domain.tags import ImageGuard

REASON, CHANGE_CAUSE = "X-Change-Reason", "kubernetes.io/change-cause"
IF_MATCH, IF_NONE_MATCH = "If-Match", "If-None-Match"
ANNOTATIONS = {IF_MATCH: "imagestream-es.io/if-match", IF_NONE_MATCH: "imagestream-es.io/if-none-match"}
"""The annotations that say what the headers say. They are never stored."""
LONGEST_REASON = 1024
"""Characters."""

_ONE = re.compile(r'"([^"]*)"')


def take_headers(call: Call, target: Resource, request: Request) -> None:
    """Take in what the headers of a write say. Raises Refusal."""
    if request.method in ("GET", "HEAD"):
        return
    given = {name: value for name in ANNOTATIONS if (value := header(request, name)) is not None}
    if given:
        call.guard = _guard(target, given)
    call.reason = _reason(text_of(header(request, REASON) or ""), REASON)


def take_annotations(
    call: Call, target: Resource, body: dict[str, Any], before: Callable[[], dict[str, Any] | None]
) -> None:
    """Take in what the annotations of an object that is written say, and take out what is not to be stored.

    `before` answers the object as it was: a reason that stands in it is that of an earlier change. Raises Refusal.
    """
    annotations = _annotations(body)
    given = {name: annotations.pop(key) for name, key in ANNOTATIONS.items() if key in annotations}
    if given:
        guard = _guard(target, {name: _quoted(str(value)) for name, value in given.items()})
        if call.guard not in (None, guard):
            raise Refusal(400, "the headers and the annotations of the request say different things of the tag's image")
        call.guard = guard
    cause = annotations.get(CHANGE_CAUSE)
    if call.reason or not isinstance(cause, str) or not cause or target.name == "status":
        return
    if _annotations(before() or {}).get(CHANGE_CAUSE) != cause:
        call.reason = _reason(cause, f"the annotation {CHANGE_CAUSE}")


def _annotations(item: dict[str, Any]) -> dict[str, Any]:
    metadata = item.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return annotations if isinstance(annotations, dict) else {}


def _quoted(text: str) -> str:
    """A digest as headers have it; annotations may do without the quotes."""
    return f'"{text}"' if is_digest(text) else text


def _reason(text: str, where: str) -> str:
    text = text.strip()
    problem = reason_problem(text)
    if problem:
        raise Refusal(400, f"{where} {problem}")
    return text


def reason_problem(text: str) -> str:
    """What is wrong with a reason; "" for nothing."""
    fits = len(text) <= LONGEST_REASON and text.isprintable()
    return "" if fits else f"must be at most {LONGEST_REASON} printable characters on one line"


def _guard(target: Resource, given: dict[str, str]) -> ImageGuard:
    if not target.guarded:
        message = (
            f"{' and '.join(given)} can be asked of image stream tags, image tags and image stream mappings only; "
            "metadata.resourceVersion is the precondition of every object"
        )
        raise Refusal(400, message)
    if len(given) > 1:
        raise Refusal(400, "If-Match and If-None-Match exclude each other")
    if IF_NONE_MATCH in given:
        if given[IF_NONE_MATCH].strip() != "*":
            raise Refusal(400, "If-None-Match must be *: write only if the tag has no image")
        return ImageGuard(absent=True)
    value = given[IF_MATCH].strip()
    if value == "*":
        return ImageGuard()
    found = [_ONE.fullmatch(part.strip()) for part in value.split(",")]
    images = tuple(one[1] for one in found if one is not None and is_digest(one[1]))
    if len(images) < len(found):
        message = (
            'If-Match must be * or the image that the tag names, as its whole digest in quotes: "sha256:…"; '
            "it is not compared with a version of the object"
        )
        raise Refusal(400, message)
    return ImageGuard(images=images)

"""The parameters of operations, in the path and behind the question mark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Parameter = dict[str, Any]


def _query(name: str, of: str, description: str, enum: Iterable[str] = ()) -> Parameter:
    schema: dict[str, Any] = {"type": of}
    if enum:
        schema["enum"] = list(enum)
    return {"name": name, "in": "query", "description": description, "schema": schema}


def asked(parameters: Mapping[str, str]) -> list[Parameter]:
    """The parameters of one resource's lists, given by name with what they mean."""
    return [_query(name, "string", description) for name, description in parameters.items()]


def _header(name: str, description: str) -> Parameter:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _path(name: str, description: str) -> Parameter:
    return {"name": name, "in": "path", "description": description, "required": True, "schema": {"type": "string"}}


NAME = _path("name", "The name of the object.")
NAMESPACE = _path("namespace", "The namespace of the object.")

SELECT = [
    _query(
        "labelSelector",
        "string",
        "Only objects with such labels, such as app=web,tier!=front or env in (a,b).",
    ),
    _query("fieldSelector", "string", "Only objects with such fields, such as metadata.name=web."),
]
LIST = [
    *SELECT,
    _query("limit", "integer", "The most objects to answer at once; the list's metadata.continue asks for the rest."),
    _query("continue", "string", "Asks for the next page: metadata.continue of the page before."),
    _query(
        "resourceVersion",
        "string",
        "A version that the answer must not be older than; with resourceVersionMatch=Exact, the version that is meant. "
        "No version is ever too old.",
    ),
    _query("resourceVersionMatch", "string", "How resourceVersion is meant.", enum=("Exact", "NotOlderThan")),
]
AS_OF = _query(
    "asOf",
    "string",
    "Answer what would have been answered at a moment: a position in the log, or a time such as 2030-01-31T12:00:00Z.",
)
WATCH = [
    _query("watch", "boolean", "Answer changes as they happen, one JSON object a line, instead of a list."),
    _query("allowWatchBookmarks", "boolean", "Tell the version now and then while nothing happens."),
    _query("sendInitialEvents", "boolean", "Whether a watch begins with the objects that are there already."),
    _query("timeoutSeconds", "integer", "After how many seconds a watch ends."),
]
_DRY = _query("dryRun", "string", "All: check everything and store nothing.", enum=("All",))
_REASON = _header(
    "X-Change-Reason",
    "Why this is done, in at most 1024 characters; kept with the change for ever. The annotation "
    "kubernetes.io/change-cause says it too, where this write sets it.",
)
_KEY = _header(
    "Idempotency-Key",
    "Do this once: whoever sends the same request again under the same key gets the first answer, and nothing is done "
    "again. 1 to 255 printable ASCII characters; another request under the same key is refused with 422.",
)
GUARDS = [
    _header(
        "If-Match",
        "Write only if the tag names this image now: its whole digest in quotes, or * for any image. The annotation "
        "imagestream-es.io/if-match says it too, and is not stored.",
    ),
    _header(
        "If-None-Match",
        "*: write only if the tag has no image. The annotation imagestream-es.io/if-none-match says it too.",
    ),
]
WRITE = [
    _DRY,
    _REASON,
    _KEY,
    _query("fieldManager", "string", "The name under which managedFields notes who set a field."),
    _query(
        "fieldValidation",
        "string",
        "What becomes of unknown and repeated fields: Ignore drops them, Warn also tells, Strict refuses the request.",
        enum=("Ignore", "Warn", "Strict"),
    ),
]
PATCH = [*WRITE, _query("force", "boolean", "Take fields over from other managers. Only for server-side apply.")]
DELETE = [
    _DRY,
    _REASON,
    _KEY,
    _query("gracePeriodSeconds", "integer", "Accepted, and without effect."),
    _query("orphanDependents", "boolean", "Accepted, and without effect."),
    _query("propagationPolicy", "string", "Accepted, and without effect."),
]

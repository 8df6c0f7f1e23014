"""What comes of a request, as it is sent: objects in the form that was asked for, and failures as Status objects."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
import yaml
from flask import Request

from api import managed_fields, tables
from api.access import creation, forbidden
from api.call import Answer, Call, Door, InvalidOptions
from api.errors import Refusal, invalid, qualified, status
from api.headers import header
from api.idempotency import KEY
from api.negotiation import Form
from api.patch import PatchError
from api.ready import packed
from api.reply import Reply
from api.resource import Resource
from imagestream_es.application.limits import TooMany
from imagestream_es.application.writer import Unavailable
from imagestream_es.domain.errors import (
    AlreadyDone,
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TagMoved,
)

logger = logging.getLogger(__name__)

LONGEST_WARNING = 256
MAX_WARNINGS = 4096
"""Characters of all warnings of one answer; many clients refuse headers beyond a few times that."""


def rendered(
    answer: Answer, form: Form, target: Resource, resource: Resource, call: Call
) -> tuple[dict[str, Any], Form]:
    """What is sent, and how it is encoded."""
    body = answer.body
    if body.get("kind") == "Status":
        return body, form
    if call.dry:
        _forget_version(body, call.seen)
    named(answer, target, resource, call)
    if form in (Form.TABLE, Form.PARTIAL_OBJECT, Form.PARTIAL_OBJECT_LIST):
        return reduced(answer, form, resource, call), Form.JSON
    return body, form


def _forget_version(body: dict[str, Any], seen: str) -> None:
    """A dry run answers the version that was there before, or none: the next real one is somebody else's."""
    for item in (body, (body.get("status") or {}).get("import") or {}):
        metadata = item.get("metadata", {})
        if metadata.pop("resourceVersion", None) and seen:
            metadata["resourceVersion"] = seen


def named(answer: Answer, target: Resource, resource: Resource, call: Call) -> None:
    """Give an answer its kind and apiVersion, and behind the older door its objects their selfLinks."""
    body, version = answer.body, call.door.api_version
    if answer.is_list:
        body["kind"], body["apiVersion"] = target.kind + "List", version
    else:
        body["kind"], body["apiVersion"] = target.kind, version
    if call.door.legacy:
        for item in body["items"] if answer.is_list else (body,):
            if "name" in item["metadata"]:  # a watch's bookmark has none
                _link(item["metadata"], resource, call.door)


def _link(metadata: dict[str, Any], resource: Resource, door: Door) -> None:
    space = f"/namespaces/{metadata['namespace']}" if resource.namespaced else ""
    metadata["selfLink"] = f"{door.prefix}{space}/{resource.name}/{metadata['name']}"


def reduced(answer: Answer, form: Form, resource: Resource, call: Call) -> dict[str, Any]:
    """A named answer as a table, or with nothing but the metadata of its objects. Raises Refusal."""
    body = answer.body
    items = body["items"] if answer.is_list else [body]
    if form is Form.TABLE:
        include = call.args.get("includeObject", "") or "Metadata"
        version = body["metadata"].get("resourceVersion", "")  # what is not stored has none
        metadata = body["metadata"] if answer.is_list else {"resourceVersion": version}
        try:
            return tables.render(
                resource.name, items, now=datetime.now(UTC), include_object=include, list_metadata=metadata
            )
        except ValueError as error:
            raise Refusal(400, str(error)) from None
    partial = [
        {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
        for item in items
    ]
    if not answer.is_list:
        return partial[0]
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": body["metadata"],
        "items": partial,
    }


def encode(body: dict[str, Any], form: Form, request: Request) -> bytes:
    """A wire object as text, indented if the request asks for `pretty`."""
    if form is Form.YAML:
        return yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode()
    pretty = orjson.OPT_INDENT_2 if request.args.get("pretty", "").lower() in ("true", "1") else 0
    return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE | pretty)


def respond(request: Request, body: dict[str, Any], code: int = 200, form: Form = Form.JSON) -> Reply:
    """The HTTP answer that holds a wire object, which is of this moment alone."""
    parts, headers = packed((encode(body, form, request),), header(request, "Accept-Encoding") or "")
    return Reply(code, [("Content-Type", form.content_type), *headers], [*parts])


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (a repeated value is written out)
        return True


def warn(response: Reply, warnings: Iterable[str]) -> None:
    """Tell warnings as headers, as many as clients surely read; what a client wrote in them cannot break out."""
    left = MAX_WARNINGS
    for text in warnings:
        quoted = text[:LONGEST_WARNING].encode("unicode_escape").decode().replace("\\", "\\\\").replace('"', '\\"')
        left -= len(quoted)
        if left < 0:
            return
        response.headers.append(("Warning", f'299 - "{quoted}"'))


def failure(request: Request, error: Exception, door: Door, resource: str, call: Call | None = None) -> Reply:
    """The answer to a request that failed; what is no refusal is logged, and answered without its text."""
    headers: dict[str, str] = {}
    match error:
        case Refusal():
            details: dict[str, Any] = {"retryAfterSeconds": error.retry_after} if error.retry_after else {}
            if error.causes:
                details["causes"] = error.causes
            body, headers = status(error.code, error.message, reason=error.reason, details=details), error.headers
        case managed_fields.ApplyConflict():
            causes = [
                {"reason": "FieldManagerConflict", "message": one.message, "field": one.field} for one in error.causes
            ]
            body = status(409, str(error), reason="Conflict", details={"causes": causes})
        case InvalidOptions():
            body = invalid("ListOptions", "meta.k8s.io", "", [error.problem])
        case PatchError():
            body = status(error.code, error.message, reason=error.reason)
        case Invalid():
            body = invalid(error.kind, door.group, error.name, error.problems)
        case BadRequest():
            body = status(400, error.message)
        case Forbidden() if call is not None:
            refused = forbidden(call.user, creation(call.action))
            body = status(403, refused.message)
        case NotFound() | AlreadyExists() | Conflict() | TagMoved():
            body = _about(error, door)
        case AlreadyDone():
            message = f"this was done before under its {KEY}, and what was answered is not known any more"
            body = status(409, message)
        case TooMany():
            body = status(429, str(error), details={"retryAfterSeconds": error.retry_after})
        case Unavailable():
            # What may be stored already must not be sent again by a client that knows no better, unless under a key.
            again = not error.may_be_stored or (call is not None and call.key)
            body = status(503, str(error), details={"retryAfterSeconds": 1} if again else {})
        case _:
            if call is not None:
                call.log(error, resource)
            else:
                logger.error("a request for %s failed", resource, exc_info=error)
            body = status(500, "Internal error occurred: the server failed to handle the request")
    response = respond(request, body, body["code"])
    seconds = body.get("details", {}).get("retryAfterSeconds")
    if seconds:
        response.put("Retry-After", str(seconds))
    for name, value in headers.items():
        response.put(name, value)
    return response


def _about(error: NotFound | AlreadyExists | Conflict | TagMoved, door: Door) -> dict[str, Any]:
    what = f'{qualified(error.resource, door.group)} "{error.name}"'
    details = {"name": error.name, "group": door.group, "kind": error.resource}
    match error:
        case NotFound():
            code, reason, message = 404, "NotFound", f"{what} not found"
        case AlreadyExists():
            code, reason, message = 409, "AlreadyExists", f"{what} already exists"
        case TagMoved():
            now = error.current or "no image"
            code, reason, message = 412, "PreconditionFailed", f"the precondition failed: {what} names {now} now"
        case _:
            code, reason = 409, "Conflict"
            message = f"Operation cannot be fulfilled on {what}: {error.detail}"
    return status(code, message, reason=reason, details={key: value for key, value in details.items() if value})

"""From an HTTP request to a handler and back: every route of every resource goes through `serve`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
import yaml
from flask import Request, Response

from api import tables
from api.bodies import MAX_BODY
from api.call import Answer, Call, Door
from api.errors import Refusal, invalid, qualified, status
from api.negotiation import Form, negotiate
from api.patch import IMAGE_LISTS, PatchError, apply_patch
from api.resource import Resource
from imagestream_es.application.commands import Caller
from imagestream_es.application.writer import Unavailable
from imagestream_es.bootstrap import Services
from imagestream_es.domain.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    DomainError,
    Invalid,
    NotFound,
)
from imagestream_es.domain.events import Origin
from imagestream_es.domain.references import namespace_problem

logger = logging.getLogger(__name__)

UNSECURED = "system:unsecured"
"""Every caller, while no credentials are configured."""

FORMS = (Form.JSON, Form.YAML, Form.TABLE, Form.PARTIAL_OBJECT, Form.PARTIAL_OBJECT_LIST)
PATCH_TRIES = 5


def serve(
    request: Request, services: Services, door: Door, resource: Resource, namespace: str, name: str, sub: str
) -> Response:
    """Answer a request for a resource, whatever comes of it."""
    audit_id = request.headers.get("Audit-ID", "")[:64] or str(uuid4())
    call: Call | None = None
    try:
        target = _target(resource, sub, door)
        form = negotiate(request.headers.get("Accept"), FORMS)
        if form is None:
            accepted = "application/json, application/yaml"
            raise Refusal(406, f"only the following media types are accepted: {accepted}")
        by = Origin(at=services.clock(), actor=UNSECURED, door="api", request=audit_id)
        call = Call(
            services=services,
            door=door,
            namespace=namespace,
            name=name,
            args=request.args,
            caller=Caller(by=by),
            media_type=request.mimetype,
            data=read_body(request),
            kind=target.kind,
        )
        answer = _handle(request, target, call, resource)
        response = _render(answer, form, target, resource, call)
    except Exception as error:
        response = failure(error, door, resource.name, call)
    response.headers["Audit-Id"] = audit_id
    return response


def _target(resource: Resource, sub: str, door: Door) -> Resource:
    if door.legacy and not resource.legacy:
        raise Refusal(404, "the server could not find the requested resource")
    if not sub:
        return resource
    found = resource.subresources.get(sub)
    if found is None or (door.legacy and not found.legacy):
        raise Refusal(404, "the server could not find the requested resource")
    return found


def read_body(request: Request) -> bytes:
    """The body of a request. Raises Refusal (413) for one that is too long, without reading it all."""
    if (request.content_length or 0) > MAX_BODY:
        raise Refusal(413, f"the request body may have at most {MAX_BODY} bytes")
    data = request.stream.read(MAX_BODY + 1)
    if len(data) > MAX_BODY:
        raise Refusal(413, f"the request body may have at most {MAX_BODY} bytes")
    return data


def _handle(request: Request, target: Resource, call: Call, resource: Resource) -> Answer:
    if resource.namespaced and call.namespace:
        problem = namespace_problem(call.namespace)
        if problem:
            raise Refusal(400, f'invalid namespace "{call.namespace[:80]}": {problem}')
    method = "GET" if request.method == "HEAD" else request.method
    if call.name:
        if resource.namespaced and not call.namespace:
            raise Refusal(404, "the server could not find the requested resource")
        match method:
            case "GET" if target.get is not None:
                return target.get(call)
            case "PUT" if target.update is not None:
                return target.update(call, call.body())
            case "PATCH" if target.base is not None:
                return _patch(target, call)
            case "DELETE" if target.delete is not None:
                return target.delete(call)
    elif resource.namespaced and not call.namespace and method not in ("GET", "HEAD"):
        raise Refusal(405, "the server does not allow this method on the requested resource")
    else:
        match method:
            case "GET" if target.list is not None:
                return target.list(call)
            case "POST" if target.create is not None:
                return target.create(call, call.body())
            case "DELETE" if target.delete_collection is not None:
                return target.delete_collection(call)
    raise Refusal(
        405,
        "the server does not allow this method on the requested resource",
        headers={"Allow": ", ".join(_allowed(target, named=bool(call.name)))},
    )


def _allowed(target: Resource, *, named: bool) -> list[str]:
    if named:
        offered = {"GET": target.get, "PUT": target.update, "PATCH": target.base, "DELETE": target.delete}
    else:
        offered = {"GET": target.list, "POST": target.create, "DELETE": target.delete_collection}
    return [method for method, handler in offered.items() if handler is not None]


def _patch(target: Resource, call: Call) -> Answer:
    """Apply a patch to the object as it is, and write the outcome as a PUT would.

    A patch that names no resourceVersion is tried again when somebody else was faster.
    """
    assert target.base is not None
    assert target.update is not None
    for attempt in range(PATCH_TRIES):
        before = target.base(call)
        after = apply_patch(call.media_type, call.data, before, IMAGE_LISTS)
        if not isinstance(after.get("metadata"), dict):
            raise Refusal(400, "a patch must leave metadata an object")
        unconditional = after["metadata"].get("resourceVersion") == before["metadata"]["resourceVersion"]
        try:
            answer = target.update(call, after)
            return Answer(answer.body, 200, answer.is_list)
        except Conflict:
            if not unconditional or attempt == PATCH_TRIES - 1:
                raise
    raise AssertionError


# --- answers


def _render(answer: Answer, form: Form, target: Resource, resource: Resource, call: Call) -> Response:
    body = answer.body
    if body.get("kind") == "Status":
        return respond(body, answer.code, form)
    if form in (Form.TABLE, Form.PARTIAL_OBJECT, Form.PARTIAL_OBJECT_LIST):
        _name(answer, target, resource, call)
        return respond(_reduced(answer, form, resource, call), answer.code, Form.JSON)
    _name(answer, target, resource, call)
    return respond(body, answer.code, form)


def _name(answer: Answer, target: Resource, resource: Resource, call: Call) -> None:
    body, version = answer.body, call.door.api_version
    if answer.is_list:
        body["kind"], body["apiVersion"] = target.kind + "List", version
    else:
        body["kind"], body["apiVersion"] = target.kind, version
    if call.door.legacy:
        for item in body["items"] if answer.is_list else (body,):
            _link(item["metadata"], resource, call.door)


def _link(metadata: dict[str, Any], resource: Resource, door: Door) -> None:
    space = f"/namespaces/{metadata['namespace']}" if resource.namespaced else ""
    metadata["selfLink"] = f"{door.prefix}{space}/{resource.name}/{metadata.get('name', '')}"


def _reduced(answer: Answer, form: Form, resource: Resource, call: Call) -> dict[str, Any]:
    body = answer.body
    items = body["items"] if answer.is_list else [body]
    if form is Form.TABLE:
        include = call.args.get("includeObject", "") or "Metadata"
        metadata = body["metadata"] if answer.is_list else {"resourceVersion": body["metadata"]["resourceVersion"]}
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


def respond(body: dict[str, Any], code: int = 200, form: Form = Form.JSON) -> Response:
    """An HTTP answer of a wire object."""
    if form is Form.YAML:
        text = yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode()
    else:
        text = orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)
    response = Response(text, code, content_type=form.content_type)
    response.headers["Cache-Control"] = "no-cache, private"
    return response


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (a repeated value is written out)
        return True


def failure(error: Exception, door: Door, resource: str, call: Call | None = None) -> Response:
    """The answer to a request that failed; what is no refusal is logged, and answered without its text."""
    headers: dict[str, str] = {}
    match error:
        case Refusal():
            details = {"retryAfterSeconds": error.retry_after} if error.retry_after else None
            body, headers = status(error.code, error.message, reason=error.reason, details=details), error.headers
        case PatchError():
            body = status(error.code, error.message, reason=error.reason)
        case Invalid():
            body = invalid(error.kind, door.group, error.name, error.problems)
        case BadRequest():
            body = status(400, error.message)
        case NotFound() | AlreadyExists() | Conflict():
            body = _about(error, door)
        case Unavailable():
            body = status(503, str(error), details={"retryAfterSeconds": 1})
        case _:
            _log(error, resource, call)
            body = status(500, "Internal error occurred: the server failed to handle the request")
    response = respond(body, body["code"])
    seconds = body.get("details", {}).get("retryAfterSeconds")
    if seconds:
        response.headers["Retry-After"] = str(seconds)
    response.headers.update(headers)
    return response


def _about(error: NotFound | AlreadyExists | Conflict, door: Door) -> dict[str, Any]:
    what = f'{qualified(error.resource, door.group)} "{error.name}"'
    details = {"name": error.name, "group": door.group, "kind": error.resource}
    match error:
        case NotFound():
            code, reason, message = 404, "NotFound", f"{what} not found"
        case AlreadyExists():
            code, reason, message = 409, "AlreadyExists", f"{what} already exists"
        case _:
            code, reason = 409, "Conflict"
            message = f"Operation cannot be fulfilled on {what}: {error.detail}"
    return status(code, message, reason=reason, details={key: value for key, value in details.items() if value})


def _log(error: Exception, resource: str, call: Call | None) -> None:
    assert not isinstance(error, DomainError)
    where = f"{call.namespace}/{call.name}" if call is not None else ""
    logger.exception("a request for %s %s failed", resource, where, exc_info=error)

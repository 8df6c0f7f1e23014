"""Patches: what an object becomes by one is written as a PUT of that would be."""

from __future__ import annotations

from typing import Any

from api import bodies, managed_fields
from api.access import authorize, creation
from api.call import Answer, Call, InvalidOptions
from api.errors import Refusal
from api.patch import APPLY_PATCH, IMAGE_LISTS, apply_patch
from api.preconditions import take_annotations
from api.resource import Resource
from api.schemas.fields import print_time
from api.validation import known
from imagestream_es.domain.errors import AlreadyExists, Conflict, NotFound, Problem

PATCH_TRIES = 5
KUBECTL = "kubectl"
"""The manager that `kubectl apply --server-side` is unless it is told otherwise"""


def patch(target: Resource, call: Call) -> Answer:
    """Apply a patch to the object as it is, and write the outcome as a PUT would.

    A patch that names no resourceVersion is tried again when somebody else was faster.
    """
    assert target.base is not None
    assert target.update is not None
    if call.media_type == APPLY_PATCH:
        return _apply(target, call)
    if call.args.get("force", "") in ("true", "1"):
        raise InvalidOptions(Problem.FORBIDDEN, "force", "may not be specified for non-apply patch")
    bodies.refuse_nul(call.data)
    for attempt in range(PATCH_TRIES):
        before = target.base(call)
        after = apply_patch(call.media_type, call.data, before, IMAGE_LISTS)
        if not isinstance(after.get("metadata"), dict):
            raise Refusal(400, "a patch must leave metadata an object")
        take_annotations(call, target, after, lambda: before)  # noqa: B023 (it is asked at once)
        unconditional = after["metadata"].get("resourceVersion") == before["metadata"]["resourceVersion"]
        call.unconditional = unconditional
        try:
            answer = target.update(call, after)
            return Answer(answer.body, 200, answer.is_list)
        except Conflict:
            if not unconditional or attempt == PATCH_TRIES - 1:
                raise
    raise AssertionError


def _apply(target: Resource, call: Call) -> Answer:
    """Server-side apply: the body is what its manager wants; the object is made if it is not there."""
    if not call.args.get("fieldManager"):
        raise InvalidOptions(Problem.REQUIRED, "fieldManager", "is required for apply patch")
    applied = _applied(target, call)
    take_annotations(call, target, applied, lambda: live_object(target, call))
    # Only streams and images tell their managers; elsewhere nobody can be in the way.
    force = call.args.get("force", "") in ("true", "1") or target.shown is None
    for attempt in range(PATCH_TRIES):
        live = live_object(target, call)
        try:
            merged = managed_fields.apply(
                live,
                applied,
                manager=call.manager,
                force=force,
                time=print_time(call.caller.by.seconds) or "",
                api_version=call.door.api_version,
            )
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        if call.manager == KUBECTL:
            merged = managed_fields.with_last_applied(merged, applied)
        # What is to be known again goes through the writer, though it changes nothing.
        if live is not None and merged == live and call.guard is None and not call.key:
            call.seen = live["metadata"]["resourceVersion"]
            return Answer(live)
        managers = merged["metadata"].pop("managedFields", [])
        # A tag has no managers of its own: what its stream gains by it counts as an update of the stream.
        call.applied = None if target.shown is None else managers
        try:
            return _write_applied(target, call, live, applied, merged)
        except (Conflict, AlreadyExists):
            if applied["metadata"].get("resourceVersion") or attempt == PATCH_TRIES - 1:
                raise
    raise AssertionError


def _applied(target: Resource, call: Call) -> dict[str, Any]:
    """The body of an apply, without what this manager may not write here."""
    body = call.of_kind(bodies.decode_yaml(call.data))
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise Refusal(400, "metadata must be an object")
    applied = {key: value for key, value in body.items() if key != "status" or target.name == "status"}
    applied["metadata"] = dict(metadata or {})
    if applied["metadata"].get("managedFields") is not None:
        raise Refusal(400, "metadata.managedFields must be nil")
    assert target.schema is not None
    call.load(target.schema, applied)
    return known(target.schema, applied)


def live_object(target: Resource, call: Call) -> dict[str, Any] | None:
    """The object as it is before a write, None if it is not there. Raises Refusal, Unavailable."""
    assert target.base is not None
    try:
        return target.base(call)
    except NotFound:
        return None


def _write_applied(
    target: Resource, call: Call, live: dict[str, Any] | None, applied: dict[str, Any], merged: dict[str, Any]
) -> Answer:
    assert target.update is not None
    warnings, metadata = call.warnings, merged["metadata"]
    if live is None and target.create is not None:
        authorize(call.services.gate, call.user, creation(call.action))
        metadata["name"] = metadata.get("name") or call.name
        if metadata["name"] != call.name:
            raise Refusal(
                400, f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.name})"
            )
        answer = target.create(call, merged)
    else:
        if live is None:
            raise NotFound(target.name, call.name)
        metadata["resourceVersion"] = applied["metadata"].get("resourceVersion") or live["metadata"]["resourceVersion"]
        answer = target.update(call, merged)
    call.warnings = warnings
    return answer

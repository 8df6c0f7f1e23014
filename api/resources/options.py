"""What requests say beside the object: preconditions of a DELETE, and who manages the fields that are written."""

from __future__ import annotations

from typing import Any

from api import bodies, managed_fields
from api.call import Call, position
from api.errors import Refusal
from api.schemas.fields import print_time
from imagestream_es.application.commands import Expected
from imagestream_es.domain.errors import FieldProblem, Invalid, Problem


def delete_expected(call: Call) -> Expected:
    """The preconditions of a DELETE; its body, if there is one, is DeleteOptions. Raises Refusal."""
    if not call.data.strip():
        return Expected()
    options = bodies.decode(call.data, call.media_type)
    if not isinstance(options, dict) or options.get("kind") not in (None, "", "DeleteOptions"):
        raise Refusal(400, "the body of a DELETE must be DeleteOptions")
    preconditions = options.get("preconditions")
    if preconditions is None:
        preconditions = {}
    if not isinstance(preconditions, dict):
        raise Refusal(400, "DeleteOptions.preconditions must be an object")
    uid, version = preconditions.get("uid") or "", preconditions.get("resourceVersion") or ""
    if not isinstance(uid, str) or not isinstance(version, str):
        raise Refusal(400, "uid and resourceVersion of DeleteOptions.preconditions must be strings")
    dry = options.get("dryRun") or []
    if dry not in ([], ["All"]):
        raise Refusal(400, "dryRun of DeleteOptions may only hold All")
    if dry:
        call.dry = True
    return Expected(position=position(version), uid=uid or None)


def recorded(call: Call, old: dict[str, Any] | None, new: dict[str, Any]) -> list[dict[str, Any]]:
    """The managedFields of an object in wire shape that this request changed from `old` (None: made).

    Raises Invalid if the client wrote managedFields that cannot be read.
    """
    try:
        return managed_fields.record_update(
            old,
            new,
            manager=call.manager,
            time=print_time(call.caller.by.seconds) or "",
            api_version=call.door.api_version,
        )
    except ValueError as error:
        problem = FieldProblem(Problem.INVALID, "metadata.managedFields", str(error), None)
        raise Invalid(call.kind, call.name, [problem]) from None

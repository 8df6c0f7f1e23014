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
        return Expected(image=call.guard)
    options = bodies.decode(call.data, call.media_type)
    if not isinstance(options, dict) or options.get("kind") not in (None, "", "DeleteOptions"):
        raise Refusal(400, "the body of a DELETE must be DeleteOptions")
    preconditions = options.get("preconditions")
    if preconditions is None:
        preconditions = {}
    if not isinstance(preconditions, dict):
        raise Refusal(400, "DeleteOptions.preconditions must be an object")
    uid, version = preconditions.get("uid"), preconditions.get("resourceVersion")
    if not isinstance(uid, str | None) or not isinstance(version, str | None):
        raise Refusal(400, "uid and resourceVersion of DeleteOptions.preconditions must be strings")
    dry = options.get("dryRun")
    if dry not in (None, [], ["All"]):
        raise Refusal(400, "dryRun of DeleteOptions may only hold All")
    if dry:
        call.dry = True
    return Expected(position=position(version or ""), uid=uid or None, image=call.guard)


def recorded(call: Call, old: dict[str, Any] | None, new: dict[str, Any]) -> list[dict[str, Any]]:
    """The managedFields of an object in wire shape that this request changed from `old` (None: made).

    Raises Invalid if the client wrote managedFields that cannot be read.
    """
    if call.applied is not None:
        held = _managed(old)
        # What was applied may be said otherwise and still be what is there, as "" for a default.
        same = old is not None and _without_managers(old) == _without_managers(new)
        return held if same and _timeless(held) == _timeless(call.applied) else call.applied
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


def _managed(item: dict[str, Any] | None) -> list[dict[str, Any]]:
    return list(((item or {}).get("metadata") or {}).get("managedFields") or ())


def _without_managers(item: dict[str, Any]) -> dict[str, Any]:
    metadata = {
        key: value for key, value in item["metadata"].items() if key not in ("managedFields", "resourceVersion")
    }
    return item | {"metadata": metadata}


def _timeless(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]

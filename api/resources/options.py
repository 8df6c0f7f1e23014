"""Options that clients send with a DELETE."""

from __future__ import annotations

from api import bodies
from api.call import Call, position
from api.errors import Refusal
from imagestream_es.application.commands import Expected


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

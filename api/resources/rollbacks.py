"""rollbacks: a tag names again what it named before. They are only created; what they did is in the log."""

from __future__ import annotations

from typing import Any

from api.access import authorize
from api.call import GROUP, Answer, Call
from api.preconditions import reason_problem
from api.resource import Resource
from api.schemas.meta import NO_META, Meta, kept_meta, problems_of
from api.schemas.rollbacks import RollbackSchema, status_json
from imagestream_es.access.policy import Action
from imagestream_es.application.rollbacks import KIND, Wanted, roll_back, undone_by
from imagestream_es.domain.errors import FieldProblem, Invalid, Problem
from imagestream_es.domain.references import is_digest

NAME = "rollbacks"
SCHEMA = RollbackSchema()


def create(call: Call, body: dict[str, Any]) -> Answer:
    """Roll a tag back."""
    sent = call.load(SCHEMA, body)
    meta: Meta = sent["metadata"] or NO_META
    call.check_meta(meta)
    spec: dict[str, Any] = sent["spec"] or {}
    problems = problems_of(meta) + _problems(spec)
    if problems:
        raise Invalid(KIND, meta.name, problems)
    # A rollback writes a tag: it takes the right to that as well.
    tag = f"{spec['stream']}:{spec['tag']}"
    authorize(call.services.gate, call.user, Action("update", GROUP, "imagestreamtags", call.namespace, tag))
    call.reason = spec["reason"] or call.reason
    wanted = Wanted(
        stream=spec["stream"],
        tag=spec["tag"],
        position=spec["toPosition"],
        changes_ago=spec["changesAgo"],
        image=spec["toImage"] or None,
        expected=spec["expectedImage"] or "",
    )
    found = roll_back(call.services.commands.writer, call.caller, call.namespace, wanted, dry=call.dry)
    warning = undone_by(found.spec)
    warnings = [warning] if warning and found.position is not None else []
    call.warnings.extend(warnings)
    metadata = {"name": meta.name, "namespace": call.namespace, "creationTimestamp": None, **kept_meta(meta)}
    return Answer(
        {"metadata": metadata, "spec": body["spec"], "status": status_json(found, warnings, dry=call.dry)}, 201
    )


def _problems(spec: dict[str, Any]) -> list[FieldProblem]:
    if not spec:
        return [FieldProblem(Problem.REQUIRED, "spec")]
    problems = [FieldProblem(Problem.REQUIRED, f"spec.{name}") for name in ("stream", "tag") if not spec[name]]
    aims = [name for name in ("toPosition", "changesAgo", "toImage") if spec[name] not in (None, "")]
    if len(aims) != 1:
        detail = "one of toPosition, changesAgo and toImage must be given, and one only"
        problems.append(FieldProblem(Problem.INVALID, "spec", detail, aims))
    problems += [
        FieldProblem(Problem.INVALID, f"spec.{name}", "must be greater than 0", spec[name])
        for name in ("toPosition", "changesAgo")
        if spec[name] is not None and spec[name] < 1
    ]
    problems += [
        FieldProblem(Problem.INVALID, f"spec.{name}", "must be a whole digest", spec[name])
        for name in ("toImage", "expectedImage")
        if spec[name] and not is_digest(spec[name])
    ]
    if problem := reason_problem(spec["reason"] or ""):
        problems.append(FieldProblem(Problem.INVALID, "spec.reason", problem))
    return problems


ROLLBACKS = Resource(name=NAME, kind=KIND, legacy=False, schema=SCHEMA, create=create)

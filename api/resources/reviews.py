"""Reviews: who am I, and what may I do. Nothing of them is stored."""

from __future__ import annotations

from typing import Any

from api.call import Answer, Call
from api.resource import Resource
from imagestream_es.domain.errors import FieldProblem, Invalid, NotFound, Problem


def _spec(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    spec = body.get("spec")
    if spec is None:
        spec = {}
    if not isinstance(spec, dict):
        raise Invalid(call.kind, "", [FieldProblem(Problem.INVALID, "spec", "must be an object", spec)])
    return spec


def access(call: Call, body: dict[str, Any]) -> Answer:
    """Whether somebody may do something."""
    spec = _spec(call, body)
    given = [name for name in ("resourceAttributes", "nonResourceAttributes") if spec.get(name) is not None]
    if len(given) != 1:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise Invalid(call.kind, "", [FieldProblem(Problem.INVALID, "spec.resourceAttributes", detail, None)])
    status = {"allowed": True, "reason": "no credentials are configured: everybody may do everything"}
    return Answer({"metadata": {"creationTimestamp": None}, "spec": spec, "status": status}, 201)


def rules(call: Call, body: dict[str, Any]) -> Answer:
    """What the caller may do in a namespace."""
    status = {
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": False,
    }
    return Answer({"metadata": {"creationTimestamp": None}, "spec": _spec(call, body), "status": status}, 201)


def self_review(call: Call, body: dict[str, Any]) -> Answer:  # noqa: ARG001
    """Who the caller is."""
    user = {"username": call.user, "groups": ["system:masters", "system:authenticated"]}
    return Answer({"metadata": {"creationTimestamp": None}, "status": {"userInfo": user}}, 201)


def user(call: Call) -> Answer:
    """The caller, as OpenShift's user API names it."""
    if call.name not in ("~", call.user):
        raise NotFound("users", call.name)
    groups = ["system:masters", "system:authenticated"]
    return Answer({"metadata": {"name": call.user, "creationTimestamp": None}, "identities": None, "groups": groups})


SELF_SUBJECT_ACCESS_REVIEWS = Resource(
    name="selfsubjectaccessreviews", kind="SelfSubjectAccessReview", namespaced=False, create=access
)
SUBJECT_ACCESS_REVIEWS = Resource(
    name="subjectaccessreviews", kind="SubjectAccessReview", namespaced=False, create=access
)
SELF_SUBJECT_RULES_REVIEWS = Resource(
    name="selfsubjectrulesreviews", kind="SelfSubjectRulesReview", namespaced=False, create=rules
)
SELF_SUBJECT_REVIEWS = Resource(
    name="selfsubjectreviews", kind="SelfSubjectReview", namespaced=False, create=self_review
)
USERS = Resource(name="users", kind="User", namespaced=False, get=user)

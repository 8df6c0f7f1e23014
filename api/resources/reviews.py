"""Reviews: who am I, and what may I do. Nothing of them is stored."""

from __future__ import annotations

from typing import Any

from api.access import allows
from api.call import Answer, Call
from api.resource import Resource
from imagestream_es.access.identity import User
from imagestream_es.access.policy import Action
from imagestream_es.access.rules import Rule
from imagestream_es.domain.errors import FieldProblem, Invalid, NotFound, Problem


def _spec(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    spec = body.get("spec")
    if spec is None:
        spec = {}
    if not isinstance(spec, dict):
        raise Invalid(call.kind, "", [FieldProblem(Problem.INVALID, "spec", "must be an object", spec)])
    return spec


def self_access(call: Call, body: dict[str, Any]) -> Answer:
    """Whether the caller may do something."""
    return _reviewed(call, _spec(call, body), call.user)


def access(call: Call, body: dict[str, Any]) -> Answer:
    """Whether somebody may do something."""
    spec = _spec(call, body)
    name, groups, uid = spec.get("user"), spec.get("groups"), spec.get("uid")
    if not name and not groups:
        detail = "at least one of user or group must be specified"
        raise Invalid(call.kind, "", [FieldProblem(Problem.INVALID, "spec.user", detail, "")])
    if not isinstance(name, str | None) or not isinstance(uid, str | None) or not _are_texts(groups):
        detail = "must be texts, and groups a list of texts"
        raise Invalid(call.kind, "", [FieldProblem(Problem.INVALID, "spec.user", detail, None)])
    return _reviewed(call, spec, User(name or "", uid or "", tuple(groups or ())))


def local_access(call: Call, body: dict[str, Any]) -> Answer:
    """Whether somebody may do something in the namespace of the request."""
    attributes = _spec(call, body).get("resourceAttributes")
    if not isinstance(attributes, dict) or attributes.get("namespace") != call.namespace:
        where, detail = "spec.resourceAttributes.namespace", f"must be the namespace of the request, {call.namespace}"
        found = attributes.get("namespace") if isinstance(attributes, dict) else None
        raise Invalid(call.kind, "", [FieldProblem(Problem.INVALID, where, detail, found)])
    return access(call, body)


def _are_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _reviewed(call: Call, spec: dict[str, Any], user: User) -> Answer:
    given = [name for name in ("resourceAttributes", "nonResourceAttributes") if spec.get(name) is not None]
    if len(given) != 1:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise Invalid(call.kind, "", [FieldProblem(Problem.INVALID, "spec.resourceAttributes", detail, None)])
    asked = spec[given[0]]
    if not isinstance(asked, dict) or not all(_are_texts([asked[key]]) for key in _ASKED & asked.keys()):
        raise Invalid(call.kind, "", [FieldProblem(Problem.INVALID, f"spec.{given[0]}", "must hold texts", None)])
    gate, verb = call.services.gate, asked.get("verb", "")
    if given[0] == "nonResourceAttributes":
        allowed = gate.policy.allows_path(user, verb, asked.get("path", ""))
    else:
        resource, sub = asked.get("resource", ""), asked.get("subresource", "")
        places = asked.get("namespace", ""), asked.get("name", "")
        allowed = allows(
            gate, user, Action(verb, asked.get("group", ""), f"{resource}/{sub}" if sub else resource, *places)
        )
    status: dict[str, Any] = {"allowed": allowed}
    if gate.is_open:
        status = {"allowed": True, "reason": "no credentials are configured: everybody may do everything"}
    return Answer({"metadata": {"creationTimestamp": None}, "spec": spec, "status": status}, 201)


_ASKED = {"namespace", "verb", "group", "resource", "subresource", "name", "path"}


def rules(call: Call, body: dict[str, Any]) -> Answer:
    """What the caller may do in a namespace."""
    spec = _spec(call, body)
    namespace = spec.get("namespace") or ""
    if not isinstance(namespace, str):
        raise Invalid(call.kind, "", [FieldProblem(Problem.INVALID, "spec.namespace", "must be a text", namespace)])
    granted = list(call.services.gate.policy.grants(call.user).of(namespace))
    status = {
        "resourceRules": [_resource_rule(rule) for rule in granted if not rule.urls],
        "nonResourceRules": [
            {"verbs": sorted(rule.verbs), "nonResourceURLs": list(rule.urls)} for rule in granted if rule.urls
        ],
        "incomplete": False,
    }
    return Answer({"metadata": {"creationTimestamp": None}, "spec": spec, "status": status}, 201)


def _resource_rule(rule: Rule) -> dict[str, Any]:
    shown = {"verbs": sorted(rule.verbs), "apiGroups": sorted(rule.groups), "resources": sorted(rule.resources)}
    return shown | ({"resourceNames": sorted(rule.names)} if rule.names else {})


def self_review(call: Call, body: dict[str, Any]) -> Answer:  # noqa: ARG001
    """Who the caller is."""
    user: dict[str, Any] = {"username": call.user.name, "groups": list(call.user.groups)}
    if call.user.uid:
        user["uid"] = call.user.uid
    if call.user.extra:
        user["extra"] = {key: list(values) for key, values in call.user.extra.items()}
    return Answer({"metadata": {"creationTimestamp": None}, "status": {"userInfo": user}}, 201)


def user(call: Call) -> Answer:
    """The caller, as OpenShift's user API names it."""
    if call.name not in ("~", call.user.name):
        raise NotFound("users", call.name)
    metadata: dict[str, Any] = {"name": call.user.name, "creationTimestamp": None}
    if call.user.uid:
        metadata["uid"] = call.user.uid
    return Answer({"metadata": metadata, "identities": None, "groups": list(call.user.groups)})


SELF_SUBJECT_ACCESS_REVIEWS = Resource(
    name="selfsubjectaccessreviews", kind="SelfSubjectAccessReview", namespaced=False, create=self_access
)
SUBJECT_ACCESS_REVIEWS = Resource(
    name="subjectaccessreviews", kind="SubjectAccessReview", namespaced=False, create=access
)
LOCAL_SUBJECT_ACCESS_REVIEWS = Resource(
    name="localsubjectaccessreviews", kind="LocalSubjectAccessReview", create=local_access
)
SELF_SUBJECT_RULES_REVIEWS = Resource(
    name="selfsubjectrulesreviews", kind="SelfSubjectRulesReview", namespaced=False, create=rules
)
SELF_SUBJECT_REVIEWS = Resource(
    name="selfsubjectreviews", kind="SelfSubjectReview", namespaced=False, create=self_review
)
USERS = Resource(name="users", kind="User", namespaced=False, get=user)

"""The one place where an exception becomes a Kubernetes Status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from imagestream_es.domain.errors import FieldProblem, Invalid, Problem

_TEXTS = {
    Problem.REQUIRED: "Required value",
    Problem.INVALID: "Invalid value",
    Problem.FORBIDDEN: "Forbidden",
    Problem.NOT_FOUND: "Not found",
    Problem.DUPLICATE: "Duplicate value",
    Problem.NOT_SUPPORTED: "Unsupported value",
    Problem.INTERNAL: "Internal error",
}

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    412: "PreconditionFailed",
    413: "RequestEntityTooLarge",
    414: "RequestURITooLong",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


MOST_PROBLEMS = 100
"""How many problems of one object are told: a small body can have very many."""
LONGEST_VALUE = 1000
"""How many characters of a wrong value are told."""


class Refusal(Exception):
    """A request that the API itself refuses, with its HTTP status and text."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str = "",
        retry_after: int = 0,
        headers: dict[str, str] | None = None,
        causes: Sequence[dict[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or _REASONS[code]
        self.retry_after = retry_after
        self.headers = headers or {}
        self.causes = list(causes)


def status(code: int, message: str, *, reason: str = "", details: dict[str, Any] | None = None) -> dict[str, Any]:
    """A Failure Status."""
    answer: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason or _REASONS.get(code, "InternalError"),
    }
    if details:
        answer["details"] = details
    return answer | {"code": code}


def success(name: str, group: str, kind: str, uid: str = "", *, code: int = 0) -> dict[str, Any]:
    """A Success Status about an object."""
    details = {"name": name, "group": group, "kind": kind, "uid": uid}
    answer: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if name:
        answer["details"] = {key: value for key, value in details.items() if value}
    return answer | ({"code": code} if code else {})


def qualified(resource: str, group: str) -> str:
    """`imagestreams.image.openshift.io`, or the bare name without a group."""
    return f"{resource}.{group}" if group else resource


def problem_text(problem: FieldProblem) -> str:
    """What is wrong with a field, without the field."""
    text = _TEXTS[problem.kind]
    if problem.kind is Problem.INTERNAL:
        inner = problem.value
        if isinstance(inner, Invalid):
            return f'{text}: {inner.kind} "{inner.name}" is invalid: {problems_text(inner.problems)}'
        return f"{text}: {problem.detail}"
    if problem.kind in (Problem.REQUIRED, Problem.FORBIDDEN):
        return f"{text}: {problem.detail}" if problem.detail else text
    value = orjson.dumps(problem.value, default=str).decode()
    if len(value) > LONGEST_VALUE:
        value = value[:LONGEST_VALUE] + "..."
    return f"{text}: {value}: {problem.detail}" if problem.detail else f"{text}: {value}"


def problems_text(problems: Sequence[FieldProblem]) -> str:
    """The problems on one line, as Kubernetes joins them."""
    texts = [f"{problem.field}: {problem_text(problem)}" for problem in problems[:MOST_PROBLEMS]]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def invalid(kind: str, group: str, name: str, problems: Sequence[FieldProblem]) -> dict[str, Any]:
    """The Status of an object that breaks the rules."""
    causes = [
        {"reason": problem.kind.value, "message": problem_text(problem), "field": problem.field}
        for problem in problems[:MOST_PROBLEMS]
    ]
    details = {"name": name, "group": group, "kind": kind, "causes": causes}
    message = f'{qualified(kind, group)} "{name}" is invalid: {problems_text(problems)}'
    return status(422, message, reason="Invalid", details={key: value for key, value in details.items() if value})

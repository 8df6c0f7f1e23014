"""What can go wrong, in the domain's words.

The errors carry data and never a status code: one table at the edge turns them into answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class DomainError(Exception):
    """A command or a question that the domain refuses."""


@dataclass
class NotFound(DomainError):
    """`name` of `resource` does not exist."""

    resource: str
    name: str


@dataclass
class AlreadyExists(DomainError):
    """`name` of `resource` exists already."""

    resource: str
    name: str


@dataclass
class Conflict(DomainError):
    """The object moved on, or is another one, than the caller said; `detail` says how."""

    resource: str
    name: str
    detail: str = "the object has been modified; please apply your changes to the latest version and try again"

    @classmethod
    def other_object(cls, resource: str, name: str, wanted: str, uid: str) -> Conflict:
        """The caller means the object whose uid is `wanted`, and this one's is `uid`."""
        detail = (
            f"the UID in the precondition ({wanted}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated"
        )
        return cls(resource, name, detail)


class AlreadyDone(DomainError):
    """Something was done before under the same idempotency key."""


@dataclass
class TagMoved(DomainError):
    """The tag `name` of `resource` names another image than the caller said: `current`, "" for none."""

    resource: str
    name: str
    current: str


@dataclass
class Forbidden(DomainError):
    """The caller may not make what is not there."""

    resource: str
    name: str


@dataclass
class BadRequest(DomainError):
    """The request makes no sense whatever the state is."""

    message: str


class Problem(Enum):
    """Kinds of field problems, named as Kubernetes names their causes."""

    REQUIRED = "FieldValueRequired"
    INVALID = "FieldValueInvalid"
    FORBIDDEN = "FieldValueForbidden"
    NOT_FOUND = "FieldValueNotFound"
    DUPLICATE = "FieldValueDuplicate"
    NOT_SUPPORTED = "FieldValueNotSupported"
    INTERNAL = "InternalError"


@dataclass(frozen=True)
class FieldProblem:
    """One thing that is wrong with one field; `value` is what the client sent there."""

    kind: Problem
    field: str
    detail: str = ""
    value: object = None


@dataclass
class Invalid(DomainError):
    """An object that breaks the rules: `kind` and `name` of the object, and every problem found."""

    kind: str
    name: str
    problems: Sequence[FieldProblem]

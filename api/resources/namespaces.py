"""namespaces and events: clients look for them, nothing of ours needs them.

Any name that may be a namespace's is one; none needs to be created. There are no events.
"""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from api.call import Answer, Call
from api.resource import Resource
from api.schemas.core import NamespaceSchema
from api.schemas.fields import print_time
from api.schemas.meta import NO_META, Meta
from imagestream_es.application.queries import Listed
from imagestream_es.domain.errors import FieldProblem, Invalid, Problem
from imagestream_es.domain.references import namespace_problem

SCHEMA = NamespaceSchema()


def _shown(name: str, position: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": str(uuid5(NAMESPACE_URL, f"namespace/{name}")),
            "resourceVersion": str(position),
            "creationTimestamp": print_time(0),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _checked(name: str) -> str:
    problem = namespace_problem(name)
    if problem:
        raise Invalid("Namespace", name, [FieldProblem(Problem.INVALID, "metadata.name", problem, name)])
    return name


def get(call: Call) -> Answer:
    """Any namespace."""
    return Answer(_shown(_checked(call.name), call.services.queries.position()))


def find(call: Call, at: int | None) -> Listed[dict[str, Any]]:
    """The namespaces that have streams."""
    listed = call.services.queries.namespaces(at)
    return Listed([_shown(name, listed.position) for name in listed.found], listed.position)


def create(call: Call, body: dict[str, Any]) -> Answer:
    """Nothing is stored: the namespace was there before."""
    meta: Meta = call.load(SCHEMA, body)["metadata"] or NO_META
    return Answer(_shown(_checked(meta.name), call.services.queries.position()), 201)


def no_events(call: Call, at: int | None) -> Listed[dict[str, Any]]:
    """No event."""
    return Listed([], call.services.queries.position() if at is None else at)


NAMESPACES = Resource(
    name="namespaces",
    kind="Namespace",
    namespaced=False,
    short_names=("ns",),
    get=get,
    find=find,
    schema=SCHEMA,
    create=create,
)

EVENTS = Resource(
    name="events",
    kind="Event",
    short_names=("ev",),
    find=no_events,
    fields={
        name: lambda _: ""
        for name in (
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        )
    },
)

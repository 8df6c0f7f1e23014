"""The OpenAPI document of a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.call import Door
from api.discovery import VERSION
from api.openapi.definitions import Definition, definitions, kind_schema, list_definition
from api.openapi.paths import paths, type_name
from api.resource import Resource
from api.schemas.answers import (
    APIResourceListSchema,
    DeleteOptionsSchema,
    ListMetaSchema,
    StatusSchema,
    WatchEventSchema,
)

Document = dict[str, Any]

TITLE = "Image streams"

_KINDS_OF_ALL_GROUPS = (APIResourceListSchema, DeleteOptionsSchema, StatusSchema, WatchEventSchema)


def document(door: Door, resources: Sequence[Resource]) -> Document:
    """The OpenAPI 3.0 document of one group: its paths, and the types in them."""
    return {
        "openapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION["gitVersion"]},
        "paths": paths(door, resources),
        "components": {"schemas": dict(sorted(_schemas(door, resources).items()))},
    }


def _schemas(door: Door, resources: Sequence[Resource]) -> dict[str, Definition]:
    targets = [target for resource in resources for target in (resource, *resource.subresources.values())]
    kinds = {target.kind: kind_schema(target.kind) for target in targets}
    found = definitions([ListMetaSchema, *_KINDS_OF_ALL_GROUPS, *kinds.values()])
    for target in targets:
        kind, name = target.kind, kinds[target.kind].definition()
        if type_name(target) == name:
            _tell_kind(found[name], door.group, kind)
            _set_version(found[name], door)
        if type_name(target) != name or "list" in target.verbs:
            found[f"{name}List"] = list_definition(kind, name)
            _tell_kind(found[f"{name}List"], door.group, f"{kind}List")
    for schema in _KINDS_OF_ALL_GROUPS:
        _tell_kind(found[schema.definition()], "", schema.__name__.removesuffix("Schema"))
    return found


def _tell_kind(definition: Definition, group: str, kind: str) -> None:
    definition["x-kubernetes-group-version-kind"] = [{"group": group, "version": "v1", "kind": kind}]


def _set_version(definition: Definition, door: Door) -> None:
    """A kind can be in two groups; its example is to be of this one."""
    if "example" in definition:
        definition["example"] = {**definition["example"], "apiVersion": door.api_version}

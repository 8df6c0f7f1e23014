"""The types in documents of the API, made from marshmallow's schemas.

apispec has a plugin for this, which is not used. Our fields say their own OpenAPI type, so what is left for the
plugin is what Kubernetes' documents have otherwise than the rest of the world: names of types, references with
siblings, null, defaults. Overriding all of that is longer than this file.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from marshmallow import Schema, class_registry
from marshmallow.fields import Field

from api.schemas import core, history, layers, reviews  # noqa: F401 (their schemas are found by name)
from api.schemas.fields import AnyObject, Many, ManyByName, Nullable, One, Time
from api.schemas.meta import META, KindSchema, Wire

Definition = dict[str, Any]

REFERENCE = "#/components/schemas/"

PATCH = f"{META}.Patch"
PRIMITIVES: Mapping[str, Definition] = {
    Time.definition: {**Time.openapi, "description": "A time as RFC 3339 text, such as 2030-01-31T12:00:00Z."},
    f"{META}.FieldsV1": {**AnyObject.openapi, "description": "A set of fields, as a tree of their names."},
    PATCH: {**AnyObject.openapi, "description": "A change of an object, in the format of its media type."},
    "io.k8s.apimachinery.pkg.runtime.RawExtension": {**AnyObject.openapi, "description": "An object of any kind."},
}
"""The types that have a name but no schema."""

_OURS = frozenset({"merge_key", "required", "nullable", "definition"})
"""The words in a field's metadata that are not OpenAPI's; see `Wire`."""


def kind_schema(kind: str) -> type[KindSchema]:
    """The schema of a kind: it has the kind's name, with "Schema" behind.

    Raises TypeError for one that is no KindSchema, marshmallow's RegistryError if there is none.
    """
    schema = class_registry.get_class(f"{kind}Schema")
    if not issubclass(schema, KindSchema):
        raise TypeError(f"{schema.__name__} describes a kind and must be a KindSchema")
    return schema


def refer(name: str) -> Definition:
    """A reference to a type."""
    return {"$ref": REFERENCE + name}


def definitions(schemas: Iterable[type[Wire]]) -> dict[str, Definition]:
    """The types of these schemas and all types that they refer to, by name."""
    found = {name: dict(definition) for name, definition in PRIMITIVES.items()}
    waiting = list(schemas)
    while waiting:
        schema = waiting.pop()
        if schema.definition() not in found:
            found[schema.definition()] = _definition(schema)
            waiting.extend(_inner(schema))
    return dict(sorted(found.items()))


def list_definition(kind: str, item: str) -> Definition:
    """The type of a list of a kind, whose type is called `item`."""
    properties = {
        name: _property(field) for name, field in _fields(KindSchema).items() if name in ("kind", "apiVersion")
    }
    properties["metadata"] = {
        "default": {},
        "allOf": [refer(f"{META}.ListMeta")],
        "description": "The version of the list, and its pages.",
    }
    properties["items"] = {"type": "array", "items": {"allOf": [refer(item)]}, "description": "The objects."}
    return {
        "description": f"A list of {kind} objects.",
        "type": "object",
        "required": ["items"],
        "properties": properties,
    }


def _definition(schema: type[Wire]) -> Definition:
    fields = _fields(schema)
    definition: Definition = {
        "description": _unwrapped(inspect.getdoc(schema) or ""),
        "type": "object",
        "properties": {name: _property(field) for name, field in fields.items()},
    }
    required = [name for name, field in fields.items() if field.metadata.get("required")]
    if required:
        definition["required"] = required
    if issubclass(schema, KindSchema) and schema.example:
        definition["example"] = schema.example
    return definition


def _unwrapped(text: str) -> str:
    """Text with a line for each paragraph."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _fields(schema: type[Wire]) -> dict[str, Field[Any]]:
    """The fields of a schema by their names in JSON."""
    return {field.data_key or name: field for name, field in schema().fields.items()}


def _inner(schema: type[Wire]) -> Iterator[type[Wire]]:
    return filter(None, map(_schema_in, _fields(schema).values()))


def _schema_in(field: Field[Any]) -> type[Wire] | None:
    """The schema of the objects in a field, if it holds such objects."""
    if not isinstance(field, One | Many):
        return None
    assert isinstance(field.schema, Schema)
    inner = type(field.schema)
    assert issubclass(inner, Wire)
    return inner


def _property(field: Field[Any]) -> Definition:
    metadata = field.metadata
    found = _type(field) | {word: value for word, value in metadata.items() if word not in _OURS}
    if "merge_key" in metadata:
        found["x-kubernetes-patch-strategy"] = "merge"
        found["x-kubernetes-patch-merge-key"] = metadata["merge_key"]
    if metadata.get("nullable"):
        found["nullable"] = True
        if "type" not in found:  # without one, null would still be forbidden
            found["type"] = field.openapi["type"] if isinstance(field, Nullable) else "object"
    if metadata.get("nullable") or metadata.get("required"):
        found.pop("default", None)
    return found


def _type(field: Field[Any]) -> Definition:
    inner = _schema_in(field)
    if inner is not None:
        value = {"allOf": [refer(inner.definition())]}
        if isinstance(field, ManyByName):
            return {"type": "object", "additionalProperties": value}
        return {"type": "array", "items": value} if isinstance(field, Many) else {"default": {}, **value}
    assert isinstance(field, Nullable)
    name = field.metadata.get("definition") or field.definition
    return {"allOf": [refer(name)]} if name else dict(field.openapi)

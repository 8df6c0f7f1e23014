"""The reference of the API for people, made from the documents that clients get."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from flask import Flask, Response, request

from api.call import GROUP, Door
from api.openapi import documents
from api.openapi.definitions import kind_schema
from api.openapi.paths import phrase
from api.openapi.version3 import Document
from api.pages import HTML, render, security_headers
from api.prepared import Prepared
from api.resource import Resource
from api.schemas.answers import DeleteOptionsSchema, ListMetaSchema, StatusSchema

PATH = "/docs"
METHODS = ("get", "post", "put", "patch", "delete")
NAMESPACE = "demo"
"""The namespace in examples."""


@dataclass(frozen=True)
class Field:
    """A field of a type, or of an object in it, or a parameter. `link` is the full name of its type, or ""."""

    name: str
    type: str
    description: str
    required: bool
    values: Sequence[str]
    link: str = ""


@dataclass(frozen=True)
class Type:
    """A type that is described by itself: its short name, its full name, and where on the page it is."""

    name: str
    full_name: str
    anchor: str
    description: str
    fields: Sequence[Field]


@dataclass(frozen=True)
class Operation:
    """What can be done at a path."""

    method: str
    path: str
    summary: str
    parameters: Sequence[Field]
    accepts: Sequence[str]
    answers: Sequence[str]


@dataclass(frozen=True)
class Example:
    """Something to type into a shell."""

    title: str
    text: str


@dataclass(frozen=True)
class Kind:
    """A kind with all that can be done with it."""

    type: Type
    group_version: str
    resource: Resource
    operations: Sequence[Operation]
    examples: Sequence[Example]


def add_docs(app: Flask, groups: Mapping[Door, Sequence[Resource]]) -> list[str]:
    """Serve the reference; answers its path. It is made when first asked for."""

    @cache
    def page() -> Prepared:
        return Prepared(_page(groups), HTML)

    def docs() -> Response:
        response = page().answer(request)
        response.headers.update(security_headers())
        return response

    app.add_url_rule(PATH, PATH, docs)
    return [PATH]


def _page(groups: Mapping[Door, Sequence[Resource]]) -> bytes:
    described = documents(groups)
    kinds: dict[Door, list[Kind]] = {}
    for door in sorted(described, key=lambda door: (door.group != GROUP, door.group)):
        told = {kind.type.full_name for found in kinds.values() for kind in found}
        kinds[door] = [kind for kind in _kinds(door, described[door], groups[door]) if kind.type.full_name not in told]
    of_kinds = [kind.type for found in kinds.values() for kind in found]
    types = _types(described, of_kinds)
    return render(
        "docs.html",
        groups=[(door.group or "core", found) for door, found in kinds.items()],
        types=types,
        anchors={one.full_name: one.anchor for one in (*types, *of_kinds)},
        documents=[f"/openapi/v3{door.prefix}" for door in kinds],
    )


def _kinds(door: Door, document: Document, resources: Sequence[Resource]) -> Iterator[Kind]:
    schemas = document["components"]["schemas"]
    for resource in sorted(resources, key=lambda one: one.kind):
        name = kind_schema(resource.kind).definition()
        operations = [one for path, one in _operations(document) if _resource_in(door, path) == resource.name]
        yield Kind(
            type=Type(
                name=resource.kind,
                full_name=name,
                anchor=f"{resource.name}.{door.group or 'core'}",
                description=schemas[name]["description"],
                fields=list(_fields(schemas, name, inline=True)),
            ),
            group_version=door.api_version,
            resource=resource,
            operations=operations,
            examples=list(_examples(door, resource, schemas[name].get("example", {}))),
        )


def _resource_in(door: Door, path: str) -> str:
    """The resource that a path of the group is about."""
    found = re.match(re.escape(door.prefix) + r"/(?:namespaces/\{namespace\}/)?([^/]*)", path)
    return found[1] if found else ""


def _operations(document: Document) -> Iterator[tuple[str, Operation]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item and not item[method].get("deprecated"):
                yield path, _operation(method, path, item[method], item.get("parameters", ()))


def _operation(method: str, path: str, operation: Mapping[str, Any], place: Sequence[Mapping[str, Any]]) -> Operation:
    return Operation(
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        parameters=[_parameter(one) for one in (*place, *operation.get("parameters", ()))],
        accepts=list(operation.get("requestBody", {}).get("content", ())),
        answers=[
            f"{code} {_called(content['application/json']['schema'])}"
            for code, content in ((code, answer["content"]) for code, answer in operation["responses"].items())
            if code != "default"
        ],
    )


def _parameter(parameter: Mapping[str, Any]) -> Field:
    schema = parameter["schema"]
    required = parameter["in"] == "path"
    return Field(parameter["name"], schema["type"], parameter["description"], required, schema.get("enum", ()))


# --- types


def _types(described: Mapping[Door, Document], kinds: Sequence[Type]) -> list[Type]:
    """The types that the fields of the kinds refer to, and those of all requests and answers."""
    schemas = {
        name: schema for document in described.values() for name, schema in document["components"]["schemas"].items()
    }
    found: dict[str, Type] = {kind.full_name: kind for kind in kinds}
    waiting = [schema.definition() for schema in (DeleteOptionsSchema, ListMetaSchema, StatusSchema)]
    waiting += [field.link for kind in kinds for field in kind.fields if field.link]
    while waiting:
        name = waiting.pop()
        if name not in found:
            fields = list(_fields(schemas, name))
            found[name] = Type(_short(name), name, name, schemas[name]["description"], fields)
            waiting += [field.link for field in fields if field.link]
    return sorted((one for one in found.values() if one not in kinds), key=lambda one: (one.name, one.full_name))


def _fields(schemas: Mapping[str, Any], name: str, *, inline: bool = False, path: str = "") -> Iterator[Field]:
    """The fields of a type; `inline` with the fields of the types in it that belong to no other kind."""
    schema = schemas[name]
    for field, described in schema.get("properties", {}).items():
        inner = _reference(described)
        inside = inline and inner != "" and _inlined(inner, name, schemas)
        yield Field(
            name=path + field,
            type=_called(described),
            description=described.get("description", ""),
            required=field in schema.get("required", ()),
            values=[value for value in described.get("enum", ()) if value],
            link="" if inside or "properties" not in schemas.get(inner, {}) else inner,
        )
        if inside:
            step = "[]" if "items" in described else "{}" if "additionalProperties" in described else ""
            yield from _fields(schemas, inner, inline=True, path=f"{path}{field}{step}.")


def _inlined(inner: str, name: str, schemas: Mapping[str, Any]) -> bool:
    """Whether the fields of a type are shown with those of another: both in one package, and it is no kind."""
    same_package = inner.rpartition(".")[0] == name.rpartition(".")[0]
    return same_package and "x-kubernetes-group-version-kind" not in schemas[inner]


def _reference(schema: Mapping[str, Any]) -> str:
    """The name of the type that a schema is, or holds; "" for the simple ones."""
    if "items" in schema:
        return _reference(schema["items"])
    if "additionalProperties" in schema:
        return _reference(schema["additionalProperties"])
    target: str = schema["$ref"] if "$ref" in schema else schema.get("allOf", [{}])[0].get("$ref", "")
    return target.rpartition("/")[2]


def _called(schema: Mapping[str, Any]) -> str:
    """A type as people write it: `[]TagReference`."""
    if "items" in schema:
        return f"[]{_called(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_called(schema['additionalProperties'])}"
    name = _reference(schema)
    if name:
        return _short(name)
    return {"byte": "base64", "date-time": "time"}.get(schema.get("format", ""), str(schema["type"]))


def _short(name: str) -> str:
    return name.rpartition(".")[2]


# --- examples


def _examples(door: Door, resource: Resource, example: Mapping[str, Any]) -> Iterator[Example]:
    thing = phrase(resource.kind)
    space = f"/namespaces/{NAMESPACE}" if resource.namespaced else ""
    collection = f"$SERVER{door.prefix}{space}/{resource.name}"
    name = example.get("metadata", {}).get("name", "NAME")
    if "create" in resource.verbs and example:
        body = json.dumps(example, indent=2)
        sending = "  -H 'Content-Type: application/json' -d @- <<'END'"
        yield Example(f"Create {_a(thing)}", f"curl {collection} \\\n{sending}\n{body}\nEND")
    if "list" in resource.verbs:
        asked = f'"{collection}?fieldSelector={resource.question}"' if resource.question else collection
        yield Example(f"List {thing}s", f"curl {asked}")
    if "get" in resource.verbs:
        yield Example(f"Read {_a(thing)}", f"curl {collection}/{name}")
    if "watch" in resource.verbs:
        yield Example(f"Watch {thing}s", f'curl -N "{collection}?watch=true"')
    if "list" in resource.verbs or "get" in resource.verbs:
        names = f" {name}" if "list" not in resource.verbs else ""
        place = f" --namespace {NAMESPACE}" if resource.namespaced else ""
        asked = f" --field-selector {resource.question}" if resource.question else ""
        yield Example("With kubectl", f"kubectl get {resource.name}{names}{place}{asked}")


def _a(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeio' else 'a'} {thing}"

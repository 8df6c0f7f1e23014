"""Swagger 2.0, for clients from before OpenAPI 3: the same document said in the older words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from api.openapi.definitions import PATCH, REFERENCE, refer
from api.openapi.version3 import Document

KINDS = "x-kubernetes-group-version-kind"
OLD_REFERENCE = "#/definitions/"

_UNKNOWN = frozenset({"nullable", "example", "default"})
"""Words of a type that older documents of Kubernetes do without."""


def swagger(documents: Iterable[Document]) -> Document:
    """One Swagger 2.0 document of all the OpenAPI 3.0 documents."""
    paths: dict[str, Any] = {}
    types: dict[str, Any] = {}
    info: dict[str, Any] = {}
    for document in documents:
        info = document["info"]
        paths |= {path: _item(item) for path, item in document["paths"].items()}
        for name, definition in document["components"]["schemas"].items():
            types[name] = _merged(types.get(name, {}), _type(definition))
    return {"swagger": "2.0", "info": info, "paths": paths, "definitions": dict(sorted(types.items()))}


def _merged(known: Mapping[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The same type in two documents: it is of the kinds of both."""
    kinds = [*known.get(KINDS, ()), *found.get(KINDS, ())]
    if kinds:
        found[KINDS] = [kind for index, kind in enumerate(kinds) if kind not in kinds[:index]]
    return found


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        word: [_parameter(one) for one in value] if word == "parameters" else _operation(value)
        for word, value in item.items()
    }


def _operation(operation: Mapping[str, Any]) -> dict[str, Any]:
    found = {word: value for word, value in operation.items() if word not in ("requestBody", "parameters", "responses")}
    body = operation.get("requestBody")
    parameters = [_parameter(one) for one in operation.get("parameters", ())]
    if body:
        found["consumes"] = list(body["content"])
        parameters.insert(0, _body(body))
    answers = operation["responses"]
    found["produces"] = list(dict.fromkeys(name for answer in answers.values() for name in answer["content"]))
    found["parameters"] = parameters
    found["responses"] = {
        code: {"description": answer["description"], "schema": _only(answer["content"])}
        for code, answer in answers.items()
    }
    return found


def _body(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "body", "in": "body", "required": body.get("required", False), "schema": _only(body["content"])}


def _only(content: Mapping[str, Any]) -> dict[str, Any]:
    """The one type of all media types: here they cannot have different ones."""
    types = [value["schema"] for value in content.values()]
    return _type(types[0] if types.count(types[0]) == len(types) else refer(PATCH))


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    found = {word: value for word, value in parameter.items() if word != "schema"}
    return {**found, **parameter["schema"]}


def _type(value: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word, inner in value.items():
        match word:
            case "$ref":
                found[word] = inner.replace(REFERENCE, OLD_REFERENCE)
            case "allOf":  # the words beside a reference need no allOf here
                found |= _type(inner[0])
            case "properties":
                found[word] = {name: _type(one) for name, one in inner.items()}
            case "items" | "additionalProperties":
                found[word] = _type(inner)
            case _ if word not in _UNKNOWN:
                found[word] = inner
    if "$ref" in found:
        found.pop("type", None)
    return found

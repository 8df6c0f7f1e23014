"""The paths of a group and what can be done at each, made from its resources' declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.call import Door
from api.openapi import parameters
from api.openapi.definitions import PATCH, kind_schema, refer
from api.resource import Resource
from api.schemas.answers import APIResourceListSchema, DeleteOptionsSchema, StatusSchema

Item = dict[str, Any]
"""What OpenAPI calls a path item, or an operation in it."""

JSON, YAML, WATCH = "application/json", "application/yaml", "application/json;stream=watch"

_STATUS = StatusSchema.definition()
_JSON_PATCH = {"type": "array", "description": "The operations of RFC 6902, in order.", "items": {"type": "object"}}
_PATCHES = {
    "application/json-patch+json": {"schema": _JSON_PATCH},
    "application/merge-patch+json": {"schema": refer(PATCH)},
    "application/strategic-merge-patch+json": {"schema": refer(PATCH)},
    "application/apply-patch+yaml": {"schema": refer(PATCH)},
}


@dataclass(frozen=True)
class Verb:
    """How a verb appears in a document: HTTP method, `x-kubernetes-action`, word in operation ids, words for people."""

    method: str
    action: str
    word: str
    summary: str


COLLECTION = {
    "list": Verb("get", "list", "list", "List {things}"),
    "create": Verb("post", "post", "create", "Create {thing}"),
    "deletecollection": Verb("delete", "deletecollection", "delete", "Delete {things}"),
}
OBJECT = {
    "get": Verb("get", "get", "read", "Read {thing}"),
    "update": Verb("put", "put", "replace", "Replace {thing}"),
    "patch": Verb("patch", "patch", "patch", "Change {thing}"),
    "delete": Verb("delete", "delete", "delete", "Delete {thing}"),
}
"""The verbs of a collection and of an object in it. A watch is a list that goes on."""

_PARAMETERS = {
    "list": parameters.LIST,
    "create": parameters.WRITE,
    "update": parameters.WRITE,
    "patch": parameters.PATCH,
    "delete": parameters.DELETE,
    "deletecollection": [*parameters.DELETE, *parameters.SELECT],
}


def type_name(resource: Resource) -> str:
    """The name of the type that a read of a resource answers."""
    name = kind_schema(resource.kind).definition()
    return name if resource.list_kind == resource.kind else f"{name}List"


def phrase(kind: str) -> str:
    """A kind in English: `image stream tag`."""
    return " ".join(re.findall("[A-Z][a-z]*", kind)).lower()


def paths(door: Door, resources: Sequence[Resource]) -> dict[str, Item]:
    """The path items of a group, by path: each with the parameters in its path and its operations by method."""
    found = {f"{door.prefix}/": {"get": _discovery(door)}}
    for resource in resources:
        found.update(_resource(door, resource))
    return found


def _resource(door: Door, resource: Resource) -> Iterator[tuple[str, Item]]:
    base = f"{door.prefix}/{resource.name}"
    place = []
    if "watch" in resource.verbs:
        yield from _watches(door, resource)
    if resource.namespaced:
        if "list" in resource.verbs:
            yield base, {"get": _Target(door, resource, everywhere=True).operation("list")}
        base = f"{door.prefix}/namespaces/{{namespace}}/{resource.name}"
        place = [parameters.NAMESPACE]
    yield from _item(base, place, _Target(door, resource).operations(COLLECTION))
    place = [parameters.NAME, *place]
    yield from _item(f"{base}/{{name}}", place, _Target(door, resource).operations(OBJECT))
    for sub in resource.subresources.values():
        if not door.legacy or sub.legacy:
            yield from _item(f"{base}/{{name}}/{sub.name}", place, _Target(door, sub, resource).operations(OBJECT))


def _watches(door: Door, resource: Resource) -> Iterator[tuple[str, Item]]:
    """The older spelling of watches, on paths of their own: some clients know no other."""
    base = f"{door.prefix}/watch"
    place = []
    if resource.namespaced:
        target = _Target(door, resource, everywhere=True)
        yield f"{base}/{resource.name}", {"get": target.watch()}
        base, place = f"{base}/namespaces/{{namespace}}", [parameters.NAMESPACE]
    target = _Target(door, resource)
    yield from _item(f"{base}/{resource.name}", place, {"get": target.watch()})
    named = {"get": target.watch(named=True)}
    yield from _item(f"{base}/{resource.name}/{{name}}", [parameters.NAME, *place], named)


def _item(path: str, place: list[parameters.Parameter], operations: Item) -> Iterator[tuple[str, Item]]:
    if operations:
        yield path, {**({"parameters": place} if place else {}), **operations}


@dataclass(frozen=True)
class _Target:
    """What operations are done on: a resource, or a subresource of `parent`; `everywhere` is all its namespaces."""

    door: Door
    resource: Resource
    parent: Resource | None = None
    everywhere: bool = False

    def operations(self, verbs: Mapping[str, Verb]) -> Item:
        """Those of the verbs that the resource offers, by HTTP method."""
        return {verb.method: self.operation(name) for name, verb in verbs.items() if name in self.resource.verbs}

    def operation(self, name: str) -> Item:
        """What a verb does here."""
        verb = COLLECTION.get(name) or OBJECT[name]
        kind = {"group": self.door.group, "version": "v1", "kind": self.resource.list_kind}
        watch = parameters.WATCH if name == "list" and "watch" in self.resource.verbs else []
        found: Item = {
            "tags": [_tag(self.door)],
            "operationId": self._identifier(verb),
            "summary": self._summary(verb.summary),
            "x-kubernetes-action": verb.action,
            "x-kubernetes-group-version-kind": kind,
            "parameters": [*_PARAMETERS.get(name, []), *watch, *self._asked(name)],
            "responses": self._responses(name),
        }
        body = self._body(name)
        return found | {"requestBody": body} if body else found

    def _asked(self, name: str) -> list[parameters.Parameter]:
        if name in ("create", "update", "patch", "delete"):
            return parameters.GUARDS if self.resource.guarded else []
        found = [parameters.AS_OF] if self.resource.as_of and name in ("get", "list") else []
        return [*found, *parameters.asked(self.resource.parameters)] if name == "list" else found

    def watch(self, *, named: bool = False) -> Item:
        """A watch on a path of its own: of all that a list finds, or of one `named` object."""
        listed = self.operation("list")
        action = "watch" if named else "watchlist"
        return {
            **listed,
            "operationId": f"{action}{listed['operationId'].removeprefix('list')}",
            "summary": self._summary("Watch {thing}" if named else "Watch {things}"),
            "deprecated": True,
            "x-kubernetes-action": action,
        }

    def _identifier(self, verb: Verb) -> str:
        owner = self.parent or self.resource
        collection = "Collection" if verb.action == "deletecollection" else ""
        scope = "Namespaced" if owner.namespaced and not self.everywhere else ""
        sub = self.resource.name.capitalize() if self.parent else ""
        places = "ForAllNamespaces" if self.everywhere else ""
        return f"{verb.word}{_words(self.door)}V1{collection}{scope}{owner.kind}{sub}{places}"

    def _summary(self, text: str) -> str:
        thing = phrase((self.parent or self.resource).kind)
        one = f"{'an' if thing[0] in 'aeio' else 'a'} {thing}"
        if self.parent is not None:
            one = f"the {self.resource.name} of {one}"
        return text.format(thing=one, things=f"{thing}s") + (" of all namespaces" if self.everywhere else "")

    def _body(self, name: str) -> Item:
        match name:
            case "create" | "update":
                return {"required": True, "content": _content(type_name(self.resource), JSON, YAML)}
            case "patch":
                return {"required": True, "content": _PATCHES}
            case "delete" | "deletecollection":
                return {"content": _content(DeleteOptionsSchema.definition(), JSON, YAML)}
        return {}

    def _responses(self, name: str) -> Item:
        answer = type_name(self.resource)
        match name:
            case "list":
                watch = [WATCH] if "watch" in self.resource.verbs else []
                return _answers({200: _content(f"{answer}List", JSON, YAML, *watch)})
            case "deletecollection":
                return _answers({200: _content(f"{answer}List", JSON, YAML)})
            case "create":
                return _answers({201: _content(kind_schema(self.resource.kind).answer or answer, JSON, YAML)})
            case "update" | "patch":
                return _answers({200: _content(answer, JSON, YAML), 201: _content(answer, JSON, YAML)})
            case "delete":
                return _answers({200: _content(_STATUS, JSON, YAML)})
        return _answers({200: _content(answer, JSON, YAML)})


def _discovery(door: Door) -> Item:
    return {
        "tags": [_tag(door)],
        "operationId": f"get{_words(door)}V1APIResources",
        "summary": "List the resources of the group",
        "responses": _answers({200: _content(APIResourceListSchema.definition(), JSON)}),
    }


def _words(door: Door) -> str:
    """The group as it stands in operation ids: `ImageOpenshiftIo`."""
    return "".join(word.capitalize() for word in (door.group.removesuffix(".k8s.io") or "core").split("."))


def _tag(door: Door) -> str:
    words = _words(door)
    return f"{words[0].lower()}{words[1:]}_v1"


def _content(name: str, *media_types: str) -> Item:
    return {media_type: {"schema": refer(name)} for media_type in media_types}


def _answers(contents: Mapping[int, Item]) -> Item:
    texts = {200: "OK", 201: "Created"}
    answers = {str(code): {"description": texts[code], "content": content} for code, content in contents.items()}
    failed = {"description": "Refused, or failed: the Status says why.", "content": _content(_STATUS, JSON)}
    return {**answers, "default": failed}

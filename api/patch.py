"""Kubernetes patches: what a client sends to change a part of an object, applied to plain JSON.

Three kinds are known. A JSON patch lists operations, a merge patch looks like the object it changes, and
a strategic merge patch does too but knows the lists whose elements have names. Everything here is pure:
which versions may be patched, and whether the result is a valid object, is decided elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from jsonpatch import JsonPatch, JsonPatchException, JsonPointer, JsonPointerException

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
"""Server-side apply; it needs more than the document and stands elsewhere."""
MEDIA_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH)

ListStrategies = Mapping[tuple[str, ...], str]
"""Which lists a strategic merge patch merges: their path, without indices, to the field that names an
element, or to `SET` where the elements are primitives that occur once. All other lists are replaced."""

SET = ""

IMAGE_LISTS: ListStrategies = {
    tuple(path.split(".")): key
    for path, key in {
        "metadata.finalizers": SET,
        "metadata.ownerReferences": "uid",
        "spec.tags": "name",
        "status.tags": "tag",
        "signatures": "name",
        "signatures.conditions": "type",
        "image.metadata.finalizers": SET,
        "image.metadata.ownerReferences": "uid",
        "image.signatures": "name",
        "image.signatures.conditions": "type",
    }.items()
}
"""The lists of every kind of the image API; no two kinds mean different things by one path."""

MAX_OPERATIONS = 10_000
MAX_DEPTH = 64
MAX_WEIGHT = 4 * 3 * 1024 * 1024
"""The most that a patch may bring in, or copy inside the document: four times the largest request."""

_NODE_WEIGHT = 120
"""What a value costs beside its text. Weighing values, and not only text, bounds the time that a patch
takes: three megabytes of `[],[],[]` are a million values."""


@dataclass(eq=False)
class PatchError(Exception):
    """A patch that cannot be applied, in the words, HTTP code and reason of a Kubernetes `Status`."""

    message: str
    code: int
    reason: str


def apply_patch(media_type: str, body: bytes, document: dict[str, Any], lists: ListStrategies) -> dict[str, Any]:
    """Answer `document` as changed by the patch in `body`.

    `media_type` is the request's content type, parameters allowed; `lists` matters to strategic merge
    patches only. `document` is left alone, and the answer shares nothing with it.

    Raises PatchError: 415 for another media type, 400 for a body that is no such patch or nests deeper
    than `MAX_DEPTH`, 413 for one that is too large, 422 for JSON patch operations that do not fit.
    """
    kind = media_type.partition(";")[0].strip().lower()
    if kind not in MEDIA_TYPES:
        raise PatchError(
            f"patches of type {kind[:100]!r} are not supported, only {', '.join((*MEDIA_TYPES, APPLY_PATCH))}",
            415,
            "UnsupportedMediaType",
        )
    patch = _decode(body)
    if kind == JSON_PATCH:
        return _apply_operations(_clone(document), patch)
    if not isinstance(patch, dict):
        raise _bad_request("a merge patch must be a JSON object")
    if kind == MERGE_PATCH:
        return _merge(_clone(document), patch)
    return _StrategicMerge(lists).merge_map(_clone(document), patch, ())


def _bad_request(message: str) -> PatchError:
    return PatchError(message, 400, "BadRequest")


def _too_large(message: str) -> PatchError:
    return PatchError(message, 413, "RequestEntityTooLarge")


def _unprocessable() -> PatchError:
    return PatchError("the server rejected our request due to an error in our request", 422, "Invalid")


def _decode(body: bytes) -> Any:
    try:
        patch = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _bad_request(f"the patch is not valid JSON: {error}") from error
    if _weigh(patch) > MAX_WEIGHT:
        raise _too_large("the patch has too many values")
    return patch


def _weigh(value: Any) -> int:
    """How much `value` costs to keep and to copy, roughly in bytes; 400 if it nests too deeply."""
    weight = 0
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        weight += _NODE_WEIGHT * len(level)
        for node in level:
            if isinstance(node, str):
                weight += len(node)
            elif isinstance(node, list):
                below += node
            elif isinstance(node, dict):
                weight += sum(map(len, node))
                below += node.values()
        if not below:
            return weight
        level = below
    raise _bad_request(f"objects may not nest deeper than {MAX_DEPTH} levels")


def _clone(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _clone(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_clone(element) for element in value]
    return value


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The merge of RFC 7386."""
    for name, change in patch.items():
        if change is None:
            target.pop(name, None)
        elif isinstance(change, dict):
            member = target.get(name)
            target[name] = _merge(member if isinstance(member, dict) else {}, change)
        else:
            target[name] = change
    return target


# Beside its own two, jsonpatch lets through what Python says about values of the wrong type.
_MISFITS = (
    JsonPatchException,
    JsonPointerException,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
)


def _apply_operations(document: dict[str, Any], operations: Any) -> dict[str, Any]:
    """The operations of RFC 6902, one after the other."""
    if not isinstance(operations, list) or not all(isinstance(entry, dict) for entry in operations):
        raise _bad_request("a JSON patch must be a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise _too_large(f"a JSON patch may have {MAX_OPERATIONS} operations, this one has {len(operations)}")
    patched: Any = document
    copied = 0
    try:
        for operation in operations:
            copied += _copy_weight(patched, operation)
            if copied > MAX_WEIGHT:
                raise _too_large("the patch copies too much")
            patched = JsonPatch([operation]).apply(patched, in_place=True)
    except _MISFITS as error:
        raise _unprocessable() from error
    if not isinstance(patched, dict):
        raise _unprocessable()
    _weigh(patched)  # operations can nest deeper than any value in the patch
    return patched


def _copy_weight(document: Any, operation: dict[str, Any]) -> int:
    """What `operation` duplicates: only copies let a small patch make a huge document."""
    if operation.get("op") != "copy":
        return 0
    return _weigh(JsonPointer(operation["from"]).resolve(document))


_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList"
_SET_ORDER = "$setElementOrder"


@dataclass(frozen=True)
class _StrategicMerge:
    """A strategic merge patch at work. Paths are those of `ListStrategies`."""

    lists: ListStrategies

    def merge_map(self, live: dict[str, Any], patch: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        directive = patch.get(_DIRECTIVE, "merge")
        if directive == "delete":
            return {}
        if directive not in ("merge", "replace"):
            raise _misused(path, _DIRECTIVE)
        deletions, changes, orders = _sort_out(patch, path)
        merged = {} if directive == "replace" else _retain(live, patch, changes, path)
        for name, unwanted in deletions.items():
            if isinstance(merged.get(name), list):
                merged[name] = _without(merged[name], unwanted, (*path, name))
        for name, change in changes.items():
            if change is None:
                merged.pop(name, None)
            else:
                merged[name] = self._merge_value(merged.get(name), change, (*path, name))
        for name, order in orders.items():
            if isinstance(merged.get(name), list) and (*path, name) in self.lists:
                merged[name] = self._reorder(merged[name], live.get(name), order, (*path, name))
        return merged

    def _merge_value(self, live: Any, change: Any, path: tuple[str, ...]) -> Any:
        if isinstance(change, dict):
            return self.merge_map(live if isinstance(live, dict) else {}, change, path)
        if isinstance(change, list) and path in self.lists:
            return self._merge_list(live if isinstance(live, list) else [], change, path)
        return change

    def _merge_list(self, live: list[Any], changes: list[Any], path: tuple[str, ...]) -> list[Any]:
        key = self.lists[path]
        before = _by_name(live, key)
        if key == SET:
            added = {_required_name(change, key, path): change for change in changes}
            return _in_order(before | added, before, added)
        merged = dict(before)
        wanted = []
        for change in changes:
            directive = change.get(_DIRECTIVE) if isinstance(change, dict) else None
            if directive == "replace":
                merged.clear()
            elif directive == "delete":
                merged.pop(_required_name(change, key, path), None)
            else:
                wanted.append((_required_name(change, key, path), change))
        for name, change in wanted:
            merged[name] = self.merge_map(merged.get(name, {}), change, path)
        return _in_order(merged, before, [name for name, _ in wanted])

    def _reorder(self, merged: list[Any], live: Any, order: list[Any], path: tuple[str, ...]) -> list[Any]:
        key = self.lists[path]
        before = _by_name(live if isinstance(live, list) else [], key)
        return _in_order(_by_name(merged, key), before, [_required_name(element, key, path) for element in order])


def _sort_out(
    patch: dict[str, Any], path: tuple[str, ...]
) -> tuple[dict[str, list[Any]], dict[str, Any], dict[str, list[Any]]]:
    """The primitives to delete, the fields to change and the orders to keep, each by the field's name."""
    parallel: dict[str, dict[str, list[Any]]] = {_DELETE_PRIMITIVES: {}, _SET_ORDER: {}}
    changes = {}
    for name, change in patch.items():
        directive, _, field = name.partition("/")
        if directive in parallel:
            if not field or not isinstance(change, list):
                raise _misused(path, directive)
            parallel[directive][field] = change
        elif name not in (_DIRECTIVE, _RETAIN_KEYS):
            changes[name] = change
    return parallel[_DELETE_PRIMITIVES], changes, parallel[_SET_ORDER]


def _retain(
    live: dict[str, Any], patch: dict[str, Any], changes: dict[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    """`live` with no other fields than the patch says to retain; all of it if the patch does not say."""
    if _RETAIN_KEYS not in patch:
        return dict(live)
    retained = patch[_RETAIN_KEYS]
    if not isinstance(retained, list) or not all(isinstance(name, str) for name in retained):
        raise _misused(path, _RETAIN_KEYS)
    names = set(retained)
    if any(change is not None and name not in names for name, change in changes.items()):
        raise _misused(path, _RETAIN_KEYS)
    return {name: value for name, value in live.items() if name in names}


def _without(live: list[Any], unwanted: list[Any], path: tuple[str, ...]) -> list[Any]:
    names = {_required_name(element, SET, path) for element in unwanted}
    return [element for element in live if _name(element, SET) not in names]


def _in_order(merged: dict[Hashable, Any], before: dict[Hashable, Any], order: Iterable[Hashable]) -> list[Any]:
    """The elements of `merged`: those in `order` in that order, the others in their own.

    Where the two meet, the order that the list had `before` decides, as far as it can.
    """
    ordered = {name: None for name in order if name in merged}
    others = deque(name for name in merged if name not in ordered)
    position = {name: number for number, name in enumerate(before)}
    names: list[Hashable] = []
    for name in ordered:
        while name in position and others and position.get(others[0], len(position)) < position[name]:
            names.append(others.popleft())
        names.append(name)
    return [merged[name] for name in (*names, *others)]


def _by_name(elements: list[Any], key: str) -> dict[Hashable, Any]:
    """`elements` by what names them; one without a name is kept, but nothing in a patch can mean it."""
    named: dict[Hashable, Any] = {}
    for element in elements:
        name = _name(element, key)
        named[object() if name is None else name] = element
    return named


def _name(element: Any, key: str) -> Hashable | None:
    """What tells `element` from the others of its list: the text of its `key`, or itself in a set."""
    if key != SET:
        name = element.get(key) if isinstance(element, dict) else None
        return name if isinstance(name, str) else None
    if isinstance(element, str | int | float):
        return type(element), element  # 1, 1.0 and True are different, but Python calls them equal
    return None


def _required_name(element: Any, key: str, path: tuple[str, ...]) -> Hashable:
    name = _name(element, key)
    if name is None:
        needed = "primitives" if key == SET else f"objects with a {key}"
        raise _bad_request(f"{_shown(path)}: the patch may hold only {needed}")
    return name


def _misused(path: tuple[str, ...], directive: str) -> PatchError:
    return _bad_request(f"{_shown(path)}: {directive} is misused")


def _shown(path: tuple[str, ...]) -> str:
    return ".".join(path)[:200] or "the patch"

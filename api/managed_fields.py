"""Who owns which field of an object: ``metadata.managedFields``, and the server-side apply that rests on it.

Every write leaves behind which fields its manager set. Apply merges a manager's fields into an object,
refuses to overrule another manager unasked, and takes away what the manager no longer applies.

Everything here works on wire objects: dicts as they are in JSON, in which null is the same as absent. Nothing
that is passed in is changed; what comes out may share parts with what went in.

A field is named by its *path*: the keys that lead to it in FieldsV1, such as
``("f:spec", "f:tags", 'k:{"name":"latest"}', "f:from")``.
"""

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

Object = dict[str, Any]
Path = tuple[str, ...]

# --- the shape of the objects ---

# Lists whose items are fields of their own, and where in an item its key is; nowhere: it is its own key.
# Every other list is one field.
_LISTS: Final[Mapping[Path, Path]] = {
    ("f:metadata", "f:finalizers"): (),
    ("f:metadata", "f:ownerReferences"): ("f:uid",),
    ("f:spec", "f:tags"): ("f:name",),
    ("f:status", "f:tags"): ("f:tag",),
    ("f:signatures",): ("f:metadata", "f:name"),
}

# Maps that are one field: half of a reference, or of an image's metadata, makes no sense.
_WHOLE_MAPS: Final = frozenset({"f:from", "f:dockerImageMetadata"})

# The server's own fields; nobody owns them.
_UNOWNED: Final[Set[Path]] = {("f:apiVersion",), ("f:kind",)} | {
    ("f:metadata", f"f:{name}")
    for name in (
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "selfLink",
        "uid",
    )
}

# What an object holds before anyone wrote to it: saying the same is no claim, and these maps never go.
_BLANK: Final[Object] = {
    "metadata": {},
    "spec": {"lookupPolicy": {"local": False}},
    "status": {"dockerImageRepository": ""},
}
_PERMANENT: Final[Set[Path]] = {
    (),
    ("f:metadata",),
    ("f:spec",),
    ("f:spec", "f:lookupPolicy"),
    ("f:status",),
}

# Stands for the value of a map, a list of items or an item: what is inside are fields of their own.
_CONTAINER: Final = object()

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


def _fields(value: object) -> dict[Path, object]:
    """Every field of an object that can be owned, with its value, or ``_CONTAINER``."""
    found: dict[Path, object] = {}

    def visit(path: Path, value: object) -> None:
        children = _children(path, value)
        if children is None:
            found[path] = value
            return
        if path not in _PERMANENT:
            found[path] = _CONTAINER
        for element, child in children.items():
            at = (*path, element)
            if child is not None and at not in _UNOWNED:
                visit(at, child)

    visit((), value)
    return found


def _children(path: Path, value: object) -> dict[str, Any] | None:
    """What is inside a container, by path element; None if the value at this path is one field."""
    if isinstance(value, dict):
        return None if path and path[-1] in _WHOLE_MAPS else {f"f:{name}": item for name, item in value.items()}
    if path in _LISTS and isinstance(value, list):
        return _items(value, _LISTS[path])
    return None


def _items(values: list[Any], key: Path) -> dict[str, Any] | None:
    """The items of a list by path element; None if they cannot be told apart: the list is then one field."""
    items: dict[str, Any] = {}
    for item in values:
        if not key:
            items[f"v:{_compact(item)}"] = item
            continue
        name = item
        for field in key:
            name = name.get(field.removeprefix("f:")) if isinstance(name, dict) else None
        element = f"k:{_compact({key[-1].removeprefix('f:'): name})}"
        if not isinstance(name, str) or element in items:
            return None
        items[element] = item
    return items


def _is_key(path: Path) -> bool:
    """Whether this field is what tells an item from the others of its list."""
    return any(path[: len(at)] == at and path[len(at) + 1 :] == key for at, key in _LISTS.items() if key)


def _merged(path: Path, live: object, applied: object) -> Any:
    """``live`` with the applied fields set; items keep their places, new ones follow."""
    new = _children(path, applied)
    if new is None:
        return applied
    children = _children(path, live) or {}
    for element, child in new.items():
        at = (*path, element)
        if child is not None and at not in _UNOWNED:
            children[element] = _merged(at, children.get(element), child)
    return _container(applied, children)


def _without(path: Path, value: object, gone: Set[Path], owned: Set[Path]) -> Any:
    """``value`` less the fields in ``gone``, and less maps and lists that this empties and nobody owns.

    An item goes with all that is in it; while it stays, so does the key that it is known by.
    """
    children = _children(path, value)
    if children is None:
        return value
    kept = {}
    for element, child in children.items():
        at = (*path, element)
        left = _without(at, child, gone, owned)
        if _children(at, child) is None or path in _LISTS:
            stays = at not in gone or _is_key(at)
        else:
            emptied = not left and (child or at in gone)
            stays = not emptied or at in owned or at in _PERMANENT
        if stays:
            kept[element] = left
    return _container(value, kept)


def _container(like: object, children: Mapping[str, Any]) -> object:
    if isinstance(like, list):
        return list(children.values())
    return {element.removeprefix("f:"): child for element, child in children.items()}


# --- FieldsV1 ---

_DEEPEST = 32


def encode_fields(paths: Iterable[Path]) -> Object:
    """A set of paths as FieldsV1."""
    root: Object = {}
    for path in sorted(paths):  # a path comes before the paths below it
        node = root
        for element in path:
            if element not in node:
                node[element] = {}
            elif not node[element]:  # until now the end of a path
                node[element]["."] = {}
            node = node[element]
    return root


def decode_fields(fields: object) -> set[Path]:
    """The paths in a FieldsV1. Raises ValueError if it is malformed."""
    paths: set[Path] = set()

    def visit(path: Path, node: object) -> None:
        if not isinstance(node, dict):
            raise ValueError(f"fieldsV1: {_printed(path)} is not an object")
        if len(path) > _DEEPEST:
            raise ValueError("fieldsV1: nested too deep")
        if path and (not node or "." in node):
            paths.add(path)
        for element, child in node.items():
            if element != ".":
                visit((*path, _element(element)), child)
            elif child != {}:
                raise ValueError(f'fieldsV1: "." of {_printed(path)} is not an empty object')

    visit((), fields)
    return paths


def _element(text: str) -> str:
    """A path element in its one normal form. Raises ValueError if it is none."""
    sort, colon, rest = text.partition(":")
    if colon and sort == "f":
        return text
    try:
        value = json.loads(rest)
        if sort == "v" or (sort == "k" and isinstance(value, dict) and value) or (sort == "i" and type(value) is int):
            return f"{sort}:{_compact(value)}"
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"fieldsV1: {text[:64]!r} names no field")


def _printed(path: Path) -> str:
    """A path as people read it: ``.spec.tags[name="latest"].from``."""
    printed = []
    for element in path:
        sort, _, rest = element.partition(":")
        if sort == "f":
            printed.append(f".{rest}")
        elif sort == "k":
            printed.append(f"[{','.join(f'{k}={_compact(v)}' for k, v in json.loads(rest).items())}]")
        else:
            printed.append(f"[={rest}]" if sort == "v" else f"[{rest}]")
    return "".join(printed)


# --- managedFields ---


class _Owner(NamedTuple):
    manager: str
    operation: str
    api_version: str
    subresource: str


class _Owned(NamedTuple):
    paths: Set[Path]
    time: str | None


_Owners = dict[_Owner, _Owned]


def validate(managed_fields: object) -> list[Object]:
    """A managedFields list that a client wrote, in normal form; ``[]`` and ``[{}]`` forget all owners.

    Raises ValueError, saying where, if it is not well formed.
    """
    if managed_fields == [{}]:
        return []
    return _encode(_decode(managed_fields))


def _decode(entries: object) -> _Owners:
    if not isinstance(entries, list):
        raise ValueError("metadata.managedFields: not a list")
    owners: _Owners = {}
    for index, entry in enumerate(entries):
        try:
            owner, owned = _decode_entry(entry)
        except ValueError as error:
            raise ValueError(f"metadata.managedFields[{index}]: {error}") from None
        paths = owners[owner].paths if owner in owners else set()
        owners[owner] = _Owned(paths | owned.paths, owned.time)
    return owners


def _decode_entry(entry: object) -> tuple[_Owner, _Owned]:
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    entry = {"manager": "", "subresource": ""} | {k: v for k, v in entry.items() if v is not None}
    for name in ("manager", "operation", "apiVersion", "fieldsType", "subresource"):
        if not isinstance(entry.get(name), str):
            raise ValueError(f"{name}: a string is required")
    if entry["operation"] not in ("Apply", "Update"):
        raise ValueError("operation: must be Apply or Update")
    if entry["fieldsType"] != "FieldsV1":
        raise ValueError("fieldsType: must be FieldsV1")
    if not entry["apiVersion"]:
        raise ValueError("apiVersion: must not be empty")
    if len(entry["manager"]) > 128 or not entry["manager"].isprintable():
        raise ValueError("manager: must be at most 128 printable characters")
    owner = _Owner(entry["manager"], entry["operation"], entry["apiVersion"], entry["subresource"])
    time = _utc(entry["time"]) if "time" in entry else None
    return owner, _Owned(decode_fields(entry.get("fieldsV1", {})), time)


def _utc(time: object) -> str:
    """A time in the one form that clients can be relied upon to read."""
    try:
        parsed = datetime.fromisoformat(str(time))
        if parsed.tzinfo is not None:
            return parsed.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        pass
    raise ValueError("time: must be a time with its zone")


def _encode(owners: _Owners) -> list[Object]:
    """Owners in the order of operation, time and name; those of nothing are left out."""
    order = sorted(owners, key=lambda owner: (owner.operation, owners[owner].time or "", owner))
    return [_encode_entry(owner, owners[owner]) for owner in order if owners[owner].paths]


def _encode_entry(owner: _Owner, owned: _Owned) -> Object:
    entry = {
        "manager": owner.manager,
        "operation": owner.operation,
        "apiVersion": owner.api_version,
        "time": owned.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": encode_fields(owned.paths),
        "subresource": owner.subresource,
    }
    return {name: value for name, value in entry.items() if value}


def _managed_fields(thing: Object | None) -> Any:
    return ((thing or {}).get("metadata") or {}).get("managedFields")


# --- writes other than apply ---


def record_update(
    old: Object | None,
    new: Object,
    *,
    manager: str,
    time: str,
    api_version: str,
    subresource: str = "",
) -> list[Object]:
    """The managedFields of ``new``, which ``manager`` made of ``old`` (None: created) other than by apply.

    What changed is the manager's and nobody else's; what is gone is nobody's. If nothing changed, the list is
    the old one, times included. Managed fields in ``new`` that differ from those of ``old`` are the client's
    and replace them first: ValueError if they are malformed. ``time`` is RFC 3339 in UTC.
    """
    base: list[Object] = _managed_fields(old) or []
    written = _managed_fields(new)
    if written is not None and written != base:
        base = validate(written)
    before, after = _fields(_BLANK if old is None else old), _fields(new)
    changed = _changed(before, after)
    if not changed and before.keys() <= after.keys():
        return base
    owners = _within(_decode(base), after.keys() - changed)
    if changed:
        me = _Owner(manager, "Update", api_version, subresource)
        mine = owners[me].paths if me in owners else set()
        owners[me] = _Owned(changed | mine, time)
    return _encode(owners)


def _changed(before: Mapping[Path, object], after: Mapping[Path, object]) -> set[Path]:
    """The fields that are new or have another value."""
    return {path for path, value in after.items() if path not in before or before[path] != value}


def _within(owners: _Owners, paths: Set[Path]) -> _Owners:
    """What the owners have of these fields."""
    return {owner: owned._replace(paths=paths & owned.paths) for owner, owned in owners.items()}


# --- server-side apply ---

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Where kubectl remembers what it applied from the client's side."""


def with_last_applied(merged: Object, applied: Object) -> Object:
    """``merged`` with what was ``applied`` in the annotation by which kubectl remembers that, if it has it.

    So people can move from client-side to server-side apply and back. The annotation changes no hands.
    """
    annotations = (merged.get("metadata") or {}).get("annotations") or {}
    if LAST_APPLIED not in annotations:
        return merged
    text = json.dumps(applied, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for character in "&<>":
        text = text.replace(character, f"\\u{ord(character):04x}")
    annotations = {**annotations, LAST_APPLIED: text + "\n"}
    return merged | {"metadata": merged["metadata"] | {"annotations": annotations}}


@dataclass(frozen=True)
class Conflict:
    """One field that another manager owns and that apply would have changed."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    field: str

    @property
    def message(self) -> str:
        """The sentence of a ``FieldManagerConflict`` cause."""
        return f"conflict with {self.owner}"

    @property
    def owner(self) -> str:
        """The other manager, as far as is needed to know it."""
        owner = _compact(self.manager)
        if self.subresource:
            owner += f" with subresource {_compact(self.subresource)}"
        return f"{owner} using {self.api_version}" if self.operation == "Update" else owner


class ApplyConflict(Exception):
    """Apply would change fields that others own; ``str()`` is the message for the client."""

    def __init__(self, causes: list[Conflict]) -> None:
        self.causes = sorted(causes, key=lambda cause: (cause.owner, cause.field))
        super().__init__(self._message())

    def _message(self) -> str:
        if len(self.causes) == 1:
            return f"Apply failed with 1 conflict: {self.causes[0].message}: {self.causes[0].field}"
        lines = []
        for owner, causes in groupby(self.causes, key=lambda cause: cause.owner):
            lines += [f"conflicts with {owner}:", *(f"- {cause.field}" for cause in causes)]
        return f"Apply failed with {len(self.causes)} conflicts: " + "\n".join(lines)


def apply(
    live: Object | None,
    applied: Object,
    *,
    manager: str,
    force: bool,
    time: str,
    api_version: str,
    subresource: str = "",
) -> Object:
    """``live`` (None: there is none yet) with what ``manager`` applies, managedFields included.

    Sets the applied fields, and removes those that this manager applied before, does not apply now and nobody
    else owns. Fields with the same value are owned together. An apply that changes nothing gives back
    ``live``.

    ``applied`` holds only what may be written where it was sent. ``time`` is RFC 3339 in UTC. Raises
    ApplyConflict if another manager owns a field that would change; with ``force`` that manager loses it.
    Raises ValueError if ``applied`` has managedFields, or a list whose items cannot be told apart.
    """
    if _managed_fields(applied) is not None:
        raise ValueError("metadata.managedFields must be nil")
    present, wanted = _fields(live or {}), _fields(applied)
    _refuse_ambiguous_items(wanted)
    recorded = _decode(_managed_fields(live) or [])
    owners = recorded or _before_first_apply(present, api_version, time)
    previous, others = _split(owners, manager, subresource)
    mine = _claimed(wanted)

    overruled = _overruled(others, {path for path in mine & present.keys() if present[path] != wanted[path]})
    if not force:
        _refuse_conflicts(overruled, _last_applied(live) if manager == "kubectl" else set())
    for owner, paths in overruled.items():
        others[owner] = others[owner]._replace(paths=others[owner].paths - paths)

    merged: Object = _merged((), applied if live is None else live, applied)
    owned = mine.union(*(owned.paths for owned in others.values()))
    gone = previous - owned
    if gone:
        merged = _without((), merged, gone, owned)
        others = _within(others, _fields(merged).keys())

    owners = others | {_Owner(manager, "Apply", api_version, subresource): _Owned(mine, time)}
    if merged == live and _paths(owners) == _paths(recorded):
        return live
    metadata = {name: value for name, value in (merged.get("metadata") or {}).items() if name != "managedFields"}
    if entries := _encode(owners):
        metadata["managedFields"] = entries
    return merged | {"metadata": metadata}


def _refuse_ambiguous_items(fields: Mapping[Path, object]) -> None:
    for path, key in _LISTS.items():
        if isinstance(fields.get(path), list):
            raise ValueError(f"{_printed(path)}: every item needs a {_printed(key)[1:]} of its own")


def _before_first_apply(present: Mapping[Path, object], api_version: str, time: str) -> _Owners:
    """The owner of what was there before there were owners, lest the first apply overrule it unasked."""
    paths = _changed(_fields(_BLANK), present)
    return {_Owner("before-first-apply", "Update", api_version, ""): _Owned(paths, time)} if paths else {}


def _split(owners: _Owners, manager: str, subresource: str) -> tuple[set[Path], _Owners]:
    """What this manager applied before, under whichever version, and the other owners."""
    previous: set[Path] = set()
    others: _Owners = {}
    for owner, owned in owners.items():
        if (owner.manager, owner.operation, owner.subresource) == (manager, "Apply", subresource):
            previous.update(owned.paths)
        else:
            others[owner] = owned
    return previous, others


def _claimed(fields: Mapping[Path, object]) -> set[Path]:
    """The fields that applying these owns: of containers only items, and those that are empty."""
    filled = {path[:-1] for path in fields}
    return {path for path in fields if path not in filled or path[-1].startswith("k:")}


def _overruled(others: _Owners, differing: set[Path]) -> dict[_Owner, set[Path]]:
    shares = {owner: differing.intersection(owned.paths) for owner, owned in others.items()}
    return {owner: paths for owner, paths in shares.items() if paths}


def _refuse_conflicts(overruled: Mapping[_Owner, set[Path]], allowed: set[Path]) -> None:
    causes = [Conflict(*owner, _printed(path)) for owner, paths in overruled.items() for path in paths - allowed]
    if causes:
        raise ApplyConflict(causes)


def _last_applied(live: Object | None) -> set[Path]:
    """What client-side apply set last; kubectl may change it without force, to move to server-side apply."""
    annotations = ((live or {}).get("metadata") or {}).get("annotations") or {}
    try:
        applied = json.loads(annotations[LAST_APPLIED])
        return _claimed(_fields(applied)) if isinstance(applied, dict) else set()
    except (KeyError, ValueError, RecursionError):
        return set()


def _paths(owners: _Owners) -> dict[_Owner, set[Path]]:
    return {owner: set(owned.paths) for owner, owned in owners.items() if owned.paths}

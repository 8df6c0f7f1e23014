"""Who manages which fields of an object (`metadata.managedFields`), as events keep it: only what changed.

What is owned is decided where the wire is known; here are entries with a manager, an operation, an apiVersion and
perhaps a subresource, one for each combination of these. A write moves a few fields between managers who may own
thousands, so an event tells the fields that an entry gained and lost, and its time only if that is another than
the event's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

Entry = dict[str, Any]
Key = tuple[str, str, str, str]
Leaf = tuple[str, ...]


def difference(old: Iterable[Entry], new: Iterable[Entry], at: int) -> tuple[Entry, ...]:
    """What an event of the time `at` (seconds) has to tell to get from `old` to `new`."""
    before = {_key(entry): entry for entry in old}
    after = {_key(entry): entry for entry in new}
    changes = []
    for key in before.keys() | after.keys():
        was, now = before.get(key, {}), after.get(key, {})
        if was == now:
            continue
        had, has = _leaves(was.get("fieldsV1", {})), _leaves(now.get("fieldsV1", {}))
        change: Entry = {name: value for name, value in zip(_NAMES, key, strict=True) if value}
        if gained := has - had:
            change["gained"] = _tree(gained)
        if lost := had - has:
            change["lost"] = _tree(lost)
        if has and now.get("time") != _stamp(at):
            change["time"] = now.get("time", "")
        changes.append(change)
    return tuple(sorted(changes, key=_key))


def merged(old: Iterable[Entry], changes: Iterable[Entry], at: int) -> tuple[Entry, ...]:
    """The entries after an event of the time `at` told `changes`, in the order of operation, time and names."""
    entries = {_key(entry): entry for entry in old}
    for change in changes:
        key = _key(change)
        had = _leaves(entries.get(key, {}).get("fieldsV1", {}))
        has = (had - _leaves(change.get("lost", {}))) | _leaves(change.get("gained", {}))
        if has:
            entry: Entry = {name: value for name, value in zip(_NAMES, key, strict=True) if value}
            time = change.get("time", _stamp(at))
            entries[key] = entry | ({"time": time} if time else {}) | {"fieldsType": "FieldsV1", "fieldsV1": _tree(has)}
        else:
            entries.pop(key, None)
    return tuple(sorted(entries.values(), key=lambda entry: (entry["operation"], entry.get("time", ""), _key(entry))))


_NAMES = ("manager", "operation", "apiVersion", "subresource")


def _key(entry: Entry) -> Key:
    manager, operation, api_version, subresource = (entry.get(name, "") for name in _NAMES)
    return manager, operation, api_version, subresource


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _leaves(tree: Entry, path: Leaf = ()) -> set[Leaf]:
    """The paths to what a tree of fields holds nothing below."""
    found: set[Leaf] = set()
    waiting = [(path, tree)] if tree else []
    while waiting:
        here, node = waiting.pop()
        if not node:
            found.add(here)
        waiting.extend(((*here, name), child) for name, child in node.items())
    return found


def _tree(leaves: Iterable[Leaf]) -> Entry:
    tree: Entry = {}
    for leaf in sorted(leaves):
        node = tree
        for name in leaf:
            node = node.setdefault(name, {})
    return tree

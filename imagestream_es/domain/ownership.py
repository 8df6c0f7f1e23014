"""Who manages which fields of an object (`metadata.managedFields`), as events keep it: only what changed.

What is owned is decided where the wire is known; here are entries with a manager, an operation, an
apiVersion and perhaps a subresource, one for each combination of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Entry = dict[str, Any]
Key = tuple[str, str, str, str]


def _key(entry: Entry) -> Key:
    return (
        entry.get("manager", ""),
        entry.get("operation", ""),
        entry.get("apiVersion", ""),
        entry.get("subresource", ""),
    )


def difference(old: Iterable[Entry], new: Iterable[Entry]) -> tuple[Entry, ...]:
    """What has to be told to get from `old` to `new`: entries that are new, and those gone, without fields."""
    before = {_key(entry): entry for entry in old}
    after = {_key(entry): entry for entry in new}
    changed = [entry for key, entry in after.items() if before.get(key) != entry]
    gone = [
        {name: value for name, value in entry.items() if name not in ("fieldsType", "fieldsV1", "time")}
        for key, entry in before.items()
        if key not in after
    ]
    return (*changed, *gone)


def merged(old: Iterable[Entry], changes: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries after `changes`, in the order of operation, time and names."""
    entries = {_key(entry): entry for entry in (*old, *changes)}
    left = [entry for entry in entries.values() if "fieldsV1" in entry]
    return tuple(sorted(left, key=lambda entry: (entry["operation"], entry.get("time", ""), _key(entry))))

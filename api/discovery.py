"""What the server offers, told in the ways clients ask; all of it follows from the resources' declarations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from api.call import Door
from api.resource import Resource

VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0+imagestreams",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
"""kubectl warns about servers whose minor is far from its own, so this is a real one."""


def _singular(resource: Resource) -> str:
    return resource.name.removesuffix("s")


def _entries(door: Door, resources: Sequence[Resource]) -> Iterator[dict[str, Any]]:
    for resource in resources:
        entry: dict[str, Any] = {
            "name": resource.name,
            "singularName": _singular(resource),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        yield entry
        for name, sub in resource.subresources.items():
            if door.legacy and not sub.legacy:
                continue
            yield {
                "name": f"{resource.name}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": sub.list_kind,
                "verbs": list(sub.verbs),
            }


def resource_list(door: Door, resources: Sequence[Resource]) -> dict[str, Any]:
    """The resources behind one door (APIResourceList)."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": door.api_version,
        "resources": list(_entries(door, resources)),
    }


def group(door: Door) -> dict[str, Any]:
    """One group (APIGroup)."""
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(door)


def _group(door: Door) -> dict[str, Any]:
    version = {"groupVersion": door.api_version, "version": "v1"}
    return {"name": door.group, "versions": [version], "preferredVersion": version}


def groups(doors: Iterable[Door]) -> dict[str, Any]:
    """All groups (APIGroupList)."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(door) for door in doors if door.group]}


def versions() -> dict[str, Any]:
    """The versions of an API without a group (APIVersions)."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}

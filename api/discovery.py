"""What the server offers, told in the ways clients ask; all of it follows from the resources' declarations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.call import GROUP, GROUP_DOOR, Door
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


def _entries(resources: list[Resource], door: Door) -> Iterator[dict[str, Any]]:
    for resource in resources:
        if door.legacy and not resource.legacy:
            continue
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


def resource_list(resources: list[Resource], door: Door) -> dict[str, Any]:
    """The resources behind one door (APIResourceList)."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": door.api_version,
        "resources": list(_entries(resources, door)),
    }


def group() -> dict[str, Any]:
    """The group (APIGroup)."""
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group()


def _group() -> dict[str, Any]:
    version = {"groupVersion": GROUP_DOOR.api_version, "version": "v1"}
    return {"name": GROUP, "versions": [version], "preferredVersion": version}


def groups() -> dict[str, Any]:
    """All groups (APIGroupList)."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group()]}


def versions() -> dict[str, Any]:
    """The versions of an API without a group (APIVersions)."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def empty_list(group_version: str) -> dict[str, Any]:
    """An API version that holds no resources."""
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": []}

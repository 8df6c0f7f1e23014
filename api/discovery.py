"""What the server offers, told in the ways clients ask; all of it follows from the resources' declarations.

Newer clients ask for everything at once, aggregated; older ones go from the list of groups to each group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from api.call import Door
from api.negotiation import Form
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

Groups = Mapping[Door, Sequence[Resource]]
Document = dict[str, Any]


def documents(groups: Groups) -> dict[str, dict[Form, Document]]:
    """All that is told, by path and form."""
    core = {door: resources for door, resources in groups.items() if not door.group and not door.legacy}
    named = {door: resources for door, resources in groups.items() if door.group}
    plain = {
        "/oapi": versions(),
        "/version": VERSION,
        **{f"/apis/{door.group}": group(door) for door in named},
        **{door.prefix: resource_list(door, resources) for door, resources in groups.items()},
    }
    return {
        "/api": {Form.JSON: versions(), **_aggregated_forms(core)},
        "/apis": {Form.JSON: group_list(named), **_aggregated_forms(named)},
        **{path: {Form.JSON: document} for path, document in plain.items()},
    }


def _aggregated_forms(groups: Groups) -> dict[Form, Document]:
    return {Form.DISCOVERY_V2: aggregated(groups, "v2"), Form.DISCOVERY_V2BETA1: aggregated(groups, "v2beta1")}


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


def resource_list(door: Door, resources: Sequence[Resource]) -> Document:
    """The resources behind one door (APIResourceList)."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": door.api_version,
        "resources": list(_entries(door, resources)),
    }


def group(door: Door) -> Document:
    """One group (APIGroup)."""
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(door)


def _group(door: Door) -> Document:
    version = {"groupVersion": door.api_version, "version": "v1"}
    return {"name": door.group, "versions": [version], "preferredVersion": version}


def group_list(doors: Iterable[Door]) -> Document:
    """All groups (APIGroupList)."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(door) for door in doors]}


def versions() -> Document:
    """The versions of an API without a group (APIVersions)."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def aggregated(groups: Groups, version: str) -> Document:
    """Groups with all their resources (APIGroupDiscoveryList); `version` is that of the format."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [_discovered(door, resources) for door, resources in groups.items()],
    }


def _discovered(door: Door, resources: Sequence[Resource]) -> Document:
    name = {"name": door.group} if door.group else {}
    entries = [_discovered_resource(door, resource) for resource in resources]
    return {
        "metadata": {**name, "creationTimestamp": None},
        "versions": [{"version": "v1", "freshness": "Current", "resources": entries}],
    }


def _discovered_resource(door: Door, resource: Resource) -> Document:
    entry = {
        "resource": resource.name,
        "responseKind": _kind(door, resource),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": _singular(resource),
        "verbs": list(resource.verbs),
        "shortNames": list(resource.short_names),
        "categories": list(resource.categories),
        "subresources": [
            {"subresource": sub.name, "responseKind": _kind(door, sub), "verbs": list(sub.verbs)}
            for sub in resource.subresources.values()
        ],
    }
    return {key: value for key, value in entry.items() if value}


def _kind(door: Door, resource: Resource) -> Document:
    return {"group": door.group, "version": "v1", "kind": resource.list_kind}

"""Kubernetes RBAC as manifests: roles and bindings read from YAML, with the place of whatever is wrong.

What is asked of a manifest is strict: a key that is misspelled would silently grant more, or less, than was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from imagestream_es.access.files import WrongFile, read

API = "rbac.authorization.k8s.io"
VERSION = f"{API}/v1"


@dataclass(frozen=True)
class Rule:
    """Verbs on resources (with subresource: `imagestreams/layers`), or on paths outside the resources."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Role:
    """Rules under a name; in a namespace, or for the cluster (""). `selectors` choose the roles it aggregates."""

    name: str
    namespace: str
    rules: tuple[Rule, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    selectors: tuple[Mapping[str, str], ...] | None = None


@dataclass(frozen=True)
class Binding:
    """Gives users and groups the rules of a role, in a namespace or everywhere ("")."""

    name: str
    namespace: str
    role: tuple[str, str]
    """namespace ("": a ClusterRole) and name"""
    users: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass
class Manifests:
    """Roles by namespace and name, and bindings."""

    roles: dict[tuple[str, str], Role] = field(default_factory=dict)
    bindings: dict[tuple[str, str], Binding] = field(default_factory=dict)


class _Map(dict[str, Any]):
    """A mapping that knows where it stands."""

    place: str = ""


class _Loader(yaml.CSafeLoader):
    path: str = ""

    def construct_map(self, node: yaml.MappingNode) -> Iterator[_Map]:
        """A mapping; a key that comes twice is an error."""
        found = _Map()
        found.place = f"{self.path}, line {node.start_mark.line + 1}"
        yield found
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in found:
                raise WrongFile(
                    f"{self.path}, line {key_node.start_mark.line + 1}: the key {key!r} is no text, or twice."
                )
            found[key] = self.construct_object(value_node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_map)


def load(paths: Iterable[Path]) -> Manifests:
    """All that files grant. Raises WrongFile."""
    found = Manifests()
    for path in paths:
        for document in _documents(path):
            _add(found, document)
    return found


def _documents(path: Path) -> Iterator[_Map]:
    loader = _Loader(read(path))
    loader.path = str(path)
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]
            document = loader.get_data()
            if document is None:
                continue
            if not isinstance(document, _Map):
                raise WrongFile(f"{path}: a manifest must be an object.")
            yield from _flat(document)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise WrongFile(f"{path}, line {line}: {error.problem or 'not YAML'}.") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise WrongFile(f"{path}: not YAML ({' '.join(str(error).split())[:200]}).") from error
    finally:
        loader.dispose()


def _flat(document: _Map) -> Iterator[_Map]:
    """The objects of a document: of lists their items."""
    if not str(document.get("kind", "")).endswith("List"):
        yield document
        return
    for item in document.get("items") or []:
        if not isinstance(item, _Map):
            raise WrongFile(f"{document.place}: the items of a list must be objects.")
        item.setdefault("kind", document["kind"].removesuffix("List"))
        item.setdefault("apiVersion", document.get("apiVersion"))
        yield from _flat(item)


def _add(found: Manifests, document: _Map) -> None:
    kind = document.get("kind")
    if document.get("apiVersion") != VERSION or kind not in (
        "Role",
        "ClusterRole",
        "RoleBinding",
        "ClusterRoleBinding",
    ):
        what = f"{kind} of {document.get('apiVersion')}"
        raise WrongFile(
            f"{document.place}: {what} is no Role, ClusterRole, RoleBinding or ClusterRoleBinding of {VERSION}."
        )
    metadata = _object(document, "metadata")
    name, namespace = _text(metadata, "name"), ""
    if not kind.startswith("Cluster"):
        namespace = _text(metadata, "namespace")
    if kind.endswith("Binding"):
        _only(document, "roleRef", "subjects")
        kept: dict[tuple[str, str], Any] = found.bindings
        value: Role | Binding = _binding(document, name, namespace)
    else:
        _only(document, "rules", *(("aggregationRule",) if not namespace else ()))
        kept, value = found.roles, _role(document, name, namespace, metadata)
    if (namespace, name) in kept:
        raise WrongFile(f"{document.place}: there is a {kind} {name} already.")
    kept[namespace, name] = value


def _role(document: _Map, name: str, namespace: str, metadata: _Map) -> Role:
    rules = tuple(_rule(rule, namespace) for rule in _objects(document, "rules"))
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if isinstance(value, str)}
    selectors = None
    if document.get("aggregationRule") is not None:
        aggregation = _object(document, "aggregationRule")
        _only(aggregation, "clusterRoleSelectors")
        selectors = tuple(_selector(one) for one in _objects(aggregation, "clusterRoleSelectors"))
    return Role(name, namespace, rules, labels, selectors)


def _selector(selector: _Map) -> Mapping[str, str]:
    _only(selector, "matchLabels")
    labels = _object(selector, "matchLabels")
    if not labels or not all(isinstance(value, str) for value in labels.values()):
        raise WrongFile(f"{selector.place}: matchLabels must hold labels, whose values are texts.")
    return labels


def _rule(rule: _Map, namespace: str) -> Rule:
    _only(rule, "verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
    verbs, groups, resources, names, urls = (
        _texts(rule, key) for key in ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
    )
    if not verbs:
        raise WrongFile(f"{rule.place}: a rule needs verbs.")
    if urls and (namespace or groups or resources or names):
        raise WrongFile(f"{rule.place}: nonResourceURLs stand alone, in a rule of a ClusterRole.")
    if not urls and not (groups and resources):
        raise WrongFile(f"{rule.place}: a rule needs apiGroups and resources, or nonResourceURLs.")
    for url in urls:
        if "*" in url[:-1] or (url != "*" and not url.startswith("/")):
            raise WrongFile(f"{rule.place}: {url!r} is no path; a * may only stand at its end.")
    return Rule(frozenset(verbs), frozenset(groups), frozenset(resources), frozenset(names), urls)


def _binding(document: _Map, name: str, namespace: str) -> Binding:
    reference = _object(document, "roleRef")
    _only(reference, "apiGroup", "kind", "name", keep=())
    kind, role = reference.get("kind"), _text(reference, "name")
    if kind not in (("Role", "ClusterRole") if namespace else ("ClusterRole",)):
        raise WrongFile(f"{reference.place}: roleRef.kind must be {'Role or ' if namespace else ''}ClusterRole.")
    users, groups = [], []
    for subject in _objects(document, "subjects"):
        _only(subject, "kind", "name", "namespace", "apiGroup", keep=())
        who = _text(subject, "name")
        match subject.get("kind"):
            case "User":
                users.append(who)
            case "Group":
                groups.append(who)
            case "ServiceAccount":
                users.append(f"system:serviceaccount:{_text(subject, 'namespace')}:{who}")
            case _:
                raise WrongFile(f"{subject.place}: the kind of a subject must be User, Group or ServiceAccount.")
    return Binding(name, namespace, (namespace if kind == "Role" else "", role), tuple(users), tuple(groups))


def _only(value: _Map, *keys: str, keep: Sequence[str] = ("kind", "apiVersion", "metadata")) -> None:
    odd = value.keys() - set(keys) - set(keep)
    if odd:
        raise WrongFile(f"{value.place}: {min(odd)} is none of {', '.join(keys)}.")


def _object(value: _Map, key: str) -> _Map:
    found = value.get(key)
    if not isinstance(found, _Map):
        raise WrongFile(f"{value.place}: {key} must be an object.")
    return found


def _objects(value: _Map, key: str) -> list[_Map]:
    found = value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, _Map) for one in found):
        raise WrongFile(f"{value.place}: {key} must be a list of objects.")
    return found


def _text(value: _Map, key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not found:
        raise WrongFile(f"{value.place}: {key} must be a text.")
    return found


def _texts(value: _Map, key: str) -> tuple[str, ...]:
    found = value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise WrongFile(f"{value.place}: {key} must be a list of texts.")
    return tuple(found)

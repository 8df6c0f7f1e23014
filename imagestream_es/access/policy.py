"""Who may do what: roles and bindings put together, so that a question costs only the asker's own rules."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagestream_es.access.files import WrongFile
from imagestream_es.access.identity import MASTERS, User
from imagestream_es.access.rules import Binding, Manifests, Role, Rule, load

SHIPPED = Path(__file__).parent / "roles.yaml"
MOST = 10_000
"""Users whose rules are remembered, and answers that are."""
LONGEST = 600
"""Characters of what an answer that is remembered is about; nothing that is there has longer names."""
NAMED_LATER = frozenset({"create", "deletecollection"})
"""Verbs on objects that have no name yet, or none in the request: a rule for names never grants them."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Action:
    """A verb on objects; `resource` has its subresource behind a slash, namespace and name are "" for all."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Grants:
    """The rules of one user: everywhere, and by namespace."""

    everywhere: tuple[Rule, ...]
    within: Mapping[str, tuple[Rule, ...]]

    def of(self, namespace: str) -> Iterable[Rule]:
        """The rules that count in a namespace; "" is the whole cluster."""
        return (*self.everywhere, *self.within.get(namespace, ())) if namespace else self.everywhere


ALL = Rule(frozenset("*"), frozenset("*"), frozenset("*"))
ALL_PATHS = Rule(frozenset("*"), urls=("*",))


class Policy:
    """Answers what users may do, by what manifests say."""

    def __init__(self, manifests: Manifests) -> None:
        rules = _effective(manifests.roles)
        self._by_user: dict[str, list[tuple[str, tuple[Rule, ...]]]] = defaultdict(list)
        self._by_group: dict[str, list[tuple[str, tuple[Rule, ...]]]] = defaultdict(list)
        for binding in manifests.bindings.values():
            granted = rules.get(binding.role)
            if granted is None:
                _logger.warning("the binding %s names the role %s, which is not there", binding.name, binding.role[1])
                continue
            for user in binding.users:
                self._by_user[user].append((binding.namespace, granted))
            for group in binding.groups:
                self._by_group[group].append((binding.namespace, granted))
        self._grants: dict[tuple[str, tuple[str, ...]], Grants] = {}
        self._answers: dict[tuple[str, tuple[str, ...], Action], bool] = {}

    def allows(self, user: User, action: Action) -> bool:
        """Whether a user may do that."""
        key = user.name, user.groups, action
        found = self._answers.get(key)
        if found is None:
            found = any(_covers(rule, action) for rule in self.grants(user).of(action.namespace))
            if len(action.resource) + len(action.namespace) + len(action.name) > LONGEST:
                return found
            if len(self._answers) >= MOST:
                self._answers = {}
            self._answers[key] = found
        return found

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        """Whether a user may use an HTTP method, in small letters, on a path outside the resources."""
        return any(_covers_path(rule, verb, path) for rule in self.grants(user).everywhere)

    def grants(self, user: User) -> Grants:
        """All rules of a user."""
        key = user.name, user.groups
        found = self._grants.get(key)
        if found is None:
            if len(self._grants) >= MOST:
                self._grants = {}
            found = self._grants[key] = self._collect(user)
        return found

    def _collect(self, user: User) -> Grants:
        if MASTERS in user.groups:
            return Grants((ALL, ALL_PATHS), {})
        within: dict[str, dict[Rule, None]] = defaultdict(dict)
        for granted in (self._by_user.get(user.name, ()), *(self._by_group.get(group, ()) for group in user.groups)):
            for namespace, rules in granted:
                within[namespace].update(dict.fromkeys(rules))
        everywhere = tuple(within.pop("", ()))
        return Grants(everywhere, {namespace: tuple(rules) for namespace, rules in within.items()})


def _covers(rule: Rule, action: Action) -> bool:
    if action.verb not in rule.verbs and "*" not in rule.verbs:
        return False
    if rule.urls or (action.group not in rule.groups and "*" not in rule.groups):
        return False
    if action.resource not in rule.resources and "*" not in rule.resources:
        _, slash, sub = action.resource.partition("/")
        if not slash or f"*/{sub}" not in rule.resources:
            return False
    return not rule.names or (action.verb not in NAMED_LATER and action.name in rule.names)


def _covers_path(rule: Rule, verb: str, path: str) -> bool:
    if verb not in rule.verbs and "*" not in rule.verbs:
        return False
    return any(path.startswith(url[:-1]) if url.endswith("*") else path == url for url in rule.urls)


def _effective(roles: Mapping[tuple[str, str], Role]) -> dict[tuple[str, str], tuple[Rule, ...]]:
    """The rules of each role; of those that aggregate, all that is gathered, through others that aggregate."""
    found: dict[tuple[str, str], tuple[Rule, ...]] = {}
    cluster = [role for (namespace, _), role in roles.items() if not namespace]

    def gather(role: Role, under: frozenset[str]) -> dict[Rule, None]:
        if role.selectors is None:
            return dict.fromkeys(role.rules)
        gathered: dict[Rule, None] = {}
        for other in cluster:
            chosen = any(selector.items() <= other.labels.items() for selector in role.selectors)
            if chosen and other.name not in under:
                gathered.update(gather(other, under | {other.name}))
        return gathered

    for key, role in roles.items():
        found[key] = tuple(gather(role, frozenset({role.name})))
    return found


def policy_of(paths: Sequence[Path]) -> Policy:
    """The policy of manifests and of what is shipped, which they may replace by name. Raises WrongFile."""
    shipped, given = load([SHIPPED]), load(paths)
    return Policy(Manifests(shipped.roles | given.roles, shipped.bindings | given.bindings))


def manifests_in(directory: Path) -> list[Path]:
    """The manifests in a directory and in those below; what begins with a dot is none. Raises WrongFile."""
    if not directory.is_dir():
        raise WrongFile(f"{directory}: not a directory.")
    return [
        path
        for path in directory.rglob("*")
        if path.suffix in (".yaml", ".yml", ".json")
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    ]


__all__ = ["Action", "Binding", "Grants", "Policy", "manifests_in", "policy_of"]

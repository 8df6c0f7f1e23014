"""Who asks, and whether they may: looked at before anything else of a request, so that a refusal tells nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from flask import Request

from api.errors import Refusal, qualified
from api.headers import header, text_of
from api.told import told
from imagestream_es.access.gate import Gate, Unauthenticated
from imagestream_es.access.identity import ANONYMOUS, AUTHENTICATED, LONGEST_NAME, UNAUTHENTICATED, User, can_be_name
from imagestream_es.access.policy import Action

CERTIFICATE = "imagestream.client_certificate"
"""Where the server puts the certificate that a client has shown, if it has verified it."""
AUTHENTICATION = "authentication.k8s.io"
IMAGES = "image.openshift.io"
IMPERSONATED = "impersonated"
ACCOUNT = "system:serviceaccount:"
SAME_AS = {"ungroupedimagestreams": "imagestreams"}
"""Resources that are others under another name; rules name those."""
MOST_IMPERSONATED = 100
"""Groups and extras that may be asked for at once."""


@dataclass(frozen=True)
class Identity:
    """As whom a request is served, and who asked for that instead of being it."""

    user: User
    impersonator: User | None = None


def authenticate(request: Request, gate: Gate) -> User:
    """Who asks. Raises Refusal (401) for who has not proved that."""
    try:
        user = gate.authenticate(header(request, "Authorization"), request.environ.get(CERTIFICATE))
    except Unauthenticated:
        headers = {"WWW-Authenticate": 'Bearer realm="imagestream-es"'}
        raise Refusal(401, "Unauthorized", headers=headers) from None
    told(request).user = user.name
    return user


def identify(request: Request, gate: Gate, user: User) -> Identity:
    """As whom a request of a user is to be served. Raises Refusal (403) for who may not act as another."""
    if not impersonates(request.environ):
        return Identity(user)
    identity = Identity(_impersonated(request, gate, user), user)
    told(request).acting_as = identity.user.name
    return identity


def impersonates(environ: Mapping[str, Any]) -> bool:
    """Whether a request asks to be served as somebody else's."""
    for key in environ:  # noqa: SIM110 (takes a third of the time of any(), and every request is asked)
        if key.startswith("HTTP_IMPERSONATE_"):
            return True
    return False


def authorize(gate: Gate, user: User, action: Action) -> None:
    """Raises Refusal (403) unless a user may do that."""
    if not allows(gate, user, action):
        raise forbidden(user, action)


def allows(gate: Gate, user: User, action: Action) -> bool:
    """Whether a user may do that."""
    name = SAME_AS.get(action.resource)
    return gate.policy.allows(user, replace(action, resource=name) if name else action)


def creation(action: Action) -> Action:
    """The action of making what another one writes, which it needs too if that is not there yet."""
    return replace(action, verb="create")


def may_pull(gate: Gate, user: User, namespace: str, name: str) -> bool:
    """Whether a user may take images from a stream."""
    return allows(gate, user, Action("get", IMAGES, "imagestreams/layers", namespace, name))


def authorize_path(gate: Gate, user: User, method: str, path: str) -> None:
    """Raises Refusal (403) unless a user may use a method on a path outside the resources."""
    verb = method.lower()
    if not gate.policy.allows_path(user, verb, path):
        raise Refusal(403, f'forbidden: User "{user.name}" cannot {verb} path "{path}"')


def forbidden(user: User, action: Action) -> Refusal:
    """The refusal of an action, in the words of Kubernetes."""
    what = qualified(action.resource.partition("/")[0], action.group)
    name = f' "{action.name}"' if action.name else ""
    where = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    return Refusal(
        403,
        f'{what}{name} is forbidden: User "{user.name}" cannot {action.verb} resource "{action.resource}" '
        f'in API group "{action.group}" {where}',
    )


def _impersonated(request: Request, gate: Gate, asker: User) -> User:
    """The user that the Impersonate headers name. Raises Refusal."""
    wanted = _wanted(request.environ, request)
    if wanted.name.startswith(ACCOUNT) and wanted.name.count(":") == 3:
        _, _, namespace, account = wanted.name.split(":")
        actions = [Action("impersonate", "", "serviceaccounts", namespace, account)]
    else:
        actions = [Action("impersonate", "", "users", name=wanted.name)]
    actions += [Action("impersonate", "", "groups", name=group) for group in wanted.groups]
    if wanted.uid:
        actions.append(Action("impersonate", AUTHENTICATION, "uids", name=wanted.uid))
    for key, values in wanted.extra.items():
        actions += [Action("impersonate", AUTHENTICATION, f"userextras/{key}", name=value) for value in values]
    for action in actions:
        authorize(gate, asker, action)
    return replace(wanted, groups=_with_customary(wanted))


def _wanted(environ: Mapping[str, Any], request: Request) -> User:
    headers = request.headers
    names = [text_of(name) for name in headers.getlist("Impersonate-User")]
    given = [group.strip() for value in headers.getlist("Impersonate-Group") for group in text_of(value).split(",")]
    groups = list(filter(None, dict.fromkeys(given)))
    extra: dict[str, list[str]] = {}
    for variable in environ:
        key = variable.removeprefix("HTTP_IMPERSONATE_EXTRA_")
        if key != variable:
            name = unquote(key.replace("_", "-")).lower()
            extra[name] = [value.strip() for value in text_of(str(environ[variable])).split(",")]
    if len(names) != 1 or not names[0]:
        raise Refusal(400, "requests that impersonate must name one user, in the header Impersonate-User")
    if not all(map(can_be_name, (*names, *groups))):
        raise Refusal(400, f"the name of a user or group may have {LONGEST_NAME} characters, all of them printable")
    if len(groups) + sum(len(values) for values in extra.values()) > MOST_IMPERSONATED:
        raise Refusal(400, f"at most {MOST_IMPERSONATED} groups and extras can be impersonated at once")
    return User(
        names[0],
        text_of(headers.get("Impersonate-Uid", "")),
        tuple(groups),
        {name: tuple(values) for name, values in extra.items()},
        IMPERSONATED,
    )


def _with_customary(user: User) -> tuple[str, ...]:
    """The groups of an impersonated user, with those that such a user always has."""
    groups = dict.fromkeys(user.groups)
    if user.name == ANONYMOUS.name:
        return (*groups, UNAUTHENTICATED) if UNAUTHENTICATED not in groups else tuple(groups)
    if user.name.startswith(ACCOUNT) and not groups:
        groups = dict.fromkeys(["system:serviceaccounts", f"system:serviceaccounts:{user.name.split(':')[2]}"])
    return tuple(groups | {AUTHENTICATED: None})

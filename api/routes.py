"""The paths of resources, and what answers them.

Flask has a rule for each. But its matching of rules, and the contexts that it makes around a view, cost a push as much
as all that is done to the image in it; and no resource needs them. So a path as clients write it is recognized here,
and its request goes straight to what Flask's view would call; everything else takes Flask's way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flask import Flask, Request, request

from api.call import Door
from api.dispatch import serve
from api.guards import refused
from api.reply import Awaited, Reply
from api.resource import Resource
from imagestream_es.bootstrap import Services

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_match = re.compile(
    r"(/apis/[^/]+/[^/]+|/[^/]+/[^/]+)(?:/namespaces/([^/]+))?/([^/]+)(?:/([^/]+)(?:/([^/]+))?)?"
).fullmatch

Groups = Mapping[Door, Sequence[Resource]]


def add_resources(app: Flask, services: Services, groups: Groups) -> None:
    """Serve resources by rules of Flask's."""
    for door, resources in groups.items():
        for resource in resources:
            _add(app, services, door, resource)


def _add(app: Flask, services: Services, door: Door, resource: Resource) -> None:
    def view(namespace: str = "", name: str = "", sub: str = "") -> Reply | Awaited:
        return serve(_request(), services, door, resource, namespace, name, sub)

    scopes = ("", "/namespaces/<namespace>") if resource.namespaced else ("",)
    for scope in scopes:
        for tail in ("", "/<name>", "/<name>/<sub>"):
            rule = f"{door.prefix}{scope}/{resource.name}{tail}"
            app.add_url_rule(rule, rule, view, methods=METHODS)
    if "watch" not in resource.verbs:
        return

    def watch(namespace: str = "", name: str = "") -> Reply | Awaited:
        return serve(_request(), services, door, resource, namespace, name, watched=True)

    for scope in scopes:
        for tail in ("", "/<name>") if scope == scopes[-1] else ("",):
            rule = f"{door.prefix}/watch{scope}/{resource.name}{tail}"
            app.add_url_rule(rule, rule, watch, methods=["GET"])


def _request() -> Request:
    """The request itself: each look through Flask's stand-in for it costs a little, and there are dozens."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]
    return found


class Straight:
    """A WSGI application that answers requests for resources itself, and has `app` answer the others."""

    def __init__(self, app: Any, services: Services, groups: Groups) -> None:
        self._app = app
        self._services = services
        self._resources = {
            (door.prefix, one.name): (door, one) for door, resources in groups.items() for one in resources
        }

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        found = self.find(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] in METHODS else None
        if found is None:
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        # In its environ it would be in a circle, and stay with its body until a garbage collection.
        request = Request(environ, populate_request=False)
        response = refused(request, self._services) or serve(request, self._services, *found)
        return response(environ, start_response)

    def find(self, path: str) -> tuple[Door, Resource, str, str, str] | None:
        """Which resource a path asks for: its namespace, name and subresource, "" for none; None if Flask is to say."""
        match = _match(path) if path.isascii() else None  # others must be decoded first, as Flask does
        if match is None:
            return None
        prefix, namespace, resource, name, sub = match.groups("")
        found = self._resources.get((prefix, resource))
        if found is None or (namespace and not found[1].namespaced):
            return None
        return *found, namespace, name, sub

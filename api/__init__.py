"""The HTTP door: OpenShift's image API over commands and questions. Only `create_app` is public."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException

from api import discovery
from api.access_log import AccessLog, Lines, to_stderr
from api.answers import respond
from api.docs import add_docs
from api.errors import status
from api.groups import GROUPS
from api.guards import add_guards
from api.health import add_health
from api.hooks import add_hooks
from api.metrics import add_metrics
from api.negotiation import Form
from api.openapi import add_openapi
from api.prepared import Prepared, form_for, prepared_json
from api.reply import Reply
from api.resources.image_streams import pen
from api.routes import Straight, add_resources
from api.shortcut import Shortcut
from api.told import Observed
from imagestream_es.bootstrap import Services, build
from imagestream_es.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings, services: Services | None = None) -> Flask:
    """The application over the service that the settings describe, or over `services` that are there already.

    The service is in `app.extensions["imagestream"]`; its `close()` stops it.
    """
    app = Flask("imagestream_es", static_folder=None)
    services = services or build(settings)
    app.extensions["imagestream"] = services
    services.drawings.prepare(pen(settings))
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    add_resources(app, services, GROUPS)
    add_guards(app, services, frozenset(app.view_functions))
    counts, metrics = add_metrics(app, services)
    _add_discovery(app, *add_health(app, services), metrics, *add_openapi(app, GROUPS), *add_docs(app, GROUPS))
    add_hooks(app, services)
    app.register_error_handler(HTTPException, _http_error)
    logs = []
    if settings.access_log == "on":
        lines = Lines(to_stderr)
        services.at_close(lines.close)
        logs.append(AccessLog(lines))
    app.wsgi_app = Observed(Shortcut(Straight(app.wsgi_app, services, GROUPS), services), [counts, *logs])  # type: ignore[method-assign]
    return app


def _add_discovery(app: Flask, *others: str) -> None:
    """Serve what clients discover the API by, and a list of these paths and the others."""
    told = discovery.documents(GROUPS)
    told["/"] = {Form.JSON: {"paths": sorted([*told, *others])}}
    for path, forms in told.items():
        prepared = {form: prepared_json(document, form) for form, document in forms.items()}
        app.add_url_rule(path, f"discovery {path}", partial(_discovery, prepared))


def _discovery(prepared: Mapping[Form, Prepared]) -> Response:
    return prepared[form_for(request, *prepared)].answer(request)


def _http_error(error: HTTPException) -> Response | Reply:
    code = error.code or 500
    if code == 404 and not _in_group(request):
        return Response("404 page not found", 404, content_type="text/plain")
    texts = {
        404: "the server could not find the requested resource",
        405: "the server does not allow this method on the requested resource",
    }
    response = respond(request, status(code, texts.get(code, error.description or error.name)), code)
    response.headers += [(name, value) for name, value in error.get_headers() if name == "Allow"]
    return response


def _in_group(request: Request) -> bool:
    return request.path.startswith(tuple(door.prefix for door in GROUPS))

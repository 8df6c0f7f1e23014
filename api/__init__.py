"""The HTTP door: OpenShift's image API over commands and questions. Only `create_app` is public."""

from __future__ import annotations

from typing import Any

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from api import discovery
from api.call import GROUP, GROUP_DOOR, LEGACY_DOOR, Door
from api.dispatch import respond, serve
from api.errors import status
from api.resources.image_stream_images import IMAGE_STREAM_IMAGES
from api.resources.image_stream_mappings import IMAGE_STREAM_MAPPINGS
from api.resources.image_stream_tags import IMAGE_STREAM_TAGS
from api.resources.image_streams import IMAGE_STREAMS
from api.resources.image_tags import IMAGE_TAGS
from api.resources.images import IMAGE_SIGNATURES, IMAGES
from imagestream_es.bootstrap import Services, build
from imagestream_es.settings import Settings

__all__ = ["create_app"]

RESOURCES = [
    IMAGES,
    IMAGE_SIGNATURES,
    IMAGE_STREAM_IMAGES,
    IMAGE_STREAM_MAPPINGS,
    IMAGE_STREAMS,
    IMAGE_STREAM_TAGS,
    IMAGE_TAGS,
]

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def create_app(settings: Settings, services: Services | None = None) -> Flask:
    """The application over the service that the settings describe, or over `services` that are there already.

    The service is in `app.extensions["imagestream"]`; its `close()` stops it.
    """
    app = Flask("imagestream_es", static_folder=None)
    services = services or build(settings)
    app.extensions["imagestream"] = services
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["resource"] = _one_of(resource.name for resource in RESOURCES)
    by_name = {resource.name: resource for resource in RESOURCES}

    def add(rule: str, door: Door) -> None:
        def view(resource: str, namespace: str = "", name: str = "", sub: str = "") -> Response:
            return serve(request, services, door, by_name[resource], namespace, name, sub)

        app.add_url_rule(rule, f"{door.prefix} {rule}", view, methods=METHODS, provide_automatic_options=False)

    for door in (GROUP_DOOR, LEGACY_DOOR):
        for scope in ("", "/namespaces/<namespace>"):
            for tail in ("", "/<name>", "/<name>/<sub>"):
                add(f"{door.prefix}{scope}/<resource:resource>{tail}", door)
    _add_discovery(app)
    _add_health(app, services)
    app.register_error_handler(HTTPException, _http_error)
    return app


def _one_of(names: Any) -> type[BaseConverter]:
    class _Name(BaseConverter):
        regex = "|".join(names)

    return _Name


def _add_discovery(app: Flask) -> None:
    documents = {
        "/api": discovery.versions(),
        "/api/v1": discovery.empty_list("v1"),
        "/apis": discovery.groups(),
        f"/apis/{GROUP}": discovery.group(),
        GROUP_DOOR.prefix: discovery.resource_list(RESOURCES, GROUP_DOOR),
        "/oapi": discovery.versions(),
        LEGACY_DOOR.prefix: discovery.resource_list(RESOURCES, LEGACY_DOOR),
        "/version": discovery.VERSION,
    }
    paths = sorted([*documents, "/healthz", "/livez", "/readyz"])

    def add(path: str, document: dict[str, Any]) -> None:
        app.add_url_rule(path, f"discovery {path}", lambda: respond(document))

    for path, document in documents.items():
        add(path, document)
    add("/", {"paths": paths})


def _add_health(app: Flask, services: Services) -> None:
    def alive() -> Response:
        return Response("ok", content_type="text/plain")

    def ready() -> Response:
        try:
            services.queries.position()
        except Exception:
            return Response("the store does not answer", 500, content_type="text/plain")
        return alive()

    app.add_url_rule("/healthz", "healthz", alive)
    app.add_url_rule("/livez", "livez", alive)
    app.add_url_rule("/readyz", "readyz", ready)


def _http_error(error: HTTPException) -> Response:
    code = error.code or 500
    if code == 404 and not _in_group(request):
        return Response("404 page not found", 404, content_type="text/plain")
    texts = {
        404: "the server could not find the requested resource",
        405: "the server does not allow this method on the requested resource",
    }
    response = respond(status(code, texts.get(code, error.description or error.name)), code)
    response.headers.update({key: value for key, value in error.get_headers() if key == "Allow"})
    return response


def _in_group(request: Request) -> bool:
    return request.path.startswith((GROUP_DOOR.prefix, LEGACY_DOOR.prefix))

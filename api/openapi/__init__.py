"""The API described in OpenAPI, for clients: in version 3 a document for each group, in version 2 one for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial

from flask import Flask, Response, request
from werkzeug.http import http_date

from api.call import Door
from api.negotiation import Form
from api.openapi.version2 import swagger
from api.openapi.version3 import Document, document
from api.prepared import Prepared, form_for, prepared_json
from api.protobuf import encode_openapi_v2
from api.resource import Resource

__all__ = ["add_openapi", "documents"]

V2, V3 = "/openapi/v2", "/openapi/v3"
KEEP = timedelta(days=365)
"""How long clients may keep a document that they ask for by its hash."""

Groups = Mapping[Door, Sequence[Resource]]


def documents(groups: Groups) -> dict[Door, Document]:
    """The OpenAPI 3.0 document of every group; the legacy door has none, since its kinds are those of the group."""
    return {door: document(door, resources) for door, resources in groups.items() if not door.legacy}


def add_openapi(app: Flask, groups: Groups) -> list[str]:
    """Serve the documents of the groups; answers their paths. They are made when first asked for."""
    site = _Site(groups)
    app.add_url_rule(V2, V2, site.v2)
    app.add_url_rule(V3, V3, site.v3)
    paths = {f"{V3}{door.prefix}": door for door in groups if not door.legacy}
    for path, door in paths.items():
        app.add_url_rule(path, path, partial(site.group, door))
    return [V2, V3, *paths]


class _Site:
    """The documents as they are served."""

    def __init__(self, groups: Groups) -> None:
        self.documents = cache(partial(documents, groups))
        self.prepared = cache(self._prepared)
        self.prepared_index = cache(self._prepared_index)
        self.prepared_v2 = cache(self._prepared_v2)

    def _prepared(self) -> dict[Door, Prepared]:
        return {door: prepared_json(found) for door, found in self.documents().items()}

    def _prepared_index(self) -> Prepared:
        found = {
            door.prefix.lstrip("/"): {"serverRelativeURL": _address(door, prepared)}
            for door, prepared in self.prepared().items()
        }
        return prepared_json({"paths": found})

    def _prepared_v2(self, form: Form) -> Prepared:
        found = swagger(self.documents().values())
        if form is Form.OPENAPI_V2_PROTOBUF:
            return Prepared(encode_openapi_v2(found), form.content_type)
        return prepared_json(found)

    def v2(self) -> Response:
        """Everything in version 2, as JSON or protobuf."""
        return self.prepared_v2(form_for(request, Form.JSON, Form.OPENAPI_V2_PROTOBUF)).answer(request)

    def v3(self) -> Response:
        """Where the documents in version 3 are."""
        form_for(request, Form.JSON)
        return self.prepared_index().answer(request)

    def group(self, door: Door) -> Response:
        """One group in version 3. Under the address that holds its hash, it never changes."""
        form_for(request, Form.JSON)
        prepared = self.prepared()[door]
        wanted = request.args.get("hash")
        if wanted is None:
            return prepared.answer(request)
        if wanted != prepared.etag:
            return Response(status=301, headers={"Location": _address(door, prepared)})
        response = prepared.answer(request, "public, immutable")
        response.headers["Expires"] = http_date(datetime.now(UTC) + KEEP)
        return response


def _address(door: Door, prepared: Prepared) -> str:
    return f"{V3}{door.prefix}?hash={prepared.etag}"

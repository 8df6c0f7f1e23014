"""imagestreams with status, layers and secrets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec import structs

from api.call import Answer, Call, expected
from api.errors import Refusal, success
from api.resource import Fields, Resource
from api.resources.options import delete_expected, recorded
from api.schemas.image import content_of
from api.schemas.image_stream import ImageStreamSchema, SentStream, entries_text, image_stream_json
from api.schemas.meta import Meta, problems_of, stream_meta
from imagestream_es.application.commands import Caller
from imagestream_es.application.drawings import Pen
from imagestream_es.application.freshness import STREAMS, Subject
from imagestream_es.application.queries import Listed
from imagestream_es.domain.errors import FieldProblem, Invalid, NotFound, Problem
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import KIND, RESOURCE, ImageStream
from imagestream_es.domain.references import stream_name_problem
from imagestream_es.projections.past import StreamView
from imagestream_es.settings import Settings

SCHEMA = ImageStreamSchema()
SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPES = {
    SCHEMA2: "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.manifest.v1+json": "application/vnd.oci.image.config.v1+json",
}


def shown(call: Call, view: StreamView) -> dict[str, Any]:
    """A stream in wire shape."""
    settings = call.services.settings
    return image_stream_json(view.stream, view.items, settings.internal_registry, settings.external_registry or "")


def pen(settings: Settings) -> Pen:
    """How streams are drawn as JSON."""

    def draw(stream: ImageStream, histories: Mapping[str, bytes]) -> bytes:
        shown = image_stream_json(stream, histories, settings.internal_registry, settings.external_registry or "")
        return orjson.dumps(shown)

    return Pen(entries_text, draw)


def _found(call: Call) -> StreamView:
    view = call.services.queries.image_stream(call.namespace, call.name, call.at)
    if view is None:
        raise NotFound(RESOURCE, call.name)
    return view


def get(call: Call) -> Answer:
    """One stream with all histories."""
    return Answer(shown(call, _found(call)))


def find(call: Call, at: int | None) -> Listed[dict[str, Any]]:
    """The streams of the namespace, or of all."""
    listed = call.services.queries.image_streams(call.namespace or None, at)
    return Listed([shown(call, view) for view in listed.found], listed.position)


def told_by(call: Call) -> Sequence[Subject]:
    """The stream that is asked for, or those of the namespace, or all."""
    return (f"{call.namespace}/{call.name}",) if call.namespace else (STREAMS,)


FIELDS: Fields = {
    "spec.dockerImageRepository": lambda item: str(item["spec"].get("dockerImageRepository", "")),
    "status.dockerImageRepository": lambda item: str(item["status"].get("dockerImageRepository", "")),
}


def check_new_name(namespace: str, name: str, prefix: str) -> list[FieldProblem]:
    """What is wrong with the name of a new stream, or with the prefix that one is to be made from."""
    if not name and not prefix:
        return [FieldProblem(Problem.REQUIRED, "metadata.name", "name or generateName is required")]
    where, text = ("metadata.name", name) if name else ("metadata.generateName", prefix)
    # A generated name gets five more characters.
    problem = stream_name_problem(text if name else text + "x" * 5, namespace) or (
        None if name else stream_name_problem(text, namespace)
    )
    return [FieldProblem(Problem.INVALID, where, problem, text)] if problem else []


def owning(call: Call, meta: Meta | None = None) -> Caller:
    """The caller, who owns of a stream what this request changes; `meta` may bring managedFields of its own."""

    def wire(stream: ImageStream) -> dict[str, Any]:
        shown = image_stream_json(stream, {}, "", "")
        return {"metadata": shown["metadata"], "spec": shown["spec"]}

    def ownership(before: ImageStream | None, after: ImageStream) -> list[dict[str, Any]]:
        new = wire(after)
        if meta is not None and meta.managed_fields:
            new["metadata"]["managedFields"] = list(meta.managed_fields)
        return recorded(call, None if before is None else wire(before), new)

    return structs.replace(call.caller, ownership=ownership)


def create(call: Call, body: dict[str, Any]) -> Answer:
    """A new stream."""
    sent: SentStream = call.load(SCHEMA, body)
    call.check_meta(sent.meta)
    if sent.meta.resource_version:
        raise Refusal(400, "resourceVersion should not be set on objects to be created")
    problems = check_new_name(call.namespace, sent.meta.name, sent.meta.generate_name) + problems_of(sent.meta)
    if problems:
        raise Invalid(KIND, sent.meta.name, problems)
    view = call.services.commands.create_image_stream(
        owning(call, sent.meta),
        call.namespace,
        sent.meta.name,
        sent.desired,
        dry=call.dry,
    )
    return Answer(shown(call, view), 201)


def update(call: Call, body: dict[str, Any]) -> Answer:
    """A stream's spec and metadata; its status is left as it is."""
    sent = _sent_for_update(call, body)
    problems = problems_of(sent.meta)
    if problems:
        raise Invalid(KIND, call.name, problems)
    view = call.services.commands.update_image_stream(
        owning(call, sent.meta), call.namespace, call.name, sent.desired, expected(call, sent.meta), dry=call.dry
    )
    return Answer(shown(call, view))


def _sent_for_update(call: Call, body: dict[str, Any]) -> SentStream:
    sent: SentStream = call.load(SCHEMA, body)
    call.check_meta(sent.meta, name=call.name)
    if not sent.meta.resource_version:
        _found(call)
        problem = FieldProblem(Problem.INVALID, "metadata.resourceVersion", "must be specified for an update", "")
        raise Invalid(KIND, call.name, [problem])
    return sent


def update_status(call: Call, body: dict[str, Any]) -> Answer:
    """A stream's histories and conditions; its spec is left as it is."""
    sent = _sent_for_update(call, body)
    view = call.services.commands.replace_status(
        call.caller, call.namespace, call.name, sent.histories, expected(call, sent.meta), dry=call.dry
    )
    return Answer(shown(call, view))


def base(call: Call) -> dict[str, Any]:
    """The object that a patch is applied to."""
    return shown(call, _found(call))


def delete(call: Call) -> Answer:
    """Delete a stream."""
    view = call.services.commands.delete_image_stream(
        call.caller, call.namespace, call.name, delete_expected(call), dry=call.dry
    )
    if view.stream.deletion is not None and view.stream.finalizers:
        return Answer(shown(call, view))
    return Answer(success(call.name, call.door.group, RESOURCE, view.stream.uid))


def layers(call: Call) -> Answer:
    """Every image of the histories with its layers, and every blob."""
    found = call.services.queries.stream_images(call.namespace, call.name)
    if found is None:
        raise NotFound(RESOURCE, call.name)
    stream, images = found
    blobs: dict[str, Any] = {}
    shown_images = {name: _image_layers(name, image, blobs) for name, image in images.items()}
    return Answer({"metadata": stream_meta(stream), "blobs": blobs, "images": shown_images})


def _image_layers(name: str, image: Image | None, blobs: dict[str, Any]) -> dict[str, Any]:
    if image is None:
        return {"layers": None, "config": None, "imageMissing": True}
    content = content_of(image)
    media_type = content.get("dockerImageManifestMediaType") or SCHEMA2
    blobs[name] = {"size": None, "mediaType": media_type}
    for layer in content.get("dockerImageLayers") or ():
        blobs[layer["name"]] = {"size": layer.get("size", 0), "mediaType": layer.get("mediaType", "")}
    config = None
    if media_type in CONFIG_TYPES:
        config = content.get("dockerImageMetadata", {}).get("Id") or None
        if config:
            blobs.setdefault(config, {"size": None, "mediaType": CONFIG_TYPES[media_type]})
    entry: dict[str, Any] = {
        "layers": [layer["name"] for layer in content.get("dockerImageLayers") or ()] or None,
        "config": config,
        "imageMissing": False,
    }
    if image.parts:
        entry["manifests"] = image.parts
    return entry


def secrets(call: Call) -> Answer:
    """The namespace's pull secrets; the stream need not exist."""
    items = [
        {
            "metadata": {"name": secret.name, "namespace": call.namespace, "creationTimestamp": None},
            "data": {".dockerconfigjson": b64encode(secret.content).decode()},
            "type": "kubernetes.io/dockerconfigjson",
        }
        for secret in call.services.pull_secrets.of(call.namespace)
    ]
    return Answer({"metadata": {}, "items": items}, is_list=True)


IMAGE_STREAMS = Resource(
    name=RESOURCE,
    kind=KIND,
    short_names=("is",),
    categories=("all",),
    as_of=True,
    get=get,
    find=find,
    told_by=told_by,
    pen=pen,
    fields=FIELDS,
    shown=shown,
    schema=SCHEMA,
    create=create,
    update=update,
    base=base,
    delete=delete,
    subresources={
        "status": Resource(name="status", kind=KIND, schema=SCHEMA, get=get, update=update_status, base=base),
        "layers": Resource(name="layers", kind="ImageStreamLayers", legacy=False, get=layers),
        "secrets": Resource(name="secrets", kind="Secret", get=secrets),
    },
)

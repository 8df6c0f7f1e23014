"""images and imagesignatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from api.call import Answer, Call, expected
from api.errors import Refusal, success
from api.resource import Resource
from api.resources.options import delete_expected, recorded
from api.schemas.fields import print_time
from api.schemas.image import (
    ImageSchema,
    ImageSignatureSchema,
    SentImage,
    SentSignature,
    content_of,
    document_of,
    image_json,
)
from api.schemas.meta import Meta, kept_meta, problems_of
from imagestream_es.application.freshness import IMAGES as EVERY_IMAGE
from imagestream_es.application.queries import Listed
from imagestream_es.domain.errors import AlreadyExists, FieldProblem, Invalid, NotFound, Problem
from imagestream_es.domain.image import KIND, RESOURCE, Image
from imagestream_es.domain.references import (
    DockerImageReference,
    InvalidReference,
    image_name_problem,
    split_signature,
)
from imagestream_es.registry.manifests import complete_image, update_image, validate_manifests

SCHEMA = ImageSchema()
SIGNATURES = "imagesignatures"
SIGNATURE_KIND = "ImageSignature"
SIGNATURE_SCHEMA = ImageSignatureSchema()


def name_problems(name: str, where: str) -> list[FieldProblem]:
    """What is wrong with the name of an image that stands at the path `where`."""
    if not name:
        return [FieldProblem(Problem.REQUIRED, where, "name or generateName is required")]
    problem = image_name_problem(name)
    return [FieldProblem(Problem.INVALID, where, problem, name)] if problem else []


def content_problems(meta: Meta, content: Mapping[str, Any], prefix: str = "") -> list[FieldProblem]:
    """What is wrong with an image's metadata and content; `prefix` goes before the paths of the fields."""
    problems = problems_of(meta, f"{prefix}metadata")
    reference, where = content.get("dockerImageReference", ""), f"{prefix}dockerImageReference"
    if not reference:
        problems.append(FieldProblem(Problem.REQUIRED, where))
    else:
        try:
            DockerImageReference.parse(reference)
        except InvalidReference as error:
            problems.append(FieldProblem(Problem.INVALID, where, str(error), reference))
    problems += [
        FieldProblem(Problem(found.reason), prefix + found.field, found.message, found.value)
        for found in validate_manifests(content)
    ]
    return problems


def shown(call: Call, image: Image) -> dict[str, Any]:
    """An image in wire shape."""
    return image_json(image, call.door.metadata_version)


def _found(call: Call) -> Image:
    image = call.services.queries.image(call.name, call.at)
    if image is None:
        raise NotFound(RESOURCE, call.name)
    return image


def get(call: Call) -> Answer:
    """One image."""
    return Answer(shown(call, _found(call)))


def find(call: Call, at: int | None) -> Listed[dict[str, Any]]:
    """Every image."""
    listed = call.services.queries.images(at)
    return Listed([shown(call, image) for image in listed.found], listed.position)


def create(call: Call, body: dict[str, Any]) -> Answer:
    """A new image."""
    sent: SentImage = call.load(SCHEMA, body)
    call.check_meta(sent.meta)
    if sent.meta.resource_version:
        raise Refusal(400, "resourceVersion should not be set on objects to be created")
    name, prefix = sent.meta.name, sent.meta.generate_name
    if prefix and not name:
        name = call.services.commands.generated(prefix)
    problems = name_problems(name, "metadata.name") + content_problems(sent.meta, sent.content)
    if problems:
        raise Invalid(KIND, sent.meta.name, problems)
    completed = complete_image(
        {**sent.content, "metadata": {"name": name, **kept_meta(sent.meta)}},
        now=print_time(call.caller.by.seconds),
    )
    completed["metadata"]["managedFields"] = recorded(call, None, completed)
    image = call.services.commands.create_image(call.caller, name, _stored(completed, sent.meta), dry=call.dry)
    return Answer(shown(call, image), 201)


def _stored(completed: dict[str, Any], meta: Meta) -> Mapping[str, Raw]:
    """The document of an image; the server has its say on annotations and managedFields."""
    metadata = completed["metadata"]
    kept = msgspec.structs.replace(
        meta,
        annotations=metadata.get("annotations") or {},
        managed_fields=tuple(metadata.get("managedFields") or ()),
    )
    return document_of(kept, completed)


def update(call: Call, body: dict[str, Any]) -> Answer:
    """What may change of an image: labels, annotations, pull spec, signatures."""
    sent: SentImage = call.load(SCHEMA, body)
    call.check_meta(sent.meta, name=call.name)
    if not sent.meta.resource_version:
        _found(call)
        problem = FieldProblem(Problem.INVALID, "metadata.resourceVersion", "must be specified for an update", "")
        raise Invalid(KIND, call.name, [problem])
    problems = content_problems(sent.meta, sent.content)
    if problems:
        raise Invalid(KIND, call.name, problems)

    def change(image: Image) -> Mapping[str, Raw]:
        old = content_of(image)
        old["metadata"] = {"name": image.name} | old.get("metadata", {})
        new = {**sent.content, "metadata": {"name": image.name, **kept_meta(sent.meta)}}
        updated = update_image(old, new, now=print_time(call.caller.by.seconds))
        updated["metadata"] = dict(updated["metadata"]) | {"managedFields": recorded(call, old, updated)}
        return _stored(updated, sent.meta)

    image = call.services.commands.update_image(call.caller, call.name, change, expected(call, sent.meta), dry=call.dry)
    return Answer(shown(call, image))


def base(call: Call) -> dict[str, Any]:
    """The object that a patch is applied to."""
    return shown(call, _found(call))


def delete(call: Call) -> Answer:
    """Delete an image; histories go on naming it."""
    image = call.services.commands.delete_image(call.caller, call.name, delete_expected(call), dry=call.dry)
    if image.exists:
        return Answer(shown(call, image))
    return Answer(success(call.name, call.door.group, RESOURCE, image.uid))


def create_signature(call: Call, body: dict[str, Any]) -> Answer:
    """A new signature of an image."""
    sent: SentSignature = call.load(SIGNATURE_SCHEMA, body)
    problems = []
    try:
        image_name, _ = split_signature(sent.meta.name)
    except ValueError:
        image_name = ""
        detail = "name must be of format <imageName>@<signatureName>"
        problems.append(FieldProblem(Problem.INVALID, "metadata.name", detail, sent.meta.name))
    for field, value in (("labels", sent.meta.labels), ("annotations", sent.meta.annotations)):
        if value:
            problems.append(FieldProblem(Problem.FORBIDDEN, f"metadata.{field}", f"signature {field} cannot be set"))
    problems += [
        FieldProblem(Problem.REQUIRED, field)
        for field, value in (("type", sent.type), ("content", sent.content))
        if not value
    ]
    if problems:
        raise Invalid(SIGNATURE_KIND, sent.meta.name, problems)
    stored = {"metadata": {"name": sent.meta.name}, "type": sent.type, "content": sent.content}

    def change(image: Image) -> Mapping[str, Raw]:
        content = content_of(image)
        signatures = content.get("signatures", [])
        for one in signatures:
            same_content = (one["type"], one["content"]) == (sent.type, sent.content)
            if one["metadata"]["name"] == sent.meta.name or same_content:
                raise AlreadyExists(SIGNATURES, sent.meta.name)
        return image.document | document_of(Meta(), {"signatures": [*signatures, stored]})

    call.services.commands.update_image(call.caller, image_name, change, resource=RESOURCE, dry=call.dry)
    return Answer(stored, 201)


def delete_signature(call: Call) -> Answer:
    """Remove a signature from its image."""
    try:
        image_name, _ = split_signature(call.name)
    except ValueError:
        raise Refusal(400, "ImageSignatures must be accessed with <imageName>@<signatureName>") from None
    wanted = delete_expected(call)

    def change(image: Image) -> Mapping[str, Raw]:
        signatures = content_of(image).get("signatures", [])
        kept = [one for one in signatures if one["metadata"]["name"] != call.name]
        if len(kept) == len(signatures):
            raise NotFound(SIGNATURES, call.name)
        rest = {key: value for key, value in image.document.items() if key != "signatures"}
        return rest | document_of(Meta(), {"signatures": kept})

    call.services.commands.update_image(call.caller, image_name, change, wanted, resource=SIGNATURES, dry=call.dry)
    return Answer(success(call.name, call.door.group, SIGNATURES))


IMAGES = Resource(
    name=RESOURCE,
    kind=KIND,
    namespaced=False,
    as_of=True,
    get=get,
    find=find,
    told_by=lambda call: (call.name or EVERY_IMAGE,),
    shown=shown,
    schema=SCHEMA,
    create=create,
    update=update,
    base=base,
    delete=delete,
)

IMAGE_SIGNATURES = Resource(
    name=SIGNATURES,
    kind=SIGNATURE_KIND,
    namespaced=False,
    schema=SIGNATURE_SCHEMA,
    create=create_signature,
    delete=delete_signature,
)

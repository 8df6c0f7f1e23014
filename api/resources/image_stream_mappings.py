"""imagestreammappings: what a registry says when an image was pushed."""

from __future__ import annotations

from typing import Any

from api.call import Answer, Call
from api.errors import success
from api.resource import Resource
from api.resources.images import content_problems, name_problems
from api.schemas.image import document_of
from api.schemas.meta import Meta
from api.schemas.tags import ImageStreamMappingSchema, SentMapping
from imagestream_es.application.commands import Expected
from imagestream_es.domain.errors import FieldProblem, Invalid, Problem
from imagestream_es.domain.references import DockerImageReference, InvalidReference, is_digest, tag_name_problem
from imagestream_es.registry.manifests import complete_image

NAME = "imagestreammappings"
KIND = "ImageStreamMapping"
SCHEMA = ImageStreamMappingSchema()
MANAGED = "openshift.io/image.managed"


def create(call: Call, body: dict[str, Any]) -> Answer:
    """Make an image known if it is not yet, and put it on a tag."""
    sent: SentMapping = call.load(SCHEMA, body)
    call.check_meta(sent.meta)
    stream, meta = sent.meta.name, sent.image.meta
    reference = sent.image.content.get("dockerImageReference", "")
    image = meta.name or _digest(reference)
    content = sent.image.content | {"metadata": {"name": image, "annotations": meta.annotations}}
    content.pop("signatures", None)
    if not reference and call.registry and image:
        reference = f"{call.registry}/{call.namespace}/{stream}@{image}"
        content["dockerImageReference"] = reference
    problems = []
    if not stream:
        problems.append(FieldProblem(Problem.REQUIRED, "metadata.name"))
    if not sent.tag:
        problems.append(FieldProblem(Problem.REQUIRED, "tag"))
    elif problem := tag_name_problem(sent.tag):
        problems.append(FieldProblem(Problem.INVALID, "tag", problem, sent.tag))
    problems += name_problems(image, "image.metadata.name") + content_problems(meta, content, "image.")
    if problems:
        raise Invalid(KIND, stream, problems)
    answer = success("", "", "", code=201)
    if call.done is not None:
        call.services.commands.recall_mapping()
        return Answer(answer, 201)
    completed = complete_image(content)
    kept = Meta(labels=meta.labels, annotations=completed["metadata"]["annotations"])
    begun = call.services.commands.map_image(
        call.caller,
        call.namespace,
        stream,
        sent.tag,
        image,
        document_of(kept, completed),
        reference,
        Expected(image=call.guard),
        managed=meta.annotations.get(MANAGED) == "true",
        dry=call.dry,
    )
    return Answer(answer, 201, begun=begun)


def _digest(reference: str) -> str:
    """The digest of a pull spec; it stands in for the name that old registries leave out."""
    try:
        found = DockerImageReference.parse(reference).id
    except InvalidReference:
        return ""
    return found if is_digest(found) else ""


IMAGE_STREAM_MAPPINGS = Resource(name=NAME, kind=KIND, schema=SCHEMA, create=create, guarded=True)

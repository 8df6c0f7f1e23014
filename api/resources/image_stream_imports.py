"""imagestreamimports: fetch images from registries into a stream. It is only created, and nothing of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from api.access import may_pull
from api.call import Answer, Call, expected
from api.errors import Refusal
from api.resource import Resource
from api.resources.image_streams import check_new_name, shown
from api.schemas.imports import (
    ImageStreamImportSchema,
    SentImport,
    SentSource,
    image_result_json,
    repository_result_json,
    source_json,
)
from api.schemas.meta import Meta, kept_meta, problems_of
from imagestream_es.application.fetching import ImageImport, RepositoryImport
from imagestream_es.application.imports import RESOURCE, ImportRequest, ImportResult, TooManyImports
from imagestream_es.domain.errors import FieldProblem, Invalid, Problem
from imagestream_es.domain.references import DockerImageReference, InvalidReference, stream_behind, tag_name_problem
from imagestream_es.domain.tags import DOCKER_IMAGE, TagReference
from imagestream_es.domain.validation import tag_problems

KIND = "ImageStreamImport"
SCHEMA = ImageStreamImportSchema()

ANY = "*"
"""What old clients name when they mean no image in particular. It is let through and found nowhere."""


def create(call: Call, body: dict[str, Any]) -> Answer:
    """Import images; that some of them failed is part of the answer."""
    sent: SentImport = call.load(SCHEMA, body)
    call.check_meta(sent.meta)
    name = sent.meta.name
    problems = check_new_name(call.namespace, name, "") + problems_of(sent.meta) + _problems(sent)
    problems += _foreign_problems(call, sent)
    if problems:
        raise Invalid(KIND, name, problems)
    sources = [_with_target(source) for source in sent.images]
    request = ImportRequest(
        [ImageImport(source.source.name, source.to or "", source.policy) for source in sources],
        RepositoryImport(sent.repository.source.name, sent.repository.policy) if sent.repository else None,
        sent.store,
    )
    try:
        result = call.services.imports.run(
            call.caller, call.namespace, name, request, expected(call, sent.meta), dry=call.dry
        )
    except TooManyImports:
        message = "as many imports are under way as this server has room for; try again later"
        raise Refusal(429, message, retry_after=2) from None
    return Answer(_shown(call, sent, sources, result), 201)


# --- what is sent


def _problems(sent: SentImport) -> list[FieldProblem]:
    if not sent.images and sent.repository is None:
        detail = "you must specify at least one image or a repository import"
        return [FieldProblem(Problem.INVALID, "spec.images", detail, [])]
    problems = [
        problem for i, source in enumerate(sent.images) for problem in _image_problems(source, f"spec.images[{i}]")
    ]
    if sent.repository is not None:
        problems += _repository_problems(sent.repository, "spec.repository")
    return problems


def _image_problems(sent: SentSource, where: str) -> list[FieldProblem]:
    problems = _kind_problems(sent, where)
    if not sent.source.name:
        problems.append(FieldProblem(Problem.REQUIRED, f"{where}.from.name"))
    elif sent.source.name != ANY:
        problems += _name_problems(sent, where)
    if sent.to is not None:
        problem = tag_name_problem(sent.to) if sent.to else "the name of the target tag must be specified"
        if problem:
            problems.append(FieldProblem(Problem.INVALID, f"{where}.to.name", problem, sent.to))
    return problems + _policy_problems(sent, where)


def _repository_problems(sent: SentSource, where: str) -> list[FieldProblem]:
    problems = _kind_problems(sent, where)
    if not sent.source.name:
        detail = "container image references require a name"
        problems.append(FieldProblem(Problem.REQUIRED, f"{where}.from.name", detail))
    else:
        problems += _name_problems(sent, where)
        reference = _reference(sent)
        if reference is not None and (reference.tag or reference.id):
            detail = "you must specify an image repository, not a tag or ID"
            problems.append(FieldProblem(Problem.INVALID, f"{where}.from.name", detail, sent.source.name))
    return problems + _policy_problems(sent, where)


def _kind_problems(sent: SentSource, where: str) -> list[FieldProblem]:
    if sent.source.kind == DOCKER_IMAGE:
        return []
    return [FieldProblem(Problem.INVALID, f"{where}.from.kind", "only DockerImage is supported", sent.source.kind)]


def _name_problems(sent: SentSource, where: str) -> list[FieldProblem]:
    try:
        DockerImageReference.parse(sent.source.name)
    except InvalidReference as error:
        return [FieldProblem(Problem.INVALID, f"{where}.from.name", str(error), sent.source.name)]
    return []


def _policy_problems(sent: SentSource, where: str) -> list[FieldProblem]:
    """The policies are those of a spec tag, and so are the rules for them."""
    policy = sent.policy
    tag = TagReference(name="", import_mode=policy.import_mode, reference_policy=policy.reference_policy)
    return tag_problems(tag, where)


def _foreign_problems(call: Call, sent: SentImport) -> list[FieldProblem]:
    """Images of the internal registry are for those who may pull from the stream that they are in."""
    sources = [(f"spec.images[{i}]", source) for i, source in enumerate(sent.images)]
    if sent.repository is not None:
        sources.append(("spec.repository", sent.repository))
    problems = []
    for where, source in sources:
        stream = stream_behind(source.source.name, call.services.settings.registries)
        if stream is None or stream[0] == call.namespace or may_pull(call.services.gate, call.user, *stream):
            continue
        detail = f"the images of {stream[0]}/{stream[1]} are for those who may get imagestreams/layers there"
        problems.append(FieldProblem(Problem.FORBIDDEN, f"{where}.from.name", detail))
    return problems


def _reference(sent: SentSource) -> DockerImageReference | None:
    try:
        return DockerImageReference.parse(sent.source.name)
    except InvalidReference:
        return None


def _with_target(sent: SentSource) -> SentSource:
    """With the tag of the image as the target, where there is one and no other was named."""
    reference = _reference(sent)
    if sent.to is not None or reference is None or not reference.tag:
        return sent
    return replace(sent, to=reference.tag)


# --- what is answered


def _shown(call: Call, sent: SentImport, sources: Sequence[SentSource], result: ImportResult) -> dict[str, Any]:
    spec: dict[str, Any] = {"import": sent.store}
    status: dict[str, Any] = {}
    version = call.door.metadata_version
    # What is stored never has manifests, and what was asked to be stored is shown alike.
    if result.stream is not None:
        status["import"] = shown(call, result.stream)
    if sent.repository is not None and result.repository is not None:
        spec["repository"] = source_json(sent.repository)
        include = sent.repository.include_manifest and not sent.store
        status["repository"] = repository_result_json(
            result.repository, result.stored, version, include_manifest=include
        )
    if sources:
        spec["images"] = [source_json(source) for source in sources]
        status["images"] = [
            image_result_json(
                found, result.stored, version, include_manifest=source.include_manifest and not sent.store
            )
            for source, found in zip(sources, result.images, strict=True)
        ]
    return {"metadata": _meta(call, sent.meta), "spec": spec, "status": status}


def _meta(call: Call, meta: Meta) -> dict[str, Any]:
    given = {"resourceVersion": meta.resource_version, "uid": meta.uid}
    kept = {key: value for key, value in given.items() if value} | kept_meta(meta)
    return {"name": meta.name, "namespace": call.namespace, "creationTimestamp": None, **kept}


IMAGE_STREAM_IMPORTS = Resource(name=RESOURCE, kind=KIND, schema=SCHEMA, create=create)

"""What a stream still needs from registries: the rule by which imports happen that nobody asks for."""

from __future__ import annotations

from msgspec import Struct

from imagestream_es.domain.image_stream import ImageStream, Tag
from imagestream_es.domain.imports import CHECKED, IMPORT_SUCCESS
from imagestream_es.domain.references import DockerImageReference, InvalidReference
from imagestream_es.domain.tags import DOCKER_IMAGE, TagReference

WHOLE_REPOSITORY = ""
"""Stands for all tags of the repository that a stream names; no tag is called so."""

PASSING = "InternalError"
"""The reason of failures that may pass by themselves: a registry that is down, a network that is broken."""


class Need(Struct, frozen=True):
    """An import that should happen: now (`pending`), at intervals (`scheduled`), or once more (`failed`).

    `source` is the pull spec, `registry` the host that is asked for it. `spec` is the tag that asks, None for a
    repository.
    """

    source: str
    registry: str
    spec: TagReference | None = None
    pending: bool = False
    scheduled: bool = False
    failed: bool = False


def import_needs(stream: ImageStream) -> dict[str, Need]:
    """The imports that a stream needs, by tag."""
    if not stream.exists or stream.deletion is not None:
        return {}
    found = {name: _need(tag.spec, tag) for name, tag in stream.tags.items() if tag.spec and _is_imported(tag.spec)}
    if stream.source_repository and CHECKED not in stream.annotations:
        source = stream.source_repository
        found[WHOLE_REPOSITORY] = Need(source, _registry(source), pending=True)
    return {name: need for name, need in found.items() if need.pending or need.scheduled or need.failed}


def _is_imported(spec: TagReference) -> bool:
    return spec.source is not None and spec.source.kind == DOCKER_IMAGE and not spec.reference


def _need(spec: TagReference, tag: Tag) -> Need:
    assert spec.source is not None
    source = spec.source.name
    known = [condition.generation for condition in tag.conditions]
    if tag.head is not None:
        known.append(tag.head.generation)
    return Need(
        source,
        _registry(source),
        spec,
        pending=(spec.generation or 0) > max(known, default=0),
        scheduled=spec.scheduled and not _names_content(source),
        failed=any((one.type, one.reason) == (IMPORT_SUCCESS, PASSING) for one in tag.conditions),
    )


def _registry(source: str) -> str:
    reference = _parsed(source)
    return reference.api_host() if reference else ""


def _names_content(source: str) -> bool:
    """Whether a pull spec names an image by its digest, so that it means the same for ever."""
    reference = _parsed(source)
    return reference is not None and bool(reference.id)


def _parsed(source: str) -> DockerImageReference | None:
    try:
        return DockerImageReference.parse(source)
    except InvalidReference:
        return None

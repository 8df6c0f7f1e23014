"""What is wrong with the fields of a stream, each problem at the path of its field."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from imagestream_es.domain.errors import FieldProblem, Problem
from imagestream_es.domain.references import (
    DockerImageReference,
    InvalidReference,
    image_name_problem,
    tag_text_problem,
)
from imagestream_es.domain.tags import (
    DOCKER_IMAGE,
    LEGACY,
    LOCAL,
    PRESERVE_ORIGINAL,
    SOURCE,
    SOURCE_KINDS,
    ObjectReference,
    TagEvent,
    TagReference,
)

KNOWN_KINDS = "valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'"


def repository_problems(repository: str, where: str) -> list[FieldProblem]:
    """What keeps `repository` from naming a whole repository; "" is none and fine."""
    if not repository:
        return []
    try:
        parsed = DockerImageReference.parse(repository)
    except InvalidReference as error:
        return [FieldProblem(Problem.INVALID, where, str(error), repository)]
    return [
        FieldProblem(Problem.INVALID, where, f"the repository name may not contain {part}", repository)
        for part, given in (("a tag", parsed.tag), ("an ID", parsed.id))
        if given
    ]


def tag_text_problems(tag: str, where: str) -> list[FieldProblem]:
    """What keeps the text at the path `where` from being a tag."""
    problem = tag_text_problem(tag)
    return [FieldProblem(Problem.INVALID, where, problem, tag)] if problem else []


def tag_problems(tag: TagReference, where: str) -> list[FieldProblem]:
    """What is wrong with the fields of one spec tag that stands at the path `where`."""
    problems = tag_text_problems(tag.name, f"{where}.name")
    if tag.source is not None:
        problems += _source_problems(tag.source, f"{where}.from")
    if tag.source is not None and tag.source.kind != DOCKER_IMAGE and tag.scheduled:
        detail = "only tags pointing to Docker repositories may be scheduled for background import"
        problems.append(FieldProblem(Problem.INVALID, f"{where}.importPolicy.scheduled", detail, True))
    if tag.import_mode not in ("", LEGACY, PRESERVE_ORIGINAL):
        detail = "invalid import mode, valid modes are '', 'Legacy', 'PreserveOriginal'"
        problems.append(FieldProblem(Problem.INVALID, f"{where}.importPolicy.importMode", detail, tag.import_mode))
    if tag.reference_policy not in (SOURCE, LOCAL):
        detail = 'valid values are "Source", "Local"'
        problems.append(FieldProblem(Problem.INVALID, f"{where}.referencePolicy.type", detail, tag.reference_policy))
    return problems


def _source_problems(source: ObjectReference, where: str) -> list[FieldProblem]:
    problems = []
    if not source.name:
        problems.append(FieldProblem(Problem.REQUIRED, f"{where}.name"))
    elif source.kind == DOCKER_IMAGE:
        problems += _pull_spec_problems(source.name, f"{where}.name")
    if source.kind not in SOURCE_KINDS:
        problems.append(FieldProblem(Problem.REQUIRED, f"{where}.kind", KNOWN_KINDS))
    return problems


def history_problems(tag: str, items: Sequence[TagEvent], known: Collection[str]) -> list[FieldProblem]:
    """What is wrong with the history of a tag, newest entry first; pull specs in `known` were there before."""
    problems = []
    for index, item in enumerate(items):
        where = f"status.tags[{tag}].items[{index}]"
        if not item.reference:
            problems.append(FieldProblem(Problem.REQUIRED, f"{where}.dockerImageReference"))
        elif item.reference not in known:
            problems += _pull_spec_problems(item.reference, f"{where}.dockerImageReference")
        problem = image_name_problem(item.image)
        if problem:
            problems.append(FieldProblem(Problem.INVALID, f"{where}.image", problem, item.image))
    return problems


def _pull_spec_problems(text: str, where: str) -> list[FieldProblem]:
    try:
        DockerImageReference.parse(text)
    except InvalidReference as error:
        return [FieldProblem(Problem.INVALID, where, str(error), text)]
    return []

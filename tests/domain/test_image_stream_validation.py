"""What is wrong with the fields of a stream, told at the path of each."""

from __future__ import annotations

from typing import Any

import pytest
from scenario import A, Scenario, create, created, desired, docker, istag, missing, own, spec, update

from imagestream_es.domain.errors import FieldProblem, Problem
from imagestream_es.domain.events import StreamUpdated
from imagestream_es.domain.tags import ObjectReference, TagReference
from imagestream_es.domain.validation import tag_problems

INVALID, REQUIRED = Problem.INVALID, Problem.REQUIRED
REPOSITORY = "spec.dockerImageRepository"
SCHEDULED = "only tags pointing to Docker repositories may be scheduled for background import"
MODES = "invalid import mode, valid modes are '', 'Legacy', 'PreserveOriginal'"
POLICIES = 'valid values are "Source", "Local"'
KINDS = "valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'"


@pytest.mark.parametrize(
    ("repository", "details"),
    [
        ("", []),
        ("quay.io/team/web", []),
        ("Quay.io/Team/web", ["repository name must be lowercase"]),
        ("quay.io//web", ["invalid reference format"]),
        ("quay.io/team/web:1", ["the repository name may not contain a tag"]),
        (f"quay.io/team/web@{A}", ["the repository name may not contain an ID"]),
        (
            f"quay.io/team/web:1@{A}",
            ["the repository name may not contain a tag", "the repository name may not contain an ID"],
        ),
    ],
)
def test_the_repository_of_a_stream_is_a_whole_one(web: Scenario, repository: str, details: list[str]) -> None:
    web.when(create(desired(source_repository=repository)))
    if details:
        web.then_invalid(*(FieldProblem(INVALID, REPOSITORY, detail, repository) for detail in details))
    else:
        assert web.refusal is None


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({}, []),
        (docker("quay.io/team/web:1", scheduled=True, insecure=True, import_mode="", reference_policy="Local"), []),
        (docker("quay.io/team/web:1", import_mode="PreserveOriginal"), []),
        (docker(""), [FieldProblem(REQUIRED, "tag.from.name")]),
        (docker("no spec!"), [FieldProblem(INVALID, "tag.from.name", "invalid reference format", "no spec!")]),
        (istag("no spec!"), []),
        (istag(""), [FieldProblem(REQUIRED, "tag.from.name")]),
        ({"source": ObjectReference("Image", "x")}, [FieldProblem(REQUIRED, "tag.from.kind", KINDS)]),
        (
            {"source": ObjectReference()},
            [FieldProblem(REQUIRED, "tag.from.name"), FieldProblem(REQUIRED, "tag.from.kind", KINDS)],
        ),
        (istag("1", scheduled=True), [FieldProblem(INVALID, "tag.importPolicy.scheduled", SCHEDULED, True)]),
        ({"scheduled": True}, []),
        ({"import_mode": "New"}, [FieldProblem(INVALID, "tag.importPolicy.importMode", MODES, "New")]),
        ({"reference_policy": "Any"}, [FieldProblem(INVALID, "tag.referencePolicy.type", POLICIES, "Any")]),
        ({"reference_policy": ""}, [FieldProblem(INVALID, "tag.referencePolicy.type", POLICIES, "")]),
        (
            docker("", scheduled=True, import_mode="New", reference_policy="Any"),
            [
                FieldProblem(REQUIRED, "tag.from.name"),
                FieldProblem(INVALID, "tag.importPolicy.importMode", MODES, "New"),
                FieldProblem(INVALID, "tag.referencePolicy.type", POLICIES, "Any"),
            ],
        ),
    ],
)
def test_the_fields_of_a_spec_tag(fields: dict[str, Any], problems: list[FieldProblem]) -> None:
    assert tag_problems(TagReference(name="latest", **fields), "tag") == problems


def test_everything_wrong_is_told_at_once_behind_what_could_not_be_resolved(web: Scenario) -> None:
    web.given(created())
    wanted = desired(
        spec("b", docker("quay.io/Team/web")),
        spec("a", istag("no:1", import_mode="New")),
        spec("fine", docker("quay.io/team/web")),
        source_repository=own(A),
    )
    web.when(update(wanted))
    web.then_invalid(
        FieldProblem(INVALID, REPOSITORY, "the repository name may not contain an ID", own(A)),
        FieldProblem(INVALID, "spec.tags[a].importPolicy.importMode", MODES, "New"),
        FieldProblem(INVALID, "spec.tags[b].from.name", "repository name must be lowercase", "quay.io/Team/web"),
        unresolved=[missing("spec.tags[a].from.name", "no:1")],
    )


def test_a_field_that_is_not_resolved_is_checked_all_the_same(web: Scenario) -> None:
    source = docker("quay.io/team/web")
    web.given(created(spec("latest", source)))
    web.when(update(desired(spec("latest", source | {"reference_policy": "Any"}))))
    web.then_invalid(FieldProblem(INVALID, "spec.tags[latest].referencePolicy.type", POLICIES, "Any"))


def test_what_was_stored_before_a_rule_came_does_not_hinder_other_tags(web: Scenario) -> None:
    old = docker("quay.io/Team/web")
    web.given(created(spec("old", old)))
    web.when(update(desired(spec("old", old), spec("new"))))
    (event,) = web.events
    assert isinstance(event, StreamUpdated)
    assert event.tags == {"new": spec("new", None, 2)}

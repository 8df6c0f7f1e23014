"""How a stream begins."""

import pytest
from scenario import (
    NAME,
    NAMESPACE,
    REPOSITORY,
    A,
    Scenario,
    at,
    create,
    created,
    desired,
    docker,
    entry,
    istag,
    own,
    put,
    spec,
)

from imagestream_es.domain.errors import AlreadyExists, FieldProblem, Problem
from imagestream_es.domain.events import StreamCreated
from imagestream_es.domain.tags import TagReference

OUTSIDE = docker("quay.io/team/base:1")


def test_a_stream_begins_at_generation_1_and_tells_nothing_that_is_empty(web: Scenario) -> None:
    web.when(create(desired(), second=7))
    web.then(
        StreamCreated(by=at(7), namespace=NAMESPACE, name=NAME, uid="uid-1", repository=REPOSITORY, generation=1),
    )
    assert web.stream.exists
    assert (web.stream.uid, web.stream.created, web.stream.generation, web.stream.version) == ("uid-1", 7, 1, 1)


def test_everything_that_was_asked_for_is_told_and_kept(web: Scenario) -> None:
    wanted = desired(
        labels={"app": "web"},
        annotations={"note": "x"},
        generate_name="we",
        finalizers=("example.com/hold",),
        owners=({"uid": "u", "controller": True},),
        local_lookup=True,
        source_repository="quay.io/team/web",
    )
    web.when(create(wanted))
    event = created(
        labels={"app": "web"},
        annotations={"note": "x"},
        generate_name="we",
        finalizers=("example.com/hold",),
        owners=({"uid": "u", "controller": True},),
        local_lookup=True,
        source_repository="quay.io/team/web",
    )
    web.then(event)
    fields = ("labels", "annotations", "generate_name", "finalizers", "owners", "local_lookup", "source_repository")
    assert [getattr(web.stream, field) for field in fields] == [getattr(wanted, field) for field in fields]


@pytest.mark.parametrize("sent", [None, 0, 1, 7])
def test_every_spec_tag_begins_at_generation_1_whatever_was_sent(web: Scenario, sent: int | None) -> None:
    web.when(create(desired(spec("latest", OUTSIDE, sent), spec("bare", None, sent))))
    web.then(created(spec("bare"), spec("latest", OUTSIDE)))
    assert [tag.generation for tag in web.stream.spec_tags.values()] == [1, 1]


def test_spec_tags_are_kept_in_the_order_of_bytes(web: Scenario) -> None:
    names = ["b", "a", "é", "B", "a-1", "10", "9", "😀", "\uffee"]
    web.when(create(desired(*map(spec, names))))
    (event,) = web.events
    assert event.tags is not None
    assert list(event.tags) == sorted(names, key=str.encode)


def test_of_spec_tags_of_one_name_the_last_one_counts(web: Scenario) -> None:
    twice: list[TagReference] = [spec("latest", docker("quay.io/team/base:1")), spec("latest", docker("x/y:2"))]
    web.when(create(desired(*twice)))
    web.then(created(spec("latest", docker("x/y:2"))))


def test_without_an_internal_registry_no_pull_spec_is_the_default(web: Scenario) -> None:
    web.world.registry = ""
    web.world.streams["shop", "base"] = {"1": [entry(A, 3, reference=own(A))]}
    web.when(create(desired(spec("latest", istag("base:1")))))
    web.then(
        created(
            spec("latest", istag("base:1")),
            repository="",
            put=(put("latest", A, reference=own(A), created=3),),
        )
    )


def test_sources_are_resolved_when_a_stream_begins(web: Scenario) -> None:
    tags = spec("a", istag("b")), spec("b", docker("quay.io/team/base:1", reference=True)), spec("c", istag("web:a"))
    web.when(create(desired(*tags), second=5))
    outside = "quay.io/team/base:1"
    web.then(
        created(
            *tags,
            second=5,
            put=(
                put("b", "", reference=outside),
                put("a", "", reference=outside),
                put("c", "", reference=outside),
            ),
        )
    )


def test_a_stream_that_exists_is_not_created_again(web: Scenario) -> None:
    web.given(created())
    web.when(create(desired(labels={"other": "one"}), uid="uid-2"))
    web.then_refused(AlreadyExists("imagestreams", NAME))
    assert web.stream.uid == "uid-1"


def test_a_refused_stream_does_not_begin(web: Scenario) -> None:
    web.when(create(desired(source_repository="quay.io/team/web:1")))
    detail = "the repository name may not contain a tag"
    web.then_invalid(
        FieldProblem(Problem.INVALID, "spec.dockerImageRepository", detail, "quay.io/team/web:1"),
    )
    assert not web.stream.exists
    assert web.stream.version == 0

"""Histories and conditions written through the status subresource, as pruners do."""

from __future__ import annotations

import pytest
from scenario import A, B, C, Scenario, at, created, docker, entry, own, put, replace_status, set_tag, spec

from imagestream_es.domain.errors import FieldProblem, Problem
from imagestream_es.domain.events import ImageMapped, ImagesImported, StatusReplaced, StreamUpdated
from imagestream_es.domain.image_stream import CONDITIONS_SET, REPLACED, Tag, TagChange
from imagestream_es.domain.tags import TagEvent, TagEventCondition

FAILED = TagEventCondition("ImportSuccess", "False", 9, "NotFound", "no such image", 2)
OUTSIDE = "quay.io/team/web:1"
THREE = (entry(C, 12), entry(B, 11), entry(A, 10))


@pytest.fixture
def pushed(web: Scenario) -> Scenario:
    """A, B and C were pushed to `latest`, which has a spec tag too."""
    web.given(created(spec("latest", docker(OUTSIDE))))
    web.given(*(ImageMapped(by=at(second), put=(put("latest", image),)) for second, image in enumerate([A, B, C], 10)))
    return web


def test_a_status_that_is_as_it_was_changes_nothing(pushed: Scenario) -> None:
    pushed.when(replace_status({"latest": (THREE, ())}))
    pushed.then_nothing()


@pytest.mark.parametrize("kept", [THREE[:1], THREE[1:], THREE[::2]])
def test_a_pruned_history_is_what_was_kept(pushed: Scenario, kept: tuple[TagEvent, ...]) -> None:
    pushed.when(replace_status({"latest": (kept, ())}))
    pushed.then(StatusReplaced(by=at(100), items={"latest": kept}))
    assert pushed.shown == {"latest": kept}
    assert pushed.changes == [TagChange("latest", REPLACED, THREE[0], kept[0], items=kept)]


@pytest.mark.parametrize("status", [{}, {"latest": ((), ())}])
def test_a_tag_that_is_left_out_loses_its_history_and_keeps_its_spec(
    pushed: Scenario, status: dict[str, tuple[tuple[TagEvent, ...], tuple[TagEventCondition, ...]]]
) -> None:
    pushed.when(replace_status(status))
    pushed.then(StatusReplaced(by=at(100), items={"latest": ()}))
    assert pushed.stream.tags == {"latest": Tag(spec("latest", docker(OUTSIDE), 1))}
    assert pushed.shown == {}


def test_a_tag_without_spec_that_is_left_out_is_gone(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("pushed", A),)))
    web.when(replace_status({}))
    assert web.stream.tags == {}


def test_a_history_may_be_written_for_a_tag_that_never_was(web: Scenario) -> None:
    web.given(created())
    web.when(replace_status({"new": ((entry(A, 5),), (FAILED,))}))
    web.then(StatusReplaced(by=at(100), items={"new": (entry(A, 5),)}, conditions={"new": (FAILED,)}))
    assert web.stream.tags == {"new": Tag(None, entry(A, 5), (FAILED,))}


def test_neither_spec_nor_generation_moves(pushed: Scenario) -> None:
    before = pushed.stream.spec_tags
    pushed.when(replace_status({"latest": (THREE[:1], ()), "new": ((entry(A, 5),), ())}))
    assert (pushed.stream.spec_tags, pushed.stream.generation) == (before, 1)


def test_conditions_are_written_and_cleared(pushed: Scenario) -> None:
    pushed.when(replace_status({"latest": (THREE, (FAILED,))}))
    pushed.then(StatusReplaced(by=at(100), conditions={"latest": (FAILED,)}))
    assert pushed.changes == [TagChange("latest", CONDITIONS_SET, THREE[0], THREE[0])]
    pushed.when(replace_status({"latest": (THREE, ())}, 101))
    pushed.then(StatusReplaced(by=at(101), conditions={"latest": ()}))
    assert pushed.stream.tag("latest").conditions == ()


def test_a_tag_that_is_left_out_loses_its_conditions(web: Scenario) -> None:
    web.given(created(), ImagesImported(by=at(2), conditions={"latest": (FAILED,)}))
    web.when(replace_status({}))
    web.then(StatusReplaced(by=at(100), conditions={"latest": ()}))
    assert web.stream.tags == {}


def test_all_tags_change_with_one_event_in_the_order_of_names(pushed: Scenario) -> None:
    pushed.given(ImageMapped(by=at(20), put=(put("b", A), put("a", A))))
    pushed.when(replace_status({}))
    assert [change.tag for change in pushed.changes] == ["a", "b", "latest"]


# --- generations


def test_the_newest_entry_without_a_generation_gets_that_of_the_stream(pushed: Scenario) -> None:
    pushed.given(StreamUpdated(by=at(20), generation=7, local_lookup=True))
    pushed.when(replace_status({"pushed": ((entry(A, 5, 0), entry(B, 4, 0)), ())}))
    assert pushed.shown["pushed"] == (entry(A, 5, 7), entry(B, 4, 0))


def test_a_changed_newest_entry_without_a_generation_gets_that_of_its_spec_tag(pushed: Scenario) -> None:
    pushed.given(StreamUpdated(by=at(20), generation=7, local_lookup=True))
    pushed.when(replace_status({"latest": ((entry(A, 5, 0),), ())}))
    assert pushed.shown["latest"] == (entry(A, 5, 1),)


def test_a_newest_entry_that_shows_the_same_gets_the_generation_of_the_stream(pushed: Scenario) -> None:
    pushed.given(StreamUpdated(by=at(20), generation=7, local_lookup=True))
    newest = entry(C, 12, 0)
    pushed.when(replace_status({"latest": ((newest, *THREE[1:]), ())}))
    assert pushed.shown["latest"] == (entry(C, 12, 7), *THREE[1:])


def test_without_a_generation_in_the_spec_tag_that_of_the_stream_counts(web: Scenario) -> None:
    web.given(created(), ImagesImported(by=at(2), generation=3, tags={"latest": spec("latest", None, 0)}))
    web.when(replace_status({"latest": ((entry(A, 5, 0),), ())}))
    assert web.shown["latest"] == (entry(A, 5, 3),)


def test_a_generation_that_was_sent_stays(pushed: Scenario) -> None:
    pushed.when(replace_status({"latest": ((entry(A, 5, 42),), ())}))
    assert pushed.shown["latest"] == (entry(A, 5, 42),)


# --- pull specs


def test_new_pull_specs_must_parse_and_none_may_be_empty(pushed: Scenario) -> None:
    bad = (entry(A, 5, reference=""), entry(B, 4, reference="No Spec"), entry(C, 3))
    pushed.when(replace_status({"latest": (bad, ()), "new": ((entry(A, 1, reference="q//x"),), ())}))
    where = "status.tags[{}].items[{}].dockerImageReference"
    pushed.then_invalid(
        FieldProblem(Problem.REQUIRED, where.format("latest", 0)),
        FieldProblem(Problem.INVALID, where.format("latest", 1), "invalid reference format", "No Spec"),
        FieldProblem(Problem.INVALID, where.format("new", 0), "invalid reference format", "q//x"),
    )


def test_a_pull_spec_that_was_there_before_may_be_anything(web: Scenario) -> None:
    odd = entry(A, 2, reference="No Spec")
    web.given(created(), ImageMapped(by=at(2), put=(put("latest", A, reference="No Spec"),)))
    web.given(ImageMapped(by=at(3), put=(put("latest", B),)))
    web.when(replace_status({"latest": ((odd,), ())}))
    assert web.shown["latest"] == (odd,)
    assert web.refusal is None


def test_what_a_tag_is_meant_to_be_survives_a_pruner(pushed: Scenario) -> None:
    pushed.when(replace_status({}))
    pushed.when(set_tag("latest", spec("latest", docker(OUTSIDE, reference=True))))
    assert pushed.shown["latest"] == (entry("", 100, 2, OUTSIDE),)


def test_an_entry_may_have_no_time(web: Scenario) -> None:
    timeless = TagEvent(None, own(A), A, 1)
    web.given(created())
    web.when(replace_status({"latest": ((timeless,), ())}))
    web.then(StatusReplaced(by=at(100), items={"latest": (timeless,)}))

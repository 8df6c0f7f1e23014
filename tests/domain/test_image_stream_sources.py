"""What the sources of spec tags stand for, who may take images from them, and what is said if they mean nothing."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from scenario import (
    REGISTRY,
    REPOSITORY,
    A,
    B,
    C,
    Scenario,
    at,
    create,
    created,
    desired,
    docker,
    entry,
    isimage,
    istag,
    missing,
    own,
    put,
    replace_status,
    set_tag,
    spec,
    update,
)

from imagestream_es.domain.errors import FieldProblem, Problem
from imagestream_es.domain.events import ImageMapped, Put, StreamUpdated, TagSet
from imagestream_es.domain.tags import ObjectReference

OUTSIDE = "quay.io/team/base:1"
BASE = f"{REGISTRY}/shop/base"
FORM = "must be of the form <tag>, <repo>:<tag>, <id>, or <repo>@<id>"
KINDS = "valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'"


@pytest.fixture
def base(web: Scenario) -> Scenario:
    """Another stream of the namespace shows A on `1` and, before it, B; the stream `web` has just begun."""
    web.world.streams["shop", "base"] = {"1": (entry(A, 20, 4, f"{BASE}@{A}"), entry(B, 10, 4, f"{BASE}@{B}"))}
    web.given(created())
    return web


def tag_set(source: dict[str, Any], *puts: Put) -> TagSet:
    return TagSet(by=at(100), generation=2, tags={"latest": spec("latest", source, 2)}, put=puts)


def test_a_tag_without_a_source_has_no_entry(web: Scenario) -> None:
    web.given(created())
    web.when(set_tag("latest", spec("latest", {"annotations": {"note": "x"}})))
    web.then(tag_set({"annotations": {"note": "x"}}))


def test_an_image_from_outside_waits_for_its_import(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("latest", A),)))
    web.when(set_tag("latest", spec("latest", docker(OUTSIDE))))
    web.then(tag_set(docker(OUTSIDE)))
    assert web.shown["latest"] == (entry(A, 2),)


def test_a_reference_to_an_image_from_outside_is_an_entry_without_image(web: Scenario) -> None:
    web.given(created())
    web.when(set_tag("latest", spec("latest", docker(OUTSIDE, reference=True))))
    web.then(tag_set(docker(OUTSIDE, reference=True), put("latest", "", 2, reference=OUTSIDE)))
    assert web.shown["latest"] == (entry("", 100, 2, OUTSIDE),)


# --- tags


@pytest.mark.parametrize("source", [istag("pushed"), istag("web:pushed"), istag("pushed", "shop")])
def test_a_tag_of_the_same_stream_is_copied_with_its_time(web: Scenario, source: dict[str, Any]) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("pushed", A),)))
    web.when(set_tag("latest", spec("latest", source)))
    web.then(tag_set(source, put("latest", A, 2, created=2)))
    assert web.shown["latest"] == (entry(A, 2, 2),)


def test_a_tag_of_another_stream_is_copied_with_its_time(base: Scenario) -> None:
    base.when(set_tag("latest", spec("latest", istag("base:1"))))
    base.then(tag_set(istag("base:1"), put("latest", A, 2, created=20)))
    assert base.shown["latest"] == (entry(A, 20, 2, own(A)),)


def test_of_a_history_only_the_newest_entry_is_copied(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("pushed", A),)), ImageMapped(by=at(3), put=(put("pushed", B),)))
    web.when(set_tag("latest", spec("latest", istag("pushed"))))
    web.then(tag_set(istag("pushed"), put("latest", B, 2, created=3)))


@pytest.mark.parametrize("source", [istag("never"), istag("web:never"), istag("base:never"), istag("latest")])
def test_a_tag_without_history_has_nothing_to_copy_and_is_no_error(base: Scenario, source: dict[str, Any]) -> None:
    base.when(set_tag("latest", spec("latest", source)))
    base.then(tag_set(source))


def test_a_stream_that_was_deleted_is_not_there_to_copy_from(base: Scenario) -> None:
    del base.world.streams["shop", "base"]
    base.when(set_tag("latest", spec("latest", istag("base:1"))))
    base.then_invalid(unresolved=[missing("spec.tags[latest].from.name", "base:1")])


def test_every_stream_that_is_missing_is_told_of_in_the_order_of_tags(web: Scenario) -> None:
    web.given(created())
    web.when(update(desired(spec("b", istag("no:1")), spec("a", isimage("nothing@" + A)), spec("c", istag("web:1")))))
    web.then_invalid(
        unresolved=[
            missing("spec.tags[a].from.name", "nothing@" + A),
            missing("spec.tags[b].from.name", "no:1"),
        ]
    )


# --- images


@pytest.mark.parametrize("name", [B, f"base@{B}", "base@sha256:bbbbbbb", "base@bbbbbbb"])
def test_an_image_is_found_anywhere_in_the_histories_and_put_there_now(base: Scenario, name: str) -> None:
    base.given(ImageMapped(by=at(2), put=(put("pushed", B),)), ImageMapped(by=at(3), put=(put("pushed", C),)))
    base.when(set_tag("latest", spec("latest", isimage(name))))
    base.then(tag_set(isimage(name), put("latest", B, 2)))
    assert base.shown["latest"] == (entry(B, 100, 2),)


@pytest.mark.parametrize("name", ["cccc", "web@cccc", f"web@{C}", f"base@{C}", "base@c"])
def test_an_image_that_a_stream_does_not_show_is_refused(base: Scenario, name: str) -> None:
    wanted = name.rpartition("@")[2]
    base.when(set_tag("latest", spec("latest", isimage(name))))
    detail = f'error generating tag event: imagestreamimage.image.openshift.io "{wanted}" not found'
    base.then_invalid(
        unresolved=[FieldProblem(Problem.INVALID, "spec.tags[latest].from.name", detail, wanted)],
    )


def test_an_image_that_was_pruned_is_not_shown_any_more(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("pushed", A),)))
    web.when(replace_status({}))
    web.when(set_tag("latest", spec("latest", isimage(A))))
    detail = f'error generating tag event: imagestreamimage.image.openshift.io "{A}" not found'
    web.then_invalid(unresolved=[FieldProblem(Problem.INVALID, "spec.tags[latest].from.name", detail, A)])


def test_an_abbreviation_of_several_images_is_refused(base: Scenario) -> None:
    base.when(set_tag("latest", spec("latest", isimage("base@sha256:"))))
    detail = (
        "error generating tag event: Operation cannot be fulfilled on "
        'imagestreamimage.image.openshift.io "sha256:": multiple images match the prefix'
    )
    base.then_invalid(
        unresolved=[FieldProblem(Problem.INVALID, "spec.tags[latest].from.name", detail, "sha256:")],
    )


# --- pull specs


@pytest.mark.parametrize("source", [istag("base:1"), isimage(f"base@{A}")])
def test_an_image_of_the_internal_registry_is_pulled_through_the_stream_it_was_copied_to(
    base: Scenario, source: dict[str, Any]
) -> None:
    base.when(set_tag("latest", spec("latest", source)))
    assert base.shown["latest"][0].reference == f"{REPOSITORY}@{A}"


def test_a_tag_in_a_pull_spec_stays_when_it_is_made_local(web: Scenario) -> None:
    web.world.streams["shop", "base"] = {"1": [entry(A, 20, reference=f"{BASE}:v1")]}
    web.given(created())
    web.when(set_tag("latest", spec("latest", istag("base:1"))))
    web.then(tag_set(istag("base:1"), put("latest", A, 2, created=20, reference=f"{REPOSITORY}:v1")))


@pytest.mark.parametrize(
    "reference",
    [
        f"quay.io/shop/base@{A}",
        f"{REGISTRY}/shop/base/part@{A}",
        f"{REGISTRY}/other/base@{A}",
        "Not a pull spec",
    ],
)
def test_any_other_pull_spec_is_copied_as_it_is(web: Scenario, reference: str) -> None:
    web.world.streams["shop", "base"] = {"1": [entry(A, 20, reference=reference)]}
    web.given(created())
    web.when(set_tag("latest", spec("latest", istag("base:1"))))
    web.then(tag_set(istag("base:1"), put("latest", A, 2, created=20, reference=reference)))


@pytest.mark.parametrize("source", [istag("base:1", reference=True), isimage(f"base@{A}", reference=True)])
def test_a_reference_copies_the_pull_spec_as_it_is(base: Scenario, source: dict[str, Any]) -> None:
    base.when(set_tag("latest", spec("latest", source)))
    assert base.shown["latest"][0].reference == f"{BASE}@{A}"


def test_without_an_internal_registry_every_pull_spec_is_copied_as_it_is(base: Scenario) -> None:
    base.world.registry = ""
    base.when(set_tag("latest", spec("latest", istag("base:1"))))
    assert base.shown["latest"][0].reference == f"{BASE}@{A}"


def test_a_stream_of_the_same_name_in_another_namespace_is_another_stream(web: Scenario) -> None:
    theirs = f"{REGISTRY}/other/web@{A}"
    web.world.streams["other", "web"] = {"1": [entry(A, 20, reference=theirs)]}
    web.given(created(), ImageMapped(by=at(2), put=(put("1", B),)))
    web.when(set_tag("latest", spec("latest", istag("web:1", "other"))))
    web.then(tag_set(istag("web:1", "other"), put("latest", A, 2, created=20)))


# --- access


@pytest.mark.parametrize("source", [istag("base:1", "other"), isimage(f"base@{A}", "other")])
def test_images_of_another_namespace_are_for_those_who_may_pull_them(web: Scenario, source: dict[str, Any]) -> None:
    web.world.streams["other", "base"] = {"1": [entry(A, 20, reference=f"quay.io/team/base@{A}")]}
    web.world.forbidden.add(("other", "base"))
    web.given(created())
    web.when(set_tag("latest", spec("latest", source)))
    web.then_invalid(unresolved=[forbidden("latest", "other/base")])
    web.world.forbidden.clear()
    web.when(set_tag("latest", spec("latest", source)))
    assert web.shown["latest"][0].image == A


def forbidden(tag: str, stream: str) -> FieldProblem:
    return FieldProblem(Problem.FORBIDDEN, f"spec.tags[{tag}].from", f'{stream}: "" ""')


def test_missing_rights_are_told_before_and_beside_what_is_missing(web: Scenario) -> None:
    web.world.forbidden = {("other", "base"), ("other", "secret")}
    web.given(created())
    wanted = desired(
        spec("a", istag("nothing:1")),
        spec("b", istag("base:1", "other")),
        spec("c", isimage(f"secret@{A}", "other")),
    )
    web.when(update(wanted))
    web.then_invalid(
        unresolved=[
            forbidden("b", "other/base"),
            forbidden("c", "other/secret"),
            missing("spec.tags[a].from.name", "nothing:1"),
            missing("spec.tags[b].from.name", "base:1"),
            missing("spec.tags[c].from.name", f"secret@{A}"),
        ]
    )


def test_rights_are_asked_for_once_for_each_stream_and_told_for_each_tag(web: Scenario) -> None:
    web.world.streams["other", "base"] = {}
    web.world.forbidden.add(("other", "base"))
    web.given(created())
    web.when(update(desired(spec("a", istag("base:1", "other")), spec("b", istag("base:2", "other")))))
    web.then_invalid(unresolved=[forbidden("a", "other/base"), forbidden("b", "other/base")])
    assert web.world.asked == [("other", "base")]


@pytest.mark.parametrize(
    "source",
    [istag("base:1"), istag("base:1", "shop"), isimage(f"base@{A}", "shop"), docker(OUTSIDE), {}],
)
def test_nobody_needs_rights_on_the_namespace_of_the_stream_or_on_images_from_outside(
    base: Scenario, source: dict[str, Any]
) -> None:
    base.when(set_tag("latest", spec("latest", source)))
    assert base.refusal is None
    assert base.world.asked == []


def test_the_namespace_of_an_image_from_outside_means_nothing(web: Scenario) -> None:
    web.given(created())
    source = {"source": ObjectReference("DockerImage", OUTSIDE, "other")}
    web.when(set_tag("latest", spec("latest", source)))
    web.then(tag_set(source))
    assert web.world.asked == []


@pytest.mark.parametrize("source", [istag("1", "other"), isimage(A, "other")])
def test_a_tag_or_image_alone_is_one_of_the_stream_of_that_name_there_and_so_are_the_rights(
    web: Scenario, source: dict[str, Any]
) -> None:
    web.world.streams["other", "web"] = {"1": [entry(A, 20, reference=f"quay.io/team/web@{A}")]}
    web.world.forbidden.add(("other", "web"))
    web.given(created())
    web.when(set_tag("latest", spec("latest", source)))
    web.then_invalid(unresolved=[forbidden("latest", "other/web")])
    assert web.world.asked == [("other", "web")]


def test_rights_that_were_lost_do_not_matter_to_a_tag_that_does_not_change(web: Scenario) -> None:
    source = istag("base:1", "other")
    web.given(created(spec("latest", source)))
    web.world.forbidden.add(("other", "base"))
    web.when(update(desired(spec("latest", source), local_lookup=True)))
    assert web.refusal is None
    assert web.world.asked == []


# --- sources that mean nothing


@pytest.mark.parametrize(
    "source",
    [
        istag("a:b:c"),
        istag("base:"),
        istag(":1"),
        istag(f"base@{A}"),
        istag("a@b:c"),
        isimage("a@b@c"),
        isimage(f"@{A}"),
        isimage("base@"),
    ],
)
@pytest.mark.parametrize("namespace", ["", "other"])
def test_names_of_another_form_are_refused(web: Scenario, source: dict[str, Any], namespace: str) -> None:
    kind, name = source["source"].kind, source["source"].name
    web.given(created())
    web.when(set_tag("latest", spec("latest", {"source": ObjectReference(kind, name, namespace)})))
    web.then_invalid(unresolved=[FieldProblem(Problem.INVALID, "spec.tags[latest].from.name", FORM, name)])
    assert web.world.asked == []


def test_a_source_of_another_kind_is_told_as_unresolved_and_as_wrong(web: Scenario) -> None:
    web.given(created())
    web.when(set_tag("latest", spec("latest", {"source": ObjectReference("Image", "x")})))
    web.then_invalid(
        FieldProblem(Problem.REQUIRED, "spec.tags[latest].from.kind", KINDS),
        unresolved=[FieldProblem(Problem.INVALID, "spec.tags[latest].from.kind", KINDS, "Image")],
    )


def test_an_image_from_outside_without_a_name_is_told_as_unresolved_and_as_wrong(web: Scenario) -> None:
    web.given(created())
    web.when(set_tag("latest", spec("latest", docker(""))))
    problem = FieldProblem(Problem.REQUIRED, "spec.tags[latest].from.name")
    web.then_invalid(problem, unresolved=[problem])


@pytest.mark.parametrize("source", [istag(""), isimage("")])
def test_a_tag_or_image_without_a_name_is_told_as_unresolved_and_as_wrong(
    web: Scenario, source: dict[str, Any]
) -> None:
    web.given(created())
    web.when(set_tag("latest", spec("latest", source)))
    web.then_invalid(
        FieldProblem(Problem.REQUIRED, "spec.tags[latest].from.name"),
        unresolved=[FieldProblem(Problem.INVALID, "spec.tags[latest].from.name", FORM, "")],
    )


THEIRS = f"{REGISTRY}/other/base"


@pytest.mark.parametrize(
    "pull_spec",
    [f"{THEIRS}:1", f"{THEIRS}@{A}", THEIRS, f"{REGISTRY}/other/base/part:1", "Registry.Example.com:0443/other/base:1"],
)
def test_what_would_be_imported_of_another_namespace_is_for_those_who_may_pull_it(
    web: Scenario, pull_spec: str
) -> None:
    stream = ("other", "base/part" if "part" in pull_spec else "base")
    web.world.forbidden.add(stream)
    web.given(created())
    web.when(set_tag("latest", spec("latest", docker(pull_spec))))
    web.then_invalid(unresolved=[forbidden("latest", "/".join(stream))])
    web.world.forbidden.clear()
    web.when(set_tag("latest", spec("latest", docker(pull_spec))))
    web.then(tag_set(docker(pull_spec)))


def test_a_mere_reference_is_let_through_until_it_is_to_be_imported(web: Scenario) -> None:
    web.world.forbidden.add(("other", "base"))
    web.given(created())
    web.when(set_tag("latest", spec("latest", docker(f"{THEIRS}:1", reference=True))))
    assert web.shown["latest"][0].image == ""
    web.when(set_tag("latest", spec("latest", docker(f"{THEIRS}:1"))))
    web.then_invalid(unresolved=[forbidden("latest", "other/base")])


def test_a_source_of_another_kind_and_the_same_name_is_another_source(web: Scenario) -> None:
    web.world.streams["shop", "172.30.56.218"] = {}
    web.world.forbidden.add(("other", "base"))
    web.given(created())
    for harmless, kind in ((istag(THEIRS), docker(THEIRS)), (docker("base:1"), istag("base:1", "other"))):
        harmless["source"] = replace(harmless["source"], namespace=kind["source"].namespace)
        web.when(set_tag("latest", spec("latest", harmless)))
        assert web.refusal is None
        web.when(set_tag("latest", spec("latest", kind)))
        web.then_invalid(unresolved=[forbidden("latest", "other/base")])


@pytest.mark.parametrize(
    "pull_spec", [f"{REGISTRY}/shop/base:1", "quay.io/other/base:1", "other/base:1", f"{REGISTRY}/base:1"]
)
def test_images_of_the_same_namespace_and_from_outside_need_no_right_to_pull(web: Scenario, pull_spec: str) -> None:
    web.given(created())
    web.when(set_tag("latest", spec("latest", docker(pull_spec))))
    web.then(tag_set(docker(pull_spec)))
    assert web.world.asked == []


def test_a_whole_repository_of_another_namespace_is_for_those_who_may_pull_it(web: Scenario) -> None:
    web.world.forbidden.add(("other", "base"))
    refused = FieldProblem(Problem.FORBIDDEN, "spec.dockerImageRepository", 'other/base: "" ""')
    web.when(create(desired(source_repository=THEIRS)))
    web.then_invalid(refused)
    web.given(created())
    web.when(update(desired(source_repository=THEIRS)))
    web.then_invalid(refused)
    web.given(StreamUpdated(by=at(2), generation=2, source_repository=THEIRS))
    web.when(update(desired(source_repository=THEIRS, labels={"a": "b"})))
    web.then(StreamUpdated(by=at(100), labels={"a": "b"}))

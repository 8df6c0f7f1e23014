"""What a rollback does to a stream, and the image that a write may be bound to."""

from __future__ import annotations

import pytest
from scenario import A, B, Command, Scenario, at, created, istag, own, push, put, spec

from imagestream_es.domain.errors import TagMoved
from imagestream_es.domain.events import Restored, TagRolledBack
from imagestream_es.domain.tags import ImageGuard

TO_A = Restored(position=7, image=A, reference=own(A))


def roll_back(tag: str, restored: Restored, second: int = 100) -> Command:
    return lambda stream, _, __: stream.roll_back(at(second), tag, restored)


def check(tag: str, guard: ImageGuard) -> Command:
    return lambda stream, _, __: stream.check_image(tag, guard, "imagestreamtags")


def test_a_rollback_is_one_event_that_says_what_it_restores(web: Scenario) -> None:
    web.given(created())
    web.when(push("latest", A))
    web.when(push("latest", B))
    web.when(roll_back("latest", TO_A))
    web.then(TagRolledBack(by=at(100), put=(put("latest", A),), restores=TO_A))
    assert [item.image for item in web.shown["latest"]] == [A, B, A]


def test_followers_go_back_with_their_tag_and_its_spec_stays(web: Scenario) -> None:
    web.given(created(spec("stable", istag("latest"))))
    web.when(push("latest", B))
    specs = web.stream.spec_tags
    web.when(roll_back("latest", TO_A))
    web.then(TagRolledBack(by=at(100), put=(put("latest", A, followers=("stable",)),), restores=TO_A))
    assert web.stream.spec_tags == specs


def test_a_tag_that_names_the_image_is_left_alone(web: Scenario) -> None:
    web.given(created())
    web.when(push("latest", A))
    web.when(roll_back("latest", TO_A))
    web.then_nothing()


@pytest.mark.parametrize(
    ("guard", "current", "holds"),
    [
        (ImageGuard(images=(A,)), A, True),
        (ImageGuard(images=(A,)), B, False),
        (ImageGuard(images=(A, B)), B, True),
        (ImageGuard(images=(A,)), "", False),
        (ImageGuard(), A, True),
        (ImageGuard(), "", False),
        (ImageGuard(absent=True), "", True),
        (ImageGuard(absent=True), A, False),
    ],
)
def test_a_guard_is_about_the_image_that_the_tag_names(guard: ImageGuard, current: str, holds: bool) -> None:
    assert guard.holds(current) is holds


def test_a_tag_that_moved_is_told_with_its_image(web: Scenario) -> None:
    web.given(created())
    web.when(push("latest", B))
    web.when(check("latest", ImageGuard(images=(A,))))
    web.then_refused(TagMoved("imagestreamtags", "web:latest", B))
    web.when(check("other", ImageGuard(images=(A,))))
    web.then_refused(TagMoved("imagestreamtags", "web:other", ""))

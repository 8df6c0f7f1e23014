"""What imports make of a stream: entries for images that were fetched, conditions for those that were not."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from scenario import (
    A,
    B,
    Command,
    Scenario,
    at,
    created,
    desired,
    docker,
    entry,
    istag,
    put,
    spec,
    update,
)

from imagestream_es.domain.events import ImagesImported, StreamCreated, StreamDeleted, StreamRecreated
from imagestream_es.domain.imports import CHECKED, Failed, Fetched, TagImport
from imagestream_es.domain.tags import PRESERVE_ORIGINAL, ObjectReference, TagEventCondition, TagReference

WEB = "quay.io/team/web"
NOT_FOUND = Failed("NotFound", "no such image")


def checked(second: int) -> dict[str, str]:
    return {CHECKED: f"1970-01-01T00:{second // 60:02d}:{second % 60:02d}Z"}


def fetched(tag: str, image: str, **more: Any) -> TagImport:
    """An image that was fetched by the tag of the same name."""
    source = more.pop("source", f"{WEB}:{tag}")
    return TagImport(tag=tag, source=source, outcome=Fetched(image, f"{WEB}@{image}"), **more)


def failed(tag: str, outcome: Failed = NOT_FOUND, **more: Any) -> TagImport:
    """An image that was not."""
    source = more.pop("source", f"{WEB}:{tag}")
    return TagImport(tag=tag, source=source, outcome=outcome, **more)


def import_images(*attempts: TagImport, second: int = 100) -> Command:
    return lambda stream, world, _: stream.import_images(at(second), "uid-1", attempts, world)


def outside(tag: str, image: str, generation: int) -> Any:
    """An entry on top, with a pull spec outside."""
    return put(tag, image, generation, reference=f"{WEB}@{image}")


def wanted(tag: str, generation: int, **more: Any) -> TagReference:
    """The spec tag that an import leaves."""
    return spec(tag, docker(more.pop("source", f"{WEB}:{tag}"), **more), generation)


def condition(second: int, generation: int, outcome: Failed = NOT_FOUND) -> TagEventCondition:
    return TagEventCondition("ImportSuccess", "False", second, outcome.reason, outcome.message, generation)


# --- success


def test_an_import_begins_a_stream_that_is_missing(web: Scenario) -> None:
    web.when(import_images(fetched("latest", A), second=20))
    web.then(
        created(
            second=20,
            tags={"latest": wanted("latest", 1)},
            put=(outside("latest", A, 1),),
            annotations=checked(20),
        )
    )
    assert web.shown == {"latest": (entry(A, 20, reference=f"{WEB}@{A}"),)}


def test_an_import_begins_a_deleted_stream_anew(web: Scenario) -> None:
    web.given(created(generation=7, annotations={"old": "note"}), StreamDeleted(by=at(2)))
    web.when(import_images(fetched("latest", A)))
    assert [type(event) for event in web.events] == [StreamRecreated]
    assert web.stream.generation == 1
    assert web.stream.annotations == checked(100)
    assert web.shown["latest"][0].generation == 1


def test_an_import_of_nothing_begins_a_stream_all_the_same(web: Scenario) -> None:
    web.when(import_images())
    assert [type(event) for event in web.events] == [StreamCreated]
    assert web.stream.annotations == checked(100)


def test_spec_tag_and_entry_get_the_next_generation(web: Scenario) -> None:
    web.given(created(generation=4))
    web.when(import_images(fetched("latest", A), fetched("stable", B)))
    web.then(
        ImagesImported(
            by=at(100),
            generation=5,
            annotations=checked(100),
            tags={"latest": wanted("latest", 5), "stable": wanted("stable", 5)},
            put=(outside("latest", A, 5), outside("stable", B, 5)),
        )
    )
    assert {change.kind for change in web.changes} == {"imported"}


def test_an_import_fills_a_tag_that_was_waiting_for_it(web: Scenario) -> None:
    web.given(created(spec("latest", docker(f"{WEB}:latest", annotations={"keep": "me"}))))
    web.when(import_images(fetched("latest", A)))
    tag = web.stream.spec_tags["latest"]
    assert (tag.annotations, tag.generation) == ({"keep": "me"}, 2)
    assert web.shown["latest"][0].generation == 2


def test_the_same_image_once_more_changes_nothing(web: Scenario) -> None:
    web.when(import_images(fetched("latest", A)))
    web.when(import_images(fetched("latest", A), second=200))
    web.then_nothing()


def test_the_first_check_of_a_stream_is_noted_even_if_nothing_was_imported(web: Scenario) -> None:
    web.given(created())
    web.when(import_images())
    web.then(ImagesImported(by=at(100), annotations=checked(100)))
    web.when(import_images(second=200))
    web.then_nothing()


def test_other_annotations_of_the_stream_stay(web: Scenario) -> None:
    web.given(created(annotations={"a": "b"}))
    web.when(import_images(fetched("latest", A)))
    assert web.stream.annotations == {"a": "b"} | checked(100)


def test_another_image_goes_on_top(web: Scenario) -> None:
    web.when(import_images(fetched("latest", A), second=20))
    web.when(import_images(fetched("latest", B), second=30))
    assert [item.image for item in web.shown["latest"]] == [B, A]
    assert [item.generation for item in web.shown["latest"]] == [2, 1]


def test_the_same_image_from_elsewhere_is_folded_into_its_entry(web: Scenario) -> None:
    web.when(import_images(fetched("latest", A), second=20))
    elsewhere = TagImport(tag="latest", source="r.test/web", outcome=Fetched(A, f"r.test/web@{A}"))
    web.when(import_images(elsewhere, second=30))
    assert web.shown["latest"] == (entry(A, 20, 2, f"r.test/web@{A}"),)
    assert web.stream.spec_tags["latest"].source == ObjectReference("DockerImage", "r.test/web")


def test_a_tag_that_asks_for_another_import_gets_an_entry_of_its_generation(web: Scenario) -> None:
    web.when(import_images(fetched("latest", A), second=20))
    web.when(update(desired(spec("latest", docker(f"{WEB}:latest"), generation=0)), 30))
    web.when(import_images(fetched("latest", A), second=40))
    generation = web.stream.spec_tags["latest"].generation
    assert generation == web.shown["latest"][0].generation == 3
    assert len(web.shown["latest"]) == 1


def test_policies_of_the_import_are_those_of_the_tag(web: Scenario) -> None:
    policies = {"insecure": True, "scheduled": True, "import_mode": PRESERVE_ORIGINAL}
    web.given(created())
    web.when(import_images(fetched("latest", A, **policies, reference_policy="Local")))
    assert web.stream.spec_tags["latest"] == wanted("latest", 2, **policies, reference_policy="Local")


def test_a_new_import_policy_is_written_without_an_entry(web: Scenario) -> None:
    web.when(import_images(fetched("latest", A), second=20))
    web.when(import_images(fetched("latest", A, insecure=True), second=30))
    web.then(
        ImagesImported(
            by=at(30), generation=2, annotations=checked(30), tags={"latest": wanted("latest", 1, insecure=True)}
        )
    )


def test_a_reference_policy_that_is_there_stays(web: Scenario) -> None:
    web.given(created(spec("latest", docker(f"{WEB}:latest", reference_policy="Source"))))
    web.when(import_images(fetched("latest", A, reference_policy="Local")))
    assert web.stream.spec_tags["latest"].reference_policy == "Source"


def test_attempts_at_one_tag_count_in_their_order(web: Scenario) -> None:
    web.given(created())
    web.when(import_images(fetched("latest", A, source=f"{WEB}:1"), fetched("latest", B, source=f"{WEB}:2")))
    assert [item.image for item in web.shown["latest"]] == [B, A]
    assert web.stream.spec_tags["latest"].source == ObjectReference("DockerImage", f"{WEB}:2")


def test_tags_that_follow_move_along_however_far_behind(web: Scenario) -> None:
    web.given(created(spec("a", istag("latest")), spec("b", istag("a")), spec("c", istag("web:b"))))
    web.when(import_images(fetched("latest", A)))
    assert {name: items[0].image for name, items in web.shown.items()} == dict.fromkeys(["a", "b", "c", "latest"], A)
    assert {change.tag: change.kind for change in web.changes} == {
        "latest": "imported",
        "a": "followed",
        "b": "followed",
        "c": "followed",
    }


def test_a_tag_that_is_imported_itself_follows_no_more(web: Scenario) -> None:
    web.given(created(spec("latest", docker(f"{WEB}:latest")), spec("stable", istag("latest"))))
    web.when(import_images(fetched("latest", A), fetched("stable", B)))
    assert [item.image for item in web.shown["stable"]] == [B]


def test_a_tag_that_showed_the_image_by_following_follows_no_more_either(web: Scenario) -> None:
    web.given(created(spec("stable", istag("latest"))))
    web.when(import_images(fetched("latest", A), second=20))
    web.when(import_images(fetched("latest", B), fetched("stable", A), second=30))
    assert [item.image for item in web.shown["stable"]] == [A]
    assert web.stream.spec_tags["stable"] == wanted("stable", 3)


def test_a_circle_of_followers_ends(web: Scenario) -> None:
    web.given(created(spec("a", istag("b")), spec("b", istag("a"))))
    web.when(import_images(fetched("latest", A)))
    assert list(web.shown) == ["latest"]


# --- failure


def test_a_failure_leaves_a_condition_and_a_spec_tag(web: Scenario) -> None:
    web.given(created())
    web.when(import_images(failed("latest", insecure=True)))
    web.then(
        ImagesImported(
            by=at(100),
            generation=2,
            annotations=checked(100),
            tags={"latest": wanted("latest", 2, insecure=True)},
            conditions={"latest": (condition(100, 2),)},
        )
    )
    assert [change.kind for change in web.changes] == ["import-failed"]


def test_a_failure_begins_a_stream_too(web: Scenario) -> None:
    web.when(import_images(failed("latest"), second=20))
    assert [type(event) for event in web.events] == [StreamCreated]
    assert web.stream.tag("latest").conditions == (condition(20, 1),)
    assert web.stream.spec_tags["latest"].generation == 1


def test_a_failure_keeps_history_and_source(web: Scenario) -> None:
    web.when(import_images(fetched("latest", A), second=20))
    web.when(import_images(failed("latest", source=f"{WEB}:nope"), second=30))
    assert [item.image for item in web.shown["latest"]] == [A]
    assert web.stream.spec_tags["latest"] == wanted("latest", 2)
    assert web.stream.tag("latest").conditions == (condition(30, 2),)


def test_the_same_failure_once_more_changes_nothing(web: Scenario) -> None:
    web.when(import_images(failed("latest"), second=20))
    web.when(import_images(failed("latest"), second=30))
    web.then_nothing()


def test_another_failure_takes_the_place_of_the_first(web: Scenario) -> None:
    web.when(import_images(failed("latest"), second=20))
    other = Failed("Unauthorized", "you may not")
    web.when(import_images(failed("latest", other), second=30))
    assert web.stream.tag("latest").conditions == (condition(30, 2, other),)
    assert web.stream.spec_tags["latest"].generation == 2


def test_the_same_failure_answers_a_tag_that_asked_for_another_import(web: Scenario) -> None:
    web.when(import_images(failed("latest"), second=20))
    web.when(update(desired(spec("latest", docker(f"{WEB}:latest"), generation=0)), 30))
    web.when(import_images(failed("latest"), second=40))
    (last,) = web.stream.tag("latest").conditions
    assert last.generation == web.stream.spec_tags["latest"].generation == 3


def test_a_failure_without_words_gets_some(web: Scenario) -> None:
    web.when(import_images(failed("latest", Failed("", ""))))
    assert web.stream.tag("latest").conditions[0].message == "unknown error prevented import"


def test_a_success_forgets_the_failure(web: Scenario) -> None:
    web.when(import_images(failed("latest"), second=20))
    web.when(import_images(fetched("latest", A), second=30))
    assert web.stream.tag("latest").conditions == ()
    assert [item.image for item in web.shown["latest"]] == [A]


def test_a_success_that_brings_nothing_new_forgets_the_failure_too(web: Scenario) -> None:
    web.when(import_images(fetched("latest", A), second=20))
    web.given(ImagesImported(by=at(30), conditions={"latest": (condition(30, 1),)}))
    web.when(import_images(fetched("latest", A), second=40))
    web.then(ImagesImported(by=at(40), annotations=checked(40), conditions={"latest": ()}))


def test_one_failure_does_not_touch_other_tags(web: Scenario) -> None:
    web.when(import_images(fetched("latest", A), failed("stable"), fetched("next", B)))
    assert {name: items[0].image for name, items in web.shown.items()} == {"latest": A, "next": B}
    assert [name for name, tag in web.stream.tags.items() if tag.conditions] == ["stable"]


def test_a_failure_after_a_success_of_the_same_tag_is_told(web: Scenario) -> None:
    web.given(created())
    web.when(import_images(fetched("latest", A), failed("latest")))
    assert [item.image for item in web.shown["latest"]] == [A]
    assert web.stream.tag("latest").conditions == (condition(100, 2),)


# --- whatever is attempted

outcomes = st.sampled_from([Fetched(A, f"{WEB}@{A}"), Fetched(B, f"{WEB}@{B}"), NOT_FOUND, Failed("Other", "")])
attempt = st.builds(
    lambda tag, outcome, insecure: TagImport(tag=tag, source=f"{WEB}:{tag}", outcome=outcome, insecure=insecure),
    st.sampled_from(["a", "b", "c"]),
    outcomes,
    st.booleans(),
)


@given(st.lists(st.lists(attempt, max_size=5), min_size=1, max_size=5))
def test_imports_can_be_repeated_and_say_what_they_did(imports: list[list[TagImport]]) -> None:
    web = Scenario()
    web.given(created(spec("c", istag("a")), spec("d", istag("b"))))
    for second, attempts in enumerate(imports, 10):
        web.when(import_images(*attempts, second=second))
        last = {attempt.tag: attempt for attempt in attempts}
        for tag, one in last.items():
            known = web.stream.tag(tag)
            if isinstance(one.outcome, Fetched):
                assert known.head is not None
                assert (known.head.image, known.conditions) == (one.outcome.image, ())
            else:
                assert known.conditions[0].reason == one.outcome.reason
            assert known.spec is not None
            assert (known.spec.generation or 0) <= web.stream.generation
        web.when(import_images(*last.values(), second=second + 100))
        before = msgspec.json.encode(web.stream.tags)
        web.when(import_images(*last.values(), second=second + 200))
        web.then_nothing()
        assert msgspec.json.encode(web.stream.tags) == before

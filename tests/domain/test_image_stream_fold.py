"""What events do to a stream that no command of these tests makes, and what a fold owes to those who look on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scenario import (
    NAME,
    NAMESPACE,
    A,
    B,
    Scenario,
    at,
    create,
    created,
    delete,
    delete_tag,
    desired,
    docker,
    entry,
    isimage,
    istag,
    own,
    push,
    put,
    replace_status,
    set_tag,
    spec,
    state,
    update,
)

from imagestream_es.domain.events import ImageMapped, ImagesImported, StreamEvent, StreamUpdated, TagSet
from imagestream_es.domain.image_stream import (
    CONDITIONS_SET,
    FOLLOWED,
    IMPORT_FAILED,
    IMPORTED,
    NO_TAG,
    PUT,
    SPEC_SET,
    ImageStream,
    Tag,
    TagChange,
    shown_reference,
    stream_id,
)
from imagestream_es.domain.tags import TagEventCondition, TagReference

FAILED = TagEventCondition("ImportSuccess", "False", 9, "NotFound", "no such image", 2)
OUTSIDE = docker("quay.io/team/base:1")
IMPORT = f"quay.io/team/base@{A}"


def test_the_id_of_a_stream_holds_namespace_and_name() -> None:
    assert stream_id(NAMESPACE, NAME) == ImageStream(NAMESPACE, NAME).id == "shop/web"


def test_a_stream_without_events_does_not_exist() -> None:
    stream = ImageStream(NAMESPACE, NAME)
    assert not stream.exists
    assert (stream.version, stream.generation, stream.tags) == (0, 0, {})


# --- imports


def test_an_import_puts_entries_and_sets_spec_tags(web: Scenario) -> None:
    tag = spec("latest", OUTSIDE, 2)
    web.given(created())
    changes = web.stream.apply(
        ImagesImported(by=at(20), generation=2, tags={"latest": tag}, put=(put("latest", A, 2, reference=IMPORT),))
    )
    head = entry(A, 20, 2, IMPORT)
    assert web.stream.tags == {"latest": Tag(tag, head)}
    assert changes == [TagChange("latest", IMPORTED, None, head)]


def test_an_import_that_failed_leaves_the_history(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE)), ImageMapped(by=at(2), put=(put("latest", A),)))
    tag = spec("latest", OUTSIDE, 2)
    changes = web.stream.apply(
        ImagesImported(by=at(20), generation=2, tags={"latest": tag}, conditions={"latest": (FAILED,)})
    )
    assert web.stream.tags == {"latest": Tag(tag, entry(A, 2), (FAILED,))}
    assert changes == [TagChange("latest", IMPORT_FAILED, entry(A, 2), entry(A, 2))]


@pytest.mark.parametrize(("tags", "kind"), [(None, CONDITIONS_SET), ({"latest": spec("latest", None, 2)}, SPEC_SET)])
def test_an_import_that_found_nothing_new_clears_the_conditions_and_tells_so(
    web: Scenario, tags: dict[str, TagReference | None] | None, kind: str
) -> None:
    web.given(created(spec("latest", OUTSIDE)), ImagesImported(by=at(2), conditions={"latest": (FAILED,)}))
    changes = web.stream.apply(ImagesImported(by=at(20), tags=tags, conditions={"latest": ()}))
    assert web.stream.tag("latest").conditions == ()
    assert changes == [TagChange("latest", kind, None, None)]


# --- changes


def test_an_entry_tells_of_its_tag_and_of_its_followers(web: Scenario) -> None:
    web.given(created(), ImageMapped(by=at(2), put=(put("a", A, reference=IMPORT), put("latest", B))))
    changes = web.stream.apply(ImageMapped(by=at(20), put=(put("latest", A, followers=("a", "b")),)))
    assert changes == [
        TagChange("latest", PUT, entry(B, 2), entry(A, 20)),
        TagChange("a", FOLLOWED, entry(A, 2, reference=IMPORT), entry(A, 2), folded=True),
        TagChange("b", FOLLOWED, None, entry(A, 20)),
    ]


def test_a_new_spec_and_its_entry_are_told_as_one_change(web: Scenario) -> None:
    tags: dict[str, TagReference | None] = {"a": spec("a", OUTSIDE, 2), "b": spec("b", isimage(A), 2)}
    web.given(created())
    changes = web.stream.apply(TagSet(by=at(20), generation=2, tags=tags, put=(put("b", A, 2),)))
    assert changes == [TagChange("a", SPEC_SET, None, None), TagChange("b", PUT, None, entry(A, 20, 2))]


def test_an_event_that_changes_no_tag_tells_of_none(web: Scenario) -> None:
    web.given(created(spec("latest", OUTSIDE)))
    assert web.stream.apply(StreamUpdated(by=at(20), labels={"app": "web"})) == []


@pytest.mark.parametrize(
    ("policy", "repository", "image", "shown"),
    [
        ("Source", "registry/shop/web", A, IMPORT),
        ("Local", "registry/shop/web", A, f"registry/shop/web@{A}"),
        ("Local", "", A, IMPORT),
        ("Local", "registry/shop/web", "", IMPORT),
    ],
)
def test_the_pull_spec_for_clients(policy: str, repository: str, image: str, shown: str) -> None:
    head = entry(image, 2, reference=IMPORT)
    tag = Tag(TagReference(name="latest", reference_policy=policy), head)
    assert shown_reference(tag, repository) == shown


def test_without_a_spec_tag_clients_see_the_pull_spec_of_the_entry() -> None:
    assert shown_reference(Tag(None, entry(A, 2)), "registry/shop/web") == own(A)
    assert NO_TAG.spec is None


# --- copies


FURTHER: list[StreamEvent] = [
    StreamUpdated(by=at(50), generation=2, labels={"new": "1"}, tags={"latest": None, "other": spec("other", {}, 2)}),
    StreamUpdated(by=at(50), managed=({"manager": "m", "operation": "Update", "fieldsV1": {}},)),
    ImageMapped(by=at(50), put=(put("latest", B, followers=("a",)),)),
]


@pytest.mark.parametrize("event", FURTHER)
@pytest.mark.parametrize("copy_moves", [True, False])
def test_a_copy_and_its_stream_go_their_own_ways(web: Scenario, event: StreamEvent, copy_moves: bool) -> None:
    web.given(created(spec("latest", OUTSIDE), spec("a", istag("latest")), labels={"app": "web"}))
    web.given(ImageMapped(by=at(2), put=(put("latest", A),)))
    assert list(web.stream.followers("latest")) == ["a"]
    twin = web.stream.copy()
    moving, staying = (twin, web.stream) if copy_moves else (web.stream, twin)
    before = state(staying) | {"tags": dict(staying.tags)}
    moving.apply(event)
    assert state(moving) != before
    assert state(staying) == before
    assert list(staying.followers("latest")) == ["a"]


def test_a_copy_has_nothing_pending(web: Scenario) -> None:
    web.stream.map_image(at(2), "latest", A, own(A))
    assert web.stream.copy().pending == []
    assert len(web.stream.pending) == 1


# --- whatever happens


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], stateful_step_count=20)
names = st.sampled_from(["a", "b", "c"])
images = st.sampled_from([A, B])
fields: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.sampled_from([OUTSIDE, docker("quay.io/team/base:1", reference=True), istag("base:1"), isimage(f"base@{A}")]),
    names.map(istag),
    images.map(isimage),
)
spec_tags = st.builds(spec, names, fields, st.sampled_from([None, 0, 1]))
wanted = st.builds(
    lambda tags, local, labels, finalizers: desired(*tags, local_lookup=local, labels=labels, finalizers=finalizers),
    st.lists(spec_tags, max_size=3),
    st.booleans(),
    st.sampled_from([{}, {"app": "web"}]),
    st.sampled_from([(), ("hold",)]),
)


class AnyStream(RuleBasedStateMachine):
    """Every command in any order; what each must hold to is checked by the scenario itself."""

    def __init__(self) -> None:
        super().__init__()
        self.web = Scenario()
        self.web.world.streams["shop", "base"] = {"1": [entry(A, 3, reference=IMPORT)]}
        self.second = 10
        self.versions = 0

    def _when(self, command: Any) -> None:
        self.second += 1
        self.web.when(command)
        self.versions += len(self.web.events)

    @precondition(lambda self: not self.web.stream.exists)
    @rule(wanted=wanted)
    def create(self, wanted: Any) -> None:
        self._when(create(wanted, self.second, uid=f"uid-{self.second}"))

    @precondition(lambda self: self.web.stream.exists)
    @rule(wanted=wanted)
    def update(self, wanted: Any) -> None:
        self._when(update(wanted, self.second))

    @precondition(lambda self: self.web.stream.exists)
    @rule(tag=spec_tags)
    def set_tag(self, tag: TagReference) -> None:
        self._when(set_tag(tag.name, tag, self.second))

    @precondition(lambda self: self.web.stream.exists)
    @rule(name=names)
    def remove_spec(self, name: str) -> None:
        self._when(set_tag(name, None, self.second))

    @precondition(lambda self: self.web.stream.exists)
    @rule(name=names, image=images, reference=st.sampled_from([None, IMPORT]))
    def push(self, name: str, image: str, reference: str | None) -> None:
        self._when(push(name, image, self.second, reference))

    @precondition(lambda self: self.web.stream.exists)
    @rule(name=names)
    def delete_tag(self, name: str) -> None:
        self._when(delete_tag(name, self.second))

    @precondition(lambda self: self.web.stream.exists)
    @rule(kept=st.dictionaries(names, st.tuples(st.integers(0, 3), st.sampled_from([(), (FAILED,)]))))
    def prune(self, kept: dict[str, tuple[int, tuple[TagEventCondition, ...]]]) -> None:
        shown = self.web.shown
        status = {name: (tuple(shown.get(name, ())[:count]), found) for name, (count, found) in kept.items()}
        self._when(replace_status(status, self.second))

    @precondition(lambda self: self.web.stream.exists)
    @rule()
    def delete(self) -> None:
        self._when(delete(self.second))

    @invariant()
    def the_version_is_the_number_of_events(self) -> None:
        assert self.web.stream.version == self.versions

    @invariant()
    def nothing_empty_is_kept(self) -> None:
        assert NO_TAG not in self.web.stream.tags.values()
        assert all(self.web.shown.values())

    @invariant()
    def no_spec_tag_is_newer_than_the_stream(self) -> None:
        generation = self.web.stream.generation
        assert all((tag.generation or 0) <= generation for tag in self.web.stream.spec_tags.values())

    @invariant()
    def the_followers_are_those_that_the_spec_tags_say(self) -> None:
        for name in ("a", "b", "c"):
            following = [
                other
                for other, tag in self.web.stream.spec_tags.items()
                if other != name and tag.source == istag(name)["source"]
            ]
            assert list(self.web.stream.followers(name)) == following


TestAnyStream = AnyStream.TestCase
TestAnyStream.settings = unhurried


@unhurried
@given(wanted)
def test_a_stream_that_is_written_as_it_is_does_not_change(stream: Any) -> None:
    web = Scenario()
    web.world.streams["shop", "base"] = {"1": [entry(A, 3, reference=IMPORT)]}
    web.given(created())
    web.when(update(stream))
    if web.refusal is None:
        there = web.stream
        web.when(
            update(
                desired(
                    *there.spec_tags.values(),
                    labels=there.labels,
                    finalizers=there.finalizers,
                    local_lookup=there.local_lookup,
                ),
                101,
            )
        )
        web.then_nothing()

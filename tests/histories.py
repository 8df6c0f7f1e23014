"""Random histories: every command, on few streams, tags and images, so that they meet.

`histories` draws them, a `World` lives through them, and `shown` is all that can then be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import msgspec
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from msgspec import Raw

from imagestream_es.application.commands import Caller, Commands, Expected, TagWrite
from imagestream_es.application.drawings import Drawings
from imagestream_es.application.freshness import Freshness
from imagestream_es.application.history import History
from imagestream_es.application.hub import Hub
from imagestream_es.application.limits import Limits
from imagestream_es.application.principals import Principals
from imagestream_es.application.queries import Queries
from imagestream_es.application.recent import Recent
from imagestream_es.application.writer import Begun, Writer
from imagestream_es.domain.errors import DomainError
from imagestream_es.domain.events import Origin
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import DesiredStream, ImageStream
from imagestream_es.domain.tags import ObjectReference, TagEvent, TagEventCondition, TagReference
from imagestream_es.persistence import read_model
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.projections.past import StreamView

REGISTRY = "registry:5000"
SPACES, NAMES, TAGS = ["shop", "tools"], ["web", "base"], ["latest", "v1", "v2"]
IMAGES = [f"sha256:{letter * 64}" for letter in "ab"] + ["sha256:" + "a" * 63 + "b"]


# Most steps are about the same stream: histories grow, and there is something to refuse only now and then.
spaces, names = st.sampled_from(["shop"] * 5 + ["tools"]), st.sampled_from(["web"] * 5 + ["base"])
tag_names, image_names = st.sampled_from(TAGS), st.sampled_from(IMAGES)
small_maps = st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["", "1", "ü"]), max_size=2)
own_tags = tag_names | st.tuples(names, tag_names).map(":".join)
own_images = st.tuples(names, image_names | st.sampled_from(["sha256:aa", "b", "sha256:c"])).map("@".join)
sources = st.one_of(
    st.builds(ObjectReference, st.just("ImageStreamTag"), own_tags),
    st.builds(ObjectReference, st.just("ImageStreamTag"), own_tags, st.sampled_from(SPACES)),
    st.builds(ObjectReference, st.just("ImageStreamImage"), own_images, st.sampled_from(["", "shop"])),
    st.builds(ObjectReference, st.just("DockerImage"), st.sampled_from(["quay.io/o/x:1", "quay.io/o/y"])),
    st.none(),
)
tag_references = st.builds(
    TagReference,
    name=tag_names,
    source=sources,
    annotations=st.none() | small_maps,
    reference=st.booleans(),
    generation=st.none() | st.sampled_from([0, 1, 7]),
    insecure=st.booleans(),
    import_mode=st.sampled_from(["Legacy"] * 5 + ["PreserveOriginal"] * 4 + ["Wrong"]),
    reference_policy=st.sampled_from(["Source", "Local"]),
)
finalizers = st.sampled_from([(), (), ("held",)])
desired_streams = st.builds(
    DesiredStream,
    labels=small_maps,
    annotations=small_maps,
    generate_name=st.sampled_from(["", "we"]),
    finalizers=finalizers,
    owners=st.sampled_from([(), ({"kind": "App", "n": 1, "blockOwnerDeletion": True},)]),
    local_lookup=st.booleans(),
    source_repository=st.sampled_from(["", "", "quay.io/o/r", "quay.io/o/r", "not a repository:"]),
    tags=st.lists(tag_references, max_size=3, unique_by=lambda tag: tag.name).map(tuple),
)
entries = st.builds(
    TagEvent,
    st.none() | st.sampled_from([1_600_000_000, 1_700_000_000]),
    st.sampled_from([f"{REGISTRY}/shop/web@{IMAGES[0]}", "quay.io/o/x:1", "quay.io/o/y", "not a reference:"]),
    image_names | st.just(""),
    st.sampled_from([0, 1, 3]),
)
conditions = st.builds(
    TagEventCondition, st.just("ImportSuccess"), st.sampled_from(["True", "False"]), st.none() | st.just(1)
)
documents = st.fixed_dictionaries(
    {
        "dockerImageReference": st.sampled_from(["r", "s"]),
        "metadata": st.builds(dict, finalizers=finalizers.map(list), labels=small_maps),
    },
    optional={"signatures": st.just([1.5, None]), "gone": st.just("soon")},
)


def raw(document: Mapping[str, Any]) -> dict[str, Raw]:
    return {key: Raw(msgspec.json.encode(value)) for key, value in document.items()}


@dataclass
class World:
    """A service in memory whose clock ticks with every step; `restart` makes it forget all but the store.

    Its hub does not run unless it is started.
    """

    store: SQLiteStore = field(default_factory=lambda: SQLiteStore(None))
    seconds: float = 1_700_000_000.0
    uids: int = 0
    calls: int = 0

    def __post_init__(self) -> None:
        self.store.create_tables()
        self.queries = Queries(self.store)
        self.history = History(self.queries, lambda _: {})
        self.hub = Hub(self.store, None)
        self.principals = Principals(self.store, self.clock)
        self.limits = Limits(None, None)
        self.freshness = Freshness()
        self.memory = Recent(1 << 20)
        self.drawings = Drawings(self.queries, self.memory)
        self._start()

    def _start(self) -> None:
        self.writer = Writer(self.store, REGISTRY, self.hub.committed, freshness=self.freshness)
        self.writer.start(self.caller(None).by, "log")
        self.commands = Commands(self.writer, REGISTRY, self._uid)

    def _uid(self) -> str:
        self.uids += 1
        return f"uid-{self.uids}"

    def restart(self) -> None:
        self.writer.close()
        self._start()

    def close(self) -> None:
        self.hub.close()
        self.writer.close()
        self.store.close()

    def live_through(self, steps: Iterable[Step]) -> Iterator[int]:
        """Take the steps, and tell after each where the log ends; what is refused is part of life."""
        for step in steps:
            with suppress(DomainError):
                step(self)
            yield self.queries.position()

    def clock(self) -> int:
        return int(self.seconds * 1000)

    def caller(self, manager: str | None) -> Caller:
        self.seconds += 0.7
        by = Origin(at=self.clock(), actor="u", door="test")

        def owned(before: ImageStream | None, after: ImageStream) -> list[dict[str, Any]]:
            entry = {"manager": manager, "operation": "Update", "apiVersion": "v1", "time": str(by.seconds)}
            others = [one for one in (before.managed if before else ()) if one["manager"] != manager]
            return [*others, entry | {"fieldsV1": {f"f:{tag}": {} for tag in sorted(after.tags)}}]

        return Caller(by=by, may_pull=lambda space, _: space != "tools", ownership=owned if manager else None)

    def keyed(self, caller: Caller) -> Caller:
        """Every other time under an idempotency key of its own."""
        self.calls += 1
        key = f"key-{self.queries.position()}-{self.calls}" if self.calls % 2 else ""
        return msgspec.structs.replace(caller, by=msgspec.structs.replace(caller.by, key=key, fingerprint=key))

    def position(self, space: str, name: str) -> int:
        view = self.queries.image_stream(space, name)
        return view.stream.position if view else 1


Step = Callable[[World], object]


@st.composite
def commands(draw: st.DrawFn) -> Step:
    """One command with all that it takes."""
    space, name, tag, image = draw(spaces), draw(names), draw(tag_names), draw(image_names)
    manager = draw(st.sampled_from([None, None, "kubectl", "oc"]))
    kind = draw(st.sampled_from(KINDS))

    def call(world: World, method: str, *args: Any, **named: Any) -> object:
        note(f"{method} {args} {named}")
        answer = getattr(world.commands, method)(world.keyed(world.caller(manager)), *args, **named)
        return answer.outcome() if isinstance(answer, Begun) else answer

    if kind == "create":
        stream = draw(desired_streams)
        return lambda world: call(world, "create_image_stream", space, name, stream)
    if kind == "update":
        stream, stale = draw(desired_streams), draw(st.sampled_from([0, 0, 0, 1]))
        return lambda world: call(
            world, "update_image_stream", space, name, stream, Expected(position=world.position(space, name) - stale)
        )
    if kind == "map":
        own = f"{REGISTRY}/{space}/{name}@{image}"
        reference = draw(st.sampled_from([own, own, f"quay.io/o/x@{image}", "quay.io/o/x:1"]))
        document, managed = raw(draw(documents)), draw(st.booleans())
        return lambda world: call(world, "map_image", space, name, tag, image, document, reference, managed=managed)
    if kind in ("create tag", "put tag"):
        write = TagWrite(tag=draw(tag_references).named(tag))
        if kind == "put tag" and draw(st.booleans()):
            write = TagWrite(tag=None, annotations=draw(st.none() | small_maps), remove=draw(st.booleans()))
        method = "create_tag" if kind == "create tag" else "put_tag"
        return lambda world: call(world, method, space, name, tag, write, "imagestreamtags")
    if kind == "delete tag":
        return lambda world: call(world, "delete_tag", space, name, tag, "imagestreamtags")
    if kind == "replace status":
        pruning = draw(prunings())
        return lambda world: call(world, "replace_status", space, name, pruning(world, space, name), Expected())
    if kind == "delete":
        return lambda world: call(world, "delete_image_stream", space, name, Expected())
    document = raw(draw(documents))
    if kind == "create image":
        return lambda world: call(world, "create_image", image, document)
    if kind == "update image":
        return lambda world: call(world, "update_image", image, lambda _: document)
    if kind == "delete image":
        return lambda world: call(world, "delete_image", image, Expected())
    return lambda world: world.restart()


KINDS = (
    ["map"] * 5
    + ["put tag"] * 4
    + ["update"] * 3
    + ["replace status"] * 3
    + ["create", "delete", "create tag", "delete tag", "create image", "update image", "delete image", "restart"]
)

Histories = dict[str, tuple[tuple[TagEvent, ...], tuple[TagEventCondition, ...]]]
Pruning = Callable[[World, str, str], Histories]


@st.composite
def prunings(draw: st.DrawFn) -> Pruning:
    """What somebody writes as the status of a stream: of what is there some is kept, changed, or replaced."""
    kept = draw(st.lists(st.booleans(), min_size=6, max_size=6))
    new = draw(st.dictionaries(tag_names, st.lists(entries, max_size=2), max_size=1))
    told = draw(st.dictionaries(tag_names, st.lists(conditions, max_size=1).map(tuple), max_size=2))
    turned, keeps_conditions = draw(st.booleans()), draw(st.booleans())

    def prune(world: World, space: str, name: str) -> Histories:
        view = world.queries.image_stream(space, name)
        if view is None:
            return {}
        wanted: Histories = {}
        for tag in TAGS:
            items = [item for item, keep in zip(view.items.get(tag, ()), kept * 20, strict=False) if keep]
            items = new.get(tag, []) + (items[::-1] if turned else items)
            old = view.stream.tag(tag).conditions if keeps_conditions else ()
            if items or tag in told or old:
                wanted[tag] = (tuple(items), told.get(tag, old))
        return wanted

    return prune


@contextmanager
def frequent_snapshots() -> Iterator[None]:
    with patch.object(read_model, "snapshot_due", lambda stream: stream.version % 3 == 0):
        yield


@contextmanager
def a_world() -> Iterator[World]:
    with frequent_snapshots():
        world = World()
        try:
            for space in SPACES:
                world.commands.create_image_stream(world.caller(None), space, "web", DesiredStream())
            yield world
        finally:
            world.close()


def shown(world: World, at: int | None = None) -> dict[str, Any]:
    """All that can be asked about streams and images, in plain values by id."""
    found: list[StreamView | Image] = [*world.queries.image_streams(None, at).found, *world.queries.images(at).found]
    return {id_of(view): plain(view) for view in found}


def id_of(view: StreamView | Image) -> str:
    """The id of a stream or image."""
    return view.stream.id if isinstance(view, StreamView) else view.id


def plain(view: StreamView | Image) -> dict[str, Any]:
    """A stream with its histories, or an image, in plain values."""
    if isinstance(view, StreamView):
        return _fields(view.stream) | {"items": {tag: tuple(items) for tag, items in view.items.items()}}
    return _fields(view) | {"document": {name: bytes(value) for name, value in view.document.items()}}


def _fields(thing: ImageStream | Image) -> dict[str, Any]:
    return {slot: getattr(thing, slot) for slot in type(thing).__slots__ if slot not in ("_followers", "pending")}


histories = st.lists(commands(), min_size=8, max_size=30)
thoroughly = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

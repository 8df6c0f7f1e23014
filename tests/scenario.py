"""Given events, when a command, then events: what an image stream decides, without any store.

Whatever a test is about, every command is checked to make at most one event, to tell of every tag that it
changed, and to leave a stream that its stored events give again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from imagestream_es.domain.errors import DomainError, FieldProblem, Invalid, Problem
from imagestream_es.domain.events import Origin, Put, StreamCreated, StreamEvent
from imagestream_es.domain.image_stream import NO_TAG, DesiredStream, ImageStream, TagChange
from imagestream_es.domain.references import image_matches
from imagestream_es.domain.resolution import Catalog
from imagestream_es.domain.tags import (
    DOCKER_IMAGE,
    IMAGE_STREAM_IMAGE,
    IMAGE_STREAM_TAG,
    ObjectReference,
    TagEvent,
    TagEventCondition,
    TagReference,
)
from imagestream_es.projections.past import NO_HISTORY, Histories, evolve_histories

REGISTRY = "172.30.56.218:5000"
NAMESPACE, NAME = "shop", "web"
REPOSITORY = f"{REGISTRY}/{NAMESPACE}/{NAME}"
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")

Status = Mapping[str, tuple[tuple[TagEvent, ...], tuple[TagEventCondition, ...]]]
Command = Callable[[ImageStream, Catalog, Callable[[str], tuple[TagEvent, ...]]], None]


def at(second: int) -> Origin:
    """Who and when: only the second matters."""
    return Origin(at=second * 1000, actor="somebody", door="api")


# --- values


def docker(name: str, **more: Any) -> dict[str, Any]:
    """A source outside."""
    return {"source": ObjectReference(DOCKER_IMAGE, name), **more}


def istag(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    """A tag as a source."""
    return {"source": ObjectReference(IMAGE_STREAM_TAG, name, namespace), **more}


def isimage(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    """An image of a stream as a source."""
    return {"source": ObjectReference(IMAGE_STREAM_IMAGE, name, namespace), **more}


def spec(name: str, fields: Mapping[str, Any] | None = None, generation: int | None = None) -> TagReference:
    """A spec tag."""
    return TagReference(name=name, generation=generation, **(fields or {}))


def desired(*tags: TagReference, **more: Any) -> DesiredStream:
    """A stream as a client wants it."""
    return DesiredStream(tags=tags, **more)


def own(image: str) -> str:
    """The default pull spec of an image of the stream under test."""
    return f"{REPOSITORY}@{image}"


def entry(image: str, created: int, generation: int = 1, reference: str | None = None) -> TagEvent:
    """An entry of a history; without a pull spec it has the default one."""
    return TagEvent(created, own(image) if reference is None else reference, image, generation)


def created(*tags: TagReference, second: int = 1, **more: Any) -> StreamCreated:
    """The event that begins the stream under test, its spec tags at generation 1."""
    specs = {tag.name: msgspec.structs.replace(tag, generation=1) for tag in tags}
    fields: dict[str, Any] = {"repository": REPOSITORY, "generation": 1, "tags": specs or None, **more}
    return StreamCreated(by=at(second), namespace=NAMESPACE, name=NAME, uid="uid-1", **fields)


def put(tag: str, image: str, generation: int = 1, **more: Any) -> Put:
    """An entry on top of a history."""
    return Put(tag=tag, image=image, generation=generation, **more)


def missing(field: str, value: str) -> FieldProblem:
    """A source that does not exist."""
    return FieldProblem(Problem.NOT_FOUND, field, value=value)


# --- commands


def create(wanted: DesiredStream, second: int = 1, uid: str = "uid-1") -> Command:
    return lambda stream, world, _: stream.create(at(second), uid, wanted, world)


def update(wanted: DesiredStream, second: int = 100) -> Command:
    return lambda stream, world, _: stream.update(at(second), wanted, world)


def set_tag(name: str, wanted: TagReference | None, second: int = 100) -> Command:
    return lambda stream, world, _: stream.set_tag(at(second), wanted, name, world)


def push(tag: str, image: str, second: int = 100, reference: str | None = None) -> Command:
    where = own(image) if reference is None else reference
    return lambda stream, _, __: stream.map_image(at(second), tag, image, where)


def delete_tag(name: str, second: int = 100) -> Command:
    return lambda stream, _, __: stream.delete_tag(at(second), name, "imagestreamtags")


def replace_status(tags: Status, second: int = 100) -> Command:
    return lambda stream, _, history: stream.replace_status(at(second), tags, history)


def delete(second: int = 100) -> Command:
    return lambda stream, _, __: stream.delete(at(second))


# --- the world and the stage


class World:
    """Other streams, as the stream under test may ask for them."""

    def __init__(self) -> None:
        self.registry = REGISTRY
        self.registries = [REGISTRY, "registry.example.com"]
        self.streams: dict[tuple[str, str], Histories] = {}
        self.forbidden: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []

    def has_stream(self, namespace: str, name: str) -> bool:
        return (namespace, name) in self.streams

    def newest(self, namespace: str, name: str, tag: str) -> TagEvent | None:
        items = self.streams.get((namespace, name), NO_HISTORY).get(tag)
        return items[0] if items else None

    def images_in(self, namespace: str, name: str, wanted: str) -> Sequence[TagEvent]:
        found: dict[str, TagEvent] = {}
        for _, items in sorted(self.streams.get((namespace, name), NO_HISTORY).items()):
            for item in items:
                if image_matches(item.image, wanted):
                    found.setdefault(item.image, item)
        return list(found.values())

    def may_pull(self, namespace: str, name: str) -> bool:
        self.asked.append((namespace, name))
        return (namespace, name) not in self.forbidden


def state(stream: ImageStream) -> dict[str, Any]:
    """All that events say of a stream."""
    passing = {"pending", "_followers"}
    return {slot: getattr(stream, slot) for slot in stream.__slots__ if slot not in passing}


class Scenario:
    """One stream: what happened to it, what it is asked to do, what comes of it.

    `shown` are its histories as the API shows them, `world` is all else that there is.
    """

    def __init__(self) -> None:
        self.stream = ImageStream(NAMESPACE, NAME)
        self.world = World()
        self.shown: Histories = NO_HISTORY
        self.events: list[StreamEvent] = []
        self.changes: list[TagChange] = []
        self.refusal: DomainError | None = None
        self._log: list[StreamEvent] = []

    def given(self, *events: StreamEvent) -> None:
        """These events happened."""
        for event in events:
            self._happened(event, self.stream.apply(event))

    def when(self, command: Command) -> None:
        """The stream gets a command."""
        before = self.stream.copy()
        self.refusal, self.changes = None, []
        try:
            command(self.stream, self.world, lambda tag: tuple(self.shown.get(tag, ())))
        except DomainError as refusal:
            self.refusal = refusal
        self.events = [event for event, _ in self.stream.pending]
        for event, changes in self.stream.pending:
            self.changes.extend(changes)
            self._happened(event, changes)
        self.stream.pending.clear()
        assert len(self.events) <= (0 if self.refusal else 1)
        self._check_what_is_told(before)
        assert state(self.stream) == state(self._replayed())

    def then(self, *events: StreamEvent) -> None:
        """Exactly these events followed."""
        assert self.refusal is None
        assert self.events == list(events)

    def then_nothing(self) -> None:
        """The command changed nothing, and was not refused."""
        self.then()

    def then_refused(self, refusal: DomainError) -> None:
        """The command was refused so."""
        assert self.refusal == refusal

    def then_invalid(self, *problems: FieldProblem, unresolved: Sequence[FieldProblem] = ()) -> None:
        """The command was refused for the fields of the stream, and for sources that were not found."""
        inner = Invalid("imagestreams", NAME, list(unresolved))
        wrapped = [FieldProblem(Problem.INTERNAL, "[]", value=inner)] if unresolved else []
        self.then_refused(Invalid("ImageStream", NAME, [*wrapped, *problems]))

    def _happened(self, event: StreamEvent, changes: Sequence[TagChange]) -> None:
        self._log.append(event)
        self.shown = evolve_histories(self.shown, changes, lambda entry: entry)
        if self.stream.exists:
            self.world.streams[NAMESPACE, NAME] = self.shown
        else:
            self.world.streams.pop((NAMESPACE, NAME), None)

    def _check_what_is_told(self, before: ImageStream) -> None:
        changed = {
            name
            for name in before.tags.keys() | self.stream.tags.keys()
            if before.tags.get(name, NO_TAG) != self.stream.tags.get(name, NO_TAG)
        }
        assert changed <= {change.tag for change in self.changes}
        for name, tag in self.stream.tags.items():
            assert tag.head == next(iter(self.shown.get(name, ())), None)

    def _replayed(self) -> ImageStream:
        stream = ImageStream(NAMESPACE, NAME)
        for event in self._log:
            stream.apply(msgspec.json.decode(msgspec.json.encode(event), type=type(event)))
        return stream

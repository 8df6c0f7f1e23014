"""What imports make of a stream: one rule for every image that was fetched for a tag, or could not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from imagestream_es.domain.events import Origin, Put, StreamEvent
from imagestream_es.domain.resolution import followed_tags
from imagestream_es.domain.tags import (
    DOCKER_IMAGE,
    LEGACY,
    SOURCE,
    ObjectReference,
    TagEvent,
    TagEventCondition,
    TagReference,
    put_on_top,
    same_target,
)

if TYPE_CHECKING:
    from imagestream_es.domain.image_stream import ImageStream

E = TypeVar("E", bound=StreamEvent)

CHECKED = "openshift.io/image.dockerRepositoryCheck"
"""Annotation of a stream: when images were last imported into it."""
IMPORT_SUCCESS = "ImportSuccess"
"""The type of the condition that a failed import leaves behind."""


class Fetched(Struct, frozen=True):
    """An image is there: its name, and the pull spec that names its content."""

    image: str
    reference: str


class Failed(Struct, frozen=True):
    """There is no image; why, for programs and for people."""

    reason: str
    message: str


class TagImport(Struct, frozen=True, kw_only=True):
    """An attempt to import an image into a tag: from which pull spec, under which policies, and how it ended."""

    tag: str
    source: str
    outcome: Fetched | Failed
    insecure: bool = False
    scheduled: bool = False
    import_mode: str = LEGACY
    reference_policy: str = SOURCE


def with_attempts(event: E, stream: ImageStream, attempts: Sequence[TagImport]) -> E:
    """An event that begins the stream, or changes it, with all that the attempts change besides.

    Attempts count in their order. The event comes back as it is if they change nothing and the stream was
    checked before.
    """
    ledger = _Ledger(stream, event.by)
    for attempt in attempts:
        if isinstance(attempt.outcome, Fetched):
            ledger.succeed(attempt, attempt.outcome)
        else:
            ledger.fail(attempt, attempt.outcome)
    return ledger.enter(event)


class _Ledger:
    """The tags as the attempts leave them, beside the stream as it was."""

    def __init__(self, stream: ImageStream, by: Origin) -> None:
        self._stream = stream
        self._by = by
        self._generation = stream.generation + 1 if stream.exists else 1
        self._specs: dict[str, TagReference] = dict(stream.spec_tags)
        self._heads: dict[str, TagEvent | None] = {}
        self._conditions: dict[str, tuple[TagEventCondition, ...]] = {}
        self._puts: list[tuple[str, TagEvent]] = []

    def succeed(self, attempt: TagImport, fetched: Fetched) -> None:
        """The tag gets the image, unless it shows it already; whatever failed before is forgotten."""
        tag, spec = attempt.tag, self._specs.get(attempt.tag)
        entry = TagEvent(self._by.seconds, fetched.reference, fetched.image, self._generation)
        if spec is None or not _is_from_outside(spec) or not _shows(self._head(tag), entry, spec.generation):
            spec = self._sourced(attempt, spec)
            self._put(tag, entry)
        self._specs[tag] = _with_policy(spec, attempt)
        self._conditions[tag] = ()

    def fail(self, attempt: TagImport, failed: Failed) -> None:
        """The tag keeps its history and gets a condition; saying the same once more changes nothing."""
        tag, spec = attempt.tag, self._specs.get(attempt.tag)
        message = failed.message or "unknown error prevented import"
        condition = TagEventCondition(
            IMPORT_SUCCESS, "False", self._by.seconds, failed.reason, message, self._generation
        )
        if spec is None:
            spec = _with_policy(self._sourced(attempt, None), attempt)
        elif any(_says(known, condition, spec.generation) for known in self._conditions_of(tag)):
            self._conditions[tag] = self._conditions_of(tag)
            return
        self._specs[tag] = replace(spec, generation=self._generation)
        self._conditions[tag] = (condition,)

    def _sourced(self, attempt: TagImport, spec: TagReference | None) -> TagReference:
        """A spec tag with the source of the attempt; a policy for pull specs that it has stays."""
        known = spec or TagReference(name=attempt.tag, reference_policy=attempt.reference_policy)
        return replace(known, source=ObjectReference(DOCKER_IMAGE, attempt.source), generation=self._generation)

    def _head(self, tag: str) -> TagEvent | None:
        return self._heads[tag] if tag in self._heads else self._stream.newest(tag)

    def _conditions_of(self, tag: str) -> tuple[TagEventCondition, ...]:
        return self._conditions.get(tag, self._stream.tag(tag).conditions)

    def _put(self, tag: str, entry: TagEvent) -> None:
        self._heads[tag] = put_on_top(self._head(tag), entry)[0]
        self._puts.append((tag, entry))

    def enter(self, event: E) -> E:
        """The event with everything that is not as it was."""
        old = self._stream.spec_tags
        specs: dict[str, TagReference | None] = {
            name: spec for name, spec in self._specs.items() if old.get(name) != spec
        }
        puts = self._with_followers()
        conditions = {name: found for name, found in self._conditions.items() if self._must_be_told(name, found)}
        changed = bool(specs or conditions or puts)
        annotations = self._stream.annotations if self._stream.exists else {}
        if not changed and CHECKED in annotations:
            return event
        checked = datetime.fromtimestamp(self._by.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return replace(
            event,
            annotations={**annotations, CHECKED: checked},
            generation=self._generation if specs else event.generation,
            tags=specs or None,
            put=puts,
            conditions=conditions or None,
        )

    def _must_be_told(self, tag: str, conditions: tuple[TagEventCondition, ...]) -> bool:
        # An entry that is put on top takes the conditions away without a word.
        before = () if tag in self._heads else self._stream.tag(tag).conditions
        return conditions != before

    def _with_followers(self) -> tuple[Put, ...]:
        followed = followed_tags(self._specs.values(), self._stream.namespace, self._stream.name)
        return tuple(
            Put(
                tag=tag,
                image=entry.image,
                generation=entry.generation,
                reference=entry.reference,
                followers=tuple(name for name in _all_behind(tag, followed) if self._moves(name, entry)),
            )
            for tag, entry in self._puts
        )

    def _moves(self, tag: str, entry: TagEvent) -> bool:
        if same_target(self._head(tag), entry):
            return False
        self._heads[tag] = put_on_top(self._head(tag), entry)[0]
        return True


def _with_policy(spec: TagReference, attempt: TagImport) -> TagReference:
    return replace(spec, insecure=attempt.insecure, scheduled=attempt.scheduled, import_mode=attempt.import_mode)


def _is_from_outside(spec: TagReference) -> bool:
    """Whether a tag is one for imports already, and follows no other tag."""
    return spec.source is not None and spec.source.kind == DOCKER_IMAGE


def _shows(head: TagEvent | None, entry: TagEvent, wanted: int | None) -> bool:
    """Whether a history shows an image already, at a generation at which nobody asks for another import."""
    return head is not None and (wanted or 0) <= head.generation and _target(head) == _target(entry)


def _target(entry: TagEvent) -> tuple[str, str]:
    return entry.reference, entry.image


def _says(known: TagEventCondition, new: TagEventCondition, wanted: int | None) -> bool:
    """Whether a condition says the same as a new one, and answers the last request for an import already."""
    same = (known.type, known.status, known.reason, known.message) == (new.type, new.status, new.reason, new.message)
    return same and (wanted or 0) <= known.generation


def _all_behind(tag: str, followed: Mapping[str, str]) -> list[str]:
    """The tags that follow a tag, and those that follow them; `followed` names what each follows."""
    found, waiting = [tag], [tag]
    while waiting:
        leader = waiting.pop(0)
        behind = sorted(name for name, other in followed.items() if other == leader and name not in found)
        found += behind
        waiting += behind
    return found[1:]

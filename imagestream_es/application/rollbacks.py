"""Rollbacks: a tag names again what it named before. What that was is looked up where it is decided."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec
from msgspec import Struct

from imagestream_es.application.commands import Caller, stream_then
from imagestream_es.application.writer import Decision, Work, Writer
from imagestream_es.domain.errors import FieldProblem, Invalid, NotFound, Problem
from imagestream_es.domain.events import Restored
from imagestream_es.domain.idempotency import Done
from imagestream_es.domain.image_stream import ImageStream
from imagestream_es.domain.past import Target
from imagestream_es.domain.tags import DOCKER_IMAGE, IMAGE_STREAM_TAG, ImageGuard, TagReference
from imagestream_es.persistence.store import Rows
from imagestream_es.persistence.tag_history import heads

KIND = "Rollback"
RESOURCE = "rollbacks"


class Wanted(Struct, frozen=True, kw_only=True):
    """Which of the images of a tag is meant: that of a position, that of so many changes ago, or one by name."""

    stream: str
    tag: str
    position: int | None = None
    changes_ago: int | None = None
    image: str | None = None
    expected: str = ""


class RolledBack(Struct, frozen=True):
    """What came of a rollback: before, afterwards, since when the tag had named that, and who follows.

    `position` is that of the change, None if there was none. `spec` is what the tag should be.
    """

    before: Target | None
    after: Target
    restored: int
    position: int | None
    followers: tuple[str, ...]
    spec: TagReference | None


def roll_back(writer: Writer, caller: Caller, namespace: str, wanted: Wanted, *, dry: bool) -> RolledBack:
    """Roll a tag back. Raises NotFound, TagMoved, Invalid."""

    def decide(work: Work) -> tuple[ImageStream, RolledBack]:
        stream = work.stream(namespace, wanted.stream)
        if stream is None:
            raise NotFound(RESOURCE, wanted.stream)
        if wanted.expected:
            stream.check_image(wanted.tag, ImageGuard(images=(wanted.expected,)), RESOURCE)
        work.flush()
        answer = _moved(work.rows, caller, stream, wanted, work.head)
        if not work.image_of(answer.after.image).exists:
            raise _invalid(wanted, f"the image {answer.after.image} does not exist any more: push it again")
        return stream, answer

    def keep(pair: tuple[ImageStream, RolledBack]) -> RolledBack:
        stream, answer = pair
        if answer.position is None:
            return answer
        return msgspec.structs.replace(answer, position=stream.position)

    def recall(rows: Rows, done: Done) -> RolledBack:
        stream = stream_then(rows, namespace, wanted.stream, done.before)
        answer = _moved(rows, caller, stream, wanted, done.before)
        return answer if answer.position is None else msgspec.structs.replace(answer, position=done.after)

    if (done := caller.done) is not None:
        return writer.recall(lambda rows: recall(rows, done))
    return writer.execute(Decision(decide, keep, None, caller.may_pull, caller.claim), dry=dry)


def _moved(rows: Rows, caller: Caller, stream: ImageStream, wanted: Wanted, head: int) -> RolledBack:
    """Roll a tag of a stream back as the log ends at `head`; position 0 stands for one that is not known yet."""
    position, found = _find(rows, stream, wanted, head)
    newest = stream.newest(wanted.tag)
    before = None if newest is None else Target(newest.image, newest.reference)
    restored = Restored(position=position, image=found.image, reference=found.reference)
    stream.roll_back(caller.by, wanted.tag, restored)
    followers = tuple(name for event, _ in stream.pending for put in event.put for name in put.followers)
    spec = stream.tag(wanted.tag).spec
    return RolledBack(before, found, position, 0 if stream.pending else None, followers, spec)


def undone_by(spec: TagReference | None) -> str:
    """What will move a tag again after it was rolled back; "" for nothing."""
    if spec is None or spec.source is None:
        return ""
    if spec.source.kind == DOCKER_IMAGE and spec.scheduled:
        return f"the tag is imported from {spec.source.name} on schedule, which moves it again"
    if spec.source.kind == IMAGE_STREAM_TAG:
        return f"the tag follows {spec.source.name}: it moves again when that tag does"
    return ""


def _find(rows: Rows, stream: ImageStream, wanted: Wanted, head: int) -> tuple[int, Target]:
    """What the tag named, and the position since when. Raises Invalid."""

    def named(*, until: int = head, image: str | None = None) -> Iterator[tuple[int, Target | None]]:
        return heads(rows, stream.number, wanted.tag, stream.repository, until=until, image=image)

    if wanted.image is not None:
        for position, found in named(image=wanted.image):
            if found is not None:
                return position, found
        raise _invalid(wanted, "the tag has never named this image")
    if wanted.position is not None:
        if wanted.position > head:
            raise _invalid(wanted, f"the log ends at position {head}")
        position, found = next(named(until=wanted.position), (0, None))
        if found is None or not found.image:
            raise _invalid(wanted, "the tag named no image then")
        return position, found
    assert wanted.changes_ago is not None
    present = stream.newest(wanted.tag)
    ago = wanted.changes_ago if present is not None and present.image else wanted.changes_ago - 1
    for position, found in islice(_different(named()), ago, None):
        return position, found
    raise _invalid(wanted, "the tag has not had so many images")


def _different(named: Iterator[tuple[int, Target | None]]) -> Iterator[tuple[int, Target]]:
    """The images of a tag, newest first, each once for as long as the tag had no other one in between."""
    last = ""
    for position, found in named:
        if found is not None and found.image and found.image != last:
            last = found.image
            yield position, found


def _invalid(wanted: Wanted, detail: str) -> Invalid:
    fields = {"spec.toPosition": wanted.position, "spec.changesAgo": wanted.changes_ago, "spec.toImage": wanted.image}
    field, value = next((name, value) for name, value in fields.items() if value is not None)
    return Invalid(KIND, f"{wanted.stream}:{wanted.tag}", [FieldProblem(Problem.INVALID, field, detail, value)])

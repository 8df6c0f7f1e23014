"""Commands: each is one decision for the writer, answered when it is durable.

`dry=True` decides and answers the same without storing anything. `resource` is what the client asked for:
refusals name it. A command that was `done` before is not decided again: its answer is read from the past.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Raw, Struct

from imagestream_es.application.queries import TagView, view_tag
from imagestream_es.application.writer import Begun, Decision, Work, Writer
from imagestream_es.domain import image as images
from imagestream_es.domain import image_stream as streams
from imagestream_es.domain.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    FieldProblem,
    Forbidden,
    Invalid,
    NotFound,
    Problem,
)
from imagestream_es.domain.events import Origin
from imagestream_es.domain.idempotency import Claim, Done, claim_of
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import DesiredStream, ImageStream
from imagestream_es.domain.references import stream_repository
from imagestream_es.domain.tags import ImageGuard, TagEvent, TagEventCondition, TagReference
from imagestream_es.persistence import idempotency
from imagestream_es.persistence.store import Rows
from imagestream_es.projections.past import StreamView, image_at, stream_at, view_at

T = TypeVar("T")
V = TypeVar("V")
R = TypeVar("R")

GENERATED = "bcdfghjklmnpqrstvwxz2456789"
"""The characters that Kubernetes makes generated names of: no vowels, no look-alikes."""


def anyone(namespace: str, name: str) -> bool:  # noqa: ARG001
    """Lets everybody take images from every stream."""
    return True


Ownership = Callable[[ImageStream | None, ImageStream], Sequence[dict[str, Any]]]
"""The managedFields of a stream after a write, told from the stream before (None: it was made) and after."""


class Caller(Struct, frozen=True, kw_only=True):
    """Who commands: the origin for events, from which other streams they may take images, and what they own.

    `may_create` says whether a write of what is not there may make it. `done` is set where they ask once more for what
    was done under their idempotency key.
    """

    by: Origin
    may_pull: Callable[[str, str], bool] = anyone
    may_create: bool = True
    ownership: Ownership | None = None
    done: Done | None = None

    @property
    def claim(self) -> Claim | None:
        """The claim to do this once, None without an idempotency key."""
        return claim_of(self.by)


class Expected(Struct, frozen=True, kw_only=True):
    """What a caller saw of the object it writes: its position and uid, None where it did not say.

    With `pushes`, a stream may have taken pushes since: they do not touch what the caller writes. `image` is what
    the tag that is written must name.
    """

    position: int | None = None
    uid: str | None = None
    pushes: bool = False
    image: ImageGuard | None = None


@dataclass(frozen=True, kw_only=True)
class TagWrite:
    """What an image stream tag or image tag is to be.

    `tag` None keeps the spec tag, unless `remove` takes it away; `annotations` None keeps those of the spec tag.
    `labels` must be those of the stream, if given.
    """

    tag: TagReference | None
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    remove: bool = False


NOTHING_EXPECTED = Expected()


@dataclass(frozen=True)
class Commands:
    """Everything that changes a stream or an image."""

    writer: Writer
    registry: str
    make_uid: Callable[[], str]
    random: random.Random = field(default_factory=random.SystemRandom)

    def _run(
        self,
        caller: Caller,
        decide: Callable[[Work], T],
        keep: Callable[[T], V],
        look: Callable[[Rows, V], R] | None,
        recall: Callable[[Rows, Done], R],
        *,
        dry: bool,
    ) -> R:
        if (done := caller.done) is not None:
            return self.writer.recall(lambda rows: recall(rows, done))
        claim = caller.claim
        if claim is not None and look is not None and not dry:
            # What is answered now is what a retry will be answered, whatever others do in between.
            look = lambda rows, _: recall(rows, idempotency.find(rows, [claim.id])[claim.id])  # noqa: E731
        return self.writer.execute(Decision(decide, keep, look, caller.may_pull, claim), dry=dry)

    # --- streams

    def create_image_stream(
        self,
        caller: Caller,
        namespace: str,
        name: str,
        desired: DesiredStream,
        *,
        dry: bool = False,
    ) -> StreamView:
        """Create a stream; without a name, under one that is made from a prefix. Raises AlreadyExists, Invalid."""
        uid = self.make_uid()

        def decide(work: Work) -> ImageStream:
            stream = work.stream_of(namespace, name) if name else self._unused(work, namespace, desired.generate_name)
            with _owning(caller, stream):
                stream.create(caller.by, uid, desired, work)
            return stream

        def recall(rows: Rows, done: Done) -> StreamView:
            made = _made_at(rows, done.after).partition("/")[2]  # the name may have been generated
            return view_at(rows, stream_then(rows, namespace, made, done.after))

        return self._run(caller, decide, _copied, view_at, recall, dry=dry)

    def generated(self, prefix: str) -> str:
        """A name made from a prefix; it may be taken."""
        return prefix + "".join(self.random.choices(GENERATED, k=5))

    def _unused(self, work: Work, namespace: str, prefix: str) -> ImageStream:
        for _ in range(8):
            stream = work.stream_of(namespace, self.generated(prefix))
            if not stream.exists:
                return stream
        raise AlreadyExists(streams.RESOURCE, prefix)

    def update_image_stream(
        self,
        caller: Caller,
        namespace: str,
        name: str,
        desired: DesiredStream,
        expected: Expected,
        *,
        dry: bool = False,
    ) -> StreamView:
        """Write spec and metadata of a stream. Raises NotFound, Conflict, Invalid."""

        def decide(work: Work) -> ImageStream:
            stream = _existing(work, namespace, name, streams.RESOURCE)
            stream.check_position(expected.position, expected.uid, streams.RESOURCE, name, pushes=expected.pushes)
            with _owning(caller, stream):
                stream.update(caller.by, desired, work)
            return stream

        return self._run(caller, decide, _copied, view_at, _viewed(namespace, name), dry=dry)

    def replace_status(
        self,
        caller: Caller,
        namespace: str,
        name: str,
        tags: Mapping[str, tuple[tuple[TagEvent, ...], tuple[TagEventCondition, ...]]],
        expected: Expected,
        *,
        dry: bool = False,
    ) -> StreamView:
        """Write the shown histories and conditions of a stream. Raises NotFound, Conflict, Invalid."""

        def decide(work: Work) -> ImageStream:
            stream = _existing(work, namespace, name, streams.RESOURCE)
            stream.check_position(expected.position, expected.uid, streams.RESOURCE, name)
            stream.replace_status(caller.by, tags, lambda tag: work.history(stream, tag))
            return stream

        return self._run(caller, decide, _copied, view_at, _viewed(namespace, name), dry=dry)

    def delete_image_stream(
        self, caller: Caller, namespace: str, name: str, expected: Expected, *, dry: bool = False
    ) -> StreamView:
        """Delete a stream; answers it as it was, or as it is while finalizers hold it. Raises NotFound, Conflict."""

        def decide(work: Work) -> tuple[ImageStream, ImageStream]:
            stream = _existing(work, namespace, name, streams.RESOURCE)
            stream.check_position(expected.position, expected.uid, streams.RESOURCE, name)
            before = stream.copy()
            stream.delete(caller.by)
            return before, stream

        def recall(rows: Rows, done: Done) -> StreamView:
            stream = stream_then(rows, namespace, name, done.after)
            return view_at(rows, stream if stream.exists else stream_then(rows, namespace, name, done.before))

        return self._run(
            caller, decide, lambda pair: pair[1].copy() if pair[1].exists else pair[0], view_at, recall, dry=dry
        )

    # --- tags

    def recall_mapping(self) -> None:
        """Note that the mapping of an image was asked for again under its key: nothing is done, and nothing to tell.

        Raises Unavailable.
        """
        self.writer.recall(lambda _: None)

    def map_image(
        self,
        caller: Caller,
        namespace: str,
        name: str,
        tag: str,
        image: str,
        document: Mapping[str, Raw],
        reference: str,
        expected: Expected = NOTHING_EXPECTED,
        *,
        managed: bool,
        dry: bool = False,
    ) -> Begun[None]:
        """Begin to make an image known, if it is not yet, and to put it on a tag.

        The outcome raises NotFound, TagMoved; there is none to be recalled of what was done before.

        `managed` says that the image lives in the internal registry: if it is known already, it is pulled
        through this stream, whatever `reference` says.
        """
        uid = self.make_uid()

        def decide(work: Work) -> None:
            stream = _existing(work, namespace, name, "imagestreammappings")
            stream.check_image(tag, expected.image, "imagestreamtags")
            found = work.image_of(image)
            pull_spec = reference
            if not found.exists:
                found.register(caller.by, uid, document)
            elif managed:
                base = stream_repository(self.registry, namespace, name) or stream.source_repository
                pull_spec = f"{base}@{image}"
            stream.map_image(caller.by, tag, image, pull_spec)

        decision: Decision[None, None, None] = Decision(
            decide, _as_it_is, None, caller.may_pull, caller.claim, images=(image,)
        )
        return self.writer.begin(decision, dry=dry)

    def create_tag(
        self,
        caller: Caller,
        namespace: str,
        name: str,
        tag: str,
        write: TagWrite,
        resource: str,
        expected: Expected = NOTHING_EXPECTED,
        *,
        history: bool = False,
        dry: bool = False,
    ) -> TagView:
        """Add a spec tag, and the stream if there is none; answers it, with its `history` if wanted.

        Raises AlreadyExists, Invalid, TagMoved.
        """
        uid = self.make_uid()

        def decide(work: Work) -> ImageStream:
            stream = work.stream_of(namespace, name)
            stream.check_image(tag, expected.image, resource)
            if stream.exists and tag in stream.spec_tags:
                raise AlreadyExists(resource, f"{name}:{tag}")
            self._write_tag(work, caller, stream, write.tag, tag, uid)
            return stream

        def look(rows: Rows, stream: ImageStream) -> TagView:
            return view_tag(rows, stream, tag, history=history)

        def recall(rows: Rows, done: Done) -> TagView:
            stream = stream_then(rows, namespace, name, done.after)
            return view_tag(rows, stream, tag, history=history, at=done.after)

        return self._run(caller, decide, _copied, look, recall, dry=dry)

    def put_tag(
        self,
        caller: Caller,
        namespace: str,
        name: str,
        tag: str,
        write: TagWrite,
        resource: str,
        expected: Expected = NOTHING_EXPECTED,
        *,
        history: bool = False,
        dry: bool = False,
    ) -> tuple[TagView, bool]:
        """Write a spec tag, and the stream if there is none; answers the tag, and whether it is new.

        Raises NotFound, Conflict, Invalid, BadRequest, Forbidden, TagMoved.
        """
        uid = self.make_uid()

        def decide(work: Work) -> tuple[ImageStream, bool]:
            stream = work.stream_of(namespace, name)
            _check_tag_position(stream, tag, expected, resource)
            stream.check_image(tag, expected.image, resource)
            _check_labels(stream, tag, write)
            old = stream.tags.get(tag, streams.NO_TAG).spec if stream.exists else None
            if old is None and not caller.may_create:
                raise Forbidden(resource, f"{name}:{tag}")
            new = self._wanted(write, old, stream, tag)
            self._write_tag(work, caller, stream, new, tag, uid)
            return stream, old is None

        def recall(rows: Rows, done: Done) -> tuple[TagView, bool]:
            stream, before = (stream_at(rows, namespace, name, at) for at in (done.after, done.before))
            assert stream is not None
            created = before is None or not before.exists or tag not in before.spec_tags
            return view_tag(rows, stream, tag, history=history, at=done.after), created

        view, created = self._run(
            caller,
            decide,
            lambda pair: (pair[0].copy(), pair[1]),
            lambda rows, pair: (view_tag(rows, pair[0], tag, history=history), pair[1]),
            recall,
            dry=dry,
        )
        return view, created

    @staticmethod
    def _wanted(write: TagWrite, old: TagReference | None, stream: ImageStream, tag: str) -> TagReference | None:
        if write.remove:
            return None
        if write.tag is None and old is None:
            where = f"{stream.namespace}/{stream.name}"
            message = f"imagestreamtag {tag} is not a spec tag in imagestream {where}, cannot be updated"
            raise BadRequest(message)
        new = write.tag or old
        return new.annotated(write.annotations or None) if new and write.annotations is not None else new

    def _write_tag(
        self, work: Work, caller: Caller, stream: ImageStream, new: TagReference | None, tag: str, uid: str
    ) -> None:
        with _owning(caller, stream):
            if stream.exists:
                stream.set_tag(caller.by, new, tag, work)
            else:
                tags = (new,) if new is not None else ()
                stream.create(caller.by, uid, DesiredStream(tags=tags), work)

    def delete_tag(
        self,
        caller: Caller,
        namespace: str,
        name: str,
        tag: str,
        resource: str,
        expected: Expected = NOTHING_EXPECTED,
        *,
        dry: bool = False,
    ) -> str:
        """Remove a tag, spec and history; answers the stream's uid. Raises NotFound, Conflict, TagMoved."""

        def decide(work: Work) -> str:
            stream = _existing(work, namespace, name, resource)
            if expected.uid and expected.uid != stream.uid:
                raise Conflict(resource, f"{name}:{tag}", "the UID precondition was not met")
            stream.check_position(expected.position, None, resource, f"{name}:{tag}")
            stream.check_image(tag, expected.image, resource)
            stream.delete_tag(caller.by, tag, resource)
            return stream.uid

        def recall(rows: Rows, done: Done) -> str:
            return stream_then(rows, namespace, name, done.after).uid

        return self._run(caller, decide, _as_it_is, None, recall, dry=dry)

    # --- images

    def create_image(self, caller: Caller, name: str, document: Mapping[str, Raw], *, dry: bool = False) -> Image:
        """Make an image known. Raises AlreadyExists."""
        uid = self.make_uid()

        def decide(work: Work) -> Image:
            image = work.image_of(name)
            image.register(caller.by, uid, document)
            return image

        def recall(rows: Rows, done: Done) -> Image:
            return image_then(rows, _made_at(rows, done.after), done.after)  # the name may have been generated

        return self._run(caller, decide, _copied_image, None, recall, dry=dry)

    def update_image(
        self,
        caller: Caller,
        name: str,
        change: Callable[[Image], Mapping[str, Raw]],
        expected: Expected = NOTHING_EXPECTED,
        *,
        resource: str = images.RESOURCE,
        dry: bool = False,
    ) -> Image:
        """Write what `change` makes of an image's document. Raises NotFound, Conflict, what `change` raises."""

        def decide(work: Work) -> Image:
            image = work.image_of(name)
            if not image.exists:
                raise NotFound(resource, name)
            image.check_position(expected.position, expected.uid)
            image.update(caller.by, change(image))
            return image

        return self._run(
            caller, decide, _copied_image, None, lambda rows, done: image_then(rows, name, done.after), dry=dry
        )

    def delete_image(self, caller: Caller, name: str, expected: Expected, *, dry: bool = False) -> Image:
        """Delete an image; answers it (not existing any more, unless finalizers hold it). Raises NotFound, Conflict."""

        def decide(work: Work) -> Image:
            image = work.image_of(name)
            if not image.exists:
                raise NotFound(images.RESOURCE, name)
            image.check_position(expected.position, expected.uid)
            image.delete(caller.by)
            return image

        return self._run(
            caller, decide, _copied_image, None, lambda rows, done: image_then(rows, name, done.after), dry=dry
        )

    def delete_together(
        self, caller: Caller, resource: str, objects: Iterable[tuple[str, str]], expected: Expected
    ) -> None:
        """Delete those of some streams, or images, that are there, all or none of them. Raises Conflict."""

        def decide(work: Work) -> None:
            for namespace, name in objects:
                if resource == images.RESOURCE:
                    image = work.image_of(name)
                    if image.exists:
                        image.check_position(expected.position, expected.uid)
                        image.delete(caller.by)
                    continue
                stream = work.stream_of(namespace, name)
                if stream.exists:
                    stream.check_position(expected.position, expected.uid, resource, name)
                    stream.delete(caller.by)

        self._run(caller, decide, _as_it_is, None, lambda *_: None, dry=False)


@contextmanager
def _owning(caller: Caller, stream: ImageStream) -> Iterator[None]:
    """Have the caller own what it writes in this block."""
    before = stream.copy() if stream.exists else None
    yield
    if caller.ownership is not None and stream.exists:
        stream.own(caller.by, caller.ownership(before, stream))


def _existing(work: Work, namespace: str, name: str, resource: str) -> ImageStream:
    stream = work.stream(namespace, name)
    if stream is None:
        raise NotFound(resource, name)
    return stream


def stream_then(rows: Rows, namespace: str, name: str, position: int) -> ImageStream:
    """The stream that a command, done at a position, was about."""
    stream = stream_at(rows, namespace, name, position)
    assert stream is not None
    return stream


def image_then(rows: Rows, name: str, position: int) -> Image:
    """The image that a command, done at a position, was about."""
    image = image_at(rows, name, position)
    assert image is not None
    return image


def _viewed(namespace: str, name: str) -> Callable[[Rows, Done], StreamView]:
    return lambda rows, done: view_at(rows, stream_then(rows, namespace, name, done.after))


def _made_at(rows: Rows, position: int) -> str:
    """The id of what the event at a position is about."""
    event = rows.event_at(position)
    assert event is not None
    return str(event.originator_id)


def _copied(stream: ImageStream) -> ImageStream:
    return stream.copy()


def _copied_image(image: Image) -> Image:
    return image.copy()


def _as_it_is(answer: T) -> T:
    return answer


def _check_tag_position(stream: ImageStream, tag: str, expected: Expected, resource: str) -> None:
    """A tag is written unconditionally unless the caller says what it saw: then the stream must be that."""
    if expected.position is None and not expected.uid:
        return
    name = f"{stream.name}:{tag}"
    if not stream.exists:
        raise NotFound(resource, name)
    if expected.uid and expected.uid != stream.uid:
        raise Conflict(resource, name, "the UID precondition was not met")
    pushed = expected.pushes and expected.position is not None and stream.written <= expected.position
    if expected.position is not None and expected.position != stream.position and not pushed:
        detail = f"another caller has updated the resource version to {stream.position}"
        raise Conflict(resource, name, detail)


def _check_labels(stream: ImageStream, tag: str, write: TagWrite) -> None:
    if write.labels and write.labels != stream.labels:
        problem = FieldProblem(
            Problem.INVALID, "metadata", "may not update fields other than metadata.annotations", write.labels
        )
        raise Invalid("ImageStreamTag", f"{stream.name}:{tag}", [problem])

"""The values that a tag is made of. They are stored inside events, so their stored names are for ever."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

DOCKER_IMAGE = "DockerImage"
IMAGE_STREAM_TAG = "ImageStreamTag"
IMAGE_STREAM_IMAGE = "ImageStreamImage"
SOURCE_KINDS = (DOCKER_IMAGE, IMAGE_STREAM_TAG, IMAGE_STREAM_IMAGE)

LEGACY = "Legacy"
PRESERVE_ORIGINAL = "PreserveOriginal"

SOURCE = "Source"
LOCAL = "Local"


class ObjectReference(Struct, frozen=True, omit_defaults=True):
    """Where a tag takes its image from (`from` on the wire); `namespace` "" is the stream's own."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class TagReference(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What somebody wants a tag to be (`spec.tags`).

    `generation` is the stream's generation at which the source last changed; 0 from a client asks for
    another import, None means that the client did not say.
    """

    name: str
    source: ObjectReference | None = field(default=None, name="from")
    annotations: dict[str, str] | None = None
    reference: bool = False
    generation: int | None = None
    insecure: bool = False
    scheduled: bool = False
    import_mode: str = field(default=LEGACY, name="importMode")
    reference_policy: str = field(default=SOURCE, name="referencePolicy")

    def named(self, name: str) -> TagReference:
        """The same under another name."""
        return msgspec.structs.replace(self, name=name)

    def annotated(self, annotations: dict[str, str] | None) -> TagReference:
        """The same with other annotations."""
        return msgspec.structs.replace(self, annotations=annotations)


class TagEvent(Struct, frozen=True, omit_defaults=True, gc=False):
    """One entry of a tag's history (`status.tags[].items[]`), a value and not a domain event.

    `created` is in seconds since the epoch (None if a client left it out), `reference` the pull spec,
    `image` the image's name ("" for a tag that only refers), `generation` the stream's.
    """

    created: int | None
    reference: str
    image: str
    generation: int


class ImageGuard(Struct, frozen=True):
    """What the image of a tag must be for a write: none (`absent`), or one of `images`, where () stands for any."""

    images: tuple[str, ...] = ()
    absent: bool = False

    def holds(self, current: str) -> bool:
        """Whether a tag may be written that names this image now, "" for none."""
        if self.absent or not current:
            return self.absent and not current
        return not self.images or current in self.images


class TagEventCondition(Struct, frozen=True, omit_defaults=True):
    """What the last attempt to import a tag came to; the time is in seconds since the epoch."""

    type: str
    status: str
    last_transition_time: int | None = field(default=None, name="time")
    reason: str = ""
    message: str = ""
    generation: int = 0


def same_target(one: TagEvent | None, other: TagEvent | None) -> bool:
    """Whether two entries say the same but for their times: then recording one over the other changes nothing."""
    if one is None or other is None:
        return one is other
    return one.reference == other.reference and one.image == other.image and one.generation == other.generation


def folds(head: TagEvent | None, event: TagEvent) -> bool:
    """Whether `event` replaces the newest entry `head` in place instead of going on top of it.

    OpenShift shows the same image under another pull spec, and another image under the same pull spec,
    as one entry. The log keeps both.
    """
    return head is not None and (head.reference == event.reference or head.image == event.image)


def put_on_top(head: TagEvent | None, event: TagEvent) -> tuple[TagEvent, bool]:
    """The newest entry of a history after `event`, and whether it replaced `head` in place.

    An entry that is replaced in place keeps the time at which it was created.
    """
    if head is not None and folds(head, event):
        return TagEvent(head.created, event.reference, event.image, event.generation), True
    return event, False

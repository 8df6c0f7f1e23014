"""The domain events: the durable format, all of it on one page.

An event is stored as compact JSON under the names given here. The format is for ever:

- a topic never changes its meaning, and topics are explicit, so code may move;
- a field may be added with a default; readers ignore fields that they do not know;
- a change of shape raises `class_version` and brings an upcast beside the class;
- times and ids are passed in, and no person is named: `actor` is an opaque id.

What millions are made of when a log is folded is hidden from the garbage collector (`gc=False`): it leads to nothing
that leads back.

One command makes at most one event for each aggregate that it changes. So every place in the log is one state
of its object that the API showed, and `resourceVersion` can be that place. (A push of a new image takes two: the
image's and the stream's, stored together.)

`at` is when a request came in, and clocks jump: along the log it need not rise. The time of a place is the latest
`at` up to there. An idempotency key stands with each event that its request made.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import Struct, field

from imagestream_es.domain.tags import TagEvent, TagEventCondition, TagReference


class Origin(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """When, who, why, and through what a change came about.

    `at` is in milliseconds since the epoch. `actor` and `impersonator` are opaque ids, or names of the
    service's own that begin with "system:". `door` is the kind of entrance ("api", "webhook", "sweep",
    "import"), `request` the id under which it was let in. `reason` is the caller's own free text. `key` and
    `fingerprint` are the idempotency key of the request and the digest of what it asked for.
    """

    at: int
    actor: str
    door: str
    request: str = ""
    reason: str = ""
    impersonator: str = ""
    key: str = ""
    fingerprint: str = ""

    @property
    def seconds(self) -> int:
        """The time in whole seconds, the precision that the API shows."""
        return self.at // 1000


class Put(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """An entry was put on the history of `tag`, and on those of the tags that follow it.

    `reference` None is the default pull spec, REPOSITORY@IMAGE with the repository the stream was created
    with; `created` None is the time of the event. Both save most of the bytes of an event.
    """

    tag: str
    image: str = ""
    generation: int
    reference: str | None = None
    created: int | None = None
    followers: tuple[str, ...] = ()


class DomainEvent(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What every event has."""

    TOPIC: ClassVar[str]
    class_version: ClassVar[int] = 1

    by: Origin


class StreamEvent(DomainEvent, frozen=True, omit_defaults=True, kw_only=True):
    """A change of an image stream: whatever is not None is new, everything else stayed.

    All causes share this one shape, so there is one way to fold them. `tags` maps names to new spec tags,
    None for one that was removed; `dropped` names tags whose history and conditions were removed; `put`
    are entries on top of histories; `conditions` are the new conditions of tags; `items` are whole
    histories, newest first, written in place of the shown ones; `managed` tells, for each
    entry of managedFields that changed, the fields it gained and lost (see `domain.ownership`).
    """

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: tuple[str, ...] | None = None
    owners: tuple[dict[str, Any], ...] | None = None
    generation: int | None = None
    local_lookup: bool | None = field(default=None, name="localLookup")
    source_repository: str | None = field(default=None, name="sourceRepository")
    tags: dict[str, TagReference | None] | None = None
    dropped: tuple[str, ...] = ()
    put: tuple[Put, ...] = ()
    conditions: dict[str, tuple[TagEventCondition, ...]] | None = None
    items: dict[str, tuple[TagEvent, ...]] | None = None
    managed: tuple[dict[str, Any], ...] = field(default=(), name="managedFields")


class StreamCreated(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """A stream began; `repository` is its place in the internal registry at that time ("" without one).

    It stays the base of default pull specs whatever the registry is called later on, or was when the
    stream began anew.
    """

    TOPIC: ClassVar[str] = "imagestream.created"

    namespace: str
    name: str
    uid: str
    repository: str | None = None
    generate_name: str = field(default="", name="generateName")


class StreamRecreated(StreamCreated, frozen=True, omit_defaults=True, kw_only=True):
    """A stream of a name that was deleted before began anew; its log goes on."""

    TOPIC: ClassVar[str] = "imagestream.recreated"


class StreamUpdated(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """Spec or metadata of the whole stream were written."""

    TOPIC: ClassVar[str] = "imagestream.updated"


class ImageMapped(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """A registry said that an image was pushed under a tag."""

    TOPIC: ClassVar[str] = "imagestream.image-mapped"


class TagSet(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """One spec tag was written through an image stream tag or an image tag."""

    TOPIC: ClassVar[str] = "imagestream.tag-set"


class Restored(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a tag named once: since the event at `position` it named `image`, to be pulled by `reference`."""

    position: int
    image: str
    reference: str


class TagRolledBack(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """A tag names again what it named before, and so do the tags that follow it; what it should be stayed."""

    TOPIC: ClassVar[str] = "imagestream.rolled-back"

    restores: Restored


class TagDeleted(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """A tag was deleted with its history."""

    TOPIC: ClassVar[str] = "imagestream.tag-deleted"


class ImagesImported(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """Images were fetched from outside, or failed to be: entries, conditions, spec tags."""

    TOPIC: ClassVar[str] = "imagestream.images-imported"


class StatusReplaced(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """The shown histories were written through the status subresource: a pruner does that."""

    TOPIC: ClassVar[str] = "imagestream.status-replaced"


class StreamDeletionRequested(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """A stream with finalizers was deleted; it goes when the last of them is removed."""

    TOPIC: ClassVar[str] = "imagestream.deletion-requested"


class StreamDeleted(StreamEvent, frozen=True, omit_defaults=True, kw_only=True):
    """The stream is gone. What it was stays in the log."""

    TOPIC: ClassVar[str] = "imagestream.deleted"


class ImageEvent(DomainEvent, frozen=True, omit_defaults=True, kw_only=True):
    """A change of an image: `changes` are new values of top-level fields, null for one that is gone."""

    changes: dict[str, msgspec.Raw] = {}


class ImageRegistered(ImageEvent, frozen=True, omit_defaults=True, kw_only=True):
    """An image became known; its content never changes."""

    TOPIC: ClassVar[str] = "image.registered"

    uid: str


class ImageUpdated(ImageEvent, frozen=True, omit_defaults=True, kw_only=True):
    """What may change about an image did: labels, annotations, pull spec, signatures."""

    TOPIC: ClassVar[str] = "image.updated"


class ImageDeletionRequested(ImageEvent, frozen=True, omit_defaults=True, kw_only=True):
    """An image with finalizers was deleted; it goes when the last of them is removed."""

    TOPIC: ClassVar[str] = "image.deletion-requested"


class ImageDeleted(ImageEvent, frozen=True, omit_defaults=True, kw_only=True):
    """The image is gone; histories go on naming it."""

    TOPIC: ClassVar[str] = "image.deleted"


class LogStarted(DomainEvent, frozen=True, omit_defaults=True, kw_only=True):
    """The first record of every log, so that position 1 means "from the start"."""

    TOPIC: ClassVar[str] = "log.started"

    log: str


EVENTS: tuple[type[DomainEvent], ...] = (
    StreamCreated,
    StreamRecreated,
    StreamUpdated,
    ImageMapped,
    TagSet,
    TagRolledBack,
    TagDeleted,
    ImagesImported,
    StatusReplaced,
    StreamDeletionRequested,
    StreamDeleted,
    ImageRegistered,
    ImageUpdated,
    ImageDeletionRequested,
    ImageDeleted,
    LogStarted,
)

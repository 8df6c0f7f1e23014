"""The image stream: every rule about tags and their histories.

`decide` methods look at the present state, refuse or make one event, and fold it in; `apply` is the only
place that knows how an event changes a stream, for commands, views, replays and looks into the past alike.
The stream keeps the newest entry of each tag and not the history below it, so a push costs the same
whatever the history is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from imagestream_es.domain import ownership
from imagestream_es.domain.errors import AlreadyExists, Conflict, FieldProblem, Invalid, NotFound, Problem
from imagestream_es.domain.events import (
    ImageMapped,
    Origin,
    Put,
    StatusReplaced,
    StreamCreated,
    StreamDeleted,
    StreamDeletionRequested,
    StreamEvent,
    StreamRecreated,
    StreamUpdated,
    TagDeleted,
    TagSet,
)
from imagestream_es.domain.references import (
    DockerImageReference,
    InvalidReference,
    split_stream_image,
    split_stream_tag,
)
from imagestream_es.domain.tags import (
    DOCKER_IMAGE,
    IMAGE_STREAM_IMAGE,
    IMAGE_STREAM_TAG,
    LOCAL,
    SOURCE_KINDS,
    TagEvent,
    TagEventCondition,
    TagReference,
    put_on_top,
    same_target,
)

T = TypeVar("T")

RESOURCE = "imagestreams"
KIND = "ImageStream"


class Tag(Struct, frozen=True):
    """What a stream remembers of a tag: what it should be, its newest entry, and how imports went."""

    spec: TagReference | None = None
    head: TagEvent | None = None
    conditions: tuple[TagEventCondition, ...] = ()


class TagChange(Struct, frozen=True):
    """What one event did to one tag.

    `kind` is one of the constants below. `head` is the newest entry afterwards; `folded` says that it
    replaced the entry before in place; `items` is the whole new history, newest first, where that was written.
    """

    tag: str
    kind: str
    before: TagEvent | None
    head: TagEvent | None
    folded: bool = False
    items: tuple[TagEvent, ...] | None = None


PUT = "put"
FOLLOWED = "followed"
IMPORTED = "imported"
IMPORT_FAILED = "import-failed"
SPEC_SET = "spec-set"
SPEC_REMOVED = "spec-removed"
REPLACED = "replaced"
DROPPED = "dropped"


class DesiredStream(Struct, frozen=True, kw_only=True):
    """What a client wants a stream to be."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    generate_name: str = ""
    finalizers: tuple[str, ...] = ()
    owners: tuple[dict[str, Any], ...] = ()
    local_lookup: bool = False
    source_repository: str = ""
    tags: tuple[TagReference, ...] = ()


class Catalog(Protocol):
    """What a decision may ask about the world around its stream."""

    @property
    def registry(self) -> str:
        """Host of the internal registry, "" without one."""

    def stream(self, namespace: str, name: str) -> ImageStream | None:
        """The stream of that name, None if there is none."""

    def images_in(self, stream: ImageStream, wanted: str) -> Sequence[TagEvent]:
        """Entries of the stream's histories whose image is named, or abbreviated, by `wanted`; one for each image."""

    def may_pull(self, namespace: str, name: str) -> bool:
        """Whether the caller may take images from that stream."""


class ImageStream:
    """One image stream: (namespace, name), with every spec tag and the newest entry of every history.

    `position` is that of its last event in the log, `number` that of its first; 0 before there is one.
    `pending` are the events decided but not stored yet, each with what it did to the tags.
    """

    __slots__ = (
        "annotations",
        "created",
        "deletion",
        "exists",
        "finalizers",
        "generate_name",
        "generation",
        "id",
        "labels",
        "local_lookup",
        "managed",
        "name",
        "namespace",
        "number",
        "owners",
        "pending",
        "position",
        "repository",
        "source_repository",
        "tags",
        "uid",
        "version",
    )

    def __init__(self, namespace: str, name: str) -> None:
        self.id = stream_id(namespace, name)
        self.namespace = namespace
        self.name = name
        self.version = 0
        self.position = 0
        self.number = 0
        self.pending: list[tuple[StreamEvent, list[TagChange]]] = []
        self.repository = ""
        self._begin("", 0)
        self.exists = False

    def copy(self) -> ImageStream:
        """The stream as it is now, untouched by what happens to this one later."""
        twin = ImageStream(self.namespace, self.name)
        for slot in self.__slots__:
            setattr(twin, slot, getattr(self, slot))
        # All else is replaced and never changed in place.
        twin.tags, twin.pending = dict(self.tags), []
        return twin

    def _begin(self, uid: str, created: int) -> None:
        self.exists = True
        self.uid = uid
        self.created = created
        self.generation = 0
        self.generate_name = ""
        self.labels: dict[str, str] = {}
        self.annotations: dict[str, str] = {}
        self.finalizers: tuple[str, ...] = ()
        self.owners: tuple[dict[str, Any], ...] = ()
        self.deletion: int | None = None
        self.local_lookup = False
        self.managed: tuple[dict[str, Any], ...] = ()
        self.source_repository = ""
        self.tags: dict[str, Tag] = {}

    # --- the fold

    def apply(self, event: StreamEvent) -> list[TagChange]:
        """Fold one event into the stream; answers what it did to the tags."""
        changes: list[TagChange] = []
        if isinstance(event, StreamCreated):
            self._begin(event.uid, event.by.seconds)
            self.generate_name = event.generate_name
            if event.repository is not None:
                self.repository = event.repository
        elif isinstance(event, StreamDeletionRequested):
            self.deletion = event.by.seconds
        elif isinstance(event, StreamDeleted):
            changes = [TagChange(name, DROPPED, tag.head, None) for name, tag in sorted(self.tags.items())]
            self.exists = False
            self.tags = {}
        self._apply_metadata(event)
        if event.managed:
            self.managed = ownership.merged(self.managed, event.managed)
        for name in event.dropped:
            changes.append(TagChange(name, DROPPED, self.tags[name].head, None))
            self._set(name, head=None, conditions=())
        self._apply_spec_tags(event, changes)
        direct = IMPORTED if event.TOPIC == "imagestream.images-imported" else PUT
        for put in event.put:
            entry = TagEvent(
                event.by.seconds if put.created is None else put.created,
                f"{self.repository}@{put.image}" if put.reference is None else put.reference,
                put.image,
                put.generation,
            )
            changes.append(self._put(put.tag, entry, direct))
            changes.extend(self._put(follower, entry, FOLLOWED) for follower in put.followers)
        for name, items in (event.items or {}).items():
            before = self._tag(name).head
            head = items[0] if items else None
            changes.append(TagChange(name, REPLACED, before, head, items=items))
            self._set(name, head=head)
        for name, conditions in (event.conditions or {}).items():
            head = self._tag(name).head
            if direct == IMPORTED and conditions:
                changes.append(TagChange(name, IMPORT_FAILED, head, head))
            self._set(name, conditions=conditions)
        self.version += 1
        return changes

    def _apply_metadata(self, event: StreamEvent) -> None:
        for attribute in (
            "labels",
            "annotations",
            "finalizers",
            "owners",
            "generation",
            "local_lookup",
            "source_repository",
        ):
            value = getattr(event, attribute)
            if value is not None:
                setattr(self, attribute, value)

    def _apply_spec_tags(self, event: StreamEvent, changes: list[TagChange]) -> None:
        if not event.tags:
            return
        told = {put.tag for put in event.put}.union(event.dropped, event.conditions or ())
        for name, spec in event.tags.items():
            head = self._tag(name).head
            if name not in told:
                changes.append(TagChange(name, SPEC_SET if spec else SPEC_REMOVED, head, head))
            self._set(name, spec=spec)

    def _put(self, name: str, entry: TagEvent, kind: str) -> TagChange:
        before = self._tag(name).head
        head, folded = put_on_top(before, entry)
        self._set(name, head=head, conditions=())
        return TagChange(name, kind, before, head, folded)

    def _tag(self, name: str) -> Tag:
        return self.tags.get(name, NO_TAG)

    def _set(self, name: str, **parts: Any) -> None:
        tag = self._tag(name)
        new = Tag(parts.get("spec", tag.spec), parts.get("head", tag.head), parts.get("conditions", tag.conditions))
        if new == NO_TAG:
            self.tags.pop(name, None)
        else:
            self.tags[name] = new

    def _record(self, event: StreamEvent) -> None:
        self.pending.append((event, self.apply(event)))

    # --- what others ask

    @property
    def spec_tags(self) -> dict[str, TagReference]:
        """The spec tags by name, in the order of names."""
        return {name: tag.spec for name, tag in sorted(self.tags.items()) if tag.spec is not None}

    def followers(self, tag: str) -> list[str]:
        """The tags of this stream that follow `tag`, in order."""
        names = (tag, f"{self.name}:{tag}")
        return [
            name
            for name, other in sorted(self.tags.items())
            if name != tag and other.spec is not None and self._follows(other.spec, names)
        ]

    def _follows(self, spec: TagReference, names: tuple[str, ...]) -> bool:
        source = spec.source
        return (
            source is not None
            and source.kind == IMAGE_STREAM_TAG
            and source.namespace in ("", self.namespace)
            and source.name in names
        )

    # --- decisions

    def create(self, by: Origin, uid: str, desired: DesiredStream, catalog: Catalog) -> None:
        """Begin the stream. Raises AlreadyExists, Invalid."""
        if self.exists:
            raise AlreadyExists(RESOURCE, self.name)
        self._record(self._creation(by, uid, desired, catalog))

    def _creation(self, by: Origin, uid: str, desired: DesiredStream, catalog: Catalog) -> StreamCreated:
        tags = {tag.name: _with_generation(tag, 1) for tag in sorted(desired.tags, key=lambda tag: tag.name)}
        resolution = Resolution(self, by, 1, catalog)
        resolution.resolve(tags)
        self._refuse(resolution.problems, desired.source_repository, tags.values())
        resolution.follow(tags)
        event: type[StreamCreated]
        if self.version:
            event, base = StreamRecreated, None
        else:
            event, base = StreamCreated, repository(catalog.registry, self.namespace, self.name)
        return event(
            by=by,
            namespace=self.namespace,
            name=self.name,
            uid=uid,
            repository=base,
            generate_name=desired.generate_name,
            generation=1,
            labels=desired.labels or None,
            annotations=desired.annotations or None,
            finalizers=desired.finalizers or None,
            owners=desired.owners or None,
            local_lookup=desired.local_lookup or None,
            source_repository=desired.source_repository or None,
            tags=dict(tags) or None,
            put=self._as_puts(by, resolution.recorded, self.repository if base is None else base),
        )

    def update(
        self,
        by: Origin,
        desired: DesiredStream,
        catalog: Catalog,
        *,
        event_class: type[StreamEvent] = StreamUpdated,
    ) -> None:
        """Write spec and metadata as `desired` says; nothing happens if that is how they are. Raises Invalid."""
        old = self.spec_tags
        wanted = {tag.name: self._kept_generation(tag) for tag in sorted(desired.tags, key=lambda tag: tag.name)}
        spec_changed = (
            wanted != old
            or desired.local_lookup != self.local_lookup
            or desired.source_repository != self.source_repository
        )
        generation = self.generation + 1 if spec_changed else self.generation
        moved = {name: tag for name, tag in wanted.items() if name not in old or self._source_changed(old[name], tag)}
        tags = {
            name: _with_generation(tag, generation) if name in moved or not tag.generation else tag
            for name, tag in wanted.items()
        }
        resolution = Resolution(self, by, generation, catalog)
        resolution.resolve({name: tags[name] for name in moved})
        self._refuse(resolution.problems, desired.source_repository, tags.values())
        removed: dict[str, TagReference | None] = dict.fromkeys(name for name in old if name not in tags)
        changed = removed | {name: tag for name, tag in tags.items() if old.get(name) != tag}
        resolution.follow({**{name: tag.spec for name, tag in self.tags.items()}, **changed})
        event = event_class(
            by=by,
            labels=_if_new(desired.labels, self.labels),
            annotations=_if_new(desired.annotations, self.annotations),
            finalizers=_if_new(desired.finalizers, self.finalizers),
            owners=_if_new(desired.owners, self.owners),
            generation=_if_new(generation, self.generation),
            local_lookup=_if_new(desired.local_lookup, self.local_lookup),
            source_repository=_if_new(desired.source_repository, self.source_repository),
            tags=changed or None,
            put=self._as_puts(by, resolution.recorded, self.repository),
        )
        if event == event_class(by=by):
            return
        if self.deletion is not None and not desired.finalizers:
            event = StreamDeleted(by=by)
        self._record(event)

    def own(self, by: Origin, entries: Sequence[dict[str, Any]]) -> None:
        """Note who manages which fields from now on, in the event that was just decided if there is one."""
        managed = ownership.difference(self.managed, entries)
        if not managed:
            return
        if self.pending:
            event, changes = self.pending.pop()
            self.pending.append((msgspec.structs.replace(event, managed=managed), changes))
            self.managed = ownership.merged(self.managed, managed)
        else:
            self._record(StreamUpdated(by=by, managed=managed))

    def set_tag(self, by: Origin, tag: TagReference | None, name: str, catalog: Catalog) -> None:
        """Write one spec tag (None removes it and keeps its history). Raises Invalid."""
        others = [spec for other, spec in self.spec_tags.items() if other != name]
        self.update(
            by,
            DesiredStream(
                labels=self.labels,
                annotations=self.annotations,
                finalizers=self.finalizers,
                owners=self.owners,
                local_lookup=self.local_lookup,
                source_repository=self.source_repository,
                tags=(*others, tag) if tag is not None else tuple(others),
            ),
            catalog,
            event_class=TagSet,
        )

    def delete_tag(self, by: Origin, name: str, resource: str) -> None:
        """Remove spec and history of a tag. Raises NotFound (named after `resource`) if it has neither."""
        tag = self.tags.get(name)
        if tag is None:
            raise NotFound(resource, f"{self.name}:{name}")
        shown = tag.head is not None or tag.conditions
        self._record(
            TagDeleted(
                by=by,
                generation=self.generation + 1 if tag.spec is not None else None,
                tags={name: None} if tag.spec is not None else None,
                dropped=(name,) if shown else (),
            )
        )

    def map_image(self, by: Origin, tag: str, image: str, reference: str) -> None:
        """Put an image on a tag and on the tags that follow it directly; nothing happens if all show it."""
        entry = TagEvent(by.seconds, reference, image, self.generation)
        moved = not same_target(self._tag(tag).head, entry)
        followers = tuple(name for name in self.followers(tag) if not same_target(self.tags[name].head, entry))
        if moved:
            self._record(ImageMapped(by=by, put=(_as_put(by, tag, entry, self.repository, followers),)))

    def replace_status(
        self,
        by: Origin,
        tags: Mapping[str, tuple[tuple[TagEvent, ...], tuple[TagEventCondition, ...]]],
        history: Callable[[str], tuple[TagEvent, ...]],
    ) -> None:
        """Write the shown histories and conditions of all tags, newest first; a tag left out loses both.

        `history` answers what is shown of a tag now. Raises Invalid.
        """
        items: dict[str, tuple[TagEvent, ...]] = {}
        conditions: dict[str, tuple[TagEventCondition, ...]] = {}
        problems: list[FieldProblem] = []
        for name in sorted({*tags, *self.tags}):
            shown = history(name)
            wanted, wanted_conditions = tags.get(name, ((), ()))
            wanted = self._with_head_generation(name, wanted)
            if wanted != shown:
                problems.extend(_status_problems(name, wanted, {item.reference for item in shown}))
                items[name] = wanted
            if wanted_conditions != self._tag(name).conditions:
                conditions[name] = wanted_conditions
        if problems:
            raise Invalid(KIND, self.name, problems)
        if items or conditions:
            self._record(StatusReplaced(by=by, items=items or None, conditions=conditions or None))

    def _with_head_generation(self, name: str, items: tuple[TagEvent, ...]) -> tuple[TagEvent, ...]:
        if not items or items[0].generation:
            return items
        head, tag = items[0], self._tag(name)
        generation = self.generation
        unchanged = tag.head is not None and (tag.head.reference, tag.head.image) == (
            head.reference,
            head.image,
        )
        if not unchanged and tag.spec is not None and tag.spec.generation:
            generation = tag.spec.generation
        return (TagEvent(head.created, head.reference, head.image, generation), *items[1:])

    def delete(self, by: Origin) -> None:
        """Delete the stream, or begin to if finalizers hold it."""
        if not self.finalizers:
            self._record(StreamDeleted(by=by))
        elif self.deletion is None:
            self._record(StreamDeletionRequested(by=by))

    def check_position(self, position: int | None, uid: str | None, resource: str, name: str) -> None:
        """Raises Conflict if the caller saw another position, or means another object, than this one."""
        if uid and uid != self.uid:
            raise Conflict(
                resource,
                name,
                f"the UID in the precondition ({uid}) does not match the UID in record ({self.uid}). "
                "The object might have been deleted and then recreated",
            )
        if position is not None and position != self.position:
            raise Conflict(resource, name)

    # --- details

    @staticmethod
    def _as_puts(by: Origin, recorded: Mapping[str, TagEvent], base: str) -> tuple[Put, ...]:
        return tuple(_as_put(by, name, event, base) for name, event in recorded.items())

    def _kept_generation(self, tag: TagReference) -> TagReference:
        stored = self._tag(tag.name).spec
        if tag.generation == 0 or stored is None:
            return tag
        return _with_generation(tag, stored.generation)

    def _source_changed(self, old: TagReference, new: TagReference) -> bool:
        if new.source is None or not (new.source.kind or new.source.name):
            return False
        before = (old.source.namespace or self.namespace, old.source.name) if old.source else (self.namespace, "")
        after = (new.source.namespace or self.namespace, new.source.name)
        return (before, old.reference, old.import_mode) != (after, new.reference, new.import_mode)

    def _refuse(
        self, unresolved: Sequence[FieldProblem], source_repository: str, tags: Sequence[TagReference] | Any
    ) -> None:
        problems = []
        if unresolved:
            # OpenShift reports whatever it meets while it resolves tags as one inner error.
            problems.append(FieldProblem(Problem.INTERNAL, "[]", value=Invalid(RESOURCE, self.name, unresolved)))
        problems.extend(_repository_problems(source_repository))
        for tag in tags:
            problems.extend(tag_problems(tag, f"spec.tags[{tag.name}]"))
        if problems:
            raise Invalid(KIND, self.name, problems)


NO_TAG = Tag()


class Resolution:
    """Finds out what spec tags stand for, and which tags move with them."""

    def __init__(self, stream: ImageStream, by: Origin, generation: int, catalog: Catalog) -> None:
        self.stream = stream
        self.by = by
        self.generation = generation
        self.catalog = catalog
        self.heads = {name: tag.head for name, tag in stream.tags.items()}
        self.recorded: dict[str, TagEvent] = {}
        self.problems: list[FieldProblem] = []

    def resolve(self, tags: Mapping[str, TagReference]) -> None:
        """Look up the sources of `tags` and note the entries that follow; problems are collected."""
        self._check_access(tags)
        for name, tag in tags.items():
            if tag.source is None:
                continue
            try:
                event = self._entry(tag)
            except _Unresolved as unresolved:
                self.problems.append(
                    FieldProblem(
                        unresolved.kind,
                        f"spec.tags[{name}].{unresolved.field}",
                        unresolved.detail,
                        unresolved.value,
                    )
                )
            else:
                if event is not None:
                    self._note(name, event)

    def follow(self, specs: Mapping[str, TagReference | None]) -> None:
        """Move every tag that follows a tag that moved, until nothing moves any more."""
        waiting = sorted(self.recorded)
        while waiting:
            moved = waiting.pop(0)
            names = (moved, f"{self.stream.name}:{moved}")
            for name, spec in sorted(specs.items()):
                if (
                    spec is not None
                    and name != moved
                    and name not in self.recorded
                    and self.stream._follows(spec, names)
                    and self._note(name, self.recorded[moved])
                ):
                    waiting.append(name)

    def _note(self, name: str, event: TagEvent) -> bool:
        if same_target(self.heads.get(name), event):
            return False
        self.heads[name] = put_on_top(self.heads.get(name), event)[0]
        self.recorded[name] = event
        return True

    def _check_access(self, tags: Mapping[str, TagReference]) -> None:
        asked: dict[tuple[str, str], bool] = {}
        for name, tag in tags.items():
            source = tag.source
            if source is None or source.namespace in ("", self.stream.namespace) or source.kind == DOCKER_IMAGE:
                continue
            stream = source.name.partition("@" if source.kind == IMAGE_STREAM_IMAGE else ":")[0]
            key = (source.namespace, stream)
            if key not in asked:
                asked[key] = self.catalog.may_pull(*key)
            if not asked[key]:
                detail = f'{source.namespace}/{stream}: "" ""'
                self.problems.append(FieldProblem(Problem.FORBIDDEN, f"spec.tags[{name}].from", detail))

    def _entry(self, tag: TagReference) -> TagEvent | None:
        source = tag.source
        assert source is not None
        if source.kind == DOCKER_IMAGE:
            if not source.name:
                raise _Unresolved(Problem.REQUIRED, "from.name")
            return TagEvent(self.by.seconds, source.name, "", self.generation) if tag.reference else None
        if source.kind not in SOURCE_KINDS:
            raise _Unresolved(
                Problem.INVALID,
                "from.kind",
                "valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'",
                source.kind,
            )
        stream, wanted = self._source_stream(source.kind, source.name, source.namespace)
        if source.kind == IMAGE_STREAM_TAG:
            found = self.heads.get(wanted) if stream is self.stream else stream._tag(wanted).head
            if found is None:
                return None
            created = found.created
        else:
            found = self._image(stream, wanted)
            created = self.by.seconds
        return TagEvent(created, self._localised(tag, stream, found), found.image, self.generation)

    def _source_stream(self, kind: str, name: str, namespace: str) -> tuple[ImageStream, str]:
        stream_name, wanted = self._split(kind, name)
        namespace = namespace or self.stream.namespace
        if (namespace, stream_name or self.stream.name) == (self.stream.namespace, self.stream.name):
            return self.stream, wanted
        stream = self.catalog.stream(namespace, stream_name or self.stream.name)
        if stream is None:
            raise _Unresolved(Problem.NOT_FOUND, "from.name", value=name)
        return stream, wanted

    def _split(self, kind: str, name: str) -> tuple[str, str]:
        separator, split = (":", split_stream_tag) if kind == IMAGE_STREAM_TAG else ("@", split_stream_image)
        bare_digest = kind == IMAGE_STREAM_IMAGE and "@" not in name
        try:
            if name and (bare_digest or separator not in name):
                if kind == IMAGE_STREAM_TAG and "@" in name:
                    raise ValueError(name)
                return "", name
            return split(name)
        except ValueError:
            raise _Unresolved(
                Problem.INVALID,
                "from.name",
                "must be of the form <tag>, <repo>:<tag>, <id>, or <repo>@<id>",
                name,
            ) from None

    def _image(self, stream: ImageStream, wanted: str) -> TagEvent:
        found = self.catalog.images_in(stream, wanted) if stream.exists else ()
        if not found:
            detail = f'error generating tag event: imagestreamimage.image.openshift.io "{wanted}" not found'
            raise _Unresolved(Problem.INVALID, "from.name", detail, wanted)
        if len(found) > 1:
            detail = (
                "error generating tag event: Operation cannot be fulfilled on "
                f'imagestreamimage.image.openshift.io "{wanted}": multiple images match the prefix'
            )
            raise _Unresolved(Problem.INVALID, "from.name", detail, wanted)
        return found[0]

    def _localised(self, tag: TagReference, stream: ImageStream, found: TagEvent) -> str:
        """The pull spec of a copied entry: images of the internal registry are pulled through this stream."""
        registry = self.catalog.registry
        if tag.reference or not registry or stream is self.stream:
            return found.reference
        try:
            parsed = DockerImageReference.parse(found.reference)
        except InvalidReference:
            return found.reference
        if parsed.repository() != repository(registry, stream.namespace, stream.name):
            return found.reference
        own = repository(registry, self.stream.namespace, self.stream.name)
        return own + found.reference[len(parsed.repository()) :]


class _Unresolved(Exception):
    def __init__(self, kind: Problem, field: str, detail: str = "", value: object = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.field = field
        self.detail = detail
        self.value = value


def stream_id(namespace: str, name: str) -> str:
    """The id of a stream's aggregate. It holds a slash, which no image's name may."""
    return f"{namespace}/{name}"


def repository(registry: str, namespace: str, name: str) -> str:
    """The pull spec of a stream's own repository in the internal registry, "" without one."""
    return f"{registry}/{namespace}/{name}" if registry else ""


def shown_reference(tag: Tag, own_repository: str) -> str:
    """The pull spec that clients of a tag should use: with policy Local that of the internal registry."""
    assert tag.head is not None
    local = tag.spec is not None and tag.spec.reference_policy == LOCAL
    if local and own_repository and tag.head.image:
        return f"{own_repository}@{tag.head.image}"
    return tag.head.reference


def _with_generation(tag: TagReference, generation: int | None) -> TagReference:
    return tag if tag.generation == generation else msgspec.structs.replace(tag, generation=generation)


def _as_put(by: Origin, tag: str, entry: TagEvent, base: str, followers: tuple[str, ...] = ()) -> Put:
    return Put(
        tag=tag,
        image=entry.image,
        generation=entry.generation,
        reference=None if base and entry.reference == f"{base}@{entry.image}" else entry.reference,
        created=None if entry.created == by.seconds else entry.created,
        followers=followers,
    )


def _if_new(new: T, old: T) -> T | None:
    return None if new == old else new


def _repository_problems(source_repository: str) -> list[FieldProblem]:
    where = "spec.dockerImageRepository"
    if not source_repository:
        return []
    try:
        parsed = DockerImageReference.parse(source_repository)
    except InvalidReference as error:
        return [FieldProblem(Problem.INVALID, where, str(error), source_repository)]
    problems = []
    if parsed.tag:
        detail = "the repository name may not contain a tag"
        problems.append(FieldProblem(Problem.INVALID, where, detail, source_repository))
    if parsed.id:
        detail = "the repository name may not contain an ID"
        problems.append(FieldProblem(Problem.INVALID, where, detail, source_repository))
    return problems


def tag_problems(tag: TagReference, where: str) -> list[FieldProblem]:
    """What is wrong with the fields of one spec tag that stands at the path `where`."""
    problems = []
    source = tag.source
    if source is not None:
        if not source.name:
            problems.append(FieldProblem(Problem.REQUIRED, f"{where}.from.name"))
        elif source.kind == DOCKER_IMAGE:
            try:
                DockerImageReference.parse(source.name)
            except InvalidReference as error:
                problems.append(FieldProblem(Problem.INVALID, f"{where}.from.name", str(error), source.name))
        if source.kind not in SOURCE_KINDS:
            detail = "valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'"
            problems.append(FieldProblem(Problem.REQUIRED, f"{where}.from.kind", detail))
        if tag.scheduled and source.kind != DOCKER_IMAGE:
            detail = "only tags pointing to Docker repositories may be scheduled for background import"
            problems.append(FieldProblem(Problem.INVALID, f"{where}.importPolicy.scheduled", detail, True))
    if tag.import_mode not in ("", "Legacy", "PreserveOriginal"):
        detail = "invalid import mode, valid modes are '', 'Legacy', 'PreserveOriginal'"
        problems.append(FieldProblem(Problem.INVALID, f"{where}.importPolicy.importMode", detail, tag.import_mode))
    if tag.reference_policy not in ("Source", "Local"):
        detail = 'valid values are "Source", "Local"'
        problems.append(FieldProblem(Problem.INVALID, f"{where}.referencePolicy.type", detail, tag.reference_policy))
    return problems


def _status_problems(tag: str, items: Sequence[TagEvent], known: set[str]) -> list[FieldProblem]:
    problems = []
    for index, item in enumerate(items):
        where = f"status.tags[{tag}].items[{index}].dockerImageReference"
        if not item.reference:
            problems.append(FieldProblem(Problem.REQUIRED, where))
        elif item.reference not in known:
            try:
                DockerImageReference.parse(item.reference)
            except InvalidReference as error:
                problems.append(FieldProblem(Problem.INVALID, where, str(error), item.reference))
    return problems

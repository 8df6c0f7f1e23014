"""The image stream: every rule about tags and their histories.

Decisions look at the present state, refuse or make one event, and fold it in; `apply` is the only place that
knows how an event changes a stream, for commands, views, replays and looks into the past alike. The stream
keeps the newest entry of each tag and not the history below it, so a push costs the same whatever the history
is, and however many other tags there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from imagestream_es.domain import ownership
from imagestream_es.domain.errors import AlreadyExists, Conflict, FieldProblem, Invalid, NotFound, Problem, TagMoved
from imagestream_es.domain.events import (
    ImageMapped,
    ImagesImported,
    Origin,
    Put,
    Restored,
    StatusReplaced,
    StreamCreated,
    StreamDeleted,
    StreamDeletionRequested,
    StreamEvent,
    StreamRecreated,
    StreamUpdated,
    TagDeleted,
    TagRolledBack,
    TagSet,
)
from imagestream_es.domain.imports import TagImport, with_attempts
from imagestream_es.domain.references import stream_repository
from imagestream_es.domain.resolution import Catalog, Resolution, followed_tags, forbidden_source, foreign_stream
from imagestream_es.domain.tags import (
    LOCAL,
    ImageGuard,
    TagEvent,
    TagEventCondition,
    TagReference,
    put_on_top,
    same_target,
)
from imagestream_es.domain.validation import history_problems, repository_problems, tag_problems, tag_text_problems

T = TypeVar("T")

RESOURCE = "imagestreams"
KIND = "ImageStream"


class Tag(Struct, frozen=True, gc=False):
    """What a stream remembers of a tag: what it should be, its newest entry, and how imports went."""

    spec: TagReference | None = None
    head: TagEvent | None = None
    conditions: tuple[TagEventCondition, ...] = ()


NO_TAG = Tag()

_LIFE = frozenset((StreamCreated, StreamRecreated, StreamDeletionRequested, StreamDeleted))
"""Events by which a stream begins or ends."""

_PUSHES = (ImageMapped, StatusReplaced, TagRolledBack)
"""Events after which spec and metadata are as they were."""


class TagChange(Struct, frozen=True, gc=False):
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
CONDITIONS_SET = "conditions-set"
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


class ImageStream:
    """One image stream: (namespace, name), with every spec tag and the newest entry of every history.

    `position` is that of its last event in the log, `number` that of its first, `written` that of the last that
    was not a push alone: spec and metadata are since then as they are. All are 0 before there is one.
    `pending` are the events decided but not stored yet, each with what it did to the tags.
    """

    __slots__ = (
        "_followers",
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
        "written",
    )

    def __init__(self, namespace: str, name: str) -> None:
        self.id = stream_id(namespace, name)
        self.namespace = namespace
        self.name = name
        self.version = 0
        self.position = 0
        self.number = 0
        self.written = 0
        self.pending: list[tuple[StreamEvent, list[TagChange]]] = []
        self.repository = ""
        self._begin("", 0)
        self.exists = False

    def copy(self) -> ImageStream:
        """The stream as it is now, untouched by what happens to this one later."""
        twin = copy(self)
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
        # Made when it is asked for, and again after a spec tag changed: pushes ask often and change none.
        self._followers: dict[str, list[str]] | None = None

    # --- the fold

    def apply(self, event: StreamEvent) -> list[TagChange]:
        """Fold one event into the stream; answers what it did to the tags, something for each that it changed."""
        changes = self._apply_life(event) if type(event) in _LIFE else []
        self._apply_metadata(event)
        for name in event.dropped:
            changes.append(TagChange(name, DROPPED, self.newest(name), None))
            self._keep(name, Tag(self.tag(name).spec))
        if event.tags:
            changes += self._apply_spec_tags(event, event.tags)
        for put in event.put:
            changes += self._apply_put(event, put)
        if event.items:
            changes += self._apply_items(event.items)
        if event.conditions:
            changes += self._apply_conditions(event, event.conditions)
        self.version += 1
        return changes

    def _apply_life(self, event: StreamEvent) -> list[TagChange]:
        changes: list[TagChange] = []
        if isinstance(event, StreamCreated):
            self._begin(event.uid, event.by.seconds)
            self.generate_name = event.generate_name
            if event.repository is not None:
                self.repository = event.repository
        elif isinstance(event, StreamDeletionRequested):
            self.deletion = event.by.seconds
        else:
            changes = [TagChange(name, DROPPED, tag.head, None) for name, tag in sorted(self.tags.items())]
            self._end()
        return changes

    def _end(self) -> None:
        self.exists = False
        self.tags = {}
        self._followers = None

    def _apply_metadata(self, event: StreamEvent) -> None:
        if event.labels is not None:
            self.labels = event.labels
        if event.annotations is not None:
            self.annotations = event.annotations
        if event.finalizers is not None:
            self.finalizers = event.finalizers
        if event.owners is not None:
            self.owners = event.owners
        if event.generation is not None:
            self.generation = event.generation
        if event.local_lookup is not None:
            self.local_lookup = event.local_lookup
        if event.source_repository is not None:
            self.source_repository = event.source_repository
        if event.managed:
            self.managed = ownership.merged(self.managed, event.managed, event.by.seconds)

    def _apply_spec_tags(self, event: StreamEvent, specs: Mapping[str, TagReference | None]) -> list[TagChange]:
        told = _told_by_entries(event)
        changes = []
        for name, spec in specs.items():
            tag = self.tag(name)
            if name not in told:
                changes.append(TagChange(name, SPEC_REMOVED if spec is None else SPEC_SET, tag.head, tag.head))
            self._keep(name, Tag(spec, tag.head, tag.conditions))
        self._followers = None
        return changes

    def _apply_put(self, event: StreamEvent, put: Put) -> list[TagChange]:
        entry = TagEvent(
            event.by.seconds if put.created is None else put.created,
            f"{self.repository}@{put.image}" if put.reference is None else put.reference,
            put.image,
            put.generation,
        )
        changes = [self._put(put.tag, entry, IMPORTED if isinstance(event, ImagesImported) else PUT)]
        if put.followers:
            changes += [self._put(follower, entry, FOLLOWED) for follower in put.followers]
        return changes

    def _put(self, name: str, entry: TagEvent, kind: str) -> TagChange:
        tag = self.tags.get(name, NO_TAG)
        head, folded = put_on_top(tag.head, entry)
        self.tags[name] = Tag(tag.spec, head)
        return TagChange(name, kind, tag.head, head, folded)

    def _apply_items(self, histories: Mapping[str, tuple[TagEvent, ...]]) -> list[TagChange]:
        changes = []
        for name, items in histories.items():
            tag = self.tag(name)
            head = items[0] if items else None
            changes.append(TagChange(name, REPLACED, tag.head, head, items=items))
            self._keep(name, Tag(tag.spec, head, tag.conditions))
        return changes

    def _apply_conditions(
        self, event: StreamEvent, found: Mapping[str, tuple[TagEventCondition, ...]]
    ) -> list[TagChange]:
        told = _told_by_entries(event).union(event.tags or ())
        changes = []
        for name, conditions in found.items():
            tag = self.tag(name)
            if _failed(event, conditions):
                changes.append(TagChange(name, IMPORT_FAILED, tag.head, tag.head))
            elif name not in told:
                changes.append(TagChange(name, CONDITIONS_SET, tag.head, tag.head))
            self._keep(name, Tag(tag.spec, tag.head, conditions))
        return changes

    def _keep(self, name: str, tag: Tag) -> None:
        if tag == NO_TAG:
            self.tags.pop(name, None)
        else:
            self.tags[name] = tag

    def _record(self, event: StreamEvent) -> None:
        self.pending.append((event, self.apply(event)))

    # --- what others ask

    @property
    def spec_tags(self) -> dict[str, TagReference]:
        """The spec tags by name, in the order of names."""
        return {name: tag.spec for name, tag in sorted(self.tags.items()) if tag.spec is not None}

    def tag(self, name: str) -> Tag:
        """What the stream remembers of a tag."""
        return self.tags.get(name, NO_TAG)

    def newest(self, name: str) -> TagEvent | None:
        """The newest entry of a tag, None without one."""
        return self.tag(name).head

    def followers(self, name: str) -> Sequence[str]:
        """The tags of this stream that follow a tag directly, in order."""
        if self._followers is None:
            self._followers = defaultdict(list)
            for follower, tag in followed_tags(self.spec_tags.values(), self.namespace, self.name).items():
                if follower != tag:
                    self._followers[tag].append(follower)
        return self._followers.get(name, ())

    # --- decisions

    def create(self, by: Origin, uid: str, desired: DesiredStream, catalog: Catalog) -> None:
        """Begin the stream. Raises AlreadyExists, Invalid."""
        if self.exists:
            raise AlreadyExists(RESOURCE, self.name)
        self._record(self._creation(by, uid, desired, catalog))

    def _creation(self, by: Origin, uid: str, desired: DesiredStream, catalog: Catalog) -> StreamCreated:
        tags = {tag.name: _with_generation(tag, 1) for tag in _by_name(desired.tags)}
        resolution = Resolution(self.namespace, self.name, self.newest, by, 1, catalog)
        resolution.resolve(tags, tags)
        self._check(desired, tags.values(), resolution.problems, catalog)
        again = self.version > 0
        event_class: type[StreamCreated] = StreamRecreated if again else StreamCreated
        repository = self.repository if again else stream_repository(catalog.registry, self.namespace, self.name)
        return event_class(
            by=by,
            namespace=self.namespace,
            name=self.name,
            uid=uid,
            repository=None if again else repository,
            generate_name=desired.generate_name,
            generation=1,
            labels=desired.labels or None,
            annotations=desired.annotations or None,
            finalizers=desired.finalizers or None,
            owners=desired.owners or None,
            local_lookup=desired.local_lookup or None,
            source_repository=desired.source_repository or None,
            tags=_difference({}, tags) or None,
            put=_as_puts(by, resolution.recorded, repository),
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
        wanted = {tag.name: self._kept_generation(tag) for tag in _by_name(desired.tags)}
        spec_changed = (
            wanted != old
            or desired.local_lookup != self.local_lookup
            or desired.source_repository != self.source_repository
        )
        generation = self.generation + 1 if spec_changed else self.generation
        changed = {name for name, tag in wanted.items() if name not in old or self._source_changed(old[name], tag)}
        tags = {
            name: _with_generation(tag, generation) if name in changed or not tag.generation else tag
            for name, tag in wanted.items()
        }
        resolution = Resolution(self.namespace, self.name, self.newest, by, generation, catalog)
        resolution.resolve(tags, changed, {name for name in wanted.keys() & old if _retyped(old[name], wanted[name])})
        written = _difference(old, tags)
        self._check(desired, filter(None, written.values()), resolution.problems, catalog)
        if self.deletion is not None and not set(desired.finalizers) <= set(self.finalizers):
            detail = "no new finalizers can be added if the object is being deleted"
            problem = FieldProblem(Problem.FORBIDDEN, "metadata.finalizers", detail)
            raise Invalid(KIND, self.name, [problem])
        event = event_class(
            by=by,
            labels=_if_new(desired.labels, self.labels),
            annotations=_if_new(desired.annotations, self.annotations),
            finalizers=_if_new(desired.finalizers, self.finalizers),
            owners=_if_new(desired.owners, self.owners),
            generation=_if_new(generation, self.generation),
            local_lookup=_if_new(desired.local_lookup, self.local_lookup),
            source_repository=_if_new(desired.source_repository, self.source_repository),
            tags=written or None,
            put=_as_puts(by, resolution.recorded, self.repository),
        )
        if event == event_class(by=by):
            return
        if self.deletion is not None and not desired.finalizers:
            event = StreamDeleted(
                by=by,
                labels=event.labels,
                annotations=event.annotations,
                finalizers=event.finalizers,
                owners=event.owners,
            )
        self._record(event)

    def own(self, by: Origin, entries: Sequence[dict[str, Any]]) -> None:
        """Note who manages which fields from now on, in the event that was just decided if there is one."""
        managed = ownership.difference(self.managed, entries, by.seconds)
        if not managed:
            return
        if self.pending:
            event, changes = self.pending.pop()
            self.pending.append((replace(event, managed=managed), changes))
            self.managed = ownership.merged(self.managed, managed, by.seconds)
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
        """Put an image on a tag, and on the tags that follow it directly; nothing happens if the tag shows it."""
        entry = TagEvent(by.seconds, reference, image, self.generation)
        if same_target(self.newest(tag), entry):
            return
        followers = tuple(name for name in self.followers(tag) if not same_target(self.newest(name), entry))
        self._record(ImageMapped(by=by, put=(_as_put(by, tag, entry, self.repository, followers),)))

    def roll_back(self, by: Origin, tag: str, restored: Restored) -> None:
        """Have a tag name again what it named once, and the tags that follow it directly, as a push does.

        Nothing happens if it names that image. The spec of the tag stays as it is.
        """
        head = self.newest(tag)
        if head is not None and head.image == restored.image:
            return
        entry = TagEvent(by.seconds, restored.reference, restored.image, self.generation)
        followers = tuple(name for name in self.followers(tag) if not same_target(self.newest(name), entry))
        put = _as_put(by, tag, entry, self.repository, followers)
        self._record(TagRolledBack(by=by, put=(put,), restores=restored))

    def import_images(self, by: Origin, uid: str, attempts: Sequence[TagImport], catalog: Catalog) -> None:
        """Record what came of importing tags; the stream begins if there is none."""
        plain = ImagesImported(by=by) if self.exists else self._creation(by, uid, DesiredStream(), catalog)
        event = with_attempts(plain, self, attempts)
        if event != ImagesImported(by=by):
            self._record(event)

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
            problems += tag_text_problems(name, f"status.tags[{name}].tag")
            shown = history(name)
            wanted, wanted_conditions = tags.get(name, ((), ()))
            wanted = self._with_head_generation(name, wanted)
            if wanted != shown:
                problems.extend(history_problems(name, wanted, {item.reference for item in shown}))
                items[name] = wanted
            if wanted_conditions != self.tag(name).conditions:
                conditions[name] = wanted_conditions
        if problems:
            raise Invalid(KIND, self.name, problems)
        if items or conditions:
            self._record(StatusReplaced(by=by, items=items or None, conditions=conditions or None))

    def _with_head_generation(self, name: str, items: tuple[TagEvent, ...]) -> tuple[TagEvent, ...]:
        if not items or items[0].generation:
            return items
        head, tag = items[0], self.tag(name)
        generation = self.generation
        changed = tag.head is None or (tag.head.reference, tag.head.image) != (head.reference, head.image)
        if changed and tag.spec is not None and tag.spec.generation:
            generation = tag.spec.generation
        return (TagEvent(head.created, head.reference, head.image, generation), *items[1:])

    def delete(self, by: Origin) -> None:
        """Delete the stream, or begin to if finalizers hold it."""
        if not self.finalizers:
            self._record(StreamDeleted(by=by))
        elif self.deletion is None:
            self._record(StreamDeletionRequested(by=by))

    def place(self, event: StreamEvent, position: int) -> None:
        """Take in where in the log an event stands that was applied."""
        self.position = position
        self.number = self.number or position
        if not isinstance(event, _PUSHES):
            self.written = position

    def check_position(
        self, position: int | None, uid: str | None, resource: str, name: str, *, pushes: bool = False
    ) -> None:
        """Raises Conflict if the caller saw another position, or means another object, than this one.

        With `pushes`, histories may have grown since: only spec and metadata must be those that were seen.
        """
        if uid and uid != self.uid:
            raise Conflict.other_object(resource, name, uid, self.uid)
        if position is not None and position != self.position and not (pushes and self.written <= position):
            raise Conflict(resource, name)

    def check_image(self, tag: str, guard: ImageGuard | None, resource: str) -> None:
        """Raises TagMoved if the image of a tag is another than the caller said. What other tags name is no matter."""
        head = self.newest(tag)
        current = head.image if head is not None else ""
        if guard is not None and not guard.holds(current):
            raise TagMoved(resource, f"{self.name}:{tag}", current)

    # --- details

    def _check(
        self,
        desired: DesiredStream,
        tags: Iterable[TagReference],
        unresolved: Sequence[FieldProblem],
        catalog: Catalog,
    ) -> None:
        """Raises Invalid if sources could not be resolved, or if fields of the stream or of `tags` are wrong."""
        problems = []
        if unresolved:
            # OpenShift reports whatever it meets while it resolves tags as one inner error.
            problems.append(FieldProblem(Problem.INTERNAL, "[]", value=Invalid(RESOURCE, self.name, unresolved)))
        if desired.source_repository != self.source_repository:
            source = foreign_stream(desired.source_repository, self.namespace, catalog)
            if source is not None and not catalog.may_pull(*source):
                problems.append(forbidden_source("spec.dockerImageRepository", source))
        problems += repository_problems(desired.source_repository, "spec.dockerImageRepository")
        for tag in tags:
            problems += tag_problems(tag, f"spec.tags[{tag.name}]")
        if problems:
            raise Invalid(KIND, self.name, problems)

    def _kept_generation(self, tag: TagReference) -> TagReference:
        stored = self.tag(tag.name).spec
        if tag.generation == 0 or stored is None:
            return tag
        return _with_generation(tag, stored.generation)

    def _source_changed(self, old: TagReference, new: TagReference) -> bool:
        if new.source is None or not (new.source.kind or new.source.name):
            return False
        before = (old.source.namespace or self.namespace, old.source.name) if old.source else (self.namespace, "")
        after = (new.source.namespace or self.namespace, new.source.name)
        return (before, old.reference, old.import_mode) != (after, new.reference, new.import_mode)


def _retyped(old: TagReference, new: TagReference) -> bool:
    """Whether the source of a tag has become one of another kind."""
    return new.source is not None and (old.source is None or old.source.kind != new.source.kind)


def stream_id(namespace: str, name: str) -> str:
    """The id of a stream's aggregate. It holds a slash, which no image's name may."""
    return f"{namespace}/{name}"


def shown_reference(tag: Tag, own_repository: str) -> str:
    """The pull spec that clients of a tag should use: with policy Local that of the internal registry."""
    assert tag.head is not None
    local = tag.spec is not None and tag.spec.reference_policy == LOCAL
    if local and own_repository and tag.head.image:
        return f"{own_repository}@{tag.head.image}"
    return tag.head.reference


def _told_by_entries(event: StreamEvent) -> set[str]:
    """The tags of an event whose change is told by what happened to their histories, or by a failed import."""
    failed = (name for name, conditions in (event.conditions or {}).items() if _failed(event, conditions))
    return {put.tag for put in event.put}.union(event.dropped, event.items or (), failed)


def _failed(event: StreamEvent, conditions: Collection[TagEventCondition]) -> bool:
    return isinstance(event, ImagesImported) and bool(conditions)


def _by_name(tags: Iterable[TagReference]) -> list[TagReference]:
    return sorted(tags, key=lambda tag: tag.name)


def _with_generation(tag: TagReference, generation: int | None) -> TagReference:
    return tag if tag.generation == generation else replace(tag, generation=generation)


def _difference(old: Mapping[str, TagReference], new: Mapping[str, TagReference]) -> dict[str, TagReference | None]:
    """The spec tags that are gone, as None, and those that are new or other than before."""
    gone: dict[str, TagReference | None] = dict.fromkeys(name for name in old if name not in new)
    return gone | {name: tag for name, tag in new.items() if old.get(name) != tag}


def _as_put(by: Origin, tag: str, entry: TagEvent, base: str, followers: tuple[str, ...] = ()) -> Put:
    return Put(
        tag=tag,
        image=entry.image,
        generation=entry.generation,
        reference=None if base and entry.reference == f"{base}@{entry.image}" else entry.reference,
        created=None if entry.created == by.seconds else entry.created,
        followers=followers,
    )


def _as_puts(by: Origin, entries: Mapping[str, TagEvent], base: str) -> tuple[Put, ...]:
    return tuple(_as_put(by, name, entry, base) for name, entry in entries.items())


def _if_new(new: T, old: T) -> T | None:
    return None if new == old else new

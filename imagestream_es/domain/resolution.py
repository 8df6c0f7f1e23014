"""Finds out what spec tags stand for: which entry their sources put on top of their histories.

A tag of the same stream is followed: whenever its newest entry moves, so do the tags that name it as their
source. A tag or an image of another stream is copied once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from imagestream_es.domain.errors import FieldProblem, Problem
from imagestream_es.domain.events import Origin
from imagestream_es.domain.references import (
    DockerImageReference,
    InvalidName,
    InvalidReference,
    split_stream_image,
    split_stream_tag,
    stream_behind,
    stream_repository,
)
from imagestream_es.domain.tags import (
    DOCKER_IMAGE,
    IMAGE_STREAM_IMAGE,
    IMAGE_STREAM_TAG,
    SOURCE_KINDS,
    ObjectReference,
    TagEvent,
    TagReference,
    put_on_top,
    same_target,
)
from imagestream_es.domain.validation import KNOWN_KINDS


class Catalog(Protocol):
    """What a decision may ask about the world around its stream."""

    @property
    def registry(self) -> str:
        """Host of the internal registry, "" without one."""

    @property
    def registries(self) -> Collection[str]:
        """All hosts under which the internal registry is known."""

    def has_stream(self, namespace: str, name: str) -> bool:
        """Whether there is a stream of that name."""

    def newest(self, namespace: str, name: str, tag: str) -> TagEvent | None:
        """The newest entry of a tag of a stream, None without one."""

    def images_in(self, namespace: str, name: str, wanted: str) -> Sequence[TagEvent]:
        """Entries of a stream's histories whose image is named, or abbreviated, by `wanted`; one for each image."""

    def may_pull(self, namespace: str, name: str) -> bool:
        """Whether the caller may take images from that stream."""


Place = tuple[str, str, str]
"""Namespace and name of a stream, and a tag or an image there."""


def place_of(source: ObjectReference, namespace: str, stream: str) -> Place:
    """What an ImageStreamTag or ImageStreamImage means as the source of a tag of the stream `namespace`/`stream`.

    A tag or image alone is one of the tag's own stream. Raises InvalidName.
    """
    name = source.name
    if source.kind == IMAGE_STREAM_IMAGE:
        alone, split = "@" not in name, split_stream_image
    else:
        alone, split = "@" not in name and ":" not in name, split_stream_tag
    return (source.namespace or namespace, *((stream, name) if name and alone else split(name)))


def followed_tag(spec: TagReference, namespace: str, stream: str) -> str | None:
    """The tag that a spec tag of the stream `namespace`/`stream` follows, None if it follows none."""
    source = spec.source
    if source is None or source.kind != IMAGE_STREAM_TAG or source.namespace not in ("", namespace):
        return None
    try:
        _, name, tag = place_of(source, namespace, stream)
    except InvalidName:
        return None
    return tag if name == stream else None


def followed_tags(specs: Iterable[TagReference], namespace: str, stream: str) -> dict[str, str]:
    """Those of the spec tags of a stream that follow a tag of it, each with the tag that it follows."""
    followed = ((spec.name, followed_tag(spec, namespace, stream)) for spec in specs)
    return {name: tag for name, tag in followed if tag is not None}


def foreign_stream(pull_spec: str, namespace: str, catalog: Catalog) -> tuple[str, str] | None:
    """Namespace and name of the stream of another namespace whose repository a pull spec names, None for any other."""
    stream = stream_behind(pull_spec, catalog.registries)
    return None if stream is None or stream[0] == namespace else stream


def forbidden_source(where: str, stream: tuple[str, str]) -> FieldProblem:
    """What is wrong with a source in a stream whose images the caller may not take."""
    return FieldProblem(Problem.FORBIDDEN, where, f'{stream[0]}/{stream[1]}: "" ""')


class Resolution:
    """One look at the sources of a stream's spec tags, on behalf of a change made `by` somebody.

    `newest` answers the newest entry that a tag of the stream has so far. `recorded` are the entries to put on
    top of histories, of generation `generation`; `problems` is what kept tags from being resolved.
    """

    def __init__(
        self,
        namespace: str,
        stream: str,
        newest: Callable[[str], TagEvent | None],
        by: Origin,
        generation: int,
        catalog: Catalog,
    ) -> None:
        self.recorded: dict[str, TagEvent] = {}
        self.problems: list[FieldProblem] = []
        self._namespace = namespace
        self._stream = stream
        self._newest = newest
        self._by = by
        self._generation = generation
        self._catalog = catalog

    def resolve(
        self, specs: Mapping[str, TagReference], changed: Collection[str], retyped: Collection[str] = ()
    ) -> None:
        """Look up the sources of the `changed` tags of `specs`, then move every tag that follows one that moved.

        A source that was only `retyped`, to be of another kind, is not looked up, but it must be one that the caller
        may take images from: it may be imported later.
        """
        followed = followed_tags(specs.values(), self._namespace, self._stream)
        asked = {name: spec for name, spec in specs.items() if name in changed and name not in followed}
        self._check_access({name: spec for name, spec in specs.items() if name in asked or name in retyped})
        for name, spec in asked.items():
            self._look_up(name, spec)
        for name in _sources_first(followed):
            source = followed[name]
            head = self._head(source)
            if head is not None and (name in changed or source in self.recorded):
                self._record(name, TagEvent(head.created, head.reference, head.image, self._generation))

    def _head(self, name: str) -> TagEvent | None:
        """The newest entry of a tag with what is recorded on top."""
        head, entry = self._newest(name), self.recorded.get(name)
        return head if entry is None else put_on_top(head, entry)[0]

    def _record(self, name: str, entry: TagEvent | None) -> None:
        if entry is not None and not same_target(self._newest(name), entry):
            self.recorded[name] = entry

    def _check_access(self, specs: Mapping[str, TagReference]) -> None:
        allowed: dict[tuple[str, str], bool] = {}
        for name, spec in specs.items():
            stream = self._foreign_stream(spec)
            if stream is None:
                continue
            if stream not in allowed:
                allowed[stream] = self._catalog.may_pull(*stream)
            if not allowed[stream]:
                self.problems.append(forbidden_source(f"spec.tags[{name}].from", stream))

    def _foreign_stream(self, spec: TagReference) -> tuple[str, str] | None:
        """Namespace and name of the stream of another namespace that a tag takes images from."""
        source = spec.source
        if source is None:
            return None
        if source.kind == DOCKER_IMAGE:
            # Nothing is imported for what is a mere reference.
            return None if spec.reference else foreign_stream(source.name, self._namespace, self._catalog)
        if source.kind not in (IMAGE_STREAM_TAG, IMAGE_STREAM_IMAGE):
            return None
        try:
            namespace, stream, _ = place_of(source, self._namespace, self._stream)
        except InvalidName:
            return None
        return (namespace, stream) if namespace != self._namespace else None

    def _look_up(self, name: str, spec: TagReference) -> None:
        if spec.source is None:
            return
        try:
            entry = self._entry(spec.source, spec.reference)
        except _Unresolved as why:
            where = f"spec.tags[{name}].from.{why.field}"
            self.problems.append(FieldProblem(why.kind, where, why.detail, why.value))
        else:
            self._record(name, entry)

    def _entry(self, source: ObjectReference, reference: bool) -> TagEvent | None:
        """What a source stands for now, None while that is not known."""
        if source.kind == DOCKER_IMAGE:
            if not source.name:
                raise _Unresolved(Problem.REQUIRED, "name")
            # What is no mere reference gets its entry from an import.
            return TagEvent(self._by.seconds, source.name, "", self._generation) if reference else None
        if source.kind not in SOURCE_KINDS:
            raise _Unresolved(Problem.INVALID, "kind", KNOWN_KINDS, source.kind)
        namespace, stream, wanted = self._place(source)
        if source.kind == IMAGE_STREAM_TAG:
            found = self._catalog.newest(namespace, stream, wanted)
            if found is None:
                return None
            created = found.created
        else:
            found = self._image(namespace, stream, wanted)
            created = self._by.seconds
        pull_spec = found.reference if reference else self._localised(found.reference, namespace, stream)
        return TagEvent(created, pull_spec, found.image, self._generation)

    def _place(self, source: ObjectReference) -> Place:
        try:
            place = place_of(source, self._namespace, self._stream)
        except InvalidName:
            detail = "must be of the form <tag>, <repo>:<tag>, <id>, or <repo>@<id>"
            raise _Unresolved(Problem.INVALID, "name", detail, source.name) from None
        stream = place[:2]
        if stream != (self._namespace, self._stream) and not self._catalog.has_stream(*stream):
            raise _Unresolved(Problem.NOT_FOUND, "name", value=source.name)
        return place

    def _image(self, namespace: str, stream: str, wanted: str) -> TagEvent:
        found = self._catalog.images_in(namespace, stream, wanted)
        if len(found) == 1:
            return found[0]
        image = f'imagestreamimage.image.openshift.io "{wanted}"'
        why = (
            f"Operation cannot be fulfilled on {image}: multiple images match the prefix"
            if found
            else f"{image} not found"
        )
        raise _Unresolved(Problem.INVALID, "name", f"error generating tag event: {why}", wanted)

    def _localised(self, reference: str, namespace: str, stream: str) -> str:
        """The pull spec of a copied entry: images of the internal registry are pulled through this stream."""
        registry = self._catalog.registry
        if not registry:
            return reference
        try:
            repository = DockerImageReference.parse(reference).repository()
        except InvalidReference:
            return reference
        if repository != stream_repository(registry, namespace, stream):
            return reference
        return stream_repository(registry, self._namespace, self._stream) + reference[len(repository) :]


class _Unresolved(Exception):
    """A source that means nothing; `field` is the one below `from` that is to blame."""

    def __init__(self, kind: Problem, field: str, detail: str = "", value: object = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.field = field
        self.detail = detail
        self.value = value


def _sources_first(followed: Mapping[str, str]) -> Iterator[str]:
    """The tags that follow another, each after the one it follows if that follows one too; rings begin anywhere."""
    done = set()
    for start in followed:
        chain = []
        name = start
        while name in followed and name not in done:
            done.add(name)
            chain.append(name)
            name = followed[name]
        yield from reversed(chain)

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
    stream_repository,
)
from imagestream_es.domain.tags import (
    DOCKER_IMAGE,
    IMAGE_STREAM_IMAGE,
    IMAGE_STREAM_TAG,
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

    def resolve(self, specs: Mapping[str, TagReference], changed: Collection[str]) -> None:
        """Look up the sources of the `changed` tags of `specs`, then move every tag that follows one that moved."""
        followed = followed_tags(specs.values(), self._namespace, self._stream)
        asked = {name: specs[name] for name in changed if name not in followed}
        self._check_access(asked)
        for name, spec in asked.items():
            self._look_up(name, spec)
        for name in _sources_first(followed):
            source = followed[name]
            entry = self._head(source)
            if entry is not None and (name in changed or source in self.recorded):
                self._record(name, entry.created, entry.reference, entry.image)

    def _head(self, name: str) -> TagEvent | None:
        entry = self.recorded.get(name)
        return self._newest(name) if entry is None else put_on_top(self._newest(name), entry)[0]

    def _record(self, name: str, created: int | None, reference: str, image: str) -> None:
        entry = TagEvent(created, reference, image, self._generation)
        if not same_target(self._newest(name), entry):
            self.recorded[name] = entry

    def _check_access(self, specs: Mapping[str, TagReference]) -> None:
        allowed: dict[tuple[str, str], bool] = {}
        for name, spec in specs.items():
            stream = self._foreign_stream(spec.source)
            if stream is None:
                continue
            if stream not in allowed:
                allowed[stream] = self._catalog.may_pull(*stream)
            if not allowed[stream]:
                detail = f'{stream[0]}/{stream[1]}: "" ""'
                self.problems.append(FieldProblem(Problem.FORBIDDEN, f"spec.tags[{name}].from", detail))

    def _foreign_stream(self, source: ObjectReference | None) -> tuple[str, str] | None:
        """Namespace and name of the stream of another namespace that a source asks for."""
        if source is None or source.kind not in (IMAGE_STREAM_TAG, IMAGE_STREAM_IMAGE):
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
            if spec.source.kind == DOCKER_IMAGE:
                self._refer(name, spec.source, spec.reference)
            elif spec.source.kind == IMAGE_STREAM_TAG:
                self._copy_tag(name, spec.source, spec.reference)
            elif spec.source.kind == IMAGE_STREAM_IMAGE:
                self._copy_image(name, spec.source, spec.reference)
            else:
                raise _Unresolved(Problem.INVALID, "kind", KNOWN_KINDS, spec.source.kind)
        except _Unresolved as why:
            where = f"spec.tags[{name}].from.{why.field}"
            self.problems.append(FieldProblem(why.kind, where, why.detail, why.value))

    def _refer(self, name: str, source: ObjectReference, reference: bool) -> None:
        if not source.name:
            raise _Unresolved(Problem.REQUIRED, "name")
        # Any other tag of an outside image gets its entry from an import.
        if reference:
            self._record(name, self._by.seconds, source.name, "")

    def _copy_tag(self, name: str, source: ObjectReference, reference: bool) -> None:
        namespace, stream, tag = self._place(source)
        found = self._catalog.newest(namespace, stream, tag)
        if found is not None:
            pull_spec = found.reference if reference else self._localised(namespace, stream, found.reference)
            self._record(name, found.created, pull_spec, found.image)

    def _copy_image(self, name: str, source: ObjectReference, reference: bool) -> None:
        namespace, stream, wanted = self._place(source)
        found = self._catalog.images_in(namespace, stream, wanted)
        if len(found) != 1:
            image = f'imagestreamimage.image.openshift.io "{wanted}"'
            why = (
                f"Operation cannot be fulfilled on {image}: multiple images match the prefix"
                if found
                else f"{image} not found"
            )
            raise _Unresolved(Problem.INVALID, "name", f"error generating tag event: {why}", wanted)
        pull_spec = found[0].reference if reference else self._localised(namespace, stream, found[0].reference)
        self._record(name, self._by.seconds, pull_spec, found[0].image)

    def _place(self, source: ObjectReference) -> Place:
        try:
            place = namespace, stream, _ = place_of(source, self._namespace, self._stream)
        except InvalidName:
            detail = "must be of the form <tag>, <repo>:<tag>, <id>, or <repo>@<id>"
            raise _Unresolved(Problem.INVALID, "name", detail, source.name) from None
        own = (namespace, stream) == (self._namespace, self._stream)
        if not own and not self._catalog.has_stream(namespace, stream):
            raise _Unresolved(Problem.NOT_FOUND, "name", value=source.name)
        return place

    def _localised(self, namespace: str, stream: str, reference: str) -> str:
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

"""ImageStreamImport: fetch images from registries, then record all that came of it in one decision.

Registries are asked outside the writer, a few requests at a time. What fails there is no error of the import
but part of its result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from msgspec import Raw, Struct

from imagestream_es.application.commands import Caller, Expected, image_then, stream_then
from imagestream_es.application.fetching import (
    IMAGES_AT_ONCE,
    Fetching,
    ImageImport,
    ImageResult,
    Policy,
    RepositoryImport,
    RepositoryResult,
)
from imagestream_es.application.queries import Queries
from imagestream_es.application.tally import Tally
from imagestream_es.application.writer import Decision, Work, Writer
from imagestream_es.domain.errors import AlreadyDone, Conflict, NotFound
from imagestream_es.domain.events import Origin
from imagestream_es.domain.idempotency import Done
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import ImageStream
from imagestream_es.domain.imports import Failed, Fetched, TagImport
from imagestream_es.domain.references import DockerImageReference
from imagestream_es.persistence.store import Rows
from imagestream_es.projections.past import StreamView, view_at
from imagestream_es.registry.credentials import PullSecrets
from imagestream_es.registry.fetch import stored_document
from imagestream_es.registry.transport import Transport

RESOURCE = "imagestreamimports"

IMPORTS_AT_ONCE = 8
"""For clients."""
PATIENCE = 5.0
"""Seconds that an import waits for its turn."""


class ImportRequest(Struct, frozen=True):
    """What to import; `store` False only looks at it."""

    images: Sequence[ImageImport] = ()
    repository: RepositoryImport | None = None
    store: bool = True


class ImportResult(Struct, frozen=True):
    """What came of an import; `stream` and `stored` images (by name) as they are now, if it was to be stored.

    `changed` says that the stream is not as it was.
    """

    images: Sequence[ImageResult]
    repository: RepositoryResult | None
    stream: StreamView | None = None
    stored: Mapping[str, Image] = {}
    changed: bool = False


class TooManyImports(Exception):
    """So many imports are under way that this one must be tried again later."""


@dataclass(frozen=True)
class Imports:
    """Imports images into streams: of a repository `max_tags` tags, all if that is negative.

    `outcomes` counts what became of the images that clients asked for.
    """

    writer: Writer
    queries: Queries
    make_uid: Callable[[], str]
    clock: Callable[[], int]
    transport: Transport
    secrets: PullSecrets
    max_tags: int
    outcomes: Tally = field(default_factory=Tally)
    _turns: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(IMPORTS_AT_ONCE))

    def run(
        self,
        caller: Caller,
        namespace: str,
        name: str,
        request: ImportRequest,
        expected: Expected,
        *,
        dry: bool = False,
    ) -> ImportResult:
        """Import images into a stream, which begins if there is none.

        Raises NotFound, Conflict if the stream is not the one that was expected, TooManyImports, and AlreadyDone if
        it was done so long ago that the answer is not known any more.
        """
        if (done := caller.done) is not None:
            return self.writer.recall(lambda rows: _recalled(rows, namespace, name, request, done))
        view = self.queries.image_stream(namespace, name)
        _check(None if view is None else view.stream, name, expected)
        with self._turn():
            result = self._fetch(namespace, None if view is None else view.stream, request)
        self._count(result)
        if not request.store:
            if caller.claim is not None and not dry:
                self._note(caller, result)
            return result

        def check(stream: ImageStream | None, _: Sequence[TagImport]) -> None:
            _check(stream, name, expected)

        return self._store(caller, namespace, name, request, result, check, dry=dry)

    def _note(self, caller: Caller, result: ImportResult) -> None:
        """Keep what came of an import that stores nothing."""
        decision: Decision[None, None, None] = Decision(
            lambda _: None, lambda _: None, None, caller.may_pull, caller.claim, _memo(result)
        )
        self.writer.execute(decision, dry=False)

    def _count(self, result: ImportResult) -> None:
        repository = result.repository
        for image in (*result.images, *(repository.images if repository else ())):
            self.outcomes.add("failed" if image.failure else "imported")
        if repository and repository.failure:
            self.outcomes.add("failed")

    def refresh(
        self, caller: Caller, seen: ImageStream, request: ImportRequest, wanted: Callable[[ImportResult], bool]
    ) -> ImportResult:
        """Import what the spec of a stream, as it was `seen`, asks for, and store it if it is `wanted` then.

        It takes no turn from clients: who calls this does so from a few threads only. Raises NotFound if the stream
        is gone, Conflict if what asked for these imports was changed since.
        """
        result = self._fetch(seen.namespace, seen, request)
        if not wanted(result):
            return result

        def check(stream: ImageStream | None, attempts: Sequence[TagImport]) -> None:
            _check(stream, seen.name, Expected(uid=seen.uid))
            assert stream is not None
            same = stream.source_repository == seen.source_repository
            if not same or any(stream.tag(one.tag).spec != seen.tag(one.tag).spec for one in attempts):
                raise Conflict(RESOURCE, seen.name)

        return self._store(caller, seen.namespace, seen.name, request, result, check, dry=False)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=PATIENCE):
            raise TooManyImports
        try:
            yield
        finally:
            self._turns.release()

    def _fetch(self, namespace: str, stream: ImageStream | None, request: ImportRequest) -> ImportResult:
        specs = {} if stream is None else stream.spec_tags
        annotations = {tag: spec.annotations or {} for tag, spec in specs.items()}
        with ThreadPoolExecutor(IMAGES_AT_ONCE, "import") as pool:
            fetching = Fetching(
                self.transport,
                self.secrets.keyring(namespace),
                pool,
                max_tags=self.max_tags,
                annotations=annotations,
                now=datetime.fromtimestamp(self.clock() // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            )
            images = [fetching.image(image) for image in request.images]
            repository = fetching.repository(request.repository) if request.repository else None
            return ImportResult([image() for image in images], repository)

    def _store(
        self,
        caller: Caller,
        namespace: str,
        name: str,
        request: ImportRequest,
        result: ImportResult,
        check: Callable[[ImageStream | None, Sequence[TagImport]], None],
        *,
        dry: bool,
    ) -> ImportResult:
        by = msgspec.structs.replace(caller.by, at=self.clock())
        attempts, documents = _attempts(request, result)
        uid = self.make_uid()

        def decide(work: Work) -> tuple[ImageStream, list[Image], bool]:
            stream = work.stream_of(namespace, name)
            check(stream if stream.exists else None, attempts)
            images = [self._registered(work, by, image, document) for image, document in documents.items()]
            stream.import_images(by, uid, attempts, work)
            return stream, images, bool(stream.pending)

        def keep(found: tuple[ImageStream, list[Image], bool]) -> tuple[ImageStream, list[Image], bool]:
            return found[0].copy(), [image.copy() for image in found[1]], found[2]

        def look(rows: Rows, kept: tuple[ImageStream, list[Image], bool]) -> ImportResult:
            stream, images, changed = kept
            stored = {image.name: image for image in images}
            return ImportResult(result.images, result.repository, view_at(rows, stream), stored, changed)

        memo = _memo(result) if caller.claim is not None else b""
        return self.writer.execute(Decision(decide, keep, look, caller.may_pull, caller.claim, memo), dry=dry)

    def _registered(self, work: Work, by: Origin, name: str, document: Mapping[str, Raw]) -> Image:
        image = work.image_of(name)
        if not image.exists:
            image.register(by, self.make_uid(), document)
        return image


def _check(stream: ImageStream | None, name: str, expected: Expected) -> None:
    """Raises NotFound or Conflict unless the stream is what the caller saw."""
    if expected.position is None and not expected.uid:
        return
    if stream is None or (expected.uid and expected.uid != stream.uid):
        raise NotFound(RESOURCE, name)
    if expected.position is not None and expected.position != stream.position:
        detail = f'the image stream was updated from "{expected.position}" to "{stream.position}"'
        raise Conflict(RESOURCE, name, detail)


# --- from results to what is recorded


_Fetched = tuple[tuple[ImageResult, ...], RepositoryResult | None]
"""What the registries gave, as it is kept for an import that is asked for again."""

_decode_memo = msgspec.json.Decoder(_Fetched).decode


def _memo(result: ImportResult) -> bytes:
    return msgspec.json.encode((result.images, result.repository))


def _recalled(rows: Rows, namespace: str, name: str, request: ImportRequest, done: Done) -> ImportResult:
    """What an import answered. Raises AlreadyDone if that is not known any more."""
    if not done.memo:
        raise AlreadyDone
    result = ImportResult(*_decode_memo(done.memo))
    if not request.store:
        return result
    _, documents = _attempts(request, result)
    stored = {image: image_then(rows, image, done.after) for image in documents}
    view = view_at(rows, stream_then(rows, namespace, name, done.after))
    return ImportResult(result.images, result.repository, view, stored, changed=done.after > done.before)


def _attempts(request: ImportRequest, result: ImportResult) -> tuple[list[TagImport], dict[str, Mapping[str, Raw]]]:
    """The attempts to import tags, and the documents of all images that came of them."""
    attempts: list[TagImport] = []
    documents: dict[str, Mapping[str, Raw]] = {}

    def note(tag: str, source: str, policy: Policy, found: ImageResult) -> None:
        attempts.append(TagImport(tag=tag, source=source, outcome=_outcome(found), **msgspec.structs.asdict(policy)))
        for image in (*found.parts, found.image):
            if image is not None:
                documents[image["metadata"]["name"]] = stored_document(image)

    for wanted, found in zip(request.images, result.images, strict=True):
        if wanted.tag:
            note(wanted.tag, wanted.source, wanted.policy, found)
    if request.repository and result.repository:
        base = DockerImageReference.parse(request.repository.source)
        for found in result.repository.images:
            source = msgspec.structs.replace(base, tag=found.tag).exact()
            note(found.tag, source, request.repository.policy, found)
    return attempts, documents


def _outcome(found: ImageResult) -> Fetched | Failed:
    if found.image is not None:
        return Fetched(found.image["metadata"]["name"], found.image["dockerImageReference"])
    return Failed(found.failure.reason, found.failure.message) if found.failure else Failed("", "")

"""What one import asks of registries: images by tag or digest, and whole repositories.

A few requests are under way at a time. An image that cannot be fetched is no error here but a result, in the
words that OpenShift has for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import msgspec
from msgspec import Struct

from imagestream_es.domain.references import DockerImageReference, InvalidReference
from imagestream_es.domain.tags import LEGACY, PRESERVE_ORIGINAL, SOURCE
from imagestream_es.registry import manifests
from imagestream_es.registry.budget import Budget
from imagestream_es.registry.client import RegistryClient
from imagestream_es.registry.credentials import Credentials, Keyring
from imagestream_es.registry.documents import InvalidManifest
from imagestream_es.registry.errors import Blocked, Denied, HttpOnly, NotARegistry, RegistryError, Unknown
from imagestream_es.registry.fetch import DEFAULT_PLATFORM, FetchedImage, Platform, fetch_image
from imagestream_es.registry.tag_order import import_order
from imagestream_es.registry.transport import Transport

T = TypeVar("T")

PREFER_ARCHITECTURE = "importer.image.openshift.io/prefer-arch"
PREFER_OS = "importer.image.openshift.io/prefer-os"
"""Annotations of a spec tag: what to take of an image for several platforms."""

IMPORT_SECONDS = 55.0
"""For one import with all its images: clients wait a minute for an answer."""
IMPORT_BYTES = 32 * 1024 * 1024
"""The most that one import downloads; manifest and config of an image have a few KiB."""
IMAGES_AT_ONCE = 4


class Policy(Struct, frozen=True, kw_only=True):
    """How images are imported into a tag, and how they are pulled from it."""

    insecure: bool = False
    scheduled: bool = False
    import_mode: str = LEGACY
    reference_policy: str = SOURCE


class ImageImport(Struct, frozen=True):
    """One image to import: its pull spec, and the tag that it is for; "" only looks at it."""

    source: str
    tag: str = ""
    policy: Policy = Policy()


class RepositoryImport(Struct, frozen=True):
    """A repository whose tags are to be imported, each into the tag of the same name."""

    source: str
    policy: Policy = Policy()


class Failure(Struct, frozen=True):
    """Why there is no image: an HTTP status (0 for none), a reason for programs, a message for people."""

    code: int
    reason: str
    message: str


class ImageResult(Struct, frozen=True):
    """What came of one image: a failure, or the image (and, of a list, its parts).

    `tag` is the tag that it was fetched by, "" for one that was named by its digest.
    """

    tag: str
    failure: Failure | None = None
    image: manifests.Image | None = None
    parts: Sequence[manifests.Image] = ()


class RepositoryResult(Struct, frozen=True):
    """What came of a repository: a failure if its tags could not be listed or one of `images` failed.

    `additional` are the tags that were too many.
    """

    images: Sequence[ImageResult] = ()
    additional: Sequence[str] = ()
    failure: Failure | None = None


class Fetching:
    """Asks registries on behalf of one import: everything once, in the threads of `pool`.

    `max_tags` of a repository are taken, all if it is negative. `annotations` are those of the spec tags,
    which may say what to take of an image for several platforms. `now` (RFC 3339, UTC) is when images appear.
    """

    def __init__(
        self,
        transport: Transport,
        keyring: Keyring,
        pool: ThreadPoolExecutor,
        *,
        max_tags: int,
        annotations: Mapping[str, Mapping[str, str]],
        now: str,
    ) -> None:
        self._transport = transport
        self._keyring = keyring
        self._pool = pool
        self._max_tags = max_tags
        self._annotations = annotations
        self._now = now
        self._budget = Budget(IMPORT_SECONDS, IMPORT_BYTES)
        self._clients: dict[Hashable, RegistryClient] = {}
        self._lock = threading.Lock()
        self._fetched: dict[Hashable, Future[FetchedImage | Failure]] = {}

    def image(self, wanted: ImageImport) -> Callable[[], ImageResult]:
        """Begin to fetch an image; what is answered waits for it."""
        try:
            reference = _parse(wanted.source)
        except InvalidReference as error:
            message = f'from.name: Invalid value: "{wanted.source}": invalid name: {error}'
            result = ImageResult("", Failure(422, "Invalid", message))
            return lambda: result
        complete = reference.with_defaults().most_specific()
        platform = self._platform(wanted.tag)
        key = (reference.repository(), complete.exact(), wanted.policy.insecure, wanted.policy.import_mode, platform)
        if key not in self._fetched:
            self._fetched[key] = self._pool.submit(self._fetch, reference, wanted.policy, platform)
        future = self._fetched[key]
        return lambda: _image_result(complete.tag, future.result())

    def repository(self, wanted: RepositoryImport) -> RepositoryResult:
        """Fetch the tags of a repository."""
        try:
            reference = _parse(wanted.source)
            tags = import_order(
                self._ask(reference, wanted.policy, lambda client: client.tags(reference.with_defaults().path()))
            )
        except InvalidReference as error:
            message = f'from.name: Invalid value: "{wanted.source}": invalid name: {error}'
            return RepositoryResult(failure=Failure(422, "Invalid", message))
        except RegistryError as error:
            return RepositoryResult(failure=failure_of(error, reference, wanted.source))
        chosen = tags if self._max_tags < 0 else tags[: self._max_tags]
        waiting = [
            self.image(ImageImport(msgspec.structs.replace(reference, tag=tag).exact(), tag, wanted.policy))
            for tag in chosen
        ]
        images = [image() for image in waiting]
        return RepositoryResult(images, tags[len(chosen) :], _summary(images))

    def _fetch(self, reference: DockerImageReference, policy: Policy, platform: Platform) -> FetchedImage | Failure:
        whole = policy.import_mode == PRESERVE_ORIGINAL
        try:
            return self._ask(
                reference,
                policy,
                lambda client: fetch_image(client, reference, whole=whole, platform=platform, now=self._now),
            )
        except (RegistryError, InvalidManifest) as error:
            return failure_of(error, reference, reference.with_defaults().most_specific().exact())

    def _ask(self, reference: DockerImageReference, policy: Policy, ask: Callable[[RegistryClient], T]) -> T:
        """Ask as the user that there are credentials for; if that one is denied, as nobody."""
        credentials = self._keyring.find(reference)
        try:
            return ask(self._client(reference, policy, credentials))
        except Denied as denied:
            if credentials is None:
                raise
            try:
                return ask(self._client(reference, policy, None))
            except RegistryError:
                raise denied from None

    def _client(
        self, reference: DockerImageReference, policy: Policy, credentials: Credentials | None
    ) -> RegistryClient:
        host = reference.api_host()
        key = (host, policy.insecure, credentials)
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = RegistryClient(self._transport, host, self._budget, credentials, insecure=policy.insecure)
                self._clients[key] = client
            return client

    def _platform(self, tag: str) -> Platform:
        annotations = self._annotations.get(tag, {})
        return Platform(
            annotations.get(PREFER_ARCHITECTURE) or DEFAULT_PLATFORM.architecture,
            annotations.get(PREFER_OS) or DEFAULT_PLATFORM.os,
        )


def _parse(source: str) -> DockerImageReference:
    reference = DockerImageReference.parse(source)
    if not reference.name:
        raise InvalidReference("repository name must have at least one component")
    return reference


def _image_result(tag: str, found: FetchedImage | Failure) -> ImageResult:
    if isinstance(found, Failure):
        return ImageResult(tag, found)
    return ImageResult(tag, None, found.image, found.parts)


def _summary(images: Sequence[ImageResult]) -> Failure | None:
    failed = sum(image.failure is not None for image in images)
    if not failed:
        return None
    who = "one" if failed == 1 else str(failed)
    return Failure(0, "ImportFailed", f"{who} of the images from this repository failed to import")


def failure_of(error: Exception, reference: DockerImageReference, shown: str) -> Failure:
    """What a client is told of an image, or repository, that could not be fetched; `shown` is how it is named."""
    match error:
        case Unknown():
            return Failure(404, "NotFound", f'dockerimage.image.openshift.io "{shown}" not found')
        case Denied() if error.wrong_password:
            return Failure(401, "Unauthorized", f'incorrect username or password for image "{shown}"')
        case Denied():
            return Failure(401, "Unauthorized", f'you may not have access to the container image "{shown}"')
        case Blocked():
            return Failure(403, "Forbidden", f"forbidden: registry {error.host} blocked")
        case HttpOnly():
            name = reference.repository()
            message = f"the repository {name} is HTTP only and requires the insecure flag to import"
            return Failure(400, "BadRequest", message)
        case NotARegistry():
            return Failure(404, "NotV2Registry", str(error))
        case _:
            return Failure(500, "InternalError", f"Internal error occurred: {shown}: {error}")

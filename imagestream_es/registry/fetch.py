"""Fetches one image from a registry: its manifests and configs, and what the API shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from msgspec import Raw

from imagestream_es.domain.references import DockerImageReference, is_digest
from imagestream_es.registry.client import Manifest, RegistryClient
from imagestream_es.registry.documents import InvalidManifest
from imagestream_es.registry.manifests import (
    LIST_TYPES,
    Image,
    config_digest,
    image_from_import,
    image_from_push,
    index_parts,
    is_artifact,
    manifest_type,
    validate_manifests,
)


class Platform(NamedTuple):
    """What an image runs on."""

    architecture: str
    os: str


DEFAULT_PLATFORM = Platform("amd64", "linux")
MOST_PARTS = 500
"""Images that a list may consist of: each takes two requests, and no real list has a hundred."""


class FetchedImage(NamedTuple):
    """An image, and the images that it is a list of. They hold manifests and configs."""

    image: Image
    parts: Sequence[Image] = ()


def fetch_image(
    client: RegistryClient, reference: DockerImageReference, *, whole: bool, platform: Platform, now: str
) -> FetchedImage:
    """The image that a pull spec with its defaults names.

    Of an image for several platforms it is the part for `platform`, or where there is none that for linux on
    amd64, or the first; `whole` takes the list and all parts. `now` (RFC 3339, UTC) is when the list appears.
    Raises RegistryError, InvalidManifest.
    """
    wanted = reference.with_defaults().most_specific()
    manifest = client.manifest(wanted.path(), wanted.id or wanted.tag)
    if manifest_type(manifest.content, manifest.media_type) not in LIST_TYPES:
        return FetchedImage(_single(client, reference, manifest))
    parts = index_parts(manifest.content)
    if not whole:
        return FetchedImage(_part(client, reference, _chosen(parts, platform)))
    image = image_from_import(
        manifest.content, manifest.media_type, None, reference.exact(), now=now, include_manifest=True
    )
    return FetchedImage(image, [_part(client, reference, digest) for digest in _digests(image)])


def _chosen(parts: Sequence[dict[str, Any]], platform: Platform) -> str:
    if not parts:
        raise InvalidManifest("the manifest list is empty")
    by_platform: dict[Platform, str] = {}
    for part in parts:
        by_platform.setdefault(Platform(part["architecture"], part["os"]), part["digest"])
    first: str = parts[0]["digest"]
    return by_platform.get(platform) or by_platform.get(DEFAULT_PLATFORM) or first


def _part(client: RegistryClient, reference: DockerImageReference, digest: str) -> Image:
    if not is_digest(digest):
        raise InvalidManifest("the manifest list names a part by something that is no digest")
    return _single(client, reference, client.manifest(reference.with_defaults().path(), digest))


def _single(client: RegistryClient, reference: DockerImageReference, manifest: Manifest) -> Image:
    config = client.document(reference.with_defaults().path(), config_digest(manifest.content))
    return image_from_import(manifest.content, manifest.media_type, config, reference.exact(), include_manifest=True)


class NotAnImage(Exception):
    """What was pushed is something else than an image: a signature, a bill of materials, a chart."""


def fetch_pushed(client: RegistryClient, repository: str, digest: str, reference: str, *, now: str) -> FetchedImage:
    """The image that was pushed to the internal registry as this manifest, and its parts if it is a list.

    `repository` is its place in the registry, `reference` a pull spec of that place as others write it, `now`
    (RFC 3339, UTC) when a list appears. Raises RegistryError, InvalidManifest, NotAnImage.
    """
    manifest = client.manifest(repository, digest)
    media_type = manifest_type(manifest.content, manifest.media_type)
    if is_artifact(manifest.content):
        raise NotAnImage
    if media_type not in LIST_TYPES:
        return FetchedImage(_pushed(client, repository, manifest, reference, now))
    image = image_from_push(manifest.content, manifest.media_type, None, reference, now=now)
    found = (client.manifest(repository, digest) for digest in _digests(image))
    return FetchedImage(image, [_pushed(client, repository, part, reference, now) for part in found])


def _digests(image: Image) -> list[str]:
    """The parts of a list, each once. Raises InvalidManifest."""
    for problem in validate_manifests(image):
        raise InvalidManifest(f"{problem.field}: {problem.message or 'a value is required'}")
    digests = list(dict.fromkeys(part["digest"] for part in image.get("dockerImageManifests", ())))
    if len(digests) > MOST_PARTS:
        raise InvalidManifest(f"the manifest list names more than {MOST_PARTS} images")
    return digests


def _pushed(client: RegistryClient, repository: str, manifest: Manifest, reference: str, now: str) -> Image:
    config = None
    if manifest_type(manifest.content, manifest.media_type) not in LIST_TYPES:
        config = client.document(repository, config_digest(manifest.content))
    return image_from_push(manifest.content, manifest.media_type, config, reference, now=now)


def stored_document(image: Image) -> dict[str, Raw]:
    """What is stored of a fetched image: manifest and config never are."""
    kept = {key: value for key, value in image.items() if key not in ("dockerImageManifest", "dockerImageConfig")}
    kept["metadata"] = {key: value for key, value in image["metadata"].items() if key != "name"}
    return {key: Raw(orjson.dumps(value)) for key, value in kept.items() if value}

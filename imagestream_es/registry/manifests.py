"""What an image is made of, read from its manifest and config.

An image here is the wire object `Image` without `kind` and `apiVersion`: a JSON object with `metadata`,
`dockerImageReference`, `dockerImageLayers` and so on. The functions never change what they are given; what
they return shares the parts that stay as they were, so treat both as read-only. They return known fields
only, and no empty ones but `metadata` and what `dockerImageMetadata` always holds. `dockerImageMetadata`
says `apiVersion: "1.0"`, whatever the client wrote; whoever answers on a path that wants another one puts
it there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from imagestream_es.domain.references import DockerImageReference, is_digest
from imagestream_es.registry.documents import (
    LARGEST,
    InvalidManifest,
    Manifest,
    Part,
    Platform,
    SentLayer,
    SentPart,
    V1Size,
    read,
    read_config,
    read_manifest,
    read_metadata,
    read_or_nothing,
)

Image = dict[str, Any]

MANAGED = "openshift.io/image.managed"
"""Annotation of images that were pushed to the internal registry: "true"."""
MANIFEST_BLOB_STORED = "image.openshift.io/manifestBlobStored"
"""Annotation, "true" if the registry keeps manifest and config, so that the image need not."""
LAYERS_ORDER = "image.openshift.io/dockerLayersOrder"
"""Annotation that says how the layers are ordered: "ascending" (base first) or "descending"."""

SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
SIGNED_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

IMAGE_TYPES = frozenset({SCHEMA2, OCI_MANIFEST})
"""Media types of manifests of one image."""
LIST_TYPES = frozenset({DOCKER_LIST, OCI_INDEX})
"""Media types of manifests that list the same image for several platforms."""

_CONFIG_TYPES = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_SCHEMA1_LAYER = "application/vnd.docker.container.image.rootfs.diff+x-gtar"

_LONGEST_TYPE = 256


class ManifestProblem(NamedTuple):
    """Why an image with sub-manifests is refused.

    `field` is a path inside the image, `reason` the kind of problem as Kubernetes names it, `message` the
    text without the value in front, and `value` what stands there.
    """

    field: str
    reason: str
    message: str
    value: object


# --- building the parts of an image


_NO_METADATA: dict[str, Any] = {
    "kind": "DockerImage",
    "apiVersion": "1.0",
    "Id": "",
    "Created": None,
    "ContainerConfig": {},
}


def _docker_image(found: dict[str, Any]) -> dict[str, Any]:
    """`dockerImageMetadata` of these fields; an empty `Config` says that there was one."""
    return _NO_METADATA | {name: item for name, item in found.items() if item or name == "Config"}


def _layer(name: str, size: int, media_type: str) -> dict[str, Any]:
    return {"name": name, "size": size, "mediaType": media_type}


def _sent_layer(value: Any) -> dict[str, Any]:
    sent = read_or_nothing(SentLayer, value)
    return _layer(sent.name, sent.size, sent.media_type)


def _part(part: Part | SentPart, size: int, platform: Platform | SentPart) -> dict[str, Any]:
    shown = {
        "digest": part.digest,
        "mediaType": part.media_type,
        "manifestSize": size,
        "architecture": platform.architecture,
        "os": platform.os,
    }
    if platform.variant:
        shown["variant"] = platform.variant
    return shown


def _parts(manifest: Manifest) -> list[dict[str, Any]]:
    return [_part(part, part.size, part.platform or Platform()) for part in manifest.manifests or ()]


def _sent_part(value: Any) -> dict[str, Any]:
    sent = read_or_nothing(SentPart, value)
    return _part(sent, sent.manifest_size, sent)


_PLAIN_FIELDS = (
    "dockerImageReference",
    "dockerImageManifest",
    "dockerImageManifestMediaType",
    "dockerImageConfig",
    "signatures",
    "dockerImageSignatures",
)


def _normal(image: Image) -> Image:
    """A new image of the known fields that are not empty."""
    result: Image = {"metadata": image.get("metadata") or {}}
    result |= {name: image[name] for name in _PLAIN_FIELDS if image.get(name)}
    if image.get("dockerImageLayers"):
        result["dockerImageLayers"] = [_sent_layer(layer) for layer in image["dockerImageLayers"]]
    if image.get("dockerImageManifests"):
        result["dockerImageManifests"] = [_sent_part(part) for part in image["dockerImageManifests"]]
    sent = image.get("dockerImageMetadata")
    result["dockerImageMetadata"] = _docker_image(read_metadata(sent)) if sent else _NO_METADATA
    result["dockerImageMetadataVersion"] = "1.0"
    return result


def _annotations(image: Image) -> dict[str, Any]:
    annotations = image["metadata"].get("annotations")
    return annotations if type(annotations) is dict else {}


def _annotate(image: Image, key: str, value: str) -> None:
    image["metadata"] = {**image["metadata"], "annotations": {**_annotations(image), key: value}}


# --- what creating, pushing, importing and updating make of an image


def complete_image(image: Image, *, now: str | None = None) -> Image:
    """What the API stores when this image is created, alone or by a mapping.

    Layers come out base first, and layers, metadata and sub-manifests are taken from manifest and config
    where the client left them out. What cannot be read is left as it was sent, without an error. Manifest
    and config are dropped when the registry keeps them. `now` (RFC 3339, UTC) is when a manifest list was
    created, since nothing inside tells.
    """
    result = _normal(image)
    if "dockerImageManifest" in result:
        _order_layers(result)
        _fill(result, now)
    return _without_stored_blobs(result)


def _order_layers(image: Image) -> None:
    layers = image.get("dockerImageLayers")
    if not layers:
        return
    order = _annotations(image).get(LAYERS_ORDER)
    if order is None:
        media_type = image.get("dockerImageManifestMediaType")
        if media_type in IMAGE_TYPES:
            order = "descending"  # registries of the time before the annotation sent these top first
        elif media_type not in {SCHEMA1, SIGNED_SCHEMA1}:
            return
    if order == "descending":
        image["dockerImageLayers"] = layers[::-1]
    _annotate(image, LAYERS_ORDER, "ascending")


def _fill(image: Image, now: str | None) -> None:
    """Fill what is missing in an image with a manifest, as far as manifest and config can be read."""
    complete = image.get("dockerImageLayers") and image["dockerImageMetadata"].get("Size", 0) > 0
    if complete and image.get("dockerImageManifestMediaType"):
        return
    try:
        manifest = read_manifest(image["dockerImageManifest"])
        media_type = manifest.media_type or image.get("dockerImageManifestMediaType", "")
        if media_type in LIST_TYPES:
            _fill_list(image, manifest, media_type, now)
        elif manifest.schema_version == 2:
            _fill_schema2(image, manifest, media_type or SCHEMA2)
        elif manifest.schema_version == 1:
            _fill_schema1(image, manifest)
    except ValueError:
        return


def _fill_list(image: Image, manifest: Manifest, media_type: str, now: str | None) -> None:
    image["dockerImageManifestMediaType"] = media_type
    image["dockerImageManifests"] = _parts(manifest)
    metadata = image["dockerImageMetadata"]
    created = now or metadata["Created"]
    image["dockerImageMetadata"] = {**metadata, "Id": image["metadata"].get("name", ""), "Created": created}


def _fill_schema2(image: Image, manifest: Manifest, media_type: str) -> None:
    image["dockerImageManifestMediaType"] = media_type
    if "dockerImageLayers" not in image:
        layers = [{"name": one.digest, "size": one.size, "mediaType": one.media_type} for one in manifest.layers]
        _set_layers(image, layers)
    config = image.get("dockerImageConfig", "")
    found = read_config(config)
    found["Id"] = digest = manifest.config_digest
    found["Size"] = _size(image, digest, len(config.encode()))
    image["dockerImageMetadata"] = _docker_image(found)


def _fill_schema1(image: Image, manifest: Manifest) -> None:
    history = [entry.v1_compatibility for entry in manifest.history]
    if "dockerImageLayers" not in image:
        # the youngest layer stands first in this schema
        names = [layer.blob_sum for layer in manifest.fs_layers]
        layers = [_layer(name, _v1_size(v1), _SCHEMA1_LAYER) for name, v1 in zip(names, history, strict=True)]
        _set_layers(image, layers[::-1])
    image["dockerImageManifestMediaType"] = SCHEMA1
    if history:
        image["dockerImageMetadata"] = _docker_image({**read_config(history[0]), "Size": _size(image, "", 0)})


def _v1_size(document: str) -> int:
    try:
        return read(V1Size, orjson.loads(document)).size
    except ValueError:
        return 0


def _set_layers(image: Image, layers: list[dict[str, Any]]) -> None:
    if layers:
        image["dockerImageLayers"] = layers
    _annotate(image, LAYERS_ORDER, "ascending")


def _size(image: Image, config_digest: str, config_size: int) -> int:
    """Bytes of the config and of the distinct layers."""
    layers = image.get("dockerImageLayers", ())
    sizes: dict[str, int] = {layer["name"]: layer["size"] for layer in reversed(layers)}
    sizes[config_digest] = config_size
    size = sum(sizes.values())
    if -LARGEST <= size <= LARGEST:
        return size
    return LARGEST if size > 0 else -LARGEST  # no honest image comes near, but it must still fit the wire


def _without_stored_blobs(image: Image) -> Image:
    if _annotations(image).get(MANIFEST_BLOB_STORED) == "true":
        image.pop("dockerImageManifest", None)
        image.pop("dockerImageConfig", None)
    return image


def image_from_push(
    manifest: bytes, media_type: str, config: bytes | None, reference: str, *, now: str | None = None
) -> Image:
    """The image that appears when this manifest is pushed to the internal registry.

    `manifest` and `config` (None for a list) are the bytes as the registry holds them; `media_type` is what
    the registry calls the manifest, used if the manifest itself does not say; `reference` is any pull spec
    of the repository. A config that cannot be read leaves the metadata empty. `InvalidManifest` if the
    manifest is none of an image or of a list; `InvalidReference` if `reference` does not parse.
    """
    image = _bare_image(manifest, media_type, config, reference)
    image["metadata"]["annotations"] = {
        MANAGED: "true",
        MANIFEST_BLOB_STORED: "true",
        LAYERS_ORDER: "" if image["dockerImageManifestMediaType"] in LIST_TYPES else "ascending",
    }
    return complete_image(image, now=now)


def image_from_import(
    manifest: bytes,
    media_type: str,
    config: bytes | None,
    reference: str,
    *,
    now: str | None = None,
    include_manifest: bool = False,
) -> Image:
    """The image that an import of this manifest makes; parameters and errors are those of `image_from_push`.

    Here an image without a readable config is an `InvalidManifest`. Manifest and config are in the result
    only on demand: an image that is stored never has them.
    """
    image = _bare_image(manifest, media_type, config, reference)
    if image["dockerImageManifestMediaType"] in IMAGE_TYPES:
        try:
            read_config(config or b"")
        except ValueError as error:
            raise InvalidManifest(f"the image config cannot be read: {error}") from None
    result = complete_image(image, now=now)
    if not include_manifest:
        result.pop("dockerImageManifest", None)
        result.pop("dockerImageConfig", None)
    return result


def _bare_image(manifest: bytes, media_type: str, config: bytes | None, reference: str) -> Image:
    media_type = manifest_type(manifest, media_type)
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    image = {
        "metadata": {"name": digest},
        "dockerImageReference": f"{DockerImageReference.parse(reference).repository()}@{digest}",
        "dockerImageManifest": manifest.decode(),
        "dockerImageManifestMediaType": media_type,
    }
    with suppress(UnicodeDecodeError):  # the config of an artifact may be anything
        image["dockerImageConfig"] = (config or b"").decode()
    return image


def _understood(manifest: bytes) -> Manifest:
    try:
        return read_manifest(manifest)
    except ValueError as error:
        raise InvalidManifest(f"the manifest cannot be read: {error}") from None


def manifest_type(manifest: bytes, media_type: str) -> str:
    """The media type of a manifest: what it says itself, else `media_type`, which its registry calls it.

    `InvalidManifest` if it cannot be read, or is none of an image or of a list.
    """
    found = _understood(manifest).media_type or media_type.partition(";")[0].strip()
    if found not in IMAGE_TYPES | LIST_TYPES:
        raise InvalidManifest(f'unsupported manifest type "{found[:_LONGEST_TYPE]}"')
    return found


def config_digest(manifest: bytes) -> str:
    """The digest of the config that the manifest of an image names, "" if it names none.

    `InvalidManifest` if the bytes cannot be read.
    """
    return _understood(manifest).config_digest


def index_parts(manifest: bytes) -> list[dict[str, Any]]:
    """The sub-manifests that a manifest list or an index names, in order, as `dockerImageManifests` has them.

    Empty for the manifest of a single image; `InvalidManifest` if the bytes cannot be read.
    """
    return _parts(_understood(manifest))


def is_artifact(manifest: bytes) -> bool:
    """Whether this is something else than an image or a list of images: a signature, an SBOM, a chart.

    `InvalidManifest` if the bytes cannot be read.
    """
    document = _understood(manifest)
    if document.artifact_type:
        return True
    is_list = document.media_type in LIST_TYPES or (document.manifests is not None and document.config is None)
    config_type = document.config.media_type if document.config else ""
    return not is_list and config_type not in _CONFIG_TYPES


_CONTENT = (
    "dockerImageMetadata",
    "dockerImageMetadataVersion",
    "dockerImageLayers",
    "dockerImageManifests",
    "dockerImageManifestMediaType",
    "dockerImageManifest",
    "dockerImageConfig",
    "dockerImageSignatures",
)


def update_image(old: Image, new: Image, *, now: str | None = None) -> Image:
    """What is stored when an image `old` is replaced by `new`: the content stays, the rest is the new one's.

    A manifest that `old` does not have is taken if its digest is the image's name, and a config if the
    manifest names its digest; what they tell is filled in as in `complete_image`. Anything else about the
    content is silently kept as it was.
    """
    wanted = _normal(new)
    result = {name: value for name, value in wanted.items() if name not in _CONTENT}
    result.update((name, old[name]) for name in _CONTENT if old.get(name))
    manifest, config = wanted.get("dockerImageManifest"), wanted.get("dockerImageConfig")
    accepted = False
    if manifest and _has_digest(manifest, old["metadata"].get("name", "")):
        accepted = manifest != result.get("dockerImageManifest")
        result["dockerImageManifest"] = manifest
        if "dockerImageManifestMediaType" in wanted:
            result.setdefault("dockerImageManifestMediaType", wanted["dockerImageManifestMediaType"])
    if config and _has_digest(config, _config_digest(result)):
        accepted = accepted or config != result.get("dockerImageConfig")
        result["dockerImageConfig"] = config
    if accepted:
        _fill(result, now)
    order = _annotations(old).get(LAYERS_ORDER)
    if order is not None and _annotations(result).get(LAYERS_ORDER) != order:
        _annotate(result, LAYERS_ORDER, order)  # it tells about the layers, so it stays with them
    return _without_stored_blobs(result)


def _has_digest(content: str, digest: str) -> bool:
    if type(digest) is not str or not is_digest(digest):
        return False
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content.encode()).hexdigest()}" == digest


def _config_digest(image: Image) -> str:
    try:
        return read_manifest(image.get("dockerImageManifest", "")).config_digest
    except ValueError:
        return ""


_is_media_type = re.compile(
    r" *[A-Za-z0-9][A-Za-z0-9!#$&^_-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126} *"
).fullmatch


def validate_manifests(image: Mapping[str, Any]) -> list[ManifestProblem]:
    """What is wrong with the sub-manifests of an image; empty if it has none."""
    parts = image.get("dockerImageManifests")
    if not parts:
        return []
    problems = [
        problem for i, part in enumerate(parts) for problem in _part_problems(f"dockerImageManifests[{i}]", part)
    ]
    layers = image.get("dockerImageLayers")
    if layers:
        text = "dockerImageLayers should not be set when dockerImageManifests is set"
        problems.append(ManifestProblem("dockerImageLayers", "FieldValueInvalid", text, layers))
    return problems


def _part_problems(where: str, sent: Any) -> list[ManifestProblem]:
    part = _sent_part(sent)
    problems = []
    if not is_digest(part["digest"]):
        text = "digest does not conform with OCI image specification"
        problems.append(ManifestProblem(f"{where}.digest", "FieldValueInvalid", text, part["digest"]))
    if not _is_media_type(part["mediaType"]):
        text = "media type does not conform to RFC6838"
        problems.append(ManifestProblem(f"{where}.mediaType", "FieldValueInvalid", text, part["mediaType"]))
    problems.extend(
        ManifestProblem(f"{where}.{name}", "FieldValueRequired", "", "")
        for name in ("architecture", "os")
        if not part[name]
    )
    if part["manifestSize"] < 0:
        text = "manifest size cannot be negative"
        problems.append(ManifestProblem(f"{where}.size", "FieldValueInvalid", text, part["manifestSize"]))
    return problems

"""What an image is made of, read from its manifest and config.

An image here is the wire object `Image` without `kind` and `apiVersion`: a JSON object with `metadata`,
`dockerImageReference`, `dockerImageLayers` and so on. The functions never change what they are given; what
they return shares the parts that stay as they were, so treat both as read-only. They return known fields
only, and no empty ones but `metadata` and what `dockerImageMetadata` always holds. `dockerImageMetadata`
says `apiVersion: "1.0"`, whatever the client wrote; whoever answers on a path that wants another one puts
it there.

Manifests and configs are somebody else's JSON. Keys match without regard to case, unknown keys are ignored,
and a value of the wrong type makes the whole document unreadable: OpenShift reads them in this way, and
registries have grown used to it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from imagestream_es.domain.references import DockerImageReference, is_digest

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

_LARGEST = 2**63 - 1
# no real image has as many layers; a small manifest can hold a million empty ones, which grow when they are read
_LONGEST_LIST = 10_000
_LONGEST_TYPE = 256


class InvalidManifest(ValueError):
    """A manifest or a config that cannot be understood."""


class ManifestProblem(NamedTuple):
    """Why an image with sub-manifests is refused.

    `field` is a path inside the image, `reason` the kind of problem as Kubernetes names it, `message` the
    text without the value in front, and `value` what stands there.
    """

    field: str
    reason: str
    message: str
    value: object


# --- reading documents

_Kind = type[str] | type[bool] | Callable[[Any], Any]
"""What a value is: of this very type, or what this function makes of it."""
_Shape = Mapping[str, tuple[str, _Kind]]


def _shape(**kinds: _Kind) -> _Shape:
    """How to read an object: each key, as written and in lower case, with its name and its value's kind."""
    fields = {name: (name, kind) for name, kind in kinds.items()}
    return {name.lower(): field for name, field in fields.items()} | fields


def _read(shape: _Shape, value: Any) -> dict[str, Any]:
    """The known fields of an object that are not null; `InvalidManifest` unless each is of its kind."""
    if value is None:
        return {}
    if type(value) is not dict:
        raise InvalidManifest("an object is expected")
    found = {}
    for key, item in value.items():
        field = shape.get(key) or shape.get(key.lower())
        if field is None or item is None:
            continue
        name, kind = field
        if type(item) is kind:
            found[name] = item
        elif kind is str or kind is bool:
            raise InvalidManifest(f"{name} is of the wrong type")
        else:
            found[name] = kind(item)
    return found


def _object(shape: _Shape) -> _Kind:
    return lambda value: _read(shape, value)


def _objects(shape: _Shape) -> _Kind:
    return lambda value: [_read(shape, item) for item in _list(value)]


def _number(value: Any) -> int:
    if type(value) is not int or not -_LARGEST <= value <= _LARGEST:
        raise InvalidManifest("a 64 bit integer is expected")
    return value


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise InvalidManifest("an array is expected")
    if len(value) > _LONGEST_LIST:
        raise InvalidManifest(f"an array has more than {_LONGEST_LIST} elements")
    return value


def _texts(value: Any) -> list[str]:
    kinds = set(map(type, _list(value)))
    if not kinds <= {str, type(None)}:
        raise InvalidManifest("an array of strings is expected")
    return [item or "" for item in value] if type(None) in kinds else value


def _text_map(value: Any) -> dict[str, str]:
    kinds = set(map(type, value.values())) if type(value) is dict else {dict}
    if not kinds <= {str, type(None)}:
        raise InvalidManifest("an object of strings is expected")
    return {key: item or "" for key, item in value.items()} if type(None) in kinds else value


def _set(value: Any) -> dict[str, dict[str, Any]]:
    """A set as Go writes it: the members are keys, and the values empty objects."""
    kinds = set(map(type, value.values())) if type(value) is dict else {str}
    if not kinds <= {dict, type(None)}:
        raise InvalidManifest("an object of objects is expected")
    return {key: {} for key in value}


_NO_TIME = datetime.min.replace(tzinfo=UTC)
_match_time = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
).fullmatch


def _time(value: Any) -> str | None:
    """RFC 3339 as UTC with whole seconds; None for what Go writes when there is no time."""
    match = _match_time(value) if type(value) is str else None
    if match is None:
        raise InvalidManifest("a time as in RFC 3339 is expected")
    try:
        moment = datetime.fromisoformat(match[1] + match[2]).astimezone(UTC)
    except OverflowError:
        raise InvalidManifest("a time after year 0 is expected") from None
    return None if moment == _NO_TIME else f"{moment.isoformat()[:19]}Z"


_CONFIG = _shape(
    Hostname=str,
    Domainname=str,
    User=str,
    Memory=_number,
    MemorySwap=_number,
    CpuShares=_number,
    Cpuset=str,
    AttachStdin=bool,
    AttachStdout=bool,
    AttachStderr=bool,
    PortSpecs=_texts,
    ExposedPorts=_set,
    Tty=bool,
    OpenStdin=bool,
    StdinOnce=bool,
    Env=_texts,
    Cmd=_texts,
    Dns=_texts,
    Image=str,
    Volumes=_set,
    VolumesFrom=str,
    WorkingDir=str,
    Entrypoint=_texts,
    NetworkDisabled=bool,
    SecurityOpts=_texts,
    OnBuild=_texts,
    Labels=_text_map,
)


def _config(value: Any) -> dict[str, Any]:
    return {name: item for name, item in _read(_CONFIG, value).items() if item}


_DOCKER_IMAGE: dict[str, _Kind] = {
    "Id": str,
    "Parent": str,
    "Comment": str,
    "Created": _time,
    "Container": str,
    "ContainerConfig": _config,
    "DockerVersion": str,
    "Author": str,
    "Config": _config,
    "Architecture": str,
    "Size": _number,
}
_METADATA = _shape(**_DOCKER_IMAGE)
# docker and OCI write the same in snake case
_CONFIG_BLOB: _Shape = {
    re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(): (name, kind) for name, kind in _DOCKER_IMAGE.items()
}

_DESCRIPTOR = _shape(digest=str, mediaType=str, size=_number)
_PLATFORM = _shape(architecture=str, os=str, variant=str)
_MANIFEST = _shape(
    schemaVersion=_number,
    mediaType=str,
    artifactType=str,
    config=_object(_DESCRIPTOR),
    layers=_objects(_DESCRIPTOR),
    manifests=_objects(_shape(digest=str, mediaType=str, size=_number, platform=_object(_PLATFORM))),
    fsLayers=_objects(_shape(blobSum=str)),
    history=_objects(_shape(v1Compatibility=str)),
)

_LAYER = _shape(name=str, size=_number, mediaType=str)
_PART = _shape(digest=str, mediaType=str, manifestSize=_number, architecture=str, os=str, variant=str)
_V1_SIZE = _shape(size=_number)


def _read_manifest(document: str | bytes) -> dict[str, Any]:
    return _read(_MANIFEST, orjson.loads(document))


def _read_or_nothing(shape: _Shape, value: Any) -> dict[str, Any]:
    """As `_read`, for what clients put into an image themselves: an unreadable object counts as empty."""
    try:
        return _read(shape, value)
    except ValueError:
        return {}


# --- building the parts of an image


def _docker_image(found: dict[str, Any]) -> dict[str, Any]:
    """`dockerImageMetadata` of these fields; an empty `Config` says that there was one."""
    return {
        "kind": "DockerImage",
        "apiVersion": "1.0",
        "Id": "",
        "Created": None,
        "ContainerConfig": {},
        **{name: item for name, item in found.items() if item or name == "Config"},
    }


def _layer(name: str, size: int, media_type: str) -> dict[str, Any]:
    return {"name": name, "size": size, "mediaType": media_type}


def _part(found: dict[str, Any], size: str, platform: dict[str, Any]) -> dict[str, Any]:
    part = {
        "digest": found.get("digest", ""),
        "mediaType": found.get("mediaType", ""),
        "manifestSize": found.get(size, 0),
        "architecture": platform.get("architecture", ""),
        "os": platform.get("os", ""),
    }
    if platform.get("variant"):
        part["variant"] = platform["variant"]
    return part


def _parts(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [_part(entry, "size", entry.get("platform", {})) for entry in manifest.get("manifests", ())]


def _sent_layer(value: Any) -> dict[str, Any]:
    found = _read_or_nothing(_LAYER, value)
    return _layer(found.get("name", ""), found.get("size", 0), found.get("mediaType", ""))


def _sent_part(value: Any) -> dict[str, Any]:
    found = _read_or_nothing(_PART, value)
    return _part(found, "manifestSize", found)


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
    for name in _PLAIN_FIELDS:
        if image.get(name):
            result[name] = image[name]
    if image.get("dockerImageLayers"):
        result["dockerImageLayers"] = [_sent_layer(layer) for layer in image["dockerImageLayers"]]
    if image.get("dockerImageManifests"):
        result["dockerImageManifests"] = [_sent_part(part) for part in image["dockerImageManifests"]]
    result["dockerImageMetadata"] = _docker_image(_read_or_nothing(_METADATA, image.get("dockerImageMetadata")))
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
    with suppress(ValueError):
        manifest = _read_manifest(image["dockerImageManifest"])
        media_type = manifest.get("mediaType") or image.get("dockerImageManifestMediaType", "")
        if media_type in LIST_TYPES:
            _fill_list(image, manifest, media_type, now)
        elif manifest.get("schemaVersion") == 2:
            _fill_schema2(image, manifest, media_type or SCHEMA2)
        elif manifest.get("schemaVersion") == 1:
            _fill_schema1(image, manifest)


def _fill_list(image: Image, manifest: dict[str, Any], media_type: str, now: str | None) -> None:
    image["dockerImageManifestMediaType"] = media_type
    image["dockerImageManifests"] = _parts(manifest)
    metadata = image["dockerImageMetadata"]
    created = now or metadata["Created"]
    image["dockerImageMetadata"] = {**metadata, "Id": image["metadata"].get("name", ""), "Created": created}


def _fill_schema2(image: Image, manifest: dict[str, Any], media_type: str) -> None:
    image["dockerImageManifestMediaType"] = media_type
    if "dockerImageLayers" not in image:
        layers = [
            _layer(layer.get("digest", ""), layer.get("size", 0), layer.get("mediaType", ""))
            for layer in manifest.get("layers", ())
        ]
        _set_layers(image, layers)
    config = image.get("dockerImageConfig", "").encode()
    found = _read(_CONFIG_BLOB, orjson.loads(config))
    digest = manifest.get("config", {}).get("digest", "")
    size = _size(image, digest, len(config))
    image["dockerImageMetadata"] = _docker_image({**found, "Id": digest, "Size": size})


def _fill_schema1(image: Image, manifest: dict[str, Any]) -> None:
    history = [entry.get("v1Compatibility", "") for entry in manifest.get("history", ())]
    if "dockerImageLayers" not in image:
        # the youngest layer stands first in this schema
        names = [layer.get("blobSum", "") for layer in manifest.get("fsLayers", ())]
        layers = [_layer(name, _v1_size(v1), _SCHEMA1_LAYER) for name, v1 in zip(names, history, strict=True)]
        _set_layers(image, layers[::-1])
    image["dockerImageManifestMediaType"] = SCHEMA1
    if history:
        found = _read(_CONFIG_BLOB, orjson.loads(history[0]))
        image["dockerImageMetadata"] = _docker_image({**found, "Size": _size(image, "", 0)})


def _v1_size(document: str) -> int:
    found: dict[str, int] = {}
    with suppress(ValueError):
        found = _read(_V1_SIZE, orjson.loads(document))
    return found.get("size", 0)


def _set_layers(image: Image, layers: list[dict[str, Any]]) -> None:
    if layers:
        image["dockerImageLayers"] = layers
    _annotate(image, LAYERS_ORDER, "ascending")


def _size(image: Image, config_digest: str, config_size: int) -> int:
    """Bytes of the config and of the distinct layers."""
    layers = image.get("dockerImageLayers", ())
    sizes: dict[str, int] = {layer["name"]: layer["size"] for layer in reversed(layers)}
    sizes[config_digest] = config_size
    # no honest image comes near, but the sum must still fit the wire
    return max(-_LARGEST, min(sum(sizes.values()), _LARGEST))


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
            _read(_CONFIG_BLOB, orjson.loads(config or b""))
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


def _understood(manifest: bytes) -> dict[str, Any]:
    try:
        return _read_manifest(manifest)
    except ValueError as error:
        raise InvalidManifest(f"the manifest cannot be read: {error}") from None


def manifest_type(manifest: bytes, media_type: str) -> str:
    """The media type of a manifest: what it says itself, else `media_type`, which its registry calls it.

    `InvalidManifest` if it cannot be read, or is none of an image or of a list.
    """
    found: str = _understood(manifest).get("mediaType") or media_type.partition(";")[0].strip()
    if found not in IMAGE_TYPES | LIST_TYPES:
        raise InvalidManifest(f'unsupported manifest type "{found[:_LONGEST_TYPE]}"')
    return found


def config_digest(manifest: bytes) -> str:
    """The digest of the config that the manifest of an image names, "" if it names none.

    `InvalidManifest` if the bytes cannot be read.
    """
    digest: str = _understood(manifest).get("config", {}).get("digest", "")
    return digest


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
    if document.get("artifactType"):
        return True
    is_list = document.get("mediaType") in LIST_TYPES or ("manifests" in document and "config" not in document)
    return not is_list and document.get("config", {}).get("mediaType") not in _CONFIG_TYPES


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
    manifest: dict[str, Any] = {}
    with suppress(ValueError):
        manifest = _read_manifest(image.get("dockerImageManifest", ""))
    digest: str = manifest.get("config", {}).get("digest", "")
    return digest


_is_media_type = re.compile(
    r" *[A-Za-z0-9][A-Za-z0-9!#$&^_-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126} *"
).fullmatch


def validate_manifests(image: Mapping[str, Any]) -> list[ManifestProblem]:
    """What is wrong with the sub-manifests of an image; empty if it has none."""
    parts = image.get("dockerImageManifests") or []
    problems = [
        problem for i, part in enumerate(parts) for problem in _part_problems(f"dockerImageManifests[{i}]", part)
    ]
    layers = image.get("dockerImageLayers")
    if parts and layers:
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

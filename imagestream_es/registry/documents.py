"""Manifests and configs as they are read: somebody else's JSON.

Keys match without regard to case, unknown keys and nulls are ignored, and a value of the wrong type makes the whole
document unreadable: OpenShift reads them in this way, and registries have grown used to it.

The classes say what a document may hold. Nearly all documents are plain, with every key spelt as it stands here and
none that is unknown: those msgspec reads, or checks, at once. Any other is read key by key, which also finds the words
for what is wrong. Both come to the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from typing import Annotated, Any, NewType, TypeVar, get_args, get_origin

import msgspec
import orjson
from msgspec import Meta, Struct, field, structs

LARGEST = 2**63 - 1
# no real image has as many layers; a small manifest can hold a million empty ones, which grow when they are read
_LONGEST_LIST = 10_000


class InvalidManifest(ValueError):
    """A manifest or a config that cannot be understood."""


# --- what documents hold

T = TypeVar("T")
_Many = Annotated[list[T], Meta(max_length=_LONGEST_LIST)]
_Number = Annotated[int, Meta(ge=-LARGEST, le=LARGEST)]
_Texts = _Many[str]
_TextMap = dict[str, str]
_Time = NewType("_Time", str)
_Labels = NewType("_Labels", dict[str, str])
"""Annotations that are often there, and tell nothing here: whatever else they are does no harm."""


class _Document(Struct, forbid_unknown_fields=True):
    pass


class _Nothing(_Document):
    pass


_Set = dict[str, _Nothing]
"""A set as Go writes it: the members are keys, and the values empty objects."""


class Descriptor(_Document, rename="camel"):
    """What a manifest says of a blob."""

    digest: str = ""
    media_type: str = ""
    size: _Number = 0
    annotations: _Labels | None = None


class Platform(_Document):
    """What an image runs on."""

    architecture: str = ""
    os: str = ""
    variant: str = ""


class Part(Descriptor, rename="camel"):
    """One of the manifests that a manifest lists."""

    platform: Platform | None = None


class _SignedLayer(_Document, rename="camel"):
    blob_sum: str = ""


class _V1(_Document, rename="camel"):
    v1_compatibility: str = ""


class Manifest(_Document, rename="camel"):
    """A manifest of any kind. What it does not tell is empty, or None where that makes a difference."""

    schema_version: _Number = 0
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: _Many[Descriptor] = []
    manifests: _Many[Part] | None = None
    fs_layers: _Many[_SignedLayer] = []
    history: _Many[_V1] = []
    annotations: _Labels | None = None

    @property
    def config_digest(self) -> str:
        """The digest of the config, "" if none is named."""
        return self.config.digest if self.config else ""


class V1Size(_Document):
    """What tells the size of a layer in the history of schema 1."""

    size: _Number = 0


class SentLayer(_Document, rename="camel"):
    """A layer as a client sent it."""

    name: str = ""
    size: _Number = 0
    media_type: str = ""


class SentPart(_Document, rename="camel"):
    """A sub-manifest as a client sent it."""

    digest: str = ""
    media_type: str = ""
    manifest_size: _Number = 0
    architecture: str = ""
    os: str = ""
    variant: str = ""


class _ContainerConfig(_Document, rename="pascal"):
    hostname: str | None = None
    domainname: str | None = None
    user: str | None = None
    memory: _Number | None = None
    memory_swap: _Number | None = None
    cpu_shares: _Number | None = None
    cpuset: str | None = None
    attach_stdin: bool | None = None
    attach_stdout: bool | None = None
    attach_stderr: bool | None = None
    port_specs: _Texts | None = None
    exposed_ports: _Set | None = None
    tty: bool | None = None
    open_stdin: bool | None = None
    stdin_once: bool | None = None
    env: _Texts | None = None
    cmd: _Texts | None = None
    dns: _Texts | None = None
    image: str | None = None
    volumes: _Set | None = None
    volumes_from: str | None = None
    working_dir: str | None = None
    entrypoint: _Texts | None = None
    network_disabled: bool | None = None
    security_opts: _Texts | None = None
    on_build: _Texts | None = None
    labels: _TextMap | None = None
    # passed over
    args_escaped: Any = None
    healthcheck: Any = None
    shell: Any = None
    stop_signal: Any = None


class _DockerImage(_Document, rename="pascal"):
    id: str | None = None
    parent: str | None = None
    comment: str | None = None
    created: _Time | None = None
    container: str | None = None
    container_config: _ContainerConfig | None = None
    docker_version: str | None = None
    author: str | None = None
    config: _ContainerConfig | None = None
    architecture: str | None = None
    size: _Number | None = None
    # passed over
    kind: Any = field(default=None, name="kind")
    api_version: Any = field(default=None, name="apiVersion")


_ConfigBlob = msgspec.defstruct(
    "_ConfigBlob",
    [
        *((one.name, one.type, None) for one in structs.fields(_DockerImage) if one.type is not Any),
        *((name, Any, None) for name in ("os", "variant", "rootfs", "history")),
        *((name, Any, field(default=None, name=name.replace("_", "."))) for name in ("os_version", "os_features")),
    ],
    forbid_unknown_fields=True,
)
"""The same in snake case, as docker and OCI write it, with what is passed over there."""

for _one in (_ConfigBlob, *_Document.__subclasses__()):
    # msgspec studies a class at its first use, and crashes where two threads begin to use it: so that is now.
    msgspec.json.Decoder(_one)


# --- reading key by key

_Kind = type[str] | type[bool] | Callable[[Any], Any]
"""What a value is: of this very type, or what this function makes of it."""
_Shape = Mapping[str, tuple[str, _Kind]]
"""How to read an object: each key, as written and in lower case, with its name and its value's kind."""


@cache
def _shape(document: type[Struct]) -> _Shape:
    kinds = {one.encode_name: _kind(one.type) for one in structs.fields(document)}
    fields = {name: (name, kind) for name, kind in kinds.items() if kind is not None}
    return {name.lower(): field for name, field in fields.items()} | fields


def _kind(of: Any) -> _Kind | None:
    """How values of a type are read; None for what is passed over."""
    if type(None) in get_args(of):
        of = get_args(of)[0]
    if isinstance(of, type) and issubclass(of, Struct):
        return partial(_read, _shape(of))
    if of in _KINDS:
        return _KINDS[of]
    if get_origin(of) is Annotated:
        return partial(_read_all, _shape(get_args(get_args(of)[0])[0]))
    return None


def _read(shape: _Shape, value: Any) -> dict[str, Any]:
    """The known fields of an object that are not null; `InvalidManifest` unless each is of its kind."""
    if value is None:
        return {}
    if type(value) is not dict:
        raise InvalidManifest("an object is expected")
    found = {}
    for key, item in value.items():
        known = shape.get(key) or shape.get(key.lower())
        if known is None or item is None:
            continue
        name, kind = known
        if type(item) is kind:
            found[name] = item
        elif kind is str or kind is bool:
            raise InvalidManifest(f"{name} is of the wrong type")
        else:
            found[name] = kind(item)
    return found


def _read_all(shape: _Shape, value: Any) -> list[dict[str, Any]]:
    return [_read(shape, item) for item in _list(value)]


def _number(value: Any) -> int:
    if type(value) is not int or not -LARGEST <= value <= LARGEST:
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
    kinds = set(map(type, value.values())) if type(value) is dict else {str}
    if not kinds <= {dict, type(None)}:
        raise InvalidManifest("an object of objects is expected")
    return {key: {} for key in value}


_NO_TIME = "0001-01-01T00:00:00"
_is_time = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?!24)[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
).fullmatch


def _time(value: Any) -> str | None:
    """RFC 3339 as UTC with whole seconds; None for what Go writes when there is no time."""
    if type(value) is not str or not _is_time(value):
        raise InvalidManifest("a time as in RFC 3339 is expected")
    text = value[:19]
    if value[-1] == "Z":
        datetime.fromisoformat(text)  # raises unless there is such a day and hour
    else:
        try:
            text = datetime.fromisoformat(text + value[-6:]).astimezone(UTC).isoformat()[:19]
        except OverflowError:
            raise InvalidManifest("a time after year 0 is expected") from None
    return None if text == _NO_TIME else f"{text}Z"


_KINDS: dict[Any, _Kind] = {
    str: str,
    bool: bool,
    _Number: _number,
    _Texts: _texts,
    _TextMap: _text_map,
    _Set: _set,
    _Time: _time,
}


# --- reading

D = TypeVar("D", bound=_Document)


def read(document: type[D], value: Any) -> D:
    """A JSON value as a document of this class. Raises InvalidManifest."""
    try:
        return msgspec.convert(value, document)
    except msgspec.ValidationError:
        return msgspec.convert(_read(_shape(document), value), document)


def read_or_nothing(document: type[D], value: Any) -> D:
    """As `read`, for what clients put into an image themselves: an unreadable object counts as empty."""
    try:
        return read(document, value)
    except InvalidManifest:
        return document()


_plain_manifest = msgspec.json.Decoder(Manifest).decode


def read_manifest(document: str | bytes) -> Manifest:
    """A manifest. Raises ValueError."""
    try:
        return _plain_manifest(document)
    except ValueError:
        return msgspec.convert(_read(_shape(Manifest), orjson.loads(document)), Manifest)


_CONFIG = _shape(_ContainerConfig)
_METADATA = _shape(_DockerImage)
_CONFIG_BLOB = {one.name: _METADATA[one.encode_name] for one in structs.fields(_DockerImage) if one.type is not Any}


def read_config(document: str | bytes) -> dict[str, Any]:
    """The fields of `dockerImageMetadata` that a config tells, in its order. Raises ValueError."""
    return _docker_image(_ConfigBlob, _CONFIG_BLOB, orjson.loads(document))


def read_metadata(value: Any) -> dict[str, Any]:
    """The fields of a `dockerImageMetadata` that a client sent, in its order; none if one cannot be read."""
    try:
        return _docker_image(_DockerImage, _METADATA, value)
    except ValueError:
        return {}


def _docker_image(plain: type[Struct], shape: _Shape, value: Any) -> dict[str, Any]:
    try:
        msgspec.convert(value, plain)
    except msgspec.ValidationError:
        found = _read(shape, value)
    else:
        found = {shape[key][0]: item for key, item in value.items() if item is not None and key in shape}
        if "Created" in found:
            found["Created"] = _time(found["Created"])
    for name in ("Config", "ContainerConfig"):
        if name in found:
            found[name] = {key: item for key, item in found[name].items() if item and key in _CONFIG}
    return found

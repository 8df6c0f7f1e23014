"""Which form of an answer a client asked for: the Accept header of the Kubernetes conventions, decided once.

Kubernetes puts more than a media type into Accept: parameters such as ``as=Table`` ask for another shape of
the same answer. A form here is one such combination; a handler says which forms it can give and gets back the
one to give.
"""

from collections.abc import Iterator
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple

_JSON = "application/json"
_YAML = "application/yaml"
_META = "meta.k8s.io"
_DISCOVERY = "apidiscovery.k8s.io"


class _Asked(NamedTuple):
    """How a client asks for a form: media type, and the parameters ``as``, ``g``, ``v`` (empty if absent)."""

    media_type: str
    kind: str = ""
    group: str = ""
    version: str = ""


class Form(Enum):
    """A form in which an answer can be given."""

    JSON = auto()
    YAML = auto()
    TABLE = auto()
    PARTIAL_OBJECT = auto()
    PARTIAL_OBJECT_LIST = auto()
    DISCOVERY_V2 = auto()
    DISCOVERY_V2BETA1 = auto()
    OPENAPI_V2_PROTOBUF = auto()

    @property
    def content_type(self) -> str:
        """The Content-Type of an answer in this form, without a charset."""
        return _CONTENT_TYPES.get(self, _JSON)


_ASKED = {
    Form.JSON: _Asked(_JSON),
    Form.YAML: _Asked(_YAML),
    Form.TABLE: _Asked(_JSON, "Table", _META, "v1"),
    Form.PARTIAL_OBJECT: _Asked(_JSON, "PartialObjectMetadata", _META, "v1"),
    Form.PARTIAL_OBJECT_LIST: _Asked(_JSON, "PartialObjectMetadataList", _META, "v1"),
    Form.DISCOVERY_V2: _Asked(_JSON, "APIGroupDiscoveryList", _DISCOVERY, "v2"),
    Form.DISCOVERY_V2BETA1: _Asked(_JSON, "APIGroupDiscoveryList", _DISCOVERY, "v2beta1"),
    Form.OPENAPI_V2_PROTOBUF: _Asked("application/com.github.proto-openapi.spec.v2@v1.0+protobuf"),
}

# Where the answer's type says more than JSON. Clients tell aggregated discovery from the plain kind by it,
# and Go clients cannot read the "@" that they themselves put into Accept.
_CONTENT_TYPES = {
    Form.YAML: _YAML,
    Form.DISCOVERY_V2: f"{_JSON};g={_DISCOVERY};v=v2;as=APIGroupDiscoveryList",
    Form.DISCOVERY_V2BETA1: f"{_JSON};g={_DISCOVERY};v=v2beta1;as=APIGroupDiscoveryList",
    Form.OPENAPI_V2_PROTOBUF: "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
}

_LONGEST_CACHED = 512


def negotiate(accept: str | None, offers: tuple[Form, ...]) -> Form | None:
    """The form to answer in, or None if the client accepts none of the offers (406).

    ``offers`` holds the forms that can be given, the preferred one first: it answers an absent Accept and a
    wildcard. The entries of Accept count in the order written; of their weights only ``q=0`` (not this one)
    does.
    """
    if not accept or accept.isspace():
        return offers[0]
    if len(accept) > _LONGEST_CACHED:
        return _first_acceptable(accept, offers)
    return _remembered(accept, offers)


def _first_acceptable(accept: str, offers: tuple[Form, ...]) -> Form | None:
    entries = list(_entries(accept))
    refused = {form for asked, wanted in entries if not wanted for form in offers if _ASKED[form] == asked}
    for asked, wanted in entries:
        for form in offers if wanted else ():
            if form not in refused and _answers(form, asked):
                return form
    return None


_remembered = lru_cache(maxsize=256)(_first_acceptable)


def _entries(accept: str) -> Iterator[tuple[_Asked, bool]]:
    """Each entry of the header, and whether it is wanted (its weight is not zero)."""
    for entry in accept.split(","):
        media_type, *rest = entry.split(";")
        pairs = (parameter.partition("=") for parameter in rest)
        parameters = {name.strip().lower(): value.strip() for name, _, value in pairs}
        asked = _Asked(
            media_type.strip().lower(),
            parameters.get("as", ""),
            parameters.get("g", ""),
            parameters.get("v", ""),
        )
        yield asked, not _is_zero(parameters.get("q", ""))


def _is_zero(weight: str) -> bool:
    return weight.startswith("0") and not weight.strip("0.")


def _answers(form: Form, asked: _Asked) -> bool:
    own = _ASKED[form]
    if asked.media_type in ("*/*", "application/*"):
        asked = asked._replace(media_type=own.media_type)
    # The group and version of a plain media type say nothing: "application/json;v=1" is JSON.
    return asked == own if asked.kind else asked.media_type == own.media_type and not own.kind

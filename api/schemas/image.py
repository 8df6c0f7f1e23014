"""Image and ImageSignature. An image's content stays the document that was sent, reduced to known fields."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from marshmallow import post_load
from msgspec import Raw, Struct

from api.schemas.fields import AnyObject, Base64, Many, One, Text, TextList, TextMap, Whole
from api.schemas.meta import NO_META, Meta, ObjectMetaSchema, Wire, image_meta, kept_meta
from imagestream_es.domain.image import Document, Image

CONTENT = (
    "dockerImageReference",
    "dockerImageMetadata",
    "dockerImageMetadataVersion",
    "dockerImageManifest",
    "dockerImageLayers",
    "signatures",
    "dockerImageSignatures",
    "dockerImageManifestMediaType",
    "dockerImageConfig",
    "dockerImageManifests",
)


class _Given(Wire):
    """An object that is kept as it was sent: only the fields that were given."""

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {key: value for key, value in data.items() if value is not None}


class ImageLayerSchema(_Given):
    """dockerImageLayers[]"""

    name = Text()
    size = Whole()
    mediaType = Text()


class ImageManifestSchema(_Given):
    """dockerImageManifests[]"""

    digest = Text()
    mediaType = Text()
    manifestSize = Whole()
    architecture = Text()
    os = Text()
    variant = Text(load_default=None)


class SignatureConditionSchema(_Given):
    """signatures[].conditions[]"""

    type = Text()
    status = Text()
    lastProbeTime = Text(load_default=None)
    lastTransitionTime = Text(load_default=None)
    reason = Text(load_default=None)
    message = Text(load_default=None)


class SignatureIssuerSchema(_Given):
    """signatures[].issuedBy"""

    organization = Text(load_default=None)
    commonName = Text(load_default=None)


class SignatureSubjectSchema(_Given):
    """signatures[].issuedTo"""

    organization = Text(load_default=None)
    commonName = Text(load_default=None)
    publicKeyID = Text()


class SentSignature(Struct, frozen=True):
    """A signature as a client sent it."""

    meta: Meta
    type: str
    content: str


class _SignatureFields(Wire):
    kind = Text()
    apiVersion = Text()
    metadata = One(ObjectMetaSchema)
    type = Text()
    content = Base64()
    conditions = Many(SignatureConditionSchema, metadata={"merge_key": "type"})
    imageIdentity = Text()
    signedClaims = TextMap()
    created = Text()
    issuedBy = One(SignatureIssuerSchema)
    issuedTo = One(SignatureSubjectSchema)


class ImageSignatureSchema(_SignatureFields):
    """ImageSignature"""

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentSignature:
        """The signature; what only verification could tell is left behind."""
        return SentSignature(data["metadata"] or NO_META, data["type"] or "", data["content"] or "")


class StoredSignatureSchema(_SignatureFields):
    """signatures[] of an image"""

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The signature as an image keeps it."""
        meta: Meta = data["metadata"] or NO_META
        kept = {
            "metadata": {"name": meta.name} | kept_meta(meta),
            "type": data["type"] or "",
            "content": data["content"],
        }
        optional = ("conditions", "imageIdentity", "signedClaims", "created", "issuedBy", "issuedTo")
        return kept | {key: data[key] for key in optional if data[key]}


class SentImage(Struct, frozen=True):
    """An image as a client sent it: metadata, and its content as a document."""

    meta: Meta
    content: dict[str, Any]


class ImageSchema(Wire):
    """Image"""

    kind = Text()
    apiVersion = Text()
    metadata = One(ObjectMetaSchema)
    dockerImageReference = Text()
    dockerImageMetadata = AnyObject()
    dockerImageMetadataVersion = Text()
    dockerImageManifest = Text()
    dockerImageLayers = Many(ImageLayerSchema)
    signatures = Many(StoredSignatureSchema, metadata={"merge_key": "name"})
    dockerImageSignatures = TextList()
    dockerImageManifestMediaType = Text()
    dockerImageConfig = Text()
    dockerImageManifests = Many(ImageManifestSchema)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentImage:
        """The image; empty fields count as absent."""
        meta: Meta = data["metadata"] or NO_META
        content = {key: data[key] for key in CONTENT if data[key]}
        return SentImage(meta, content)


def document_of(meta: Meta, content: dict[str, Any]) -> Document:
    """The document that is stored of an image: content, and what clients may set of the metadata."""
    kept = kept_meta(meta)
    fields = ({"metadata": kept} if kept else {}) | {key: content[key] for key in CONTENT if content.get(key)}
    return {key: Raw(orjson.dumps(value)) for key, value in fields.items()}


def content_of(image: Image) -> dict[str, Any]:
    """The stored document of an image as plain values, metadata included."""
    return {key: msgspec.json.decode(value) for key, value in image.document.items()}


def image_json(image: Image, metadata_version: str) -> dict[str, Any]:
    """An image as the API shows it; `metadata_version` is the apiVersion inside dockerImageMetadata."""
    content = content_of(image)
    shown: dict[str, Any] = {"metadata": image_meta(image, content.pop("metadata", {})), "dockerImageLayers": None}
    shown |= content
    metadata = content.get("dockerImageMetadata")
    if metadata is not None:
        shown["dockerImageMetadata"] = metadata | {"apiVersion": metadata_version}
    shown.setdefault("dockerImageMetadataVersion", "1.0")
    return shown


def image_inside_json(image: Image, metadata_version: str) -> dict[str, Any]:
    """An image as tags and image stream images show it: without manifest and config."""
    shown = image_json(image, metadata_version)
    shown.pop("dockerImageManifest", None)
    shown.pop("dockerImageConfig", None)
    return shown

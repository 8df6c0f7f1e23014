"""Image and ImageSignature. An image's content stays the document that was sent, reduced to known fields."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import orjson
from marshmallow import post_load
from msgspec import Raw, Struct

from api.schemas.fields import AnyObject, Base64, Many, One, Text, TextList, TextMap, TimeText, Whole
from api.schemas.meta import NO_META, KindSchema, Meta, Wire, image_meta, kept_meta
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


EXAMPLE_DIGEST = "sha256:" + "2ed6f0f0c1c1a8b0" * 4


class _Given(Wire):
    """An object that is kept as it was sent: only the fields that were given."""

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {key: value for key, value in data.items() if value is not None}


class ImageLayerSchema(_Given):
    """One layer of an image's file system."""

    name = Text("The digest of the layer.")
    size = Whole("The size of the layer as it is stored, in bytes.")
    mediaType = Text("The media type of the layer.")


class ImageManifestSchema(_Given):
    """The image for one platform, where an image is a list of images for several platforms."""

    digest = Text("The digest of the platform's manifest, which is also the name of its image.")
    mediaType = Text("The media type of the manifest.")
    manifestSize = Whole("The size of the manifest, in bytes.")
    architecture = Text("The processor architecture, such as amd64 or arm64.")
    os = Text("The operating system, such as linux.")
    variant = Text("The variant of the architecture, such as v7 of arm.", load_default=None)


class SignatureConditionSchema(_Given):
    """What was found when a signature was checked."""

    type = Text("What was checked.")
    status = Text("What was found.", metadata={"enum": ["True", "False", "Unknown"]})
    lastProbeTime = TimeText("When it was last checked.", load_default=None)
    lastTransitionTime = TimeText("When the status last changed.", load_default=None)
    reason = Text("Why the status changed, in one word for programs.", load_default=None)
    message = Text("Why the status changed, for people.", load_default=None)


class SignatureIssuerSchema(_Given):
    """Who issued the key or certificate that a signature was made with."""

    organization = Text("The organization's name.", load_default=None)
    commonName = Text("The common name, as in a certificate.", load_default=None)


class SignatureSubjectSchema(_Given):
    """Who signed."""

    organization = Text("The organization's name.", load_default=None)
    commonName = Text("The common name, as in a certificate.", load_default=None)
    publicKeyID = Text("The id of the public key that the signature is verified with.")


class SentSignature(Struct, frozen=True):
    """A signature as a client sent it."""

    meta: Meta
    type: str
    content: str


class ImageSignatureSchema(KindSchema):
    """A signature of an image, by which clients can tell who vouches for it.

    It is stored with its image, and its metadata.name is IMAGE@SIGNATURE. The server keeps type and content as they
    are and does not verify them; a client that relies on a signature has to.
    """

    example: ClassVar = {
        "kind": "ImageSignature",
        "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": f"{EXAMPLE_DIGEST}@release"},
        "type": "atomic",
        "content": "c2lnbmVkIGJ5IHRoZSByZWxlYXNlIHRlYW0=",
    }

    type = Text("The kind of signature, such as atomic.", metadata={"required": True})
    content = Base64("The signature itself.", metadata={"required": True})
    conditions = Many(
        SignatureConditionSchema, "What was found when the signature was checked.", metadata={"merge_key": "type"}
    )
    imageIdentity = Text("What the signature says is signed, often a pull specification.")
    signedClaims = TextMap("What else the signature says.")
    created = TimeText("When the signature was made.")
    issuedBy = One(SignatureIssuerSchema, "Who issued the key or certificate.", metadata={"nullable": True})
    issuedTo = One(SignatureSubjectSchema, "Who signed.", metadata={"nullable": True})

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentSignature:
        """The signature; what only verification could tell is left behind."""
        return SentSignature(data["metadata"] or NO_META, data["type"] or "", data["content"] or "")


class StoredSignatureSchema(ImageSignatureSchema):  # described by what it inherits
    title = "ImageSignature"

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


class ImageSchema(KindSchema):
    """A container image: what its manifest and configuration say, and from where it can be pulled.

    Images belong to the whole cluster and are named by the digest of their manifest, so that one image is the same
    object wherever it is tagged. Their content never changes; labels, annotations, signatures and the pull
    specification may. Most people meet images through image stream tags and image stream images, which show them
    to whoever may read the stream.
    """

    example: ClassVar = {
        "kind": "Image",
        "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": EXAMPLE_DIGEST},
        "dockerImageReference": f"quay.io/team/web@{EXAMPLE_DIGEST}",
    }

    dockerImageReference = Text(
        "The pull specification of the image, best with its digest: HOST/NAMESPACE/NAME@DIGEST."
    )
    dockerImageMetadata = AnyObject(
        "What the image's configuration says: command, environment, user, labels, architecture, size. An object "
        "of kind DockerImage, whose fields begin with capitals.",
        metadata={"definition": "io.k8s.apimachinery.pkg.runtime.RawExtension"},
    )
    dockerImageMetadataVersion = Text("The version of dockerImageMetadata: 1.0.")
    dockerImageManifest = Text("The manifest, as JSON text. Images in tags and streams are shown without it.")
    dockerImageLayers = Many(
        ImageLayerSchema,
        "The layers, the lowest first. An image for several platforms has none.",
        load_default=None,
        metadata={"nullable": True},
    )
    signatures = Many(
        StoredSignatureSchema, "The signatures of the image.", load_default=None, metadata={"merge_key": "name"}
    )
    dockerImageSignatures = TextList(
        "Signatures inside manifests of the old schema 1.", metadata={"items": {"type": "string", "format": "byte"}}
    )
    dockerImageManifestMediaType = Text("The media type of the manifest.")
    dockerImageConfig = Text(
        "The configuration that the manifest names, as JSON text. Images in tags and streams are shown without it."
    )
    dockerImageManifests = Many(
        ImageManifestSchema,
        "The images for single platforms, where this is a list of them. Such an image has no layers of its own.",
        load_default=None,
    )

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentImage:
        """The image; empty fields count as absent."""
        meta: Meta = data["metadata"] or NO_META
        content = {key: data[key] for key in CONTENT if data[key]}
        return SentImage(meta, content)


_text = msgspec.json.Encoder().encode


def document_of(meta: Meta, content: dict[str, Any]) -> Document:
    """The document that is stored of an image: content, and what clients may set of the metadata."""
    kept = kept_meta(meta)
    document = {"metadata": Raw(orjson.dumps(kept))} if kept else {}
    for key in CONTENT:
        if value := content.get(key):
            # Both write the same, the one texts such as manifests faster, the other objects.
            document[key] = Raw(_text(value) if type(value) is str else orjson.dumps(value))
    return document


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

"""ImageStreamImport: what to import, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import post_load
from msgspec import Struct

from api.errors import status
from api.schemas.answers import StatusSchema
from api.schemas.fields import Flag, Many, One, Text, TextList
from api.schemas.image import ImageSchema, image_json
from api.schemas.image_stream import (
    ImageStreamSchema,
    ObjectReferenceSchema,
    TagImportPolicySchema,
    TagReferencePolicySchema,
)
from api.schemas.meta import NO_META, KindSchema, Meta, Wire
from imagestream_es.application.fetching import Failure, ImageResult, Policy, RepositoryResult
from imagestream_es.domain import image as images
from imagestream_es.domain.tags import LEGACY, SOURCE, ObjectReference
from imagestream_es.registry import manifests


class SentSource(Struct, frozen=True, kw_only=True):
    """An image or a repository as a client asked for it; `to` is None where it named no tag."""

    source: ObjectReference
    to: str | None = None
    policy: Policy
    include_manifest: bool


class SentImport(Struct, frozen=True):
    """An import as a client sent it; `store` False only looks at the images."""

    meta: Meta
    store: bool
    images: list[SentSource]
    repository: SentSource | None


class LocalObjectReferenceSchema(Wire):
    """Names an object by its name alone."""

    package = "io.k8s.api.core.v1"

    name = Text("The object's name.")


class RepositoryImportSpecSchema(Wire):
    """A repository to import: each of its tags into the tag of the same name."""

    source = One(
        ObjectReferenceSchema,
        "The repository: a DockerImage without tag and digest.",
        data_key="from",
        metadata={"required": True},
    )
    importPolicy = One(TagImportPolicySchema, "How the images are imported.")
    referencePolicy = One(TagReferencePolicySchema, "From where the images are to be pulled.")
    includeManifest = Flag("Whether the answer shows manifests and configurations, of images that are not stored.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentSource:
        """The source as a value, with defaults."""
        policy = data["importPolicy"] or {}
        target = data.get("to")
        return SentSource(
            source=data["source"] or ObjectReference(),
            to=None if target is None else target["name"] or "",
            policy=Policy(
                insecure=bool(policy.get("insecure")),
                scheduled=bool(policy.get("scheduled")),
                import_mode=policy.get("importMode") or LEGACY,
                reference_policy=(data["referencePolicy"] or {}).get("type") or SOURCE,
            ),
            include_manifest=bool(data["includeManifest"]),
        )


class ImageImportSpecSchema(RepositoryImportSpecSchema):
    """An image to import."""

    source = One(ObjectReferenceSchema, "The image: a DockerImage.", data_key="from", metadata={"required": True})
    to = One(
        LocalObjectReferenceSchema,
        "The tag to import into. By default it is the tag of the image; an image named by its digest is only "
        "looked at.",
        metadata={"nullable": True},
    )


class ImageStreamImportSpecSchema(Wire):
    """What to import."""

    store = Flag(
        "Whether to import the images. If not, they are only looked at.", data_key="import", metadata={"required": True}
    )
    repository = One(RepositoryImportSpecSchema, "A whole repository to import.", metadata={"nullable": True})
    images = Many(ImageImportSpecSchema, "Single images to import.")


class ImageImportStatusSchema(Wire):
    """What came of one image."""

    status = One(StatusSchema, "Whether the image could be imported, and if not, why.")
    image = One(ImageSchema, "The image.", metadata={"nullable": True})
    tag = Text("The tag by which it was found; absent if it was named by its digest.")
    manifests = Many(ImageSchema, "The images for single platforms, where the image is a list of them.")


class RepositoryImportStatusSchema(Wire):
    """What came of a repository."""

    status = One(StatusSchema, "Whether the tags could be listed and all images be imported.")
    images = Many(ImageImportStatusSchema, "What came of each tag that was imported.")
    additionalTags = TextList("The tags that were not imported, because there are too many.")


class ImageStreamImportStatusSchema(Wire):
    """What came of an import."""

    stream = One(
        ImageStreamSchema,
        "The stream, as it is after the import; absent if the images were only looked at.",
        data_key="import",
        metadata={"nullable": True},
    )
    repository = One(RepositoryImportStatusSchema, "What came of the repository.", metadata={"nullable": True})
    images = Many(ImageImportStatusSchema, "What came of each image, in the order in which they were asked for.")


class ImageStreamImportSchema(KindSchema):
    """Imports images from registries into a stream, which is created if there is none. Its metadata.name is the
    stream's.

    It is answered when everything is done, and succeeds even if no image could be imported: what came of each is in
    its status. It cannot be read again.
    """

    example: ClassVar = {
        "kind": "ImageStreamImport",
        "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "web"},
        "spec": {
            "import": True,
            "images": [{"from": {"kind": "DockerImage", "name": "quay.io/team/web:2.0"}, "to": {"name": "stable"}}],
        },
    }

    spec = One(ImageStreamImportSpecSchema, "What to import.", metadata={"required": True})
    status = One(ImageStreamImportStatusSchema, "What came of it; what a request says here does not matter.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentImport:
        """The import as values."""
        spec = data["spec"] or {}
        return SentImport(
            data["metadata"] or NO_META, bool(spec.get("store")), spec.get("images") or [], spec.get("repository")
        )


def source_json(sent: SentSource) -> dict[str, Any]:
    """A source as the answer repeats it, with defaults."""
    source, policy = sent.source, sent.policy
    shown: dict[str, Any] = {"from": {"kind": source.kind, "name": source.name}}
    if source.namespace:
        shown["from"]["namespace"] = source.namespace
    if sent.to is not None:
        shown["to"] = {"name": sent.to}
    flags = {name: True for name in ("insecure", "scheduled") if getattr(policy, name)}
    shown["importPolicy"] = {**flags, "importMode": policy.import_mode}
    shown["referencePolicy"] = {"type": policy.reference_policy}
    if sent.include_manifest:
        shown["includeManifest"] = True
    return shown


Stored = Mapping[str, images.Image]
"""Images by name, as they are stored."""


def image_result_json(
    result: ImageResult, stored: Stored, metadata_version: str, *, include_manifest: bool
) -> dict[str, Any]:
    """What came of one image; one that is stored is shown as it is there."""

    def show(image: manifests.Image) -> dict[str, Any]:
        known = stored.get(image["metadata"]["name"])
        if known is not None:
            return image_json(known, metadata_version)
        return _fetched_json(image, metadata_version, include_manifest=include_manifest)

    shown: dict[str, Any] = {"status": _status(result.failure)}
    if result.image is not None:
        shown["image"] = show(result.image)
    if result.tag:
        shown["tag"] = result.tag
    if result.parts:
        shown["manifests"] = [show(part) for part in result.parts]
    return shown


def repository_result_json(
    result: RepositoryResult, stored: Stored, metadata_version: str, *, include_manifest: bool
) -> dict[str, Any]:
    """What came of a repository."""
    shown: dict[str, Any] = {"status": _status(result.failure)}
    if result.images:
        shown["images"] = [
            image_result_json(image, stored, metadata_version, include_manifest=include_manifest)
            for image in result.images
        ]
    if result.additional:
        shown["additionalTags"] = list(result.additional)
    return shown


def _status(failure: Failure | None) -> dict[str, Any]:
    if failure is None:
        return {"metadata": {}, "status": "Success"}
    shown = status(failure.code, failure.message, reason=failure.reason)
    return {key: value for key, value in shown.items() if key not in ("kind", "apiVersion") and value != 0}


def _fetched_json(image: manifests.Image, metadata_version: str, *, include_manifest: bool) -> dict[str, Any]:
    """An image that is not stored, as it would be."""
    shown = {"dockerImageLayers": None, **image, "metadata": {**image["metadata"], "creationTimestamp": None}}
    shown["dockerImageMetadata"] = image["dockerImageMetadata"] | {"apiVersion": metadata_version}
    if not include_manifest:
        shown.pop("dockerImageManifest", None)
        shown.pop("dockerImageConfig", None)
    return shown

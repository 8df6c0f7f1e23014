"""ImageStreamTag, ImageTag, ImageStreamImage and ImageStreamMapping."""

from __future__ import annotations

from typing import Any, ClassVar

from marshmallow import post_load
from msgspec import Struct

from api.schemas.fields import Many, One, Text, Whole, print_time
from api.schemas.image import EXAMPLE_DIGEST, ImageSchema, SentImage, image_inside_json
from api.schemas.image_stream import (
    History,
    ImageLookupPolicySchema,
    NamedTagEventListSchema,
    TagEventConditionSchema,
    TagReferenceSchema,
    condition_json,
    history_json,
    own_repository,
    tag_reference_json,
)
from api.schemas.meta import META, NO_META, KindSchema, Meta, stream_meta
from imagestream_es.application.queries import TagView
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import NO_TAG, ImageStream, Tag, shown_reference
from imagestream_es.domain.tags import TagReference


class SentTag(Struct, frozen=True):
    """An image stream tag, or an image tag, as a client sent it; `history` None was not sent."""

    meta: Meta
    tag: TagReference | None
    history: History | None = None


class ImageStreamTagSchema(KindSchema):
    """One tag of a stream, with the image that it names now. Its metadata.name is STREAM:TAG.

    It is how to look at a tag's image, to set a tag to another source, and to remove a tag with its history. A tag
    without an image is not found: ImageTag shows such tags too.
    """

    example: ClassVar = {
        "kind": "ImageStreamTag",
        "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "web:latest"},
        "tag": {"from": {"kind": "ImageStreamTag", "name": "pushed"}},
    }

    tag = One(
        TagReferenceSchema,
        "What the tag is meant to be; null where images are only pushed to it.",
        metadata={"nullable": True},
    )
    generation = Whole(
        "The generation of the stream that the image came with. If tag has a greater one, an import is due or has "
        "failed."
    )
    lookupPolicy = One(
        ImageLookupPolicySchema, "Whether workloads of the namespace find the stream's images by its name."
    )
    conditions = Many(TagEventConditionSchema, "What is to be known of the tag beside its image.")
    image = One(ImageSchema, "The image that the tag names now.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentTag:
        """What of it can be written."""
        return SentTag(data["metadata"] or NO_META, data["tag"])


class ImageTagSchema(KindSchema):
    """One tag of a stream with all there is to know of it: what it is meant to be, its whole history, and the image
    that it names now. Its metadata.name is STREAM:TAG.

    It is there as soon as the tag has a source or a history, also while its image is still to be imported.
    """

    example: ClassVar = {
        "kind": "ImageTag",
        "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "web:next"},
        "spec": {"from": {"kind": "DockerImage", "name": "quay.io/team/web:2.0-rc1"}},
    }

    spec = One(
        TagReferenceSchema,
        "What the tag is meant to be; null where images are only pushed to it.",
        metadata={"nullable": True},
    )
    status = One(
        NamedTagEventListSchema, "The history of the tag; null as long as there is none.", metadata={"nullable": True}
    )
    image = One(
        ImageSchema,
        "The image that the tag names now; null in lists, and where there is none.",
        metadata={"nullable": True},
    )

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentTag:
        """What of it can be written, and the history that must be sent back unchanged."""
        status = data["status"]
        return SentTag(data["metadata"] or NO_META, data["spec"], None if status is None else status[1])


class SentMapping(Struct, frozen=True):
    """A mapping as a registry sent it."""

    meta: Meta
    tag: str
    image: SentImage


class ImageStreamMappingSchema(KindSchema):
    """Puts an image on a tag: what a registry sends when an image was pushed. Its metadata.name is the stream's.

    The image is made known if it is not yet; one that is known stays as it is.
    """

    answer = f"{META}.Status"
    example: ClassVar = {
        "kind": "ImageStreamMapping",
        "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "web"},
        "tag": "pushed",
        "image": {
            "metadata": {"name": EXAMPLE_DIGEST},
            "dockerImageReference": f"registry.example.com/demo/web@{EXAMPLE_DIGEST}",
        },
    }

    image = One(ImageSchema, "The image.", metadata={"required": True})
    tag = Text("The tag.", metadata={"required": True})

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentMapping:
        """The mapping as values."""
        image = data["image"] or SentImage(NO_META, {})
        return SentMapping(data["metadata"] or NO_META, data["tag"] or "", image)


class ImageStreamImageSchema(KindSchema):
    """An image seen through a stream that has it in a history. Its metadata.name is STREAM@IMAGE.

    Whoever may read the stream sees its images in this way, without a right on the images of the whole cluster. The
    beginning of a digest is enough to name an image.
    """

    example: ClassVar = {"metadata": {"name": f"web@{EXAMPLE_DIGEST}"}}

    image = One(ImageSchema, "The image.")


def image_stream_tag_json(view: TagView, registry: str, metadata_version: str) -> dict[str, Any]:
    """A tag with its newest image, as the API shows an ImageStreamTag."""
    stream, tag = view.stream, view.stream.tags.get(view.tag, NO_TAG)
    shown = _tag_json(stream, view.tag, tag)
    if view.image is None:
        empty = {"kind": "DockerImage", "apiVersion": metadata_version} | _NO_METADATA
        shown["image"] = {
            "metadata": {"creationTimestamp": None},
            "dockerImageMetadata": empty,
            "dockerImageMetadataVersion": "1.0",
        }
        if tag.head is not None:
            shown["image"]["dockerImageReference"] = tag.head.reference
        return shown
    image = image_inside_json(view.image, metadata_version)
    if tag.spec is not None and tag.spec.annotations:
        annotations = (image["metadata"].get("annotations") or {}) | tag.spec.annotations
        image["metadata"] = image["metadata"] | {"annotations": annotations}
    image["dockerImageReference"] = shown_reference(tag, own_repository(stream, registry) if registry else "")
    return shown | {"image": image}


def listed_tag_json(stream: ImageStream, name: str, registry: str) -> dict[str, Any]:
    """A tag in a list of ImageStreamTags: of the image only name and pull spec."""
    tag = stream.tags[name]
    assert tag.head is not None
    image = {
        "metadata": {"name": tag.head.image, "creationTimestamp": None},
        "dockerImageReference": shown_reference(tag, own_repository(stream, registry) if registry else ""),
        "dockerImageMetadata": _NO_METADATA,
    }
    return _tag_json(stream, name, tag) | {"image": image}


_NO_METADATA: dict[str, Any] = {"Id": "", "Created": None, "ContainerConfig": {}}


def _tag_json(stream: ImageStream, name: str, tag: Tag) -> dict[str, Any]:
    # An entry that only refers, without an image, does not count here.
    head = tag.head if tag.head is not None and tag.head.image else None
    meta: dict[str, Any] = {
        "name": f"{stream.name}:{name}",
        "namespace": stream.namespace,
        "uid": stream.uid,
        "resourceVersion": str(stream.position),
        "creationTimestamp": print_time(stream.created if head is None else head.created),
    }
    if stream.labels:
        meta["labels"] = stream.labels
    if tag.spec is not None and tag.spec.annotations:
        meta["annotations"] = tag.spec.annotations
    shown: dict[str, Any] = {
        "metadata": meta,
        "tag": None if tag.spec is None else tag_reference_json(tag.spec),
        "generation": 0 if head is None else head.generation,
        "lookupPolicy": {"local": stream.local_lookup},
    }
    if tag.conditions:
        shown["conditions"] = [condition_json(condition) for condition in tag.conditions]
    return shown


def image_tag_json(view: TagView, metadata_version: str, *, listed: bool = False) -> dict[str, Any]:
    """A tag with spec, whole history and image, as the API shows an ImageTag; `listed` without its image."""
    stream, tag = view.stream, view.stream.tags.get(view.tag, NO_TAG)
    image = None if listed or view.image is None else image_inside_json(view.image, metadata_version)
    if image is not None and tag.head is not None:
        image["dockerImageReference"] = tag.head.reference
    status = history_json(view.tag, view.items, tag.conditions) if view.items or tag.conditions else None
    return {
        "metadata": stream_meta(stream) | {"name": f"{stream.name}:{view.tag}"},
        "spec": None if tag.spec is None else tag_reference_json(tag.spec),
        "status": status,
        "image": image,
    }


def image_stream_image_json(stream: ImageStream, name: str, image: Image, metadata_version: str) -> dict[str, Any]:
    """An image seen through a stream; `name` is as the client wrote it."""
    meta: dict[str, Any] = {
        "name": name,
        "namespace": stream.namespace,
        "uid": image.uid,
        "resourceVersion": str(image.position),
        "creationTimestamp": print_time(image.created),
    }
    if stream.annotations:
        meta["annotations"] = stream.annotations
    return {"metadata": meta, "image": image_inside_json(image, metadata_version)}

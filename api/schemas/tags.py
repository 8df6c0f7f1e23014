"""ImageStreamTag, ImageTag, ImageStreamImage and ImageStreamMapping."""

from __future__ import annotations

from typing import Any

from marshmallow import post_load
from msgspec import Struct

from api.schemas.fields import Flag, Many, One, Text, Whole, print_time
from api.schemas.image import ImageSchema, SentImage, image_inside_json
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
from api.schemas.meta import NO_META, Meta, ObjectMetaSchema, Wire, stream_meta
from imagestream_es.application.queries import TagView
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import NO_TAG, ImageStream, Tag, shown_reference
from imagestream_es.domain.tags import TagReference


class SentTag(Struct, frozen=True):
    """An image stream tag, or an image tag, as a client sent it; `history` None was not sent."""

    meta: Meta
    tag: TagReference | None
    history: History | None = None


class ImageStreamTagSchema(Wire):
    """ImageStreamTag"""

    kind = Text()
    apiVersion = Text()
    metadata = One(ObjectMetaSchema)
    tag = One(TagReferenceSchema)
    generation = Whole()
    lookupPolicy = One(ImageLookupPolicySchema)
    conditions = Many(TagEventConditionSchema)
    image = One(ImageSchema)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentTag:
        """What of it can be written."""
        return SentTag(data["metadata"] or NO_META, data["tag"])


class ImageTagSchema(Wire):
    """ImageTag"""

    kind = Text()
    apiVersion = Text()
    metadata = One(ObjectMetaSchema)
    spec = One(TagReferenceSchema)
    status = One(NamedTagEventListSchema)
    image = One(ImageSchema)

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


class ImageStreamMappingSchema(Wire):
    """ImageStreamMapping"""

    kind = Text()
    apiVersion = Text()
    metadata = One(ObjectMetaSchema)
    image = One(ImageSchema)
    tag = Text()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentMapping:
        """The mapping as values."""
        image = data["image"] or SentImage(NO_META, {})
        return SentMapping(data["metadata"] or NO_META, data["tag"] or "", image)


class ImageStreamImageSchema(Wire):
    """ImageStreamImage"""

    kind = Text()
    apiVersion = Text()
    metadata = One(ObjectMetaSchema)
    image = One(ImageSchema)


class ImageBlobReferencesSchema(Wire):
    """images of an ImageStreamLayers"""

    imageMissing = Flag()


def image_stream_tag_json(view: TagView, registry: str, metadata_version: str) -> dict[str, Any]:
    """A tag with its newest image, as the API shows an ImageStreamTag."""
    stream, tag = view.stream, view.stream.tags.get(view.tag, NO_TAG)
    shown = _tag_json(stream, view.tag, tag)
    if view.image is None:
        shown["image"] = {"metadata": {"creationTimestamp": None}, "dockerImageMetadata": _NO_METADATA}
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
    meta: dict[str, Any] = {
        "name": f"{stream.name}:{name}",
        "namespace": stream.namespace,
        "uid": stream.uid,
        "resourceVersion": str(stream.position),
        "creationTimestamp": print_time(tag.head.created if tag.head is not None else stream.created),
    }
    if stream.labels:
        meta["labels"] = stream.labels
    if tag.spec is not None and tag.spec.annotations:
        meta["annotations"] = tag.spec.annotations
    shown: dict[str, Any] = {
        "metadata": meta,
        "tag": None if tag.spec is None else tag_reference_json(tag.spec),
        "generation": tag.head.generation if tag.head is not None else 0,
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

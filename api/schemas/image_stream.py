"""ImageStream, and the tag references and histories that other kinds show too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
import orjson
from marshmallow import post_load
from msgspec import Struct

from api.schemas.fields import Flag, Many, One, Text, TextMap, Time, Whole, print_time
from api.schemas.meta import NO_META, KindSchema, Meta, Wire, stream_meta
from imagestream_es.domain.image_stream import DesiredStream, ImageStream
from imagestream_es.domain.past import EntryRow
from imagestream_es.domain.tags import (
    LEGACY,
    SOURCE,
    ObjectReference,
    TagEvent,
    TagEventCondition,
    TagReference,
)

History = tuple[tuple[TagEvent, ...], tuple[TagEventCondition, ...]]


class ObjectReferenceSchema(Wire):
    """Names another object."""

    package = "io.k8s.api.core.v1"

    kind = Text("The object's kind. The source of a tag is an ImageStreamTag, an ImageStreamImage or a DockerImage.")
    namespace = Text("The object's namespace; empty for the namespace of the object that names it.")
    name = Text(
        "The object's name. STREAM:TAG, or TAG of the same stream, for an ImageStreamTag; STREAM@DIGEST for an "
        "ImageStreamImage; a pull specification for a DockerImage."
    )
    uid = Text("The object's uid.")
    apiVersion = Text("The object's apiVersion.")
    resourceVersion = Text("The version of the object that is meant.")
    fieldPath = Text("The part of the object that is meant.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> ObjectReference:
        """The reference as a value."""
        return ObjectReference(data["kind"] or "", data["name"] or "", data["namespace"] or "")


class TagImportPolicySchema(Wire):
    """How the image of a tag is imported from a registry."""

    insecure = Flag("Whether the registry's certificate may go unverified, or plain HTTP be spoken.")
    scheduled = Flag(
        "Whether the image is imported again and again, to notice when its tag moves in the registry. Only for "
        "tags whose source is a DockerImage."
    )
    importMode = Text(
        "What is imported of an image for several platforms: Legacy, which is the default, takes the image for "
        "one platform, PreserveOriginal the whole.",
        metadata={"enum": ["", "Legacy", "PreserveOriginal"]},
    )


class TagReferencePolicySchema(Wire):
    """From where the image of a tag is to be pulled."""

    type = Text(
        "Source, which is the default: from where the image was imported. Local: through the internal registry, "
        "so that those who pull need no credentials of the source.",
        metadata={"enum": ["", "Source", "Local"]},
    )


class TagReferenceSchema(Wire):
    """What a tag of a stream is meant to be: where its image comes from, and how it is imported and pulled.

    A tag need not have a source. Images can be pushed to it, or put on it by a mapping.
    """

    name = Text("The tag.")
    annotations = TextMap(
        "Annotations that the tag's image is shown with.", load_default=None, metadata={"nullable": True}
    )
    source = One(
        ObjectReferenceSchema, "Where the tag's image comes from.", data_key="from", metadata={"nullable": True}
    )
    reference = Flag(
        "Whether the tag only names its source: then nothing is imported, and the tag has a pull specification "
        "but no image."
    )
    generation = Whole(
        "The generation of the stream when the tag was last changed. An image of an older generation means that "
        "an import is due. Sending 0 asks for another import.",
        load_default=None,
        metadata={"nullable": True},
    )
    importPolicy = One(TagImportPolicySchema, "How the image is imported from a registry.")
    referencePolicy = One(TagReferencePolicySchema, "From where the image is to be pulled.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> TagReference:
        """The tag reference as a value, with defaults."""
        policy = data["importPolicy"] or {}
        return TagReference(
            name=data["name"] or "",
            source=data["source"],
            annotations=data["annotations"],
            reference=bool(data["reference"]),
            generation=data["generation"],
            insecure=bool(policy.get("insecure")),
            scheduled=bool(policy.get("scheduled")),
            import_mode=policy.get("importMode") or LEGACY,
            reference_policy=(data["referencePolicy"] or {}).get("type") or SOURCE,
        )


class TagEventSchema(Wire):
    """One entry in the history of a tag: an image that it named at some time."""

    created = Time("When the tag came to name the image.", metadata={"nullable": True})
    dockerImageReference = Text("The pull specification of the image.")
    image = Text("The name of the image, its digest; empty where the tag is only a reference.")
    generation = Whole("The generation of the stream that the image came with.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> TagEvent:
        """The entry as a value."""
        return TagEvent(
            data["created"], data["dockerImageReference"] or "", data["image"] or "", data["generation"] or 0
        )


class TagEventConditionSchema(Wire):
    """What is to be known of a tag beside its images, such as an import that failed."""

    type = Text("What the condition is about. ImportSuccess tells whether the last import succeeded.")
    status = Text("Whether it is so.", metadata={"enum": ["True", "False", "Unknown"]})
    lastTransitionTime = Time("When the status last changed.", metadata={"nullable": True})
    reason = Text("Why, in one word for programs.")
    message = Text("Why, for people.")
    generation = Whole("The generation of the tag that the condition is about.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> TagEventCondition:
        """The condition as a value."""
        return TagEventCondition(
            data["type"] or "",
            data["status"] or "",
            data["lastTransitionTime"],
            data["reason"] or "",
            data["message"] or "",
            data["generation"] or 0,
        )


class NamedTagEventListSchema(Wire):
    """The history of one tag."""

    tag = Text("The tag.")
    items = Many(
        TagEventSchema, "The images that the tag names and has named, the newest first.", metadata={"nullable": True}
    )
    conditions = Many(TagEventConditionSchema, "What is to be known of the tag beside its images.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> tuple[str, History]:
        """The tag's name with entries and conditions."""
        return data["tag"] or "", (tuple(data["items"] or ()), tuple(data["conditions"] or ()))


class ImageLookupPolicySchema(Wire):
    """Whether workloads of the namespace find images by the names of streams."""

    local = Flag(
        "Whether a short image name like web or web:stable, in a workload of the same namespace, stands for this "
        "stream's image."
    )


class ImageStreamSpecSchema(Wire):
    """What a stream is meant to be."""

    lookupPolicy = One(
        ImageLookupPolicySchema, "Whether workloads of the namespace find the stream's images by its name."
    )
    dockerImageRepository = Text(
        "Deprecated: a repository in a registry, all of whose tags are imported. Name the source of each tag in "
        "tags instead."
    )
    tags = Many(
        TagReferenceSchema,
        "The tags that have a source, or settings of their own. A tag that images are only pushed to needs no entry.",
        metadata={"merge_key": "name"},
    )


class ImageStreamStatusSchema(Wire):
    """What a stream is: where it can be pulled from, and the history of every tag."""

    dockerImageRepository = Text("Where the stream's images can be pulled from inside the cluster.")
    publicDockerImageRepository = Text(
        "Where they can be pulled from outside, if the registry can be reached from there."
    )
    tags = Many(NamedTagEventListSchema, "The history of every tag.", metadata={"merge_key": "tag"})


class SentStream(Struct, frozen=True):
    """A stream as a client sent it: metadata, what it is to be, and the histories of its status."""

    meta: Meta
    desired: DesiredStream
    histories: dict[str, History]


class ImageStreamSchema(KindSchema):
    """A stream of container images under one name: its tags, and for every tag all images that it ever named.

    Each tag is a stack. A new image is put on top, and what was there before stays below, so that a tag can be set
    back to any earlier image. A tag follows a source named in spec.tags, an image in a registry or a tag or image
    of this or another stream, or takes what is pushed to it. Deleting an image stream tag removes the tag with its
    history; deleting the stream leaves the images.
    """

    example: ClassVar = {
        "kind": "ImageStream",
        "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "web", "labels": {"app": "shop"}},
        "spec": {
            "lookupPolicy": {"local": True},
            "tags": [
                {
                    "name": "stable",
                    "from": {"kind": "DockerImage", "name": "quay.io/team/web:1.4"},
                    "importPolicy": {"scheduled": True},
                }
            ],
        },
    }

    spec = One(ImageStreamSpecSchema, "What the stream is meant to be.")
    status = One(
        ImageStreamStatusSchema, "What the stream is. Set by the server; written through the status subresource alone."
    )

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> SentStream:
        """The stream as values; of spec tags of one name the last counts."""
        meta: Meta = data["metadata"] or NO_META
        spec = data["spec"] or {}
        tags = {tag.name: tag for tag in spec.get("tags") or ()}
        desired = DesiredStream(
            labels=meta.labels,
            annotations=meta.annotations,
            generate_name=meta.generate_name,
            finalizers=meta.finalizers,
            owners=meta.owners,
            local_lookup=bool((spec.get("lookupPolicy") or {}).get("local")),
            source_repository=spec.get("dockerImageRepository") or "",
            tags=tuple(tags.values()),
        )
        return SentStream(meta, desired, dict((data["status"] or {}).get("tags") or ()))


def tag_reference_json(tag: TagReference) -> dict[str, Any]:
    """A spec tag as the API shows it."""
    shown: dict[str, Any] = {"name": tag.name, "annotations": tag.annotations}
    if tag.source is not None:
        source = tag.source
        shown["from"] = {"kind": source.kind, "name": source.name} | (
            {"namespace": source.namespace} if source.namespace else {}
        )
    if tag.reference:
        shown["reference"] = True
    shown["generation"] = tag.generation
    policy: dict[str, Any] = {}
    if tag.insecure:
        policy["insecure"] = True
    if tag.scheduled:
        policy["scheduled"] = True
    policy["importMode"] = tag.import_mode
    shown["importPolicy"] = policy
    shown["referencePolicy"] = {"type": tag.reference_policy}
    return shown


def tag_event_json(entry: TagEvent) -> dict[str, Any]:
    """An entry of a history as the API shows it."""
    return {
        "created": print_time(entry.created),
        "dockerImageReference": entry.reference,
        "image": entry.image,
        "generation": entry.generation,
    }


def condition_json(condition: TagEventCondition) -> dict[str, Any]:
    """A condition as the API shows it."""
    return {
        "type": condition.type,
        "status": condition.status,
        "lastTransitionTime": print_time(condition.last_transition_time),
        "reason": condition.reason,
        "message": condition.message,
        "generation": condition.generation,
    }


class _Entry(Struct, gc=False):
    """An entry of a history as the API shows it; made and encoded at half the cost of a dictionary."""

    created: str | None
    dockerImageReference: str
    image: str
    generation: int


_encode_entries = msgspec.json.Encoder().encode


def entries_text(base: str, rows: Iterable[EntryRow]) -> bytes:
    """The entries of a history as JSON, with commas between; `base` is the default repository."""
    entries = [
        _Entry(print_time(created), f"{base}@{image}" if reference is None else reference, image, generation)
        for created, reference, image, generation in rows
    ]
    return _encode_entries(entries)[1:-1]


def history_json(
    tag: str, items: Iterable[TagEvent] | bytes, conditions: Sequence[TagEventCondition]
) -> dict[str, Any]:
    """The history of one tag as the API shows it; entries that are text already stay it."""
    if isinstance(items, bytes):
        shown: dict[str, Any] = {"tag": tag, "items": orjson.Fragment(b"[%b]" % items) if items else None}
    else:
        shown = {"tag": tag, "items": [tag_event_json(item) for item in items] or None}
    if conditions:
        shown["conditions"] = [condition_json(condition) for condition in conditions]
    return shown


def own_repository(stream: ImageStream, registry: str) -> str:
    """status.dockerImageRepository: the stream's place in the internal registry, or what its spec names."""
    return f"{registry}/{stream.namespace}/{stream.name}" if registry else stream.source_repository


def image_stream_json(
    stream: ImageStream, histories: Mapping[str, Iterable[TagEvent] | bytes], registry: str, external: str
) -> dict[str, Any]:
    """A stream as the API shows it; `registry` and `external` are the registries' hosts, "" without."""
    spec: dict[str, Any] = {"lookupPolicy": {"local": stream.local_lookup}}
    if stream.source_repository:
        spec["dockerImageRepository"] = stream.source_repository
    if stream.spec_tags:
        spec["tags"] = [tag_reference_json(tag) for tag in stream.spec_tags.values()]
    status: dict[str, Any] = {"dockerImageRepository": own_repository(stream, registry)}
    if external:
        status["publicDockerImageRepository"] = f"{external}/{stream.namespace}/{stream.name}"
    tags = [
        history_json(name, histories.get(name, ()), tag.conditions)
        for name, tag in sorted(stream.tags.items())
        if tag.conditions or histories.get(name)
    ]
    if tags:
        status["tags"] = tags
    return {"metadata": stream_meta(stream), "spec": spec, "status": status}

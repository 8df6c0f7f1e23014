"""ImageStream, and the tag references and histories that other kinds show too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from marshmallow import post_load
from msgspec import Struct

from api.schemas.fields import Flag, Many, One, Text, TextMap, Time, Whole, print_time
from api.schemas.meta import NO_META, Meta, ObjectMetaSchema, Wire, stream_meta
from imagestream_es.domain.image_stream import DesiredStream, ImageStream
from imagestream_es.domain.tags import (
    LEGACY,
    SOURCE,
    ObjectReference,
    TagEvent,
    TagEventCondition,
    TagReference,
)
from imagestream_es.projections.past import StreamView

History = tuple[tuple[TagEvent, ...], tuple[TagEventCondition, ...]]


class ObjectReferenceSchema(Wire):
    """A reference to another object"""

    kind = Text()
    namespace = Text()
    name = Text()
    uid = Text()
    apiVersion = Text()
    resourceVersion = Text()
    fieldPath = Text()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> ObjectReference:
        """The reference as a value."""
        return ObjectReference(data["kind"] or "", data["name"] or "", data["namespace"] or "")


class TagImportPolicySchema(Wire):
    """How images are imported into a tag"""

    insecure = Flag()
    scheduled = Flag()
    importMode = Text()


class TagReferencePolicySchema(Wire):
    """How pull specs are made for a tag"""

    type = Text()


class TagReferenceSchema(Wire):
    """spec.tags[]"""

    name = Text()
    annotations = TextMap(load_default=None)
    source = One(ObjectReferenceSchema, data_key="from")
    reference = Flag()
    generation = Whole(load_default=None)
    importPolicy = One(TagImportPolicySchema)
    referencePolicy = One(TagReferencePolicySchema)

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
    """status.tags[].items[]"""

    created = Time()
    dockerImageReference = Text()
    image = Text()
    generation = Whole()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> TagEvent:
        """The entry as a value."""
        return TagEvent(
            data["created"], data["dockerImageReference"] or "", data["image"] or "", data["generation"] or 0
        )


class TagEventConditionSchema(Wire):
    """status.tags[].conditions[]"""

    type = Text()
    status = Text()
    lastTransitionTime = Time()
    reason = Text()
    message = Text()
    generation = Whole()

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
    """status.tags[]"""

    tag = Text()
    items = Many(TagEventSchema)
    conditions = Many(TagEventConditionSchema)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> tuple[str, History]:
        """The tag's name with entries and conditions."""
        return data["tag"] or "", (tuple(data["items"] or ()), tuple(data["conditions"] or ()))


class ImageLookupPolicySchema(Wire):
    """spec.lookupPolicy"""

    local = Flag()


class ImageStreamSpecSchema(Wire):
    """spec"""

    lookupPolicy = One(ImageLookupPolicySchema)
    dockerImageRepository = Text()
    tags = Many(TagReferenceSchema, metadata={"merge_key": "name"})


class ImageStreamStatusSchema(Wire):
    """status"""

    dockerImageRepository = Text()
    publicDockerImageRepository = Text()
    tags = Many(NamedTagEventListSchema, metadata={"merge_key": "tag"})


class SentStream(Struct, frozen=True):
    """A stream as a client sent it: metadata, what it is to be, and the histories of its status."""

    meta: Meta
    desired: DesiredStream
    histories: dict[str, History]


class ImageStreamSchema(Wire):
    """ImageStream"""

    kind = Text()
    apiVersion = Text()
    metadata = One(ObjectMetaSchema)
    spec = One(ImageStreamSpecSchema)
    status = One(ImageStreamStatusSchema)

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


def history_json(tag: str, items: Iterable[TagEvent], conditions: Sequence[TagEventCondition]) -> dict[str, Any]:
    """The history of one tag as the API shows it."""
    shown: dict[str, Any] = {"tag": tag, "items": [tag_event_json(item) for item in items] or None}
    if conditions:
        shown["conditions"] = [condition_json(condition) for condition in conditions]
    return shown


def own_repository(stream: ImageStream, registry: str) -> str:
    """status.dockerImageRepository: the stream's place in the internal registry, or what its spec names."""
    return f"{registry}/{stream.namespace}/{stream.name}" if registry else stream.source_repository


def image_stream_json(view: StreamView, registry: str, external: str) -> dict[str, Any]:
    """A stream as the API shows it; `registry` and `external` are the registries' hosts, "" without."""
    stream = view.stream
    spec: dict[str, Any] = {"lookupPolicy": {"local": stream.local_lookup}}
    if stream.source_repository:
        spec["dockerImageRepository"] = stream.source_repository
    if stream.spec_tags:
        spec["tags"] = [tag_reference_json(tag) for tag in stream.spec_tags.values()]
    status: dict[str, Any] = {"dockerImageRepository": own_repository(stream, registry)}
    if external:
        status["publicDockerImageRepository"] = f"{external}/{stream.namespace}/{stream.name}"
    histories = [
        history_json(name, view.items.get(name, ()), tag.conditions)
        for name, tag in sorted(stream.tags.items())
        if tag.conditions or view.items.get(name)
    ]
    if histories:
        status["tags"] = histories
    return {"metadata": stream_meta(stream), "spec": spec, "status": status}

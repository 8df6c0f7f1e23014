"""Object metadata, as every kind has it."""

from __future__ import annotations

from typing import Any

from marshmallow import EXCLUDE, Schema, post_load
from msgspec import Struct

from api.schemas.fields import AnyObject, Flag, Many, Text, TextList, TextMap, Time, Whole, print_time
from imagestream_es.domain.errors import FieldProblem, Problem
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import ImageStream
from imagestream_es.domain.references import (
    annotation_key_problems,
    annotations_size_problem,
    label_value_problems,
    qualified_name_problems,
)


class Meta(Struct, frozen=True, kw_only=True):
    """What a client sent as metadata."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owners: tuple[dict[str, Any], ...] = ()
    managed_fields: tuple[dict[str, Any], ...] = ()


class Wire(Schema):
    """A kind of object; what it does not know is passed over."""

    class Meta:
        unknown = EXCLUDE

    error_messages = {"type": "cannot unmarshal a value of another type into an object"}  # noqa: RUF012 (marshmallow declares it an instance variable)


class OwnerReferenceSchema(Wire):
    """metadata.ownerReferences[]"""

    apiVersion = Text()
    kind = Text()
    name = Text()
    uid = Text()
    controller = Flag(load_default=None)
    blockOwnerDeletion = Flag(load_default=None)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Only what was given."""
        return {key: value for key, value in data.items() if value is not None}


class ManagedFieldsEntrySchema(Wire):
    """metadata.managedFields[]"""

    manager = Text()
    operation = Text()
    apiVersion = Text()
    time = Text()
    fieldsType = Text()
    fieldsV1 = AnyObject()
    subresource = Text()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Only what was given."""
        return {key: value for key, value in data.items() if value not in (None, "")}


class ObjectMetaSchema(Wire):
    """metadata"""

    name = Text()
    generateName = Text()
    namespace = Text()
    selfLink = Text()
    uid = Text()
    resourceVersion = Text()
    generation = Whole()
    creationTimestamp = Time()
    deletionTimestamp = Time()
    deletionGracePeriodSeconds = Whole(load_default=None)
    labels = TextMap()
    annotations = TextMap()
    ownerReferences = Many(OwnerReferenceSchema)
    finalizers = TextList()
    managedFields = Many(ManagedFieldsEntrySchema)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Meta:
        """The metadata as a value."""
        return Meta(
            name=data["name"] or "",
            generate_name=data["generateName"] or "",
            namespace=data["namespace"] or "",
            uid=data["uid"] or "",
            resource_version=data["resourceVersion"] or "",
            labels=data["labels"] or {},
            annotations=data["annotations"] or {},
            finalizers=data["finalizers"] or (),
            owners=tuple(data["ownerReferences"] or ()),
            managed_fields=tuple(data["managedFields"] or ()),
        )


NO_META = Meta()


def problems_of(meta: Meta, where: str = "metadata") -> list[FieldProblem]:
    """What breaks the rules for labels, annotations, finalizers and owner references."""
    problems = []
    for key, value in meta.labels.items():
        problems += [
            FieldProblem(Problem.INVALID, f"{where}.labels", text, key) for text in qualified_name_problems(key)
        ]
        problems += [
            FieldProblem(Problem.INVALID, f"{where}.labels", text, value) for text in label_value_problems(value)
        ]
    for key in meta.annotations:
        problems += [
            FieldProblem(Problem.INVALID, f"{where}.annotations", text, key) for text in annotation_key_problems(key)
        ]
    too_long = annotations_size_problem(meta.annotations)
    if too_long:
        problems.append(FieldProblem(Problem.INVALID, f"{where}.annotations", too_long, ""))
    for name in meta.finalizers:
        problems += [
            FieldProblem(Problem.INVALID, f"{where}.finalizers", text, name) for text in qualified_name_problems(name)
        ]
    for index, owner in enumerate(meta.owners):
        problems += [
            FieldProblem(Problem.INVALID, f"{where}.ownerReferences[{index}].{key}", "must not be empty", "")
            for key in ("apiVersion", "kind", "name", "uid")
            if not owner.get(key)
        ]
    return problems


def stream_meta(stream: ImageStream) -> dict[str, Any]:
    """The metadata of a stream as the API shows it."""
    meta: dict[str, Any] = {
        "name": stream.name,
        **({"generateName": stream.generate_name} if stream.generate_name else {}),
        "namespace": stream.namespace,
        "uid": stream.uid,
        "resourceVersion": str(stream.position),
        "generation": stream.generation,
        "creationTimestamp": print_time(stream.created),
    }
    if stream.deletion is not None:
        meta["deletionTimestamp"] = print_time(stream.deletion)
        meta["deletionGracePeriodSeconds"] = 0
    if stream.labels:
        meta["labels"] = stream.labels
    if stream.annotations:
        meta["annotations"] = stream.annotations
    if stream.owners:
        meta["ownerReferences"] = list(stream.owners)
    if stream.finalizers:
        meta["finalizers"] = list(stream.finalizers)
    return meta


def image_meta(image: Image, stored: dict[str, Any]) -> dict[str, Any]:
    """The metadata of an image as the API shows it; `stored` is what its document keeps of it."""
    meta: dict[str, Any] = {
        "name": image.name,
        "uid": image.uid,
        "resourceVersion": str(image.position),
        "creationTimestamp": print_time(image.created),
    }
    if image.deletion is not None:
        meta["deletionTimestamp"] = print_time(image.deletion)
        meta["deletionGracePeriodSeconds"] = 0
    return meta | stored


def kept_meta(meta: Meta) -> dict[str, Any]:
    """What a document keeps of the metadata that a client sent."""
    kept: dict[str, Any] = {}
    if meta.generate_name:
        kept["generateName"] = meta.generate_name
    if meta.labels:
        kept["labels"] = meta.labels
    if meta.annotations:
        kept["annotations"] = meta.annotations
    if meta.owners:
        kept["ownerReferences"] = list(meta.owners)
    if meta.finalizers:
        kept["finalizers"] = list(meta.finalizers)
    return kept

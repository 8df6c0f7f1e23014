"""Object metadata, as every kind has it."""

from __future__ import annotations

from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, post_load
from msgspec import Struct

from api.schemas.fields import AnyObject, Flag, Many, One, Text, TextList, TextMap, Time, TimeText, Whole, print_time
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


META = "io.k8s.apimachinery.pkg.apis.meta.v1"


class Wire(Schema):
    """A type of object; what it does not know is passed over.

    Documents of the API give it the name `package`.`title`, with its own name, less "Schema", where there is no
    title. They describe it by its docstring, and its fields by what their metadata holds:

    - `description`, for people; further words of OpenAPI and its `x-…` extensions are passed on as they are
    - `merge_key`: the field by which a strategic merge patch tells the objects of this list apart
    - `required`: a request without it is refused
    - `nullable`: answers may hold null
    - `definition`: the name of its type, where that is not one of the schemas
    """

    package: ClassVar[str] = "com.github.openshift.api.image.v1"
    title: ClassVar[str] = ""

    class Meta:
        unknown = EXCLUDE

    error_messages = {"type": "cannot unmarshal a value of another type into an object"}  # noqa: RUF012 (marshmallow declares it an instance variable)

    @classmethod
    def definition(cls) -> str:
        """The type's name in documents of the API."""
        return f"{cls.package}.{cls.title or cls.__name__.removesuffix('Schema')}"


class OwnerReferenceSchema(Wire):
    """An object, in the same namespace or without one, that another object depends on."""

    package = META

    apiVersion = Text("The owner's apiVersion.", metadata={"required": True})
    kind = Text("The owner's kind.", metadata={"required": True})
    name = Text("The owner's name.", metadata={"required": True})
    uid = Text("The owner's uid: a later object of the same name is not the owner.", metadata={"required": True})
    controller = Flag("Whether this is the one owner that manages the object.", load_default=None)
    blockOwnerDeletion = Flag(
        "Whether the owner has to wait for the object to go, when it is deleted in the foreground.", load_default=None
    )

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Only what was given."""
        return {key: value for key, value in data.items() if value is not None}


class ManagedFieldsEntrySchema(Wire):
    """The fields that one client has set in one way."""

    package = META

    manager = Text("The name that the client gave itself.")
    operation = Text(
        "How the fields were set: Apply is server-side apply, Update every other write.",
        metadata={"enum": ["Apply", "Update"]},
    )
    apiVersion = Text("The version of the API that the names of the fields belong to.")
    time = TimeText("When the entry last changed.")
    fieldsType = Text("The format of the set of fields: always FieldsV1.")
    fieldsV1 = AnyObject(
        "The set of fields, in the format that fieldsType names.",
        metadata={"definition": "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"},
    )
    subresource = Text("The subresource that was written; empty for the object itself.")

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Only what was given."""
        return {key: value for key, value in data.items() if value not in (None, "")}


class ObjectMetaSchema(Wire):
    """What every object has: its name, its version, and what tools and people note down with it."""

    package = META

    name = Text("The object's name, the only one of its kind in its namespace. It cannot be changed.")
    generateName = Text(
        "The beginning of a name. Where name is empty, the server adds five characters and answers with the name "
        "it made."
    )
    namespace = Text("The namespace that the object is in; empty for kinds of the whole cluster. It cannot be changed.")
    selfLink = Text("The object's path. Only answers below /oapi/v1 have it.")
    uid = Text(
        "Tells the object from all others, earlier ones of the same name included. Set by the server; a write "
        "that names another uid is refused."
    )
    resourceVersion = Text(
        "The version of the object, another one after every change. An update that brings it along is refused if "
        "somebody else was faster, and a watch can start from it. It has no other meaning for clients. Set by the "
        "server."
    )
    generation = Whole("Counts the changes of spec. Set by the server.")
    creationTimestamp = Time("When the object was created. Set by the server.", metadata={"nullable": True})
    deletionTimestamp = Time(
        "When the object was deleted, if it is still there because of its finalizers. Set by the server."
    )
    deletionGracePeriodSeconds = Whole(
        "How many seconds a deleted object had left to end by itself: 0. Set by the server.", load_default=None
    )
    labels = TextMap("Keys and short values by which objects are selected.", load_default=None)
    annotations = TextMap(
        "Keys and values of any kind that tools and people keep with the object, up to 256 KiB in all. Nothing is "
        "selected by them.",
        load_default=None,
    )
    ownerReferences = Many(
        OwnerReferenceSchema,
        "The objects that this one depends on.",
        load_default=None,
        metadata={"merge_key": "uid"},
    )
    finalizers = TextList(
        "Who has to agree before the object goes: a deleted object stays until all of them have taken their name "
        "off this list.",
        metadata={"x-kubernetes-patch-strategy": "merge", "x-kubernetes-list-type": "set"},
    )
    managedFields = Many(
        ManagedFieldsEntrySchema,
        "Which client has set which fields; server-side apply finds conflicts by it.",
        load_default=None,
    )

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


class KindSchema(Wire):
    """An object by itself, with what all kinds have.

    `example` is an object of the kind, which can be created as it stands if the kind can. `answer` is the name of
    the type that answers its creation, if that is not the object's own.
    """

    example: ClassVar[dict[str, Any]] = {}
    answer: ClassVar[str] = ""

    kind = Text("The kind of the object. A request may leave it out: the path tells it.")
    apiVersion = Text("The group and version of the kind. A request may leave it out: the path tells them.")
    metadata = One(ObjectMetaSchema, "Name, version and notes, as every object has them.")


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
    problems += [
        FieldProblem(Problem.INVALID, f"{where}.annotations", text, key)
        for key in meta.annotations
        for text in annotation_key_problems(key)
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
    if stream.managed:
        meta["managedFields"] = list(stream.managed)
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
    if meta.managed_fields:
        kept["managedFields"] = list(meta.managed_fields)
    return kept

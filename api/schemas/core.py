"""Namespace, Event and Secret: what clients meet of Kubernetes itself."""

from __future__ import annotations

from typing import ClassVar

from api.schemas.fields import One, Text, TextList, TextMap
from api.schemas.image_stream import ObjectReferenceSchema
from api.schemas.meta import KindSchema, Wire

CORE = "io.k8s.api.core.v1"


class NamespaceSpecSchema(Wire):
    """What a namespace is meant to be."""

    package = CORE

    finalizers = TextList("Who has to agree before the namespace goes.")


class NamespaceStatusSchema(Wire):
    """What a namespace is."""

    package = CORE

    phase = Text("Where it is in its life: always Active.")


class NamespaceSchema(KindSchema):
    """A room for names. Every name that a namespace may have is one, and none has to be created."""

    package = CORE
    example: ClassVar = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "demo"}}

    spec = One(NamespaceSpecSchema, "What the namespace is meant to be.")
    status = One(NamespaceStatusSchema, "What it is.")


class EventSchema(KindSchema):
    """Something that happened to an object, told by a cluster. This server has none to tell."""

    package = CORE

    involvedObject = One(ObjectReferenceSchema, "The object.")
    type = Text("Normal or Warning.")
    reason = Text("What happened, in one word for programs.")
    message = Text("What happened, for people.")


class SecretSchema(KindSchema):
    """Credentials, such as those for pulling images."""

    package = CORE

    type = Text("What the secret is for, such as kubernetes.io/dockerconfigjson.")
    data = TextMap("The content, in base64.", metadata={"additionalProperties": {"type": "string", "format": "byte"}})

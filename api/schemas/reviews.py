"""Reviews and User: who somebody is, and what they may do."""

from __future__ import annotations

from typing import ClassVar

from api.schemas.fields import Flag, Many, One, Text, TextList, TextMap
from api.schemas.meta import KindSchema, Wire

AUTHENTICATION = "io.k8s.api.authentication.v1"
AUTHORIZATION = "io.k8s.api.authorization.v1"


def _extra() -> TextMap:
    texts = {"type": "array", "items": {"type": "string"}}
    return TextMap("What else is known of the user.", metadata={"additionalProperties": texts})


class ResourceAttributesSchema(Wire):
    """An action on objects of the API."""

    package = AUTHORIZATION

    namespace = Text("The namespace; empty for the whole cluster.")
    verb = Text("The verb, such as get, list, watch, create, update, patch or delete; * for all of them.")
    group = Text("The group of the resource; * for all groups.")
    version = Text("The version of the resource.")
    resource = Text("The resource, such as imagestreams; * for all of them.")
    subresource = Text("The subresource, such as layers.")
    name = Text("The name of the object; empty for all objects.")


class NonResourceAttributesSchema(Wire):
    """An action on a path outside the resources."""

    package = AUTHORIZATION

    path = Text("The path, such as /version.")
    verb = Text("The HTTP method, in small letters.")


class SelfSubjectAccessReviewSpecSchema(Wire):
    """The action that is asked about: one of the two sorts."""

    package = AUTHORIZATION

    resourceAttributes = One(
        ResourceAttributesSchema, "The action, on objects of the API.", metadata={"nullable": True}
    )
    nonResourceAttributes = One(
        NonResourceAttributesSchema, "The action, on a path outside the resources.", metadata={"nullable": True}
    )


class SubjectAccessReviewSpecSchema(SelfSubjectAccessReviewSpecSchema):
    """The action that is asked about, and who would do it."""

    user = Text("The name of the user.")
    groups = TextList("The groups of the user.")
    uid = Text("The uid of the user.")
    extra = _extra()


class SubjectAccessReviewStatusSchema(Wire):
    """Whether the action is allowed."""

    package = AUTHORIZATION

    allowed = Flag("Whether it is allowed.")
    denied = Flag("Whether it is forbidden whatever else is allowed.")
    reason = Text("Why, for people.")
    evaluationError = Text("What went wrong while it was looked into.")


_ASKED: dict[str, object] = {
    "resourceAttributes": {
        "namespace": "demo",
        "verb": "update",
        "group": "image.openshift.io",
        "resource": "imagestreams",
        "subresource": "layers",
        "name": "web",
    }
}


class SelfSubjectAccessReviewSchema(KindSchema):
    """Asks whether the caller may do something. Nothing is stored: the answer is the review with its status."""

    package = AUTHORIZATION
    example: ClassVar = {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": _ASKED,
    }

    spec = One(SelfSubjectAccessReviewSpecSchema, "The question.", metadata={"required": True})
    status = One(SubjectAccessReviewStatusSchema, "The answer.")


class SubjectAccessReviewSchema(KindSchema):
    """Asks whether somebody may do something. Registries ask it before they let an image be pulled or pushed."""

    package = AUTHORIZATION
    example: ClassVar = {
        "kind": "SubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {"user": "jane", "groups": ["developers"], **_ASKED},
    }

    spec = One(SubjectAccessReviewSpecSchema, "The question.", metadata={"required": True})
    status = One(SubjectAccessReviewStatusSchema, "The answer.")


class LocalSubjectAccessReviewSchema(SubjectAccessReviewSchema):
    """Asks whether somebody may do something in the namespace. Nothing is stored."""

    example: ClassVar = {
        "kind": "LocalSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {"user": "jane", "groups": ["developers"], **_ASKED},
    }


class SelfSubjectRulesReviewSpecSchema(Wire):
    """Where the rules are asked for."""

    package = AUTHORIZATION

    namespace = Text("The namespace.")


class ResourceRuleSchema(Wire):
    """Actions on objects of the API: every verb on every resource named."""

    package = AUTHORIZATION

    verbs = TextList("The verbs; * for all of them.")
    apiGroups = TextList("The groups; * for all of them.")
    resources = TextList("The resources; * for all of them.")
    resourceNames = TextList("The names of the objects; empty for all of them.")


class NonResourceRuleSchema(Wire):
    """Actions on paths outside the resources."""

    package = AUTHORIZATION

    verbs = TextList("The HTTP methods, in small letters; * for all of them.")
    nonResourceURLs = TextList("The paths; a * at the end stands for anything.")


class SubjectRulesReviewStatusSchema(Wire):
    """What is allowed."""

    package = AUTHORIZATION

    resourceRules = Many(ResourceRuleSchema, "The actions on objects of the API.")
    nonResourceRules = Many(NonResourceRuleSchema, "The actions on paths outside the resources.")
    incomplete = Flag("Whether there may be more that is allowed.")
    evaluationError = Text("What went wrong while it was looked into.")


class SelfSubjectRulesReviewSchema(KindSchema):
    """Asks what the caller may do in a namespace."""

    package = AUTHORIZATION
    example: ClassVar = {
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {"namespace": "demo"},
    }

    spec = One(SelfSubjectRulesReviewSpecSchema, "The question.", metadata={"required": True})
    status = One(SubjectRulesReviewStatusSchema, "The answer.")


class UserInfoSchema(Wire):
    """Who somebody is."""

    package = AUTHENTICATION

    username = Text("The name of the user.")
    uid = Text("The uid of the user.")
    groups = TextList("The groups of the user.")
    extra = _extra()


class SelfSubjectReviewStatusSchema(Wire):
    """The answer to who the caller is."""

    package = AUTHENTICATION

    userInfo = One(UserInfoSchema, "The caller.")


class SelfSubjectReviewSchema(KindSchema):
    """Asks who the caller is."""

    package = AUTHENTICATION
    example: ClassVar = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}

    status = One(SelfSubjectReviewStatusSchema, "The answer.")


class UserSchema(KindSchema):
    """A user, as OpenShift shows them. The name ~ is the caller's own."""

    package = "com.github.openshift.api.user.v1"
    example: ClassVar = {"kind": "User", "apiVersion": "user.openshift.io/v1", "metadata": {"name": "~"}}

    fullName = Text("The name of the person.")
    identities = TextList("The identities of the user.", metadata={"nullable": True})
    groups = TextList("The groups of the user.")

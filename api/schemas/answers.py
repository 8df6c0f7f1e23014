"""Types that every Kubernetes API takes or answers beside its kinds, described for documents of the API."""

from __future__ import annotations

from api.schemas.fields import AnyObject, Flag, Many, One, Text, TextList, Whole
from api.schemas.meta import META, Wire


class ListMetaSchema(Wire):
    """What a list has beside its objects."""

    package = META

    resourceVersion = Text("The version of the list. A watch that starts from it misses nothing.")
    continue_ = Text("Asks for the next page, as the parameter continue. Empty on the last page.", data_key="continue")
    remainingItemCount = Whole("How many objects the following pages hold, where that is known.")
    selfLink = Text("The list's path. Only answers below /oapi/v1 have it.")


class StatusCauseSchema(Wire):
    """One of the causes of a failure."""

    package = META

    reason = Text("What is wrong, in one word for programs.")
    message = Text("What is wrong, for people.")
    field = Text("The field that is wrong, as a path such as spec.tags[latest].from.kind.")


class StatusDetailsSchema(Wire):
    """What an answer is about."""

    package = META

    name = Text("The name of the object.")
    group = Text("The group of its kind.")
    kind = Text("Its kind, or the resource that was asked for.")
    uid = Text("Its uid.")
    causes = Many(StatusCauseSchema, "The causes of the failure.")
    retryAfterSeconds = Whole("After how many seconds the request may be tried again.")


class StatusSchema(Wire):
    """The answer to a request that failed, and to some that have no object to answer."""

    package = META

    kind = Text("Status.")
    apiVersion = Text("v1.")
    metadata = One(ListMetaSchema, "Empty.")
    status = Text("Whether the request succeeded.", metadata={"enum": ["Success", "Failure"]})
    message = Text("What happened, for people.")
    reason = Text("Why it failed, in one word for programs, such as NotFound or Conflict.")
    details = One(StatusDetailsSchema, "What it is about.")
    code = Whole("The HTTP status.", metadata={"format": "int32"})


class PreconditionsSchema(Wire):
    """What must be so of an object for a request to be carried out."""

    package = META

    uid = Text("The uid that the object must have.")
    resourceVersion = Text("The version that the object must have.")


class DeleteOptionsSchema(Wire):
    """How an object is to be deleted."""

    package = META

    kind = Text("DeleteOptions.")
    apiVersion = Text("v1, or the apiVersion of the object.")
    dryRun = TextList("All: check everything and delete nothing.")
    preconditions = One(PreconditionsSchema, "What must be so of the object; if it is not, the answer is a conflict.")
    gracePeriodSeconds = Whole("Accepted, and without effect: objects go at once.", metadata={"nullable": True})
    orphanDependents = Flag("Accepted, and without effect: nothing depends on the objects.")
    propagationPolicy = Text("Accepted, and without effect: nothing depends on the objects.")


class APIResourceSchema(Wire):
    """A resource of the API, and what can be done with it."""

    package = META

    name = Text("The resource's name in paths; RESOURCE/SUBRESOURCE for a subresource.")
    singularName = Text("The name of one object.")
    namespaced = Flag("Whether the objects are in namespaces.")
    kind = Text("The kind of the objects.")
    verbs = TextList("What can be done with them.")
    shortNames = TextList("Short names for the command line.")
    categories = TextList("Groups of resources that the command line asks for together, such as all.")


class APIResourceListSchema(Wire):
    """The resources of a group and version."""

    package = META

    kind = Text("APIResourceList.")
    apiVersion = Text("v1.")
    groupVersion = Text("The group and version.")
    resources = Many(APIResourceSchema, "The resources.")


class WatchEventSchema(Wire):
    """One line of a watch."""

    package = META

    type = Text(
        "What happened to the object. A BOOKMARK only tells a version, and an ERROR ends the watch.",
        metadata={"enum": ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]},
    )
    object = AnyObject(
        "The object as it was then; with ERROR a Status.",
        metadata={"definition": "io.k8s.apimachinery.pkg.runtime.RawExtension"},
    )

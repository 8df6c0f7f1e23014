"""Every group of the API and the resources in it: routes, discovery and documents follow from this."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from api.call import GROUP_DOOR, LEGACY_DOOR, Door
from api.resource import Resource
from api.resources.diffs import DIFFS
from api.resources.image_stream_images import IMAGE_STREAM_IMAGES
from api.resources.image_stream_imports import IMAGE_STREAM_IMPORTS
from api.resources.image_stream_mappings import IMAGE_STREAM_MAPPINGS
from api.resources.image_stream_tags import IMAGE_STREAM_TAGS
from api.resources.image_streams import IMAGE_STREAMS
from api.resources.image_tags import IMAGE_TAGS
from api.resources.image_usages import IMAGE_USAGES
from api.resources.images import IMAGE_SIGNATURES, IMAGES
from api.resources.namespaces import EVENTS, NAMESPACES
from api.resources.reviews import (
    LOCAL_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_REVIEWS,
    SELF_SUBJECT_RULES_REVIEWS,
    SUBJECT_ACCESS_REVIEWS,
    USERS,
)
from api.resources.rollbacks import ROLLBACKS
from api.resources.tag_changes import TAG_CHANGES


def _door(group: str) -> Door:
    return Door(f"/apis/{group}/v1", group, f"{group}/v1")


CORE_DOOR = Door("/api/v1", "", "v1")

IMAGE_RESOURCES = (
    IMAGES,
    IMAGE_SIGNATURES,
    IMAGE_STREAM_IMAGES,
    IMAGE_STREAM_IMPORTS,
    IMAGE_STREAM_MAPPINGS,
    IMAGE_STREAMS,
    IMAGE_STREAM_TAGS,
    IMAGE_TAGS,
)

UNGROUPED_STREAMS = dataclasses.replace(
    IMAGE_STREAMS, name="ungroupedimagestreams", short_names=(), categories=(), subresources={}
)
"""Image streams for manifests of the time before the group, which say `apiVersion: v1`. kubectl looks for such a
kind here only; the name of its own keeps `imagestreams` what it is."""

GROUPS: Mapping[Door, Sequence[Resource]] = {
    CORE_DOOR: (EVENTS, NAMESPACES, UNGROUPED_STREAMS),
    GROUP_DOOR: IMAGE_RESOURCES,
    LEGACY_DOOR: tuple(resource for resource in IMAGE_RESOURCES if resource.legacy),
    _door("authentication.k8s.io"): (SELF_SUBJECT_REVIEWS,),
    _door("authorization.k8s.io"): (
        LOCAL_SUBJECT_ACCESS_REVIEWS,
        SELF_SUBJECT_ACCESS_REVIEWS,
        SELF_SUBJECT_RULES_REVIEWS,
        SUBJECT_ACCESS_REVIEWS,
    ),
    _door("history.imagestream-es.io"): (DIFFS, IMAGE_USAGES, ROLLBACKS, TAG_CHANGES),
    _door("user.openshift.io"): (USERS,),
}

"""What happened to a tag, in one word: the vocabulary in which histories are told and asked for.

It is decided here and once, when an event is folded. Only whether a tag went back to an image of its past takes
more than the state before: the view of the histories knows that, and makes `REVERTED` of a `MOVED`.
"""

from __future__ import annotations

from imagestream_es.domain.image_stream import (
    CONDITIONS_SET,
    DROPPED,
    FOLLOWED,
    IMPORT_FAILED,
    IMPORTED,
    REPLACED,
    SPEC_REMOVED,
    SPEC_SET,
    TagChange,
)
from imagestream_es.domain.tags import same_target

CREATED = "Created"
MOVED = "Moved"
REVERTED = "Reverted"
REFRESHED = "Refreshed"
WITH_LEADER = "Followed"
FROM_OUTSIDE = "Imported"
NOT_IMPORTED = "ImportFailed"
DELETED = "Deleted"
TOLD = "SpecSet"
UNTOLD = "SpecRemoved"

ACTIONS = (
    CREATED,
    MOVED,
    REVERTED,
    REFRESHED,
    WITH_LEADER,
    FROM_OUTSIDE,
    NOT_IMPORTED,
    DELETED,
    TOLD,
    UNTOLD,
)
"""Every action there is."""

_OF_KIND = {
    DROPPED: DELETED,
    IMPORT_FAILED: NOT_IMPORTED,
    SPEC_SET: TOLD,
    SPEC_REMOVED: UNTOLD,
    CONDITIONS_SET: None,
}


def action_of(change: TagChange) -> str | None:
    """The action of a change; None if neither the image nor the spec of the tag is another: a history was pruned."""
    before, head = change.before, change.head
    if change.kind in _OF_KIND:
        return _OF_KIND[change.kind]
    if head is None:
        return DELETED if before is not None else None
    if change.kind == REPLACED and same_target(before, head):
        return None
    if before is not None and before.image == head.image and (head.image or before.reference == head.reference):
        return REFRESHED
    if change.kind == FOLLOWED:
        return WITH_LEADER
    if change.kind == IMPORTED:
        return FROM_OUTSIDE
    return CREATED if before is None else MOVED

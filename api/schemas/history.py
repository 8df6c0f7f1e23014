"""TagChange, ImageUsage and Diff: what became of tags, in answers alone."""

from __future__ import annotations

from typing import Any

from api.schemas.fields import Flag, Many, One, Text, TimeText, Whole, print_moment, print_time
from api.schemas.meta import KindSchema, Wire
from imagestream_es.application.history import Difference, Edge, PastChange, Usage
from imagestream_es.domain.actions import ACTIONS
from imagestream_es.domain.past import Target

HISTORY = "io.imagestream-es.history.v1"


class TargetSchema(Wire):
    """What a tag names."""

    package = HISTORY

    image = Text("The name of the image; empty for a tag that only refers to a pull spec.")
    dockerImageReference = Text("The pull spec.")


class CauseSchema(Wire):
    """What a change came from."""

    package = HISTORY

    event = Text("The event of the log that holds the change. It may hold others.")
    door = Text("The kind of entrance that the request came through.", metadata={"example": "api"})
    request = Text("The id of the request, as its answer told it in the header Audit-Id.")
    tag = Text("The tag that was followed; only with the action Followed.")


class TagChangeSchema(KindSchema):
    """One change of a tag: who did what, when and why, and what the tag named before and afterwards.

    Changes stay for ever, also when the tag or its stream is gone. Field selectors ask for those of a stream, tag,
    actor, action or image.
    """

    package = HISTORY

    position = Whole("The position in the log: the state that it led to can be read with the parameter asOf.")
    time = TimeText("The time of the position: that of the event, unless an earlier one has a later time.")
    stream = Text("The name of the stream.")
    tag = Text("The name of the tag.")
    action = Text(
        "What was done. Reverted: the tag names an image again that it named before. Refreshed: it names the same "
        "image in another way. SpecSet and SpecRemoved: only what it is meant to be was changed.",
        metadata={"enum": list(ACTIONS)},
    )
    from_ = One(TargetSchema, "What the tag named before, if anything.", data_key="from")
    to = One(TargetSchema, "What it named afterwards, if anything.")
    actor = Text("Who did it: the name while it is known, else the opaque id.")
    actorUID = Text("The opaque id of who did it.")
    impersonator = Text("Who acted as the actor, if anybody did.")
    reason = Text("Why, in the words of who did it.")
    cause = One(CauseSchema, "What the change came from.")
    folded = Flag("Whether the history that the stream shows has the change in one entry with the one before.")


class EdgeSchema(Wire):
    """A place in the log."""

    package = HISTORY

    position = Whole("The position.")
    time = TimeText("The time of the position.")


class ImageUsageSchema(KindSchema):
    """A time in which a tag named an image. Ask for an image: with the field selector image, or with the parameter
    image, which can be repeated.
    """

    package = HISTORY

    image = Text("The name of the image.")
    stream = Text("The name of the stream.")
    tag = Text("The name of the tag.")
    since = One(EdgeSchema, "From when on the tag named it, this position included.")
    until = One(EdgeSchema, "Until when, this position not included; none while it does.")
    putBy = Text("Who let the tag name it.")
    removedBy = Text("Who let it name something else, or nothing.")


class DiffSchema(KindSchema):
    """A tag that names something else at one moment than at another. Ask with the field selectors from and to, which
    are positions in the log or times; without to, it is now.
    """

    package = HISTORY

    stream = Text("The name of the stream.")
    tag = Text("The name of the tag.")
    change = Text("What became of it.", metadata={"enum": ["Added", "Removed", "Moved"]})
    from_ = One(TargetSchema, "What the tag named at the one moment, if anything.", data_key="from")
    to = One(TargetSchema, "What it named at the other, if anything.")
    changes = Many(TagChangeSchema, "All that was done to the tag between them, in the order of the log.")


def usage_json(usage: Usage) -> dict[str, Any]:
    """A usage in wire shape."""
    position, slot = usage.since.place
    return {
        "metadata": {
            "name": f"{position}-{slot}",
            "namespace": usage.namespace,
            "resourceVersion": str(position if usage.until is None else usage.until.place[0]),
            "creationTimestamp": print_time(usage.since.time // 1000),
        },
        "image": usage.image,
        "stream": usage.stream,
        "tag": usage.tag,
        "since": _edge_json(usage.since),
        **({"until": _edge_json(usage.until)} if usage.until else {}),
        "putBy": usage.since.actor.name,
        **({"removedBy": usage.until.actor.name} if usage.until else {}),
    }


def _edge_json(edge: Edge) -> dict[str, Any]:
    return {"position": edge.place[0], "time": print_moment(edge.time)}


def difference_json(found: Difference, *, backwards: bool) -> dict[str, Any]:
    """A difference in wire shape, seen from the later moment if `backwards`."""
    before, after = (found.after, found.before) if backwards else (found.before, found.after)
    last = found.changes[-1]
    return {
        "metadata": {
            "name": f"{found.stream}:{found.tag}",
            "namespace": found.namespace,
            "resourceVersion": str(last.place[0]),
            "creationTimestamp": print_time(last.time // 1000),
        },
        "stream": found.stream,
        "tag": found.tag,
        "change": "Moved" if before and after else "Added" if after else "Removed",
        **({"from": target_json(before)} if before else {}),
        **({"to": target_json(after)} if after else {}),
        "changes": [tag_change_json(change) for change in found.changes],
    }


def change_name(change: PastChange) -> str:
    """The name of a change, which no other has."""
    position, slot = change.place
    return f"{position}-{slot}"


def tag_change_json(change: PastChange) -> dict[str, Any]:
    """A change in wire shape."""
    position, _ = change.place
    cause = {"event": change.cause.event, "door": change.cause.door, "request": change.cause.request}
    if change.cause.leader:
        cause["tag"] = change.cause.leader
    return {
        "metadata": {
            "name": change_name(change),
            "namespace": change.namespace,
            "resourceVersion": str(position),
            "creationTimestamp": print_time(change.time // 1000),
        },
        "position": position,
        "time": print_moment(change.time),
        "stream": change.stream,
        "tag": change.tag,
        "action": change.action,
        **({"from": target_json(change.before)} if change.before else {}),
        **({"to": target_json(change.after)} if change.after else {}),
        "actor": change.actor.name,
        "actorUID": change.actor.id,
        **({"impersonator": change.impersonator.name} if change.impersonator else {}),
        "reason": change.reason,
        "cause": cause,
        "folded": change.folded,
    }


def target_json(target: Target) -> dict[str, Any]:
    """What a tag names, in wire shape."""
    return {"image": target.image, "dockerImageReference": target.reference}

"""TagChange, ImageUsage and Diff: what became of tags, in answers alone."""

from __future__ import annotations

from typing import Any

from api.schemas.fields import Flag, One, Text, Time, TimeText, Whole, print_moment, print_time
from api.schemas.meta import KindSchema, Wire
from imagestream_es.application.history import PastChange
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


class HistoryTimeSchema(Wire):
    """A place in the log."""

    package = HISTORY

    position = Whole("The position.")
    time = Time("The time of the position.")


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

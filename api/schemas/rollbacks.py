"""Rollback."""

from __future__ import annotations

from typing import Any, ClassVar

from api.schemas.fields import One, Text, TextList, Whole
from api.schemas.history import HISTORY, TargetSchema
from api.schemas.image import EXAMPLE_DIGEST
from api.schemas.meta import KindSchema, Wire
from imagestream_es.application.rollbacks import RolledBack
from imagestream_es.domain.past import Target


class RollbackSpecSchema(Wire):
    """Which tag, and which of the images that it named: one of toPosition, changesAgo and toImage."""

    package = HISTORY

    stream = Text("The name of the stream.", metadata={"required": True})
    tag = Text("The name of the tag.", metadata={"required": True})
    reason = Text("Why, in at most 1024 characters; kept with the change for ever.")
    expectedImage = Text("The image that the tag must name now, as a whole digest; else it is refused with 412.")
    toPosition = Whole(
        "Go back to what the tag named at this position of the log.", load_default=None, metadata={"nullable": True}
    )
    changesAgo = Whole(
        "Go back so many images. Times in which the tag had none do not count.",
        load_default=None,
        metadata={"nullable": True},
    )
    toImage = Text("Go back to this image, which the tag named at any time.")


class RollbackStatusSchema(Wire):
    """What came of a rollback; of a rehearsal, what would."""

    package = HISTORY

    from_ = One(TargetSchema, "What the tag named before, if anything.", data_key="from")
    to = One(TargetSchema, "What it names now.")
    restoredPosition = Whole("The position since when the tag had named that.")
    position = Whole("The position of the change; none if the tag named the image already, or nothing was stored.")
    followers = TextList("The tags that follow this one and move with it.")
    warnings = TextList("What will move the tag again.")


class RollbackSchema(KindSchema):
    """Moves a tag back to an image that it named before, with the tags that follow it. It is only created; with
    dryRun=All it tells what would happen.

    What the tag is meant to be stays as it is. A tag that was deleted comes back without it.
    """

    package = HISTORY
    example: ClassVar = {
        "kind": "Rollback",
        "apiVersion": "history.imagestream-es.io/v1",
        "metadata": {"name": "rollback"},
        "spec": {"stream": "web", "tag": "pushed", "toImage": EXAMPLE_DIGEST, "reason": "the next one crashes"},
    }

    spec = One(RollbackSpecSchema, "What to roll back, and how far.", metadata={"required": True})
    status = One(RollbackStatusSchema, "What came of it.")


def status_json(found: RolledBack, warnings: list[str], *, dry: bool) -> dict[str, Any]:
    """What came of a rollback, in wire shape."""
    status: dict[str, Any] = {} if found.before is None else {"from": _target(found.before)}
    status |= {"to": _target(found.after), "restoredPosition": found.restored}
    if found.position is not None and not dry:
        status["position"] = found.position
    return status | {"followers": list(found.followers)} | ({"warnings": warnings} if warnings else {})


def _target(target: Target) -> dict[str, Any]:
    return {"image": target.image, "dockerImageReference": target.reference}

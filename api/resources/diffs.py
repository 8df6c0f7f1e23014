"""diffs: the tags that name something else at one moment than at another."""

from __future__ import annotations

from typing import Any

from api.as_of import moment
from api.call import Call
from api.errors import Refusal
from api.listing import Selection
from api.resource import Fields, Resource
from api.schemas.history import DiffSchema, difference_json
from imagestream_es.application.queries import Listed
from imagestream_es.domain.past import Scope

FIELDS: Fields = {
    "from": lambda _: None,
    "to": lambda _: None,
    "stream": lambda item: str(item["stream"]),
    "tag": lambda item: str(item["tag"]),
    "change": lambda item: str(item["change"]),
}


def find(call: Call, at: int | None) -> Listed[dict[str, Any]]:
    """The tags that were added, removed or moved from the one moment to the other."""
    selection = Selection(call.args, FIELDS)
    ends = {name: selection.given(name) or call.args.get(name, "") for name in ("from", "to")}
    if not ends["from"]:
        example = "fieldSelector=from=2030-01-31T12:00:00Z,to=2030-02-01T12:00:00Z"
        raise Refusal(400, f"diffs are those between two moments: say from which one, as in {example}")
    now = call.services.history.head()[0] if at is None else at
    first = moment(call, ends["from"], "from")[0]
    last = moment(call, ends["to"], "to")[0] if ends["to"] else now
    scope = Scope(
        namespace=call.namespace or selection.requires("metadata.namespace"),
        stream=selection.requires("stream"),
        tag=selection.requires("tag"),
        after=min(first, last),
        until=max(first, last),
    )
    found = call.services.history.differences(scope).found
    return Listed([difference_json(one, backwards=first > last) for one in found], now)


DIFFS = Resource(
    name="diffs",
    kind="Diff",
    legacy=False,
    find=find,
    fields=FIELDS,
    question="from=1",
    parameters={
        "from": "The one moment, a position or a time, where no field selector tells it.",
        "to": "The other; without one, now.",
    },
    schema=DiffSchema(),
)

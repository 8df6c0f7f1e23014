"""tagchanges: every change of a tag there ever was, whether the tag and its stream are still there or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from api.call import Answer, Call
from api.errors import Refusal
from api.listing import Page, Selection, answer_part, page_of
from api.resource import Fields, Resource
from api.schemas.history import TagChangeSchema, tag_change_json
from imagestream_es.application.history import PastChange, Window
from imagestream_es.application.queries import Listed
from imagestream_es.domain.errors import NotFound
from imagestream_es.domain.past import NOW, Place, Scope

NAME = "tagchanges"

_NAME = re.compile(r"(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,8})")


def _images(item: dict[str, Any]) -> tuple[str, ...]:
    return tuple(item[end]["image"] for end in ("from", "to") if end in item)


FIELDS: Fields = {
    "stream": lambda item: str(item["stream"]),
    "tag": lambda item: str(item["tag"]),
    "actor": lambda item: (item["actor"], item["actorUID"]),
    "action": lambda item: str(item["action"]),
    "image": _images,
}


def _scope(call: Call, selection: Selection, after: int = 0, until: int = NOW) -> Scope:
    wanted = {name: selection.requires(name) for name in ("stream", "tag", "action", "image")}
    namespace = call.namespace or selection.requires("metadata.namespace")
    return Scope(namespace=namespace, after=after, until=until, **wanted)


def _chosen(selection: Selection) -> Callable[[PastChange], dict[str, Any] | None]:
    def take(change: PastChange) -> dict[str, Any] | None:
        item = tag_change_json(change)
        return item if selection.chooses(item) else None

    return take


def _place(name: str) -> Place | None:
    """The place of the change of that name; None if no change has it."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None


def place_behind(page: Page) -> Place | None:
    """The place behind which a page begins, None for the first page. Raises Refusal."""
    if page.after is None:
        return None
    behind = _place(page.after[1])
    if behind is None:
        raise Refusal(400, "continue key is not valid: it must be sent back as it was given")
    return behind


def get(call: Call) -> Answer:
    """One change."""
    place = _place(call.name)
    if place is None:
        raise NotFound(NAME, call.name)
    position, slot = place
    scope = Scope(namespace=call.namespace, after=position - 1, until=position)
    window = Window(behind=(position, slot - 1), newest_first=False, limit=1)
    found = call.services.history.changes(scope, window, lambda change: change, call.at).found
    if not found or found[0].place != place:
        raise NotFound(NAME, call.name)
    return Answer(tag_change_json(found[0]))


def find(call: Call, at: int | None) -> Listed[dict[str, Any]]:
    """Every change, newest first."""
    selection = Selection(call.args, FIELDS)
    return call.services.history.changes(_scope(call, selection), Window(), _chosen(selection), at)


def listed(call: Call) -> Answer:
    """A page of changes, newest first unless the oldest are asked for."""
    page, selection = page_of(call), Selection(call.args, FIELDS)
    order = call.args.get("order", "") or "newest"
    if order not in ("newest", "oldest"):
        raise Refusal(400, f'order must be newest or oldest, not "{order[:40]}"')
    window = Window(place_behind(page), order == "newest", min(page.limit + 1, NOW) if page.limit else None)
    found = call.services.history.changes(_scope(call, selection), window, _chosen(selection), page.at)
    return answer_part(page, found.found, found.position)


def tells(call: Call, selection: Selection, after: int, until: int) -> Sequence[dict[str, Any]]:
    """The changes behind position `after` up to `until`, the oldest first."""
    scope = _scope(call, selection, after=after, until=until)
    return call.services.history.changes(scope, Window(newest_first=False), _chosen(selection)).found


TAG_CHANGES = Resource(
    name=NAME,
    kind="TagChange",
    short_names=("tc",),
    legacy=False,
    get=get,
    find=find,
    list=listed,
    tells=tells,
    fields=FIELDS,
    parameters={"order": "oldest: begin with the oldest change; newest, or nothing: with the newest."},
    schema=TagChangeSchema(),
)

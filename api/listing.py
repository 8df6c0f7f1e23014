"""Lists: at which position they are read, what the selectors choose, and in which pages they come.

Nothing here ever expires: a list at any old resourceVersion, and the next page of any old list, is answered.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from api.call import Answer, Call, InvalidOptions, position
from api.errors import Refusal
from api.resource import Fields
from api.selectors import FieldSelector, LabelSelector, SelectorError
from imagestream_es.domain.errors import Problem

Key = tuple[str, str]

WAIT = 3.0
"""Seconds to wait for a resourceVersion that lies ahead."""

META_FIELDS: Fields = {
    "metadata.name": lambda item: item["metadata"].get("name", ""),
    "metadata.namespace": lambda item: item["metadata"].get("namespace", ""),
}


class Selection:
    """What labelSelector and fieldSelector ask for; `fields` are those beside name and namespace.

    Raises Refusal for a selector that cannot be read.
    """

    def __init__(self, args: Mapping[str, str], fields: Fields) -> None:
        self._readers = {**META_FIELDS, **fields}
        try:
            self._labels = LabelSelector.parse(args.get("labelSelector", ""))
            self._fields = FieldSelector.parse(args.get("fieldSelector", ""), self._readers)
        except SelectorError as error:
            raise Refusal(400, str(error)) from None

    @property
    def everything(self) -> bool:
        """Whether every object is chosen."""
        return not self._labels.requirements and not self._fields.terms

    @property
    def name(self) -> str | None:
        """The one name that chosen objects may have, None if several are possible."""
        return self._fields.requires("metadata.name")

    def requires(self, field: str) -> str | None:
        """The one value that a field of chosen objects may have, None if several are possible."""
        return self._fields.requires(field)

    def given(self, field: str) -> str:
        """The value that a field is given, "" if it is not. Raises Refusal if it is only said what it is not."""
        value = self._fields.requires(field)
        if value is None and any(term.field == field for term in self._fields.terms):
            raise Refusal(400, f"the field selector {field} must be given a value, as in {field}=VALUE")
        return value or ""

    def chooses(self, item: dict[str, Any]) -> bool:
        """Whether an object in wire shape is chosen."""
        return self.everything or (
            self._labels.matches(item["metadata"].get("labels") or {})
            and self._fields.matches({field: read(item) for field, read in self._readers.items()})
        )


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted: the position it is read at (None: now), how many, and behind which key."""

    at: int | None
    limit: int
    after: Key | None


def page_of(call: Call) -> Page:
    """Read limit, continue, resourceVersion and resourceVersionMatch of a list.

    Raises Refusal (400, 504 for a version that does not come), InvalidOptions.
    """
    args = call.args
    match, version = args.get("resourceVersionMatch", ""), args.get("resourceVersion", "")
    token, limit = args.get("continue", ""), _limit(args.get("limit", ""))
    if "sendInitialEvents" in args and args["sendInitialEvents"] != "":
        raise InvalidOptions(Problem.FORBIDDEN, "sendInitialEvents", "sendInitialEvents is forbidden for list")
    if match:
        if token:
            detail = "resourceVersionMatch is forbidden when continue is provided"
            raise InvalidOptions(Problem.FORBIDDEN, "resourceVersionMatch", detail)
        if not version:
            detail = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            raise InvalidOptions(Problem.FORBIDDEN, "resourceVersionMatch", detail)
        if match not in ("Exact", "NotOlderThan"):
            detail = 'supported values: "Exact", "NotOlderThan"'
            raise InvalidOptions(Problem.NOT_SUPPORTED, "resourceVersionMatch", detail, match)
    if token:
        if version not in ("", "0"):
            raise Refusal(400, "specifying resource version is not allowed when using continue")
        at, after = _decode_token(token)
        if call.at is not None and call.settled and call.at != at:
            raise Refusal(400, "continue key is not valid: it is of a list as of another moment")
        await_position(call, at)
        return Page(at, limit, after)
    if call.at is not None:
        return Page(call.at, limit, None)
    exact = exact_position(args)
    wanted = position(version) or 0
    if wanted:
        await_position(call, wanted)
    if wanted and limit and not match:
        exact = wanted
    return Page(exact, limit, None)


def exact_position(args: Mapping[str, str]) -> int | None:
    """The position that `resourceVersionMatch=Exact` asks for. Raises Refusal (400), InvalidOptions."""
    if args.get("resourceVersionMatch", "") != "Exact":
        return None
    at = position(args.get("resourceVersion", ""))
    if at == 0:
        detail = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise InvalidOptions(Problem.FORBIDDEN, "resourceVersionMatch", detail)
    return at


def _limit(text: str) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 19:
        raise Refusal(400, f'limit must be a number, not "{text[:40]}"')
    return max(int(text), 0)


def await_position(call: Call, wanted: int) -> None:
    """Wait until the log has come to `wanted`. Raises Refusal (504) if it does not soon."""
    current = call.services.hub.wait_until(wanted, WAIT)
    if current < wanted:
        raise Refusal(
            504,
            f"Too large resource version: {wanted}, current: {current}",
            reason="Timeout",
            retry_after=1,
            causes=[{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        )


def _token(at: int, after: Key) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([at, *after])).rstrip(b"=").decode()


def _decode_token(token: str) -> tuple[int, Key]:
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        at, namespace, name = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if type(at) is int and at > 0 and type(namespace) is str and type(name) is str:
            return at, (namespace, name)
    except (ValueError, TypeError, binascii.Error):
        pass
    raise Refusal(400, "continue key is not valid: it must be sent back as it was given")


def answer_page(page: Page, selection: Selection, items: Sequence[dict[str, Any]], read_at: int) -> Answer:
    """The page that was asked for, by namespace and name, of the `items` that were found."""
    chosen = sorted((item for item in items if selection.chooses(item)), key=_key)
    if page.after is not None:
        chosen = [item for item in chosen if _key(item) > page.after]
    answer = answer_part(page, chosen, read_at)
    if selection.everything and "continue" in answer.body["metadata"]:
        answer.body["metadata"]["remainingItemCount"] = len(chosen) - page.limit
    return answer


def answer_part(page: Page, items: Sequence[dict[str, Any]], read_at: int) -> Answer:
    """The page that begins with `items`; if there are more of them than fit, the last that fits is where to go on."""
    metadata: dict[str, Any] = {"resourceVersion": str(read_at)}
    if page.limit and len(items) > page.limit:
        items = items[: page.limit]
        metadata["continue"] = _token(read_at, _key(items[-1]))
    return Answer({"metadata": metadata, "items": items}, is_list=True)


def _key(item: dict[str, Any]) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]

"""Which objects of a list the selectors choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from api.errors import Refusal
from api.selectors import FieldSelector, LabelSelector, SelectorError

Fields = Mapping[str, Callable[[dict[str, Any]], str]]

_META_FIELDS: Fields = {
    "metadata.name": lambda item: item["metadata"].get("name", ""),
    "metadata.namespace": lambda item: item["metadata"].get("namespace", ""),
}


def chosen(
    args: Mapping[str, str], objects: Iterable[dict[str, Any]], fields: Fields | None = None
) -> list[dict[str, Any]]:
    """The objects that labelSelector and fieldSelector choose; `fields` are those beside name and namespace.

    Raises Refusal for a selector that cannot be read.
    """
    readers = {**_META_FIELDS, **(fields or {})}
    try:
        labels = LabelSelector.parse(args.get("labelSelector", ""))
        wanted = FieldSelector.parse(args.get("fieldSelector", ""), readers)
    except SelectorError as error:
        raise Refusal(400, str(error)) from None
    return [
        item
        for item in objects
        if labels.matches(item["metadata"].get("labels") or {})
        and wanted.matches({field: read(item) for field, read in readers.items()})
    ]

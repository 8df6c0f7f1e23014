"""Tables: the answers that `kubectl get` and `oc get` print as they come.

Every kind has its columns, each of which makes one cell of an object as the API answers it. Objects are
taken as they are: what is missing, null or of another shape makes an empty cell and never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Cell = str | int | None


def render(
    resource: str,
    objects: Sequence[dict[str, Any]],
    *,
    now: datetime,
    include_object: str = "Metadata",
    list_metadata: dict[str, Any],
) -> dict[str, Any]:
    """Answer `objects` of `resource`, which is the plural name, as a `Table` of meta.k8s.io/v1.

    `now` has a time zone and is what ages are counted from. A row carries of its object what
    `include_object` says: nothing ("None"), its metadata ("Metadata") or all of it ("Object").
    `list_metadata` becomes the metadata of the table.

    Raises ValueError for another `include_object`.
    """
    if include_object not in _INCLUDED:
        raise ValueError(f"includeObject must be one of {', '.join(_INCLUDED)}, not {include_object[:100]!r}")
    columns = _COLUMNS.get(resource, _DEFAULT_COLUMNS)
    included = _INCLUDED[include_object]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": [column.definition() for column in columns],
        "rows": [
            {"cells": [column.cell(_Row(each, now)) for column in columns], "object": included(each)}
            for each in objects
        ],
    }


def human_duration(seconds: float) -> str:
    """A duration in the one unit that suits it, as a person would say it: `About an hour`, `3 weeks`."""
    minutes = int(seconds // 60)
    hours = int(seconds / 3600 + 0.5)
    days = hours // 24
    if seconds < 1:
        return "Less than a second"
    if seconds < 2:
        return "1 second"
    if seconds < 60:
        return f"{int(seconds)} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{days // 365} years"


def _partial_metadata(each: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": each.get("metadata") or {},
    }


_INCLUDED: Mapping[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "None": lambda _each: None,
    "Metadata": _partial_metadata,
    "Object": lambda each: each,
}


@dataclass(frozen=True)
class _Row:
    """One object on its way into the table."""

    object: dict[str, Any]
    now: datetime

    def at(self, *path: str) -> Any:
        """The value at `path`, None if there is none."""
        value: Any = self.object
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def text(self, *path: str) -> str:
        return _text(self.at(*path))

    def maps(self, *path: str) -> list[dict[str, Any]]:
        return _maps(self.at(*path))

    def ago(self, *moments: Any) -> str:
        """How long ago the newest of `moments` was; empty without any."""
        known = [moment for moment in map(_moment, moments) if moment is not None]
        return f"{human_duration((self.now - max(known)).total_seconds())} ago" if known else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _maps(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _first(value: Any) -> dict[str, Any]:
    """The newest entry of a history, which may be long; empty if there is none."""
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(_text(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# --- image streams

_TAGS_WIDTH = 40
_TAGS_MARGIN = _TAGS_WIDTH // 4


def _repository(row: _Row) -> str:
    return (
        row.text("status", "publicDockerImageRepository")
        or row.text("spec", "dockerImageRepository")
        or row.text("status", "dockerImageRepository")
    )


def _newest_created(tag: dict[str, Any]) -> Any:
    return _first(tag.get("items")).get("created")


def _stream_tags(row: _Row) -> str:
    """The names of the tags, that with the newest image first, as many as fit."""

    def newest_first(tag: dict[str, Any]) -> tuple[float, str]:
        moment = _moment(_newest_created(tag))
        return -moment.timestamp() if moment else 0.0, _text(tag.get("tag"))

    names = [_text(tag.get("tag")) for tag in sorted(row.maps("status", "tags"), key=newest_first)]
    shown = _fitting(names)
    hidden = len(names) - shown
    return ",".join(names[:shown]) + (f" + {hidden} more..." if hidden else "")


def _fitting(names: Sequence[str]) -> int:
    """How many of `names` fit: at least one, and one too many where a gap would look worse."""
    free = _TAGS_WIDTH
    for count, name in enumerate(names):
        left = free - len(name) - 1
        if left < 0 and not (free - 1 > _TAGS_MARGIN and -left <= _TAGS_MARGIN):
            return max(count, 1)
        free = left
    return len(names)


def _stream_updated(row: _Row) -> str:
    return row.ago(*map(_newest_created, row.maps("status", "tags")))


# --- image tags


def _newer(one: Any, other: Any) -> bool:
    """Whether the generation `one` is greater, as far as both are known."""
    return isinstance(one, int) and isinstance(other, int) and one > other


def _tag_kind(row: _Row) -> str:
    """How the tag comes to its images, which may be another way than it was told."""
    told = _told_kind(row)
    newest = _first(row.at("status", "items"))
    if told == "Track" or not newest:
        return told
    pushed = row.at("spec") is None or _newer(newest.get("generation"), row.at("spec", "generation"))
    return "Push" if pushed else told


def _told_kind(row: _Row) -> str:
    if row.at("spec", "from") is None:
        return ""
    if row.at("spec", "reference"):
        return "Ref"
    if row.at("spec", "importPolicy", "scheduled"):
        return "Scheduled"
    same_stream = ":" not in row.text("spec", "from", "name")
    return "Track" if same_stream and row.at("spec", "from", "kind") == "ImageStreamTag" else "Tag"


def _tag_status(row: _Row) -> str:
    """What the tag is now, or what keeps it from being what it should be."""
    for condition in row.maps("status", "conditions"):
        if condition.get("type") == "ImportSuccess" and condition.get("status") == "False":
            return f"ImportFailed ({_text(condition.get('reason'))})"
    newest = _first(row.at("status", "items"))
    if not newest:
        return _source(row)
    if _newer(row.at("spec", "generation"), newest.get("generation")):
        return "Importing"
    image = _text(newest.get("image"))
    return f"image/{image}" if image else _text(newest.get("dockerImageReference"))


def _source(row: _Row) -> str:
    name = row.text("spec", "from", "name")
    namespace = row.text("spec", "from", "namespace")
    match row.at("spec", "from", "kind"):
        case "ImageStreamTag":
            return f"istag {namespace}/{name}" if namespace else f"istag/{name}"
        case "ImageStreamImage":
            return f"image/{name.rpartition('@')[2]}"
        case _:
            return name


def _tag_history(row: _Row) -> int | None:
    items = row.at("status", "items")
    return len(items) if isinstance(items, list) and items else None


def _tag_updated(row: _Row) -> str:
    checked = [condition.get("lastTransitionTime") for condition in row.maps("status", "conditions")]
    return row.ago(_first(row.at("status", "items")).get("created"), *checked)


# --- the past of tags

_SHORT = len("sha256:") + 12


def _short(target: Any) -> str:
    """An image by the beginning of its name, or a pull spec without one; empty for nothing."""
    if not isinstance(target, dict):
        return ""
    return _text(target.get("image"))[:_SHORT] or _text(target.get("dockerImageReference"))


def _tag_name(row: _Row) -> str:
    return f"{row.text('stream')}:{row.text('tag')}"


def _cause(row: _Row) -> str:
    parts = (row.text("cause", name) for name in ("event", "door"))
    return " via ".join(filter(None, parts))


# --- the columns of each resource


@dataclass(frozen=True)
class _Column:
    """A column and how its cells are made; `priority` 1 shows it only where there is much room."""

    name: str
    cell: Callable[[_Row], Cell]
    description: str
    type: str = "string"
    format: str = ""
    priority: int = 0

    def definition(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


_PULL_SPEC = "What to pull the image by."
_LAST_CHANGE = "Time since the last change."

_NAME = _Column(
    "Name", lambda row: row.text("metadata", "name"), "Name of the object, unique among its kind.", format="name"
)
_IMAGE_NAME = _Column("Image Name", lambda row: row.text("image", "metadata", "name"), "Name of the image.", priority=1)
_CREATED_AGO = _Column("Updated", lambda row: row.ago(row.at("metadata", "creationTimestamp")), _LAST_CHANGE)

_DEFAULT_COLUMNS = (
    _NAME,
    _Column(
        "Created At",
        lambda row: row.text("metadata", "creationTimestamp"),
        "When the object was created.",
        type="date",
    ),
)

_COLUMNS: Mapping[str, Sequence[_Column]] = {
    "images": (
        _NAME,
        _Column("Image Reference", lambda row: row.text("dockerImageReference"), _PULL_SPEC),
    ),
    "imagestreams": (
        _NAME,
        _Column("Image Repository", _repository, "Where the images of the stream are."),
        _Column("Tags", _stream_tags, "The tags with images, the last changed first."),
        _Column("Updated", _stream_updated, _LAST_CHANGE),
    ),
    "imagestreamtags": (
        _NAME,
        _Column("Image Reference", lambda row: row.text("image", "dockerImageReference"), _PULL_SPEC),
        _CREATED_AGO,
        _IMAGE_NAME,
    ),
    "imagestreamimages": (
        _NAME,
        _CREATED_AGO,
        _Column("Image Reference", lambda row: row.text("image", "dockerImageReference"), _PULL_SPEC, priority=1),
        _IMAGE_NAME,
    ),
    "tagchanges": (
        _Column("Time", lambda row: row.text("time"), "When the tag was changed."),
        _Column("Tag", _tag_name, "Stream and tag."),
        _Column("Action", lambda row: row.text("action"), "What was done."),
        _Column("From", lambda row: _short(row.at("from")), "The image that the tag named before."),
        _Column("To", lambda row: _short(row.at("to")), "The image that it named afterwards."),
        _Column("Actor", lambda row: row.text("actor"), "Who did it."),
        _Column("Reason", lambda row: row.text("reason"), "Why, in the words of who did it."),
        _Column("Name", lambda row: row.text("metadata", "name"), "Name of the change.", format="name", priority=1),
        _Column("Cause", _cause, "The event, and the way in.", priority=1),
        _Column(
            "Folded",
            lambda row: str(bool(row.at("folded"))).lower(),
            "Whether the history that the stream shows has it in one entry with the change before.",
            priority=1,
        ),
    ),
    "imageusages": (
        _Column("Tag", _tag_name, "Stream and tag."),
        _Column("Image", lambda row: _short(row.object), "The image."),
        _Column("Since", lambda row: row.text("since", "time"), "From when on the tag named it."),
        _Column("Until", lambda row: row.text("until", "time"), "Until when; empty while it does."),
        _Column("Put By", lambda row: row.text("putBy"), "Who let the tag name it."),
        _Column("Removed By", lambda row: row.text("removedBy"), "Who let it name something else."),
    ),
    "diffs": (
        _Column("Tag", _tag_name, "Stream and tag.", format="name"),
        _Column("Change", lambda row: row.text("change"), "What became of it."),
        _Column("From", lambda row: _short(row.at("from")), "The image that the tag named at the one moment."),
        _Column("To", lambda row: _short(row.at("to")), "The image that it named at the other."),
        _Column("Changes", lambda row: len(row.maps("changes")), "How many changes are between.", type="integer"),
    ),
    "imagetags": (
        _NAME,
        _Column("Spec", _tag_kind, "How the tag comes to its images."),
        _Column("Status", _tag_status, "What the tag is now, or why it is not what it should be."),
        _Column("History", _tag_history, "How many images the tag has had.", type="integer"),
        _Column("Updated", _tag_updated, _LAST_CHANGE),
    ),
}

"""The views' tables and the SQL over them, once for every store.

All of it can be thrown away and folded again from the log.

- `streams`: one row for each stream that ever was; its number is the position of its first event.
- `tags`: one row for each tag that a stream has now: spec, newest entry, conditions.
- `tag_changes`: one row for each change of a tag, never folded and never deleted: what was done, at which time
  of the log (in milliseconds), and the newest entry afterwards. `slot` orders the changes that came with one
  event. A row is also an entry of the history that OpenShift shows, from `position` on and until `hidden`; rows
  that never were one (a spec that changed, a tag that was deleted) are hidden from the start. Rows with a slot
  below 0 are entries alone: somebody wrote a whole history. `reference` is null where it is the stream's default
  pull spec, and images go by their packed names.
- `moments`: the time of the log at some positions, so that the position of a time is soon found.
- `snapshots`: a stream with its tags as it was at some of its events, so that looking into the past folds
  few of them.
- `images`: one row for each image that ever was. `document` is null while all of the image stands in the event at
  `position`, which registered it: most images never change, and what they are is the bulk of the log.
- `idempotency_keys`: for each actor and key, the request that was made under it: the positions of its first and last
  event.
- `projection`: the position up to which the views are folded, the time of the log there, the version of
  their shape, and how often a replay has replaced them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any, Protocol, cast

import msgspec
from eventsourcing.persistence import DatabaseError, StoredEvent
from msgspec import Raw, Struct

from imagestream_es.domain.actions import MOVED, REVERTED
from imagestream_es.domain.events import ImageEvent, ImageRegistered
from imagestream_es.domain.image import Image
from imagestream_es.domain.image_stream import ImageStream, Tag
from imagestream_es.domain.past import NOW as NOW  # noqa: PLC0414 (part of what this module offers)
from imagestream_es.domain.past import EntryRow
from imagestream_es.domain.tags import TagEvent
from imagestream_es.persistence.digests import beginning_with, indexed, is_name, packed, sought, unpacked
from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.persistence.store import Row, Rows

SHAPE = 6
"""Raised whenever the tables below change; views of another shape are folded anew."""

MOMENTS = 64
"""The time of the log is kept at every position that this divides."""

TABLES = (
    "CREATE TABLE IF NOT EXISTS streams (id BIGINT PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL,"
    " version BIGINT NOT NULL, position BIGINT NOT NULL, present SMALLINT NOT NULL, document BLOB NOT NULL,"
    " UNIQUE (namespace, name)) {clustered}",
    "CREATE TABLE IF NOT EXISTS tags (stream BIGINT NOT NULL, tag TEXT NOT NULL, document BLOB NOT NULL,"
    " PRIMARY KEY (stream, tag)) {clustered}",
    "CREATE TABLE IF NOT EXISTS tag_changes (stream BIGINT NOT NULL, tag TEXT NOT NULL,"
    " position BIGINT NOT NULL, slot BIGINT NOT NULL, action TEXT, image BLOB, reference TEXT,"
    " time BIGINT, created BIGINT, generation BIGINT, folded SMALLINT NOT NULL, hidden BIGINT,"
    " PRIMARY KEY (stream, tag, position, slot)) {clustered}",
    f"CREATE INDEX IF NOT EXISTS tag_changes_image ON tag_changes ({indexed('image')}, stream, tag)",
    "CREATE INDEX IF NOT EXISTS tag_changes_position ON tag_changes (position)",
    "CREATE TABLE IF NOT EXISTS moments (position BIGINT PRIMARY KEY, time BIGINT NOT NULL) {clustered}",
    "CREATE INDEX IF NOT EXISTS moments_time ON moments (time)",
    "CREATE TABLE IF NOT EXISTS snapshots (stream BIGINT NOT NULL, position BIGINT NOT NULL, version BIGINT NOT NULL,"
    " present SMALLINT NOT NULL, document BLOB NOT NULL, PRIMARY KEY (stream, position)) {clustered}",
    "CREATE TABLE IF NOT EXISTS images (name TEXT PRIMARY KEY, version BIGINT NOT NULL,"
    " position BIGINT NOT NULL, present SMALLINT NOT NULL, document BLOB) {clustered}",
    "CREATE TABLE IF NOT EXISTS idempotency_keys (actor TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL,"
    " first BIGINT NOT NULL, last BIGINT NOT NULL, PRIMARY KEY (actor, key)) {clustered}",
    "CREATE TABLE IF NOT EXISTS projection (name TEXT PRIMARY KEY, value BIGINT NOT NULL) {clustered}",
)

KEYS = {
    "streams": ("id",),
    "tags": ("stream", "tag"),
    "tag_changes": ("stream", "tag", "position", "slot"),
    "moments": ("position",),
    "snapshots": ("stream", "position"),
    "images": ("name",),
    "idempotency_keys": ("actor", "key"),
}
"""The views and the columns that order their rows."""

COLUMNS = {
    "streams": ("namespace", "name", "version", "position", "present", "document"),
    "tags": ("document",),
    "tag_changes": ("action", "image", "reference", "time", "created", "generation", "folded", "hidden"),
    "moments": ("time",),
    "snapshots": ("version", "present", "document"),
    "images": ("version", "position", "present", "document"),
    "idempotency_keys": ("fingerprint", "first", "last"),
}
"""What the rows of the views hold beside their keys."""


class _StreamDocument(Struct, omit_defaults=True):
    """What a `streams` row holds of the stream beside its keys."""

    uid: str
    created: int
    repository: str
    generation: int
    generate_name: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owners: tuple[dict[str, Any], ...] = ()
    deletion: int | None = None
    local_lookup: bool = False
    source_repository: str = ""
    managed: tuple[dict[str, Any], ...] = ()
    written: int = 0


class _Snapshot(Struct, omit_defaults=True):
    """What a `snapshots` row holds beside its keys."""

    stream: _StreamDocument
    tags: dict[str, Tag]


class _ImageDocument(Struct, omit_defaults=True):
    """What an `images` row holds of the image beside its keys."""

    uid: str
    created: int
    deletion: int | None = None
    document: dict[str, Raw] = {}


_STREAM_FIELDS = _StreamDocument.__struct_fields__
_fields_of = attrgetter(*_STREAM_FIELDS)
_encode = msgspec.json.Encoder().encode
_decode_stream = msgspec.json.Decoder(_StreamDocument).decode
_decode_tag = msgspec.json.Decoder(Tag).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot).decode
_mapper = EventMapper()
_decode_image = msgspec.json.Decoder(_ImageDocument).decode


# --- the views' own position


def folded_until(rows: Rows) -> int:
    """Position up to which the views are folded; -1 if they are of another shape, or none."""
    found: dict[str, int] = dict(rows.all("SELECT name, value FROM projection"))
    return found.get("position", 0) if found.get("shape") == SHAPE else -1


def drop_other_shape(rows: Rows) -> bool:
    """Drop the views if their tables are of another shape than this program's; answers whether they were."""
    found = rows.one("SELECT value FROM projection WHERE name = 'shape'")
    if found is None or found[0] == SHAPE:
        return False
    for table in (*KEYS, "projection"):
        rows.run(f"DROP TABLE {table}")
    return True


def folded_time(rows: Rows) -> int:
    """The time of the log where the views are folded, in milliseconds; 0 before its first event."""
    found = rows.one("SELECT value FROM projection WHERE name = 'time'")
    return int(found[0]) if found is not None else 0


def set_folded_until(rows: Rows, position: int, time: int) -> None:
    """Note the position up to which the views are folded, and the time of the log there."""
    rows.many(
        "INSERT INTO projection (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [("position", position), ("time", time), ("shape", SHAPE)],
    )


def standing(rows: Rows) -> tuple[int, int]:
    """The position of the log's last event, and how often a replay has replaced the views."""
    found = rows.one(
        f"SELECT (SELECT MAX({rows.POSITION}) FROM stored_events),"
        " (SELECT value FROM projection WHERE name = 'generation')"
    )
    return (found and found[0]) or 0, (found and found[1]) or 0


def replaced(rows: Rows, position: int, time: int) -> None:
    """Note that a replay has replaced the views: what anybody keeps of them in memory may be old."""
    set_folded_until(rows, position, time)
    rows.run(
        "INSERT INTO projection (name, value) VALUES ('generation', 1)"
        " ON CONFLICT (name) DO UPDATE SET value = projection.value + 1"
    )


def every_row(rows: Rows, view: str) -> Iterator[Row]:
    """The rows of a view in the order of their keys: the key, then what it holds beside it."""
    key = KEYS[view]
    return rows.each(f"SELECT {', '.join((*key, *COLUMNS[view]))} FROM {view} ORDER BY {', '.join(key)}")


def drop_indexes(rows: Rows) -> None:
    """Let rows be written faster and found slower."""
    rows.run("DROP INDEX tag_changes_image")
    rows.run("DROP INDEX tag_changes_position")
    rows.run("DROP INDEX moments_time")


def clear(rows: Rows) -> None:
    """Empty every view."""
    for table in KEYS:
        rows.run(f"DELETE FROM {table}")
    set_folded_until(rows, 0, 0)


# --- streams

_STREAM = "SELECT id, namespace, name, version, position, present, document FROM streams"


def load_stream(rows: Rows, namespace: str, name: str) -> ImageStream | None:
    """The stream of that name, deleted or not; None if there never was one."""
    row = rows.one(f"{_STREAM} WHERE namespace = ? AND name = ?", namespace, name)
    if row is None:
        return None
    stream = _stream(row)
    for tag, document in rows.all("SELECT tag, document FROM tags WHERE stream = ?", row[0]):
        stream.tags[tag] = _decode_tag(document)
    return stream


def streams(rows: Rows, namespace: str | None) -> list[ImageStream]:
    """Every stream of a namespace, or of all, with its tags; in the order of namespace and name."""
    where, values = ("present = 1", ()) if namespace is None else ("present = 1 AND namespace = ?", (namespace,))
    found = {row[0]: _stream(row) for row in rows.all(f"{_STREAM} WHERE {where}", *values)}
    tags = f"SELECT stream, tag, tags.document FROM tags JOIN streams ON id = stream WHERE {where}"
    for number, tag, document in rows.each(tags, *values):
        found[number].tags[tag] = _decode_tag(document)
    return sorted(found.values(), key=lambda stream: (stream.namespace, stream.name))


StreamPlace = tuple[int, int, int]
"""The number of a stream, the position of its last event, and its version after it."""


def stream_places(rows: Rows, namespace: str | None, name: str | None = None) -> list[StreamPlace]:
    """The places of all streams of a namespace, of all, or of one name; in the order of namespace and name."""
    named = {"namespace": namespace, "name": name}
    wanted = {column: value for column, value in named.items() if value is not None}
    where = " AND ".join(["present = 1", *(f"{column} = ?" for column in wanted)])
    query = f"SELECT id, position, version FROM streams WHERE {where} ORDER BY namespace, name"
    return cast("list[StreamPlace]", rows.all(query, *wanted.values()))


def longest_places(rows: Rows, least: int, most: int) -> list[StreamPlace]:
    """The places of the streams with the most events, at `least` so many each and at `most` so many together."""
    query = (
        "SELECT id, position, version FROM (SELECT id, position, version, SUM(version) OVER (ORDER BY version DESC, id)"
        " AS total FROM streams WHERE present = 1 AND version BETWEEN ? AND ?) AS longest WHERE total <= ?"
    )
    return cast("list[StreamPlace]", rows.all(query, least, most, most))


def places_behind(rows: Rows, namespace: str | None, after: int) -> list[tuple[StreamPlace, bool]]:
    """The places of streams that changed behind a position, in any order, and whether each stream is there."""
    where, values = ("", ()) if namespace is None else (" AND namespace = ?", (namespace,))
    query = f"SELECT id, position, version, present FROM streams WHERE position > ?{where}"
    return [((number, *place), bool(present)) for number, *place, present in rows.all(query, after, *values)]


def streams_numbered(rows: Rows, numbers: Sequence[int]) -> dict[int, ImageStream]:
    """The streams of these numbers with their tags, as many as one statement takes."""
    found = {row[0]: _stream(row) for row in rows.all(f"{_STREAM} WHERE id IN ({marks(numbers)})", *numbers)}
    tags = f"SELECT stream, tag, document FROM tags WHERE stream IN ({marks(numbers)})"
    for number, tag, document in rows.all(tags, *numbers):
        found[number].tags[tag] = _decode_tag(document)
    return found


def each_stream(rows: Rows) -> Iterator[ImageStream]:
    """Every stream with its tags, one after another, without holding them all."""
    numbers = [number for (number,) in rows.all("SELECT id FROM streams WHERE present = 1 ORDER BY id")]
    for some in chunks(numbers):
        yield from streams_numbered(rows, some).values()


def _stream(row: Row) -> ImageStream:
    number, namespace, name, version, position, present, document = row
    stream = ImageStream(namespace, name)
    stream.number = number
    stream.version, stream.position, stream.exists = version, position, bool(present)
    _read_document(stream, _decode_stream(document))
    return stream


def _read_document(stream: ImageStream, document: _StreamDocument) -> None:
    for field in _STREAM_FIELDS:
        setattr(stream, field, getattr(document, field))


def _document(stream: ImageStream) -> _StreamDocument:
    return _StreamDocument(*_fields_of(stream))


def stream_row(stream: ImageStream) -> Row:
    """A `streams` row of a stream as it is now."""
    name, document = (stream.namespace, stream.name), _encode(_document(stream))
    return (stream.number, *name, stream.version, stream.position, int(stream.exists), document)


def save_streams(rows: Rows, streams: Iterable[Row]) -> None:
    """Write `stream_row`s."""
    rows.many(
        "INSERT INTO streams (id, namespace, name, version, position, present, document) VALUES (?,?,?,?,?,?,?)"
        " ON CONFLICT (id) DO UPDATE SET version = excluded.version, position = excluded.position,"
        " present = excluded.present, document = excluded.document",
        streams,
    )


def move_streams(rows: Rows, moved: Iterable[Row]) -> None:
    """Write version, position and number of streams of which nothing else is new."""
    rows.many("UPDATE streams SET version = ?, position = ? WHERE id = ?", moved)


def save_tags(rows: Rows, found: Iterable[tuple[int, str, Tag | None]]) -> None:
    """Write tags of streams, given by number; None removes one."""
    kept, gone = [], []
    for number, name, tag in found:
        if tag is None:
            gone.append((number, name))
        else:
            kept.append((number, name, _encode(tag)))
    if kept:
        rows.many(
            "INSERT INTO tags (stream, tag, document) VALUES (?,?,?)"
            " ON CONFLICT (stream, tag) DO UPDATE SET document = excluded.document",
            kept,
        )
    if gone:
        rows.many("DELETE FROM tags WHERE stream = ? AND tag = ?", gone)


# --- the past of streams


def snapshot_due(stream: ImageStream) -> bool:
    """Whether the stream should be kept as it is at its present version.

    The more tags there are, the rarer: so snapshots cost a bounded number of bytes an event.
    """
    interval = 128
    if stream.version % interval:
        return False
    while interval < 4 * len(stream.tags):
        interval *= 2
    return stream.version % interval == 0


def snapshot_row(stream: ImageStream) -> Row:
    """A `snapshots` row of a stream as it is now; its tags are in order, however they came to be."""
    document = _encode(_Snapshot(_document(stream), dict(sorted(stream.tags.items()))))
    return (stream.number, stream.position, stream.version, int(stream.exists), document)


def insert_snapshots(rows: Rows, snapshots: Sequence[Row]) -> None:
    """Write `snapshot_row`s."""
    rows.many("INSERT INTO snapshots (stream, position, version, present, document) VALUES (?,?,?,?,?)", snapshots)


def load_snapshot(rows: Rows, namespace: str, name: str, until: int) -> ImageStream | None:
    """The stream as it was at its last snapshot up to position `until`; new if there is none before that.

    None if there never was such a stream, or not yet at that position.
    """
    found = rows.one("SELECT id FROM streams WHERE namespace = ? AND name = ? AND id <= ?", namespace, name, until)
    if found is None:
        return None
    stream = ImageStream(namespace, name)
    stream.number = found[0]
    row = rows.one(
        "SELECT position, version, present, document FROM snapshots WHERE stream = ? AND position <= ?"
        " ORDER BY position DESC LIMIT 1",
        stream.number,
        until,
    )
    if row is not None:
        stream.position, stream.version, stream.exists = row[0], row[1], bool(row[2])
        snapshot = _decode_snapshot(row[3])
        _read_document(stream, snapshot.stream)
        stream.tags = snapshot.tags
    return stream


def stream_names(rows: Rows, namespace: str | None, until: int) -> list[tuple[str, str, int]]:
    """Namespace, name and newest position of every stream, there or not any more, that began up to `until`."""
    where, values = ("", ()) if namespace is None else (" AND namespace = ?", (namespace,))
    query = f"SELECT namespace, name, position FROM streams WHERE id <= ?{where} ORDER BY namespace, name"
    return [(space, name, position) for space, name, position in rows.all(query, until, *values)]


# --- histories

CHANGE = "stream, tag, position, action, image, time, created, generation, slot, reference, folded, hidden"
"""The columns of a `change_row`."""

USUAL = (0, None, 0, None)
"""The last columns of most changes: the only one of an event, of the default pull spec, not folded, and shown."""

NO_IMAGE = packed("")
# The stream as a range: SQLite would go through all of the tag otherwise, by the primary key, and not to the image.
_INSERT_CHANGE = (
    f"INSERT INTO tag_changes ({CHANGE})"
    " VALUES (?,?,?,CASE WHEN ? AND EXISTS"
    f" (SELECT 1 FROM tag_changes WHERE {is_name('image')} AND stream BETWEEN ? AND ? AND tag = ? AND slot >= 0)"
    " THEN ? ELSE ? END,?,?,?,?,?,?,?,?)"
)


def change_row(
    number: int,
    tag: str,
    position: int,
    action: str | None,
    entry: TagEvent | None,
    base: str,
    time: int | None = None,
    slot: int = 0,
    *,
    folded: bool = False,
    shown: bool = True,
) -> Row:
    """A `tag_changes` row, without the `USUAL` columns if it has them; `base` is the stream's default repository."""
    if entry is None:
        of: Row = (None, time, None, None)
        reference = None
    else:
        image, reference = entry.image, entry.reference
        of = (packed(image), time, entry.created, entry.generation)
        if base and reference == f"{base}@{image}":
            reference = None
    if shown and reference is None and slot == 0 and not folded:
        return (number, tag, position, action, *of)
    return (number, tag, position, action, *of, slot, reference, int(folded), None if shown else position)


def is_usual(change: Row) -> bool:
    """Whether the last columns of a `change_row` are left out."""
    return len(change) == _KEPT


_KEPT = CHANGE.count(",") + 1 - len(USUAL)


def insert_changes(rows: Rows, changes: Sequence[Row]) -> None:
    """Write `change_row`s; a tag that moved to an image that it had before was reverted."""
    rows.many(_INSERT_CHANGE, map(_searching, changes))


def _searching(change: Row) -> Row:
    """The values of `_INSERT_CHANGE`, from a `change_row`."""
    number, tag, position, action, image, *rest = (*change, *USUAL) if is_usual(change) else change
    search = action == MOVED and image != NO_IMAGE
    return (number, tag, position, search, *sought(image), number, number, tag, REVERTED, action, image, *rest)


def insert_moments(rows: Rows, moments: Sequence[Row]) -> None:
    """Write positions with the time of the log there."""
    rows.many("INSERT INTO moments (position, time) VALUES (?,?)", moments)


def save_keys(rows: Rows, keys: Iterable[Row]) -> None:
    """Write which requests were made under which keys, or how far they have got."""
    rows.many(
        "INSERT INTO idempotency_keys (actor, key, fingerprint, first, last) VALUES (?,?,?,?,?)"
        " ON CONFLICT (actor, key) DO UPDATE SET last = excluded.last",
        keys,
    )


def hide_newest(rows: Rows, number: int, tag: str, position: int) -> None:
    """Stop showing the newest entry of a tag, at `position`."""
    newest = rows.one(
        "SELECT position, slot FROM tag_changes WHERE stream = ? AND tag = ? AND hidden IS NULL"
        " ORDER BY position DESC, slot DESC LIMIT 1",
        number,
        tag,
    )
    if newest is not None:
        rows.run(
            "UPDATE tag_changes SET hidden = ? WHERE stream = ? AND tag = ? AND position = ? AND slot = ?",
            position,
            number,
            tag,
            *newest,
        )


def hide_all(rows: Rows, number: int, tag: str, position: int) -> None:
    """Stop showing every entry of a tag, at `position`."""
    rows.run(
        "UPDATE tag_changes SET hidden = ? WHERE stream = ? AND tag = ? AND hidden IS NULL",
        position,
        number,
        tag,
    )


def replace_entries(rows: Rows, number: int, tag: str, position: int, items: Sequence[TagEvent], base: str) -> None:
    """Show exactly `items` (newest first) of a tag from `position` on.

    A history that only lost entries keeps the rows of the others; any other is written anew.
    """
    shown = _shown(rows, number, tag, base, NOW)
    kept = iter(items)
    wanted = next(kept, None)
    lost = []
    for place, entry in shown:
        if entry == wanted:
            wanted = next(kept, None)
        else:
            lost.append(place)
    if wanted is None:
        rows.many(
            "UPDATE tag_changes SET hidden = ? WHERE stream = ? AND tag = ? AND position = ? AND slot = ?",
            [(position, number, tag, *place) for place in lost],
        )
        return
    hide_all(rows, number, tag, position)
    insert_changes(
        rows,
        [change_row(number, tag, position, None, item, base=base, slot=-1 - index) for index, item in enumerate(items)],
    )


def _shown(rows: Rows, number: int, tag: str, base: str, until: int) -> list[tuple[tuple[int, int], TagEvent]]:
    found = rows.all(
        "SELECT position, slot, created, reference, image, generation FROM tag_changes"
        " WHERE stream = ? AND tag = ? AND position <= ? AND (hidden IS NULL OR hidden > ?)"
        " ORDER BY position DESC, slot DESC",
        number,
        tag,
        until,
        until,
    )
    return [
        ((position, slot), _entry(base, created, reference, unpacked(image), generation))
        for position, slot, created, reference, image, generation in found
    ]


def _entry(base: str, created: int | None, reference: str | None, image: str, generation: int) -> TagEvent:
    return TagEvent(created, f"{base}@{image}" if reference is None else reference, image, generation)


_ALGORITHMS = ("sha256", "sha384", "sha512")


def shown_entries(rows: Rows, number: int, tag: str, base: str, until: int = NOW) -> tuple[TagEvent, ...]:
    """The history of one tag as OpenShift shows it at position `until`, newest first."""
    return tuple(entry for _, entry in _shown(rows, number, tag, base, until))


def shown_rows(rows: Rows, numbers: Sequence[int], until: int = NOW) -> Iterator[tuple[int, str, Iterator[EntryRow]]]:
    """Each history of the tags of streams, given by number, as shown at position `until`; newest entries first.

    The entries of one are to be taken before the next one is.
    """
    for some in chunks(numbers):
        found = rows.all(
            "SELECT stream, tag, created, reference, image, generation FROM tag_changes"
            f" WHERE stream IN ({marks(some)}) AND position <= ? AND (hidden IS NULL OR hidden > ?)"
            " ORDER BY stream DESC, tag DESC, position DESC, slot DESC",  # as they are stored: nothing is sorted
            *some,
            until,
            until,
        )
        for (number, tag), entries in groupby(found, itemgetter(0, 1)):
            yield number, tag, ((at, reference, unpacked(name), count) for _, _, at, reference, name, count in entries)


def shown_histories(rows: Rows, bases: dict[int, str], until: int = NOW) -> dict[int, dict[str, list[TagEvent]]]:
    """The histories of all tags of streams (number to default repository) as shown at position `until`."""
    histories: dict[int, dict[str, list[TagEvent]]] = {}
    for number, tag, entries in shown_rows(rows, sorted(bases), until):
        histories.setdefault(number, {})[tag] = [_entry(bases[number], *entry) for entry in entries]
    return histories


def find_images(rows: Rows, stream: ImageStream, wanted: str, until: int = NOW) -> dict[str, TagEvent]:
    """Images that a stream shows at `until` and that `wanted` names: whole, or by a prefix with or without algorithm.

    Answers the first entry of each in the order of tags, newest first; an exact name excludes all others.
    """
    found: dict[str, TagEvent] = {}
    prefixes = [wanted] if ":" in wanted else [wanted, *(f"{algorithm}:{wanted}" for algorithm in _ALGORITHMS)]
    for first, last in chain.from_iterable(map(beginning_with, prefixes)):
        entries = rows.all(
            "SELECT created, reference, image, generation FROM tag_changes"
            " WHERE stream = ? AND position <= ? AND (hidden IS NULL OR hidden > ?) AND image >= ? AND image <= ?"
            " ORDER BY tag, position DESC, slot DESC",
            stream.number,
            until,
            until,
            first,
            last,
        )
        for created, reference, image, generation in entries:
            entry = _entry(stream.repository, created, reference, unpacked(image), generation)
            if entry.image:
                found.setdefault(entry.image, entry)
    return {wanted: found[wanted]} if wanted in found else found


# --- images


class Registrations(Protocol):
    """What gives the event at a position of the log, or nothing; `Rows` do."""

    def event_at(self, position: int) -> StoredEvent | None:
        """The event."""


def load_image(rows: Rows, name: str) -> Image | None:
    """The image of that name, deleted or not; None if there never was one."""
    return load_images(rows, [name]).get(name)


def load_images(rows: Rows, names: Sequence[str], log: Registrations | None = None) -> dict[str, Image]:
    """Those of the named images that there ever were, deleted or not; `log` if that is not beside the views."""
    found: dict[str, Image] = {}
    for some in chunks(names):
        for row in rows.all(f"{_image_query(rows)} WHERE name IN ({marks(some)})", *some):
            found[row[0]] = _image(row, log)
    return found


def images(rows: Rows) -> Iterator[Image]:
    """Every image, in the order of names."""
    return map(_image, rows.each(f"{_image_query(rows)} WHERE present = 1 ORDER BY name"))


def images_named(rows: Rows, names: Sequence[str]) -> dict[str, Image]:
    """Those of the named images that exist."""
    return {name: image for name, image in load_images(rows, names).items() if image.exists}


def _image_query(rows: Rows) -> str:
    return (
        "SELECT images.name, images.version, images.position, images.present, images.document, stored_events.state"
        " FROM images LEFT JOIN stored_events"
        f" ON images.document IS NULL AND stored_events.{rows.POSITION} = images.position"
    )


def image_names(rows: Rows) -> list[tuple[str, int]]:
    """Name and newest position of every image, there or not any more, in the order of names."""
    return [(name, position) for name, position in rows.all("SELECT name, position FROM images ORDER BY name")]


def image_row(image: Image) -> Row:
    """An `images` row of an image as it is now."""
    document = (
        None
        if image.is_as_registered
        else _encode(_ImageDocument(image.uid, image.created, image.deletion, image.document))
    )
    return (image.name, image.version, image.position, int(image.exists), document)


def save_images(rows: Rows, images: Iterable[Row]) -> None:
    """Write `image_row`s."""
    rows.many(
        "INSERT INTO images (name, version, position, present, document) VALUES (?,?,?,?,?)"
        " ON CONFLICT (name) DO UPDATE SET version = excluded.version, position = excluded.position,"
        " present = excluded.present, document = excluded.document",
        images,
    )


def _image(row: Row, log: Registrations | None = None) -> Image:
    name, version, position, present, document, state = row
    image = Image(name)
    if document is None:
        if state is None and log is not None and (stored := log.event_at(position)) is not None:
            state = stored.state
        if state is None:
            raise DatabaseError(f"the event at position {position}, which registered {name}, is missing from the log")
        event = _mapper.decode(ImageRegistered.TOPIC, state)
        assert isinstance(event, ImageEvent)
        image.apply(event)
        image.version, image.position = version, position
        return image
    image.version, image.position, image.exists = version, position, bool(present)
    parts = _decode_image(document)
    image.uid, image.created, image.deletion, image.document = (
        parts.uid,
        parts.created,
        parts.deletion,
        parts.document,
    )
    return image


# --- small things


def marks(values: Sequence[Any]) -> str:
    """A question mark for each value."""
    return ",".join("?" * len(values))


def chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The values in parts that one statement takes."""
    # SQLite takes a limited number of values in one statement.
    for start in range(0, len(values), 500):
        yield values[start : start + 500]

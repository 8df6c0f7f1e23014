"""The log as JSON Lines, one CloudEvent for each event, and back: the same bytes, so the same root.

`data` is the event's JSON as it is stored: compact, in the order of its fields. So it may be laid out anew on the way.
What would not come back the same from that is in `data_base64` instead.
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import zstandard
from eventsourcing.persistence import StoredEvent
from msgspec import Raw, Struct

from imagestream_es.bootstrap import open_store
from imagestream_es.maintenance import require_log
from imagestream_es.persistence.merkle import Checkpoint, Tree
from imagestream_es.projections import projector
from imagestream_es.recovery import refill
from imagestream_es.recovery.wholeness import AnotherOne, Refusal, begun_store, whole_file
from imagestream_es.settings import Settings

STANDARD = Path("-")


class CloudEvent(Struct, omit_defaults=True):
    """A line. `position` is the place in the log and `version` that within the history of `subject`."""

    id: str
    source: str
    type: str
    subject: str
    position: str
    version: int
    time: str = ""
    datacontenttype: str = "application/json"
    specversion: str = ""
    data: Raw = Raw()
    data_base64: str = ""


_encode = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder(CloudEvent).decode


def line(log: str, position: int, event: StoredEvent) -> bytes:
    """The line of an event of the log of that id, without its end."""
    fields: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(position),
        "source": f"urn:uuid:{log}",
        "type": event.topic,
        "subject": str(event.originator_id),
        "time": _time(event),
        "datacontenttype": "application/json",
        "position": str(position),
        "version": event.originator_version,
    }
    state = bytes(event.state)
    if _comes_back(state):
        fields["data"] = Raw(state)
    else:
        fields["data_base64"] = b64encode(state).decode()
    return _encode({name: value for name, value in fields.items() if value is not None})


def event_of(text: bytes) -> tuple[int, StoredEvent]:
    """The event of a line and its position. Raises ValueError (msgspec's are)."""
    found = _read(text)
    data = bytes(found.data)
    if found.specversion != "1.0" or bool(data) == bool(found.data_base64):
        raise ValueError("not a CloudEvent 1.0 with data")
    state = _encode(msgspec.json.decode(data)) if data else b64decode(found.data_base64, validate=True)
    return int(found.position), StoredEvent(found.subject, found.version, found.type, state)


def _comes_back(state: bytes) -> bool:
    try:
        return _encode(msgspec.json.decode(state)) == state
    except ValueError:
        return False


def _time(event: StoredEvent) -> str | None:
    try:
        moment = datetime.fromtimestamp(refill.time_of(event) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def export(settings: Settings, output: Path, *, compress: bool, progress: projector.Progress) -> Checkpoint:
    """Write the log to a new file, or to standard output for `-`; answers size and root of what was written.

    The service may run meanwhile. Raises Refusal if the file exists, NothingThere, OSError, PersistenceError.
    """
    if not settings.database_url:
        require_log(settings)
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(settings, to_read=True)))
        out = stack.enter_context(_writing(output, compress=compress))
        rows = stack.enter_context(store.reading())
        head = rows.head()
        log, tree = "", rows.tree_at(0)
        with closing(rows.log(0, head)) as events:
            for position, event in events:
                log = log or _log_id(event)
                out.write(line(log, position, event) + b"\n")
                tree.append(position, event)
                if position % projector.BATCH == 0 or position == head:
                    progress(position, head)
    return tree.checkpoint()


def _log_id(first: StoredEvent) -> str:
    return str(msgspec.json.decode(bytes(first.state)).get("log", "")) or "unknown"


class Imported(NamedTuple):
    """Size and root of the log, and how many of its events an interrupted import had brought before."""

    checkpoint: Checkpoint
    before: int


def import_log(settings: Settings, source: Path, expected: Checkpoint | None, progress: projector.Progress) -> Imported:
    """Fill an empty data directory or database from an export (`-`: standard input), or go on with that.

    Raises Refusal if there is a log already, a line is no event, the root is not the `expected` one or another file
    was begun with; DirectoryInUse, InUse, OSError, PersistenceError.
    """
    with _reading(source) as (lines, total), begun_store(settings) as store:
        with store.reading() as rows:
            begun = rows.tree().checkpoint()
        events = _events(lines)
        _pass_over(events, begun, source)
        filled = refill.go_on(store, begun, events, total, progress)
        if filled.size == 0:
            raise Refusal(f"{source} holds no events: name a file that `export` made")
        if expected is not None and filled != expected:
            raise Refusal(f"the file holds {filled} and not {expected}: export again, or use another file")
        projector.catch_up(store, progress)
    return Imported(filled, begun.size)


def _pass_over(events: Iterator[tuple[int, StoredEvent]], begun: Checkpoint, source: Path) -> None:
    """Pass over the events that are there already. Raises AnotherOne if they are not those of this file."""
    tree = Tree()
    for position, event in islice(events, begun.size):
        tree.append(position, event)
    if tree.checkpoint() != begun:
        raise AnotherOne(
            f"an import was interrupted here behind {begun.size} events, and {source} does not begin with them: "
            "import the file that it was, or name another place"
        )


def _events(lines: IO[bytes]) -> Iterator[tuple[int, StoredEvent]]:
    number = 0
    try:
        for number, text in enumerate(lines, 1):
            position, event = event_of(text)
            if position != number:
                raise Refusal(f"line {number} has position {position}: lines are missing, or in another order")
            yield position, event
    except (ValueError, zstandard.ZstdError, EOFError) as error:
        raise Refusal(f"line {number} can't be read: {error}. Use a file that `export` finished") from error


@contextmanager
def _writing(output: Path, *, compress: bool) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        if output == STANDARD:
            raw: IO[bytes] = sys.stdout.buffer
        else:
            raw = stack.enter_context(stack.enter_context(whole_file(output)).open("xb"))
        if not compress and output.suffix != ".zst":
            yield raw
            raw.flush()
            return
        with zstandard.ZstdCompressor(write_checksum=True).stream_writer(raw, closefd=False) as packed:
            yield packed
        raw.flush()


@contextmanager
def _reading(source: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The lines, and a guess how many there are: 0 where nobody knows."""
    with ExitStack() as stack:
        file: Any = sys.stdin.buffer if source == STANDARD else stack.enter_context(source.open("rb"))
        packed = bool(file.peek(4)[:4] == b"\x28\xb5\x2f\xfd")
        total = 0
        if source != STANDARD:
            with _unpacked(source.open("rb"), packed=packed) as counted:
                total = sum(1 for _ in counted)
        with _unpacked(file, packed=packed) as lines:
            yield lines, total


@contextmanager
def _unpacked(file: Any, *, packed: bool) -> Iterator[Any]:
    if not packed:
        yield file
        return
    yield BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True), 1 << 20)

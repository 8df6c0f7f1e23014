"""Watches: the log from any position on, as the changes of the objects that the selectors choose."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from api.call import Call, InvalidOptions, position
from api.errors import Refusal, status
from api.listing import Selection, await_position
from api.resource import Resource
from imagestream_es.application.hub import Hub, Subject
from imagestream_es.application.queries import Queries
from imagestream_es.domain.errors import Problem
from imagestream_es.domain.image import Image
from imagestream_es.persistence.store import Rows
from imagestream_es.projections.past import Change, Replay, StreamView

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
BOOKMARKS = 60.0
"""Seconds between bookmarks, for those who want them."""
CHUNK = 200
"""How many positions are read from the log in one transaction."""

Show = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """What a watch is asked for: from where, with what is there first or not, bookmarks, for how long."""

    since: int | None
    initial: bool
    announce: bool
    bookmarks: bool
    seconds: float


def options_of(call: Call) -> Options:
    """Read the parameters of a watch. Raises Refusal, InvalidOptions."""
    args = call.args
    version, match = args.get("resourceVersion", ""), args.get("resourceVersionMatch", "")
    sent = args.get("sendInitialEvents", "")
    bookmarks = args.get("allowWatchBookmarks", "") in ("true", "1")
    if args.get("continue"):
        raise InvalidOptions(Problem.FORBIDDEN, "continue", "continue is forbidden for watch")
    if sent not in ("", "true", "1", "false", "0"):
        raise Refusal(400, f'sendInitialEvents must be true or false, not "{sent[:40]}"')
    if sent and not match:
        detail = "resourceVersionMatch must be set to NotOlderThan when sendInitialEvents is"
        raise InvalidOptions(Problem.FORBIDDEN, "resourceVersionMatch", detail)
    if match and not sent:
        detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        raise InvalidOptions(Problem.FORBIDDEN, "resourceVersionMatch", detail)
    if match and match != "NotOlderThan":
        raise InvalidOptions(Problem.NOT_SUPPORTED, "resourceVersionMatch", 'supported values: "NotOlderThan"', match)
    wanted = position(version) or 0
    if wanted:
        await_position(call, wanted)
    initial = sent in ("true", "1") if sent else not wanted
    return Options(
        since=None if initial else wanted or None,
        initial=initial,
        announce=initial and bool(sent) and bookmarks,
        bookmarks=bookmarks,
        seconds=_seconds(args.get("timeoutSeconds", "")),
    )


def _seconds(text: str) -> float:
    if not text:
        return random.uniform(1800, 3600)  # noqa: S311 (spreads reconnects, guards nothing)
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refusal(400, f'timeoutSeconds must be a number, not "{text[:40]}"')
    return float(text) if int(text) else random.uniform(1800, 3600)  # noqa: S311


class Watch:
    """One watch, from its first line to its last. Everything it needs of the request is copied here."""

    def __init__(self, call: Call, resource: Resource, selection: Selection, options: Options, show: Show) -> None:
        assert resource.shown is not None
        self._call = call
        self._resource = resource
        self._shown = resource.shown
        self._selection = selection
        self._options = options
        self._show = show
        self._hub: Hub = call.services.hub
        self._queries: Queries = call.services.queries
        self._subject = _subject(call, resource, selection)
        self._subscription = self._hub.subscribe(self._subject)
        self._sent = 0
        self._replay = Replay()

    def lines(self) -> Iterator[bytes]:
        """The lines of the answer, as they come. An empty chunk first lets the headers go out."""
        try:
            yield b""
            yield from self._lines()
        except GeneratorExit:
            raise
        except Exception as error:
            self._call.log(error, self._resource.name)
            failed = status(500, "Internal error occurred: the watch failed; start again from the last version seen")
            yield orjson.dumps({"type": "ERROR", "object": failed}, option=orjson.OPT_APPEND_NEWLINE)
        finally:
            self.close()

    def close(self) -> None:
        """Give up the place in the hub."""
        self._hub.unsubscribe(self._subscription)

    def _lines(self) -> Iterator[bytes]:
        end = time.monotonic() + self._options.seconds
        if self._options.initial:
            yield from self._initial()
        else:
            self._sent = self._options.since or self._subscription.since
        bookmark = time.monotonic() + BOOKMARKS if self._options.bookmarks else math.inf
        while True:
            if self._sent < self._subscription.since:
                yield from self._from_log(self._subscription.since)
            now = time.monotonic()
            if now >= end or self._subscription.closed:
                break
            if now >= bookmark:
                yield self._bookmark(self._safe_position())
                bookmark = now + BOOKMARKS
            change = self._subscription.next(min(end, bookmark) - now)
            if change is not None:
                yield from self._changed(change)
            elif self._subscription.lagging:
                self._subscribe_again()
        if self._options.bookmarks and not self._subscription.closed:
            yield self._bookmark(self._safe_position())

    def _subscribe_again(self) -> None:
        old, self._subscription = self._subscription, self._hub.subscribe(self._subject)
        self._hub.unsubscribe(old)
        self._replay = Replay()

    def _safe_position(self) -> int:
        """A position up to which everything that concerns this watch was sent."""
        handed = self._hub.position
        waiting = self._subscription.waiting()
        return max(self._sent, handed if waiting is None else waiting - 1)

    def _initial(self) -> Iterator[bytes]:
        assert self._resource.find is not None
        listed = self._resource.find(self._call, None)
        for item in listed.found:
            if self._selection.chooses(item):
                yield self._line("ADDED", item)
        self._sent = listed.position
        if self._options.announce:
            yield self._bookmark(self._sent, {INITIAL_EVENTS_END: "true"})

    def _from_log(self, until: int) -> Iterator[bytes]:
        while self._sent < until:
            chunk = min(self._sent + CHUNK, until)
            # Lines are made before any is sent: no transaction stays open while a client is slow.
            yield from self._queries.reading(lambda rows, to=chunk: self._read(rows, to))  # type: ignore[misc]
            self._sent = max(self._sent, chunk)

    def _read(self, rows: Rows, until: int) -> list[bytes]:
        changes = self._replay.changes(rows, self._sent, until, self._concerns)
        return [line for change in changes for line in self._changed(change)]

    def _concerns(self, originator: str) -> bool:
        namespace, slash, name = originator.partition("/")
        wanted_namespace, wanted_name = self._subject
        if wanted_namespace == "":
            return not slash and wanted_name in (None, originator)
        return bool(slash) and wanted_namespace in (None, namespace) and wanted_name in (None, name)

    def _changed(self, change: Change) -> Iterator[bytes]:
        if change.position <= self._sent:
            return
        before, after = self._chosen(change, "before"), self._chosen(change, "after")
        self._sent = change.position
        if after is not None:
            yield self._line("MODIFIED" if before is not None else "ADDED", after)
        elif before is not None:
            metadata = before["metadata"] | {"resourceVersion": str(change.position)}
            yield self._line("DELETED", before | {"metadata": metadata})

    def _chosen(self, change: Change, side: str) -> dict[str, Any] | None:
        """The object before or after a change, in wire shape, if the selectors choose it."""
        view: StreamView | Image | None = getattr(change, side)
        if view is None:
            return None
        key = (side, self._call.door.prefix)
        item = change.shown.get(key)
        if item is None:
            item = change.shown[key] = self._shown(self._call, view)
        return item if self._selection.chooses(item) else None

    def _line(self, kind: str, item: dict[str, Any]) -> bytes:
        shown = self._show(item | {"metadata": dict(item["metadata"])})
        return orjson.dumps({"type": kind, "object": shown}, option=orjson.OPT_APPEND_NEWLINE)

    def _bookmark(self, at: int, annotations: dict[str, str] | None = None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(at), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        mark = {"kind": self._resource.kind, "apiVersion": self._call.door.api_version, "metadata": metadata}
        return orjson.dumps({"type": "BOOKMARK", "object": mark}, option=orjson.OPT_APPEND_NEWLINE)


def _subject(call: Call, resource: Resource, selection: Selection) -> Subject:
    if not resource.namespaced:
        return "", selection.name
    return call.namespace or None, selection.name

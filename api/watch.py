"""Watches: the log from any position on, as the changes of the objects that the selectors choose."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import orjson

from api.call import Call, InvalidOptions, is_set, position
from api.errors import Refusal, status
from api.listing import Selection, await_position
from api.resource import Resource
from imagestream_es.application.hub import Hub, Subject, subjects
from imagestream_es.application.queries import Queries
from imagestream_es.application.writer import Unavailable
from imagestream_es.domain.errors import Problem
from imagestream_es.persistence.store import Rows
from imagestream_es.projections.past import NO_HISTORY, Change, Replay, StreamView, View

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
BOOKMARKS = 60.0
"""Seconds between bookmarks, for those who want them."""
CHUNK, CHUNK_BYTES = 2000, 1 << 20
"""How many positions of the log are read in one transaction, and about how many bytes of lines made of them."""
KEPT = 2 << 20
"""About how many bytes of objects one watch keeps at hand while it reads the log."""
QUIET = 10.0
"""Seconds after which a watch with nothing to tell sends nothing, which finds out whether its client has gone."""
TURN = 0.5
"""Seconds to wait for a turn to read the log, before looking at the clock."""

ASK_AGAIN = 5.0
"""Seconds for which a watch goes on before it is asked again whether it may."""

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
    sent = args.get("sendInitialEvents", "").lower()
    bookmarks = is_set(args, "allowWatchBookmarks")
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
    """One watch, from its first line to its last. Everything it needs of the request is copied here.

    `show` gives an object the form that was asked for, and `form` tells that form from all others, so that watches
    of one form share the lines that it makes. Who is not `admitted` any more, since rights or credentials have gone,
    is told nothing more. Raises TooMany if there is no room for another one.
    """

    def __init__(
        self,
        call: Call,
        resource: Resource,
        selection: Selection,
        options: Options,
        form: Hashable,
        show: Show,
        admitted: Callable[[], bool],
    ) -> None:
        assert resource.shown is not None or resource.tells is not None
        self._call = call
        self._resource = resource
        self._shown = resource.shown
        self._tells = resource.tells
        self._selection = selection
        self._options = options
        self._form = form
        self._show = show
        self._admitted = admitted
        self._barred, self._ask_again_at = False, time.monotonic() + ASK_AGAIN
        self._hub: Hub = call.services.hub
        self._queries: Queries = call.services.queries
        self._subject = _subject(call, resource, selection)
        self._subscription = self._hub.subscribe(self._subject, call.services.settings.watches)
        self._replay = Replay(KEPT)
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        """The lines of the answer, as they come. An empty chunk first lets the headers go out."""
        try:
            yield b""
            yield from self._lines()
        except Unavailable:
            failed = status(503, "the store can't be read now; start again from the last version seen")
            yield _line("ERROR", failed)
        except Exception as error:
            self._call.log(error, self._resource.name)
            failed = status(500, "Internal error occurred: the watch failed; start again from the last version seen")
            yield _line("ERROR", failed)
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
            now = time.monotonic()
            if now >= end or self._subscription.closed or self._is_barred():
                break
            if now >= bookmark:
                yield self._progress()
                bookmark = now + BOOKMARKS
            if self._sent < self._subscription.since:
                yield from self._from_log()
                continue
            change = self._subscription.next(min(end, bookmark, now + QUIET) - now)
            if self._is_barred():
                break
            if change is not None:
                yield from self._changed(change)
            elif self._subscription.lagging:
                self._subscribe_again()
            elif time.monotonic() >= now + QUIET:
                yield b""
        if self._options.bookmarks and not self._subscription.closed and not self._barred:
            yield self._progress()

    def _is_barred(self) -> bool:
        now = time.monotonic()
        if now >= self._ask_again_at:
            self._barred, self._ask_again_at = not self._admitted(), now + ASK_AGAIN
        return self._barred

    def _subscribe_again(self) -> None:
        old, self._subscription = self._subscription, self._hub.subscribe(self._subject)
        self._hub.unsubscribe(old)

    def _progress(self) -> bytes:
        """A bookmark at the position up to which all is sent that concerns this watch."""
        if self._sent >= self._subscription.since:
            self._sent = max(self._sent, self._subscription.reached(self._hub.position))
        return self._bookmark(self._sent)

    def _initial(self) -> Iterator[bytes]:
        assert self._resource.find is not None
        listed = self._resource.find(self._call, None)
        for item in listed.found:
            if self._selection.chooses(item):
                yield _line("ADDED", self._show(item))
        self._sent = listed.position
        if self._options.announce:
            yield self._bookmark(self._sent, {INITIAL_EVENTS_END: "true"})

    def _from_log(self) -> list[bytes]:
        """The next lines on the way to where the subscription begins; none if others read the log just now.

        They are made before any is sent: no transaction stays open, and nobody waits, while a client is slow.
        """
        if not self._hub.turns.acquire(timeout=TURN):
            return []
        try:
            lines = self._queries.reading(self._read)
        finally:
            self._hub.turns.release()
        if self._sent >= self._subscription.since:
            self._replay = Replay(KEPT)  # what it keeps is of no use any more
        return lines

    def _read(self, rows: Rows) -> list[bytes]:
        until, lines, size = min(self._sent + CHUNK, self._subscription.since), [], 0
        if self._tells is not None:
            lines = list(self._added(until))
            self._sent = until
            return lines
        for change in self._replay.changes(rows, self._sent, until, self._concerns):
            for line in self._changed(change):
                lines.append(line)
                size += len(line)
            if size > CHUNK_BYTES:
                return lines
        self._sent = until
        return lines

    def _concerns(self, originator: str) -> bool:
        return self._subject in subjects(originator)

    def _changed(self, change: Change) -> Iterator[bytes]:
        if change.position <= self._sent:
            return
        if self._tells is not None:
            yield from self._added(change.position)
            self._sent = change.position
            return
        self._sent = change.position
        before, after = self._chooses(change.before), self._chooses(change.after)
        if before or after:
            kind = "DELETED" if not after else "MODIFIED" if before else "ADDED"
            yield change.once((self._form, kind), lambda: self._told(change, kind))

    def _added(self, until: int) -> Iterator[bytes]:
        """What came with the events up to a position and stays as it is: for each event a chunk of lines.

        Only the last of them brings the version of the event: a watch that goes on from any other gets all again.
        """
        assert self._tells is not None
        found = self._tells(self._call, self._selection, self._sent, until)
        for version, items in groupby(found, lambda item: int(item["metadata"]["resourceVersion"])):
            *others, last = items
            for item in others:
                item["metadata"]["resourceVersion"] = str(version - 1)
            yield b"".join(_line("ADDED", self._show(item)) for item in (*others, last))

    def _chooses(self, view: View | None) -> bool:
        if view is None or self._selection.everything:
            return view is not None
        assert self._shown is not None
        # No selector looks at histories, which are the most of a stream.
        bare = StreamView(view.stream, NO_HISTORY) if isinstance(view, StreamView) else view
        return self._selection.chooses(self._shown(self._call, bare))

    def _told(self, change: Change, kind: str) -> bytes:
        assert self._shown is not None
        item = self._shown(self._call, change.before if kind == "DELETED" else change.after)
        item["metadata"]["resourceVersion"] = str(change.position)
        return _line(kind, self._show(item))

    def _bookmark(self, at: int, annotations: dict[str, str] | None = None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(at), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        return _line("BOOKMARK", self._show({"metadata": metadata}))


def _line(kind: str, item: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": kind, "object": item}, option=orjson.OPT_APPEND_NEWLINE)


def _subject(call: Call, resource: Resource, selection: Selection) -> Subject:
    if not resource.namespaced:
        return "", selection.name
    if resource.tells is not None:
        return call.namespace or None, selection.requires("stream")
    return call.namespace or None, selection.name

"""Writes logs of any length straight into a store, far faster than through the service.

The events are those that pushes make: the same fields, with values of the same lengths.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.images import digest
from imagestream_es.domain.events import (
    DomainEvent,
    ImageMapped,
    ImageRegistered,
    LogStarted,
    Origin,
    Put,
    StreamCreated,
)
from imagestream_es.persistence.event_mapper import EventMapper, Recorded
from imagestream_es.persistence.sqlite import SQLiteStore
from imagestream_es.projections.projector import catch_up

NAMESPACE = "benchmark"

LONG, KNOWN = "long", "stream-7"
"""The stream with one long history, and another one: the only ones whose images are there to be read."""

IMAGES = 20
"""How many images each tag goes round in, so that some changes are reverts."""

_TOGETHER = 20_000
"""How many events are written in one transaction."""

_ROUNDS = 100
"""In so many rounds the entries are put on all tags, so that the events of all streams are mixed."""

_BEGAN = 1_600_000_000_000


def write_log(directory: Path, entries: Mapping[str, int], *, fold: bool) -> None:
    """Write a log of streams with so many `entries` on their tags, and the views over it if they are to be folded."""
    directory.mkdir(parents=True, mode=0o700)
    store, mapper, versions = SQLiteStore(str(directory / "imagestream.db")), EventMapper(), Counter[str]()
    store.create_tables()
    events = enumerate(_events(entries), 1)
    while some := list(itertools.islice(events, _TOGETHER)):
        with store.writing() as rows:
            stored = []
            for position, (name, event) in some:
                versions[name] += 1
                stored.append((position, mapper.to_stored_event(Recorded(name, versions[name], event))))
            rows.append(stored)
    if fold:
        catch_up(store)
    store.close()


def _events(entries: Mapping[str, int]) -> Iterator[tuple[str, DomainEvent]]:
    numbers = itertools.count(1)

    def by() -> Origin:
        number = next(numbers)
        return Origin(at=_BEGAN + 10 * number, actor="0123456789abcdef0123", door="api", request=_request(number))

    yield "/log", LogStarted(by=by(), log="benchmark")
    for name in entries:
        repository = f"172.30.56.218:5000/{NAMESPACE}/{name}"
        yield (
            f"{NAMESPACE}/{name}",
            StreamCreated(by=by(), namespace=NAMESPACE, name=name, uid=name, generation=1, repository=repository),
        )
    for name in (LONG, KNOWN):
        for number in range(IMAGES):
            yield digest(f"{name} {number}"), ImageRegistered(by=by(), uid=f"{name}-{number}")
    for turn in range(_ROUNDS):
        for name, count in entries.items():
            for number in range(count * turn // _ROUNDS, count * (turn + 1) // _ROUNDS):
                image = digest(f"{name} {number % IMAGES}")
                yield f"{NAMESPACE}/{name}", ImageMapped(by=by(), put=(Put(tag="latest", image=image, generation=1),))


def _request(number: int) -> str:
    """The id of a request."""
    text = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

"""From times to positions of the log and back.

The time of a position is the latest of all events up to it, so it never falls, whatever clocks do.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.persistence.read_model import MOMENTS
from imagestream_es.persistence.store import Rows

_mapper = EventMapper()


def position_at(rows: Rows, time: int) -> int:
    """The position of the last event that is not after `time`, in milliseconds; 0 if there is none."""
    query = "SELECT position, time FROM moments WHERE time <= ? ORDER BY time DESC, position DESC LIMIT 1"
    start = rows.one(query, time)
    found, reached = start or (0, 0)
    for position, moment in _on_from(rows, found, reached, found + MOMENTS):
        if moment > time:
            break
        found = position
    return int(found)


def time_at(rows: Rows, position: int) -> int:
    """The time of a position, in milliseconds; 0 before the first event."""
    start = rows.one("SELECT position, time FROM moments WHERE position <= ? ORDER BY position DESC LIMIT 1", position)
    found, time = start or (0, 0)
    for _, moment in _on_from(rows, found, time, position):
        time = moment
    return int(time)


def _on_from(rows: Rows, position: int, time: int, until: int) -> Iterator[tuple[int, int]]:
    """The positions behind one up to another, each with its time; `time` is that of the first."""
    for at, stored in rows.log(position, until):
        time = max(time, _mapper.decode(stored.topic, stored.state).by.at)
        yield at, time

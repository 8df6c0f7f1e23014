"""From times to positions of the log.

The time of a position is the latest of all events up to it, so it never falls, whatever clocks do.
"""

from __future__ import annotations

from imagestream_es.persistence.event_mapper import EventMapper
from imagestream_es.persistence.read_model import MOMENTS
from imagestream_es.persistence.store import Rows

_mapper = EventMapper()


def position_at(rows: Rows, time: int) -> int:
    """The position of the last event that is not after `time`, in milliseconds; 0 if there is none."""
    query = "SELECT position, time FROM moments WHERE time <= ? ORDER BY time DESC, position DESC LIMIT 1"
    start = rows.one(query, time)
    found, reached = start or (0, 0)
    for position, stored in rows.log(found, found + MOMENTS):
        reached = max(reached, _mapper.decode(stored.topic, stored.state).by.at)
        if reached > time:
            break
        found = position
    return int(found)

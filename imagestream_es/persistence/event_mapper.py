"""How domain events become the library's stored events and come back.

The state of a stored event is the JSON of the event as `domain.events` declares it. Fields that a reader
does not know are passed over, fields that an old event lacks take their defaults, and an event of an older
`class_version` is lifted by its class's `upcast_v1_v2`, `upcast_v2_v3` … before it is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from eventsourcing.persistence import Mapper, MapperDeserialisationError, StoredEvent, Transcoder
from msgspec import Struct

from imagestream_es.domain.events import EVENTS, DomainEvent, Origin

_VERSIONED = b'{"class_version":'
"""How the JSON of an event of a later version than the first begins."""


class Recorded(Struct, frozen=True):
    """A domain event in its place: `originator_version` within its aggregate, counted from 1."""

    originator_id: str
    originator_version: int
    event: DomainEvent


class _Originated(Struct):
    by: Origin


_decode_origin = msgspec.json.Decoder(_Originated).decode


class JSONBytes(Transcoder):
    """The library's transcoder interface over msgspec."""

    def encode(self, obj: Any) -> bytes:
        """JSON text of a value."""
        return msgspec.json.encode(obj)

    def decode(self, data: bytes) -> Any:
        """Value of a JSON text."""
        return msgspec.json.decode(data)


class EventMapper(Mapper[str]):
    """Maps `Recorded` events to stored events and back; a topic is looked up among `events` and nowhere else."""

    def __init__(self, events: Iterable[type[DomainEvent]] = EVENTS) -> None:
        super().__init__(JSONBytes())
        self._encoder = msgspec.json.Encoder()
        self._decoders = {event.TOPIC: msgspec.json.Decoder(event) for event in events}

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        """The stored form of a `Recorded` event."""
        event: DomainEvent = domain_event.event
        state = self._encoder.encode(event)
        if event.class_version > 1:
            state = b"%s%d,%s" % (_VERSIONED, event.class_version, state[1:])
        return StoredEvent(domain_event.originator_id, domain_event.originator_version, event.TOPIC, state)

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        """The `Recorded` event of a stored one. Raises MapperDeserialisationError if it can't be read."""
        event = self.decode(stored_event.topic, stored_event.state)
        return Recorded(str(stored_event.originator_id), stored_event.originator_version, event)

    def decode(self, topic: str, state: bytes) -> DomainEvent:
        """The event of a topic and its stored bytes. Raises MapperDeserialisationError if it can't be read."""
        decoder = self._decoders.get(topic)
        if decoder is None:
            message = f"no event is known by the topic '{topic}'"
            raise MapperDeserialisationError(message)
        try:
            if decoder.type.class_version > 1 or state[: len(_VERSIONED)] == _VERSIONED:
                return self._upcast(decoder.type, state)
            return decoder.decode(state)
        except (msgspec.MsgspecError, ValueError, TypeError, LookupError, AttributeError) as error:
            message = f"an event of topic '{topic}' can't be read: {error}"
            raise MapperDeserialisationError(message) from error

    def origin(self, topic: str, state: bytes) -> Origin:
        """How the event of a topic and its stored bytes came about. Raises MapperDeserialisationError."""
        try:
            return _decode_origin(state).by
        except msgspec.MsgspecError:
            return self.decode(topic, state).by

    def _upcast(self, event_class: Any, state: bytes) -> DomainEvent:
        fields = self.transcoder.decode(state)
        version = fields.pop("class_version", 1)
        if version > event_class.class_version:
            known = event_class.class_version
            raise ValueError(f"it is of version {version}, and this program knows {known}: update it")
        while version < event_class.class_version:
            getattr(event_class, f"upcast_v{version}_v{version + 1}")(fields)
            version += 1
        # Through JSON again, so that raw parts of a document are read as they always are.
        event: DomainEvent = msgspec.json.decode(self.transcoder.encode(fields), type=event_class)
        return event

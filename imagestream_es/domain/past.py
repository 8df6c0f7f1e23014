"""The values in which the past of tags is asked for and told."""

from __future__ import annotations

from msgspec import Struct

NOW = 2**62
"""A position behind every event."""

Place = tuple[int, int]
"""Position and slot of a change: no other has the same, in whichever stream."""

EntryRow = tuple[int | None, str | None, str, int]
"""An entry of a history: when, pull spec (None for the stream's default one), image, generation."""


class Scope(Struct, frozen=True, kw_only=True):
    """Which changes are meant: those behind position `after` up to `until`, of what else is said; None is any."""

    namespace: str | None = None
    stream: str | None = None
    tag: str | None = None
    action: str | None = None
    image: str | None = None
    after: int = 0
    until: int = NOW


class Target(Struct, frozen=True):
    """What a tag names: an image ("" if it only refers), and the pull spec."""

    image: str
    reference: str

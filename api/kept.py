"""What is kept of a read so that it can be answered again."""

from __future__ import annotations

from dataclasses import dataclass

from api.ready import Ready
from imagestream_es.access.policy import Action
from imagestream_es.application.freshness import Stamps


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a read, the stamps under which it was read, and what one must be allowed to do to get it.

    `name` is that in the path.
    """

    ready: Ready
    stamps: Stamps
    action: Action
    name: str

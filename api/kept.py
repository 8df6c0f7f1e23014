"""What is kept of a read so that it can be answered again."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from api.ready import Ready
from imagestream_es.access.policy import Action
from imagestream_es.application.freshness import Stamps


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a read, the stamps under which it was read, and what one must be allowed to do to get it.

    `name` is that in the path. Who makes the next such answer, when this one counts no more, has its `turn`.
    """

    ready: Ready
    stamps: Stamps
    action: Action
    name: str
    turn: threading.Lock = field(default_factory=threading.Lock)

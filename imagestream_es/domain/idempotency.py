"""What makes a request be done once: its key, and what is known of it when it comes again."""

from __future__ import annotations

from msgspec import Struct

from imagestream_es.domain.events import Origin


class Claim(Struct, frozen=True):
    """A request under a key of an actor: `fingerprint` tells it from others, `at` is when it came in."""

    actor: str
    key: str
    fingerprint: str
    at: int

    @property
    def id(self) -> tuple[str, str]:
        """What is used once."""
        return self.actor, self.key


class Done(Struct, frozen=True):
    """A request that was done: the positions that the log ended at before it and after it.

    They are the same if it changed nothing. `memo` is what the log can't tell of the answer.
    """

    fingerprint: str
    before: int
    after: int
    memo: bytes = b""


def claim_of(by: Origin) -> Claim | None:
    """The claim that a request makes, None for one without a key."""
    return Claim(by.actor, by.key, by.fingerprint, by.at) if by.key else None

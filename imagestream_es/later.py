"""An answer that comes about later, so that no thread waits for it.

Many pushes are committed together, and until that is done nobody has to stand by for each of them: a thread that sleeps
meanwhile must be woken, and wait for its turn among all others, only to send what could have been sent at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol


class UnderWay(Protocol):
    """Something under way."""

    def then(self, heard: Callable[[], None]) -> None:
        """Call `heard` once it has come about: in the thread that has done it, or here if it is done."""

    def outcome(self) -> Any:
        """Wait for it; answers or raises what came of it."""


class Later:
    """The body of a WSGI answer that `make` gives, with status and headers, when what was `begun` has come about.

    Who can send it then says so by `then`. Whoever else goes through it, as any WSGI server would, waits for it.
    `ended` are called when it is made.
    """

    def __init__(self, begun: UnderWay, make: Callable[[], Iterable[bytes]]) -> None:
        self._begun, self._make = begun, make
        self.ended: list[Callable[[], None]] = []

    def then(self, send: Callable[[Iterable[bytes]], None]) -> None:
        """Have the body sent once it is made."""
        self._begun.then(lambda: send(self._made()))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._made())

    def _made(self) -> Iterable[bytes]:
        try:
            return self._make()
        finally:
            for end in self.ended:
                end()

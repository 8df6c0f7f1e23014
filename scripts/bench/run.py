"""What every row of one run is given: how long, how large, where; and what several rows share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from bench.endpoint import Endpoint
from bench.limits import limit_server
from bench.service import Target, service

Figures = dict[str, Any]

T = TypeVar("T")


@dataclass
class Run:
    """One run. `scale` shrinks what is large: logs, numbers of streams, histories.

    Raises nothing of its own; leaving the block ends servers and removes what was prepared.
    """

    seconds: float
    rounds: int
    scale: float
    say: Callable[[str], None]
    remote: Endpoint | None = None
    pids: tuple[int, ...] = ()
    _stack: ExitStack = field(default_factory=ExitStack)
    _limits: dict[str, Target] = field(default_factory=dict)
    _prepared: dict[str, Path] = field(default_factory=dict)
    _shared: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def scaled(self, number: int, least: int = 1) -> int:
        """A size of this run."""
        return max(round(number * self.scale), least)

    @contextmanager
    def target(self, options: Sequence[str] = (), prepared: Path | None = None) -> Iterator[Target]:
        """The server that the caller named, or a service of our own."""
        if self.remote is not None:
            yield Target(self.remote, self.pids)
            return
        with service(options, prepared) as target:
            yield target

    def limit(self, kind: str) -> Target:
        """The bare server of a kind (`wsgi`, `flask`), the same during the whole run."""
        if kind not in self._limits:
            self._limits[kind] = self._stack.enter_context(limit_server(kind))
        return self._limits[kind]

    def prepared(self, name: str, build: Callable[[Path], None]) -> Path:
        """A data directory that is built once in a run; nobody may write into it."""
        if name not in self._prepared:
            self.say(f"writing the log '{name}'")
            root = Path(self._stack.enter_context(TemporaryDirectory(prefix="imagestream-benchmark-")))
            build(root / "data")
            self._prepared[name] = root / "data"
        return self._prepared[name]

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """What is made once in a run."""
        if name not in self._shared:
            self._shared[name] = make()
        found: T = self._shared[name]
        return found

"""How often what happened."""

from __future__ import annotations

import threading
from collections import Counter


class Tally:
    """Counts by reason; threads may share it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, reason: str, number: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[reason] += number

    def counts(self) -> dict[str, int]:
        """What was counted so far."""
        with self._lock:
            return dict(self._counts)

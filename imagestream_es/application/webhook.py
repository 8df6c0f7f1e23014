"""What the internal registry tells is taken in: stored before it is acknowledged, worked off later.

Nothing is asked of the registry here: it tells one thing after another and waits for each answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from imagestream_es.application.pushes import WEBHOOK, Pushes, Receipt
from imagestream_es.application.tally import Tally
from imagestream_es.registry.notifications import Notification, read_notifications

MOST_INSTANCES = 1000
"""Registry processes that are remembered."""


@dataclass(frozen=True)
class Webhook:
    """Takes notifications; `new_instance` is called when a registry process tells something for the first time.

    A registry that was started anew may have lost what the one before had to tell.
    """

    pushes: Pushes
    tally: Tally
    clock: Callable[[], int]
    new_instance: Callable[[], None]
    _instances: dict[str, None] = field(default_factory=dict)

    def receive(self, body: bytes) -> Receipt:
        """Keep the pushes in a request's body; all else is counted. Raises Unavailable: then nothing is kept."""
        notifications = read_notifications(body, self.clock() * 1_000_000)
        receipt = self.pushes.keep(WEBHOOK, [(one.push, one.raw) for one in notifications if one.push is not None])
        for one in notifications:
            if one.push is None:
                self.tally.add(one.reason)
        if receipt.known:
            self.tally.add("known", receipt.known)
        for one in notifications:
            self._meet(one)
        return receipt

    def _meet(self, notification: Notification) -> None:
        instance = notification.instance
        if not instance or instance in self._instances:
            return
        while len(self._instances) >= MOST_INSTANCES:
            self._instances.pop(next(iter(self._instances)), None)
        self._instances[instance] = None
        self.new_instance()

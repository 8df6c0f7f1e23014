"""When which import is due, and what registries may be asked for at the same time.

Nothing here waits, asks or reads a clock: `now` is in seconds of a clock that never goes back. Imports of one
stream from one registry go together. What is pending goes before what is only due again.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from random import Random

from imagestream_es.domain.import_needs import Need

FIRST_RETRY = 5.0
"""Seconds until a failed import is tried again; each further failure doubles them."""
LONGEST_RETRY = 3600.0
"""Seconds beyond which they do not grow; for scheduled imports that is the interval."""
JITTER = 0.1
"""How much longer than it should be a time may get, so that what began together does not stay together."""
MANIFESTS_A_SECOND = 2.0
MANIFESTS_AT_ONCE = 3
"""What one registry is asked for at most, the parts of images for several platforms left out."""
ATTEMPTS_AT_ONCE = 2
"""How many imports may wait for the same registry: one that hangs must not stop the others."""
LONGEST_REST = 16.0
"""Seconds that a registry that only fails is left alone at most; they begin with one and double."""
SCHEDULED_A_SECOND = 1.0
"""How many streams are looked at again at most, whatever their registries."""


class Ended(Enum):
    """How an attempt ended for one tag; what failed for now may go well later by itself."""

    DONE = "done"
    FAILED = "failed"
    FAILED_FOR_NOW = "failed for now"


@dataclass(frozen=True)
class Attempt:
    """What to import now: tags of a stream from one registry, each with what it needs."""

    stream: str
    registry: str
    needs: Mapping[str, Need]


class Bucket:
    """Lets `rate` things a second pass, `burst` of them at once. If more pass, the next wait longer."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at = -math.inf

    def wait(self, number: float, now: float) -> float:
        """Seconds until so many things may pass."""
        missing = number - self._filled(now)
        return missing / self._rate if missing > 1e-9 else 0.0  # sums of seconds are never quite right

    def take(self, number: float, now: float) -> None:
        """Let things pass."""
        self._level = self._filled(now) - number
        self._at = now

    def _filled(self, now: float) -> float:
        return min(self._burst, self._level + (now - self._at) * self._rate)


class _State(Enum):
    IDLE = "idle"
    WAITING = "waiting"
    RUNNING = "running"


@dataclass
class _Tag:
    need: Need
    due: float
    failures: int = 0


@dataclass(eq=False)
class _Job:
    """The imports of a stream from one registry.

    `alarm` is when the schedule next looks at it; `ahead` says that it waits among those with pending imports.
    """

    stream: str
    registry: str
    tags: dict[str, _Tag] = field(default_factory=dict)
    alarm: float = math.inf
    state: _State = _State.IDLE
    ahead: bool = False

    @property
    def next(self) -> float:
        """When the first of the tags is due."""
        return min((tag.due for tag in self.tags.values()), default=math.inf)

    def due(self, now: float) -> list[str]:
        """The tags to import at once: pending ones first, then those that wait the longest."""
        found = [name for name, tag in self.tags.items() if tag.due <= now]
        found.sort(key=lambda name: (not self.tags[name].need.pending, self.tags[name].due))
        return found[:MANIFESTS_AT_ONCE]

    def is_pending(self, now: float) -> bool:
        """Whether something is due that was not imported before."""
        return any(tag.due <= now and tag.need.pending for tag in self.tags.values())


class _Lane:
    """What waits for one registry, and how that one is doing. A job may wait in both queues, and is taken once."""

    def __init__(self) -> None:
        self.bucket = Bucket(MANIFESTS_A_SECOND, MANIFESTS_AT_ONCE)
        self.running = 0
        self.failures = 0
        self.rests_until = -math.inf
        self.pending: deque[_Job] = deque()
        self.again: deque[_Job] = deque()

    @property
    def is_open(self) -> bool:
        """Whether one more import may ask the registry; one at a time tries a registry that failed."""
        return self.running < (1 if self.failures else ATTEMPTS_AT_ONCE)

    def put(self, job: _Job, now: float) -> None:
        """Let a job wait."""
        if not job.is_pending(now):
            self.again.append(job)
        elif not job.ahead:
            job.ahead = True
            self.pending.append(job)

    def pop(self) -> _Job:
        """Take out the job whose turn it is."""
        if not self.pending:
            return self.again.popleft()
        job = self.pending.popleft()
        job.ahead = False
        return job

    def end(self, ended: Mapping[str, Ended], now: float) -> None:
        """Note how an attempt ended."""
        self.running -= 1
        if ended and all(how is Ended.FAILED_FOR_NOW for how in ended.values()):
            self.rests_until = now + min(2.0**self.failures, LONGEST_REST)
            self.failures = min(self.failures + 1, 16)
        elif ended:
            self.failures = 0


class Schedule:
    """All imports that will be needed, by stream and registry."""

    def __init__(self, interval: float, random: Random) -> None:
        self._interval = interval
        self._random = random
        self._jobs: dict[str, dict[str, _Job]] = {}
        self._lanes: dict[str, _Lane] = {}
        self._alarms: list[tuple[float, int, _Job]] = []
        self._count = count()
        self._streams = Bucket(SCHEDULED_A_SECOND, 1)

    def __len__(self) -> int:
        """How many streams there are to look after."""
        return len(self._jobs)

    # --- what is needed

    def begin(self, stream: str, needs: Mapping[str, Need], now: float) -> None:
        """Take in a stream at the start. Nobody knows when it was last looked at: so at any time of an interval."""
        self._take_in(stream, needs, now, lambda _: self._random.uniform(0, self._interval))

    def update(self, stream: str, needs: Mapping[str, Need], now: float) -> None:
        """Take in what a stream needs now; what it needed before and still needs is due when it was."""
        self._take_in(stream, needs, now, self._later)

    def settle(self, attempt: Attempt, ended: Mapping[str, Ended], needs: Mapping[str, Need], now: float) -> None:
        """Take in how an attempt ended, and what the stream needs now.

        `attempt` holds the needs that were met. `ended` leaves out what was not attempted after all.
        """
        self._lane(attempt.registry).end(ended, now)
        job = self._jobs[attempt.stream][attempt.registry]
        job.state = _State.IDLE
        for name, how in ended.items():
            tag, need = job.tags.get(name), needs.get(name)
            if tag is None or need is None or (need.pending and need != attempt.needs[name]):
                continue  # it is not wanted any more, or something else is
            tag.need = need
            tag.failures = 0 if how is Ended.DONE else min(tag.failures + 1, 64)
            tag.due = now + self._pause(need, how, tag.failures)
        self.update(attempt.stream, needs, now)

    def charge(self, registry: str, manifests: int, now: float) -> None:
        """Count manifests that a registry was asked for beyond one for each tag."""
        self._lane(registry).bucket.take(manifests, now)

    def _take_in(self, stream: str, needs: Mapping[str, Need], now: float, later: Callable[[Need], float]) -> None:
        jobs = self._jobs.setdefault(stream, {})
        for name, need in needs.items():
            job = jobs.setdefault(need.registry, _Job(stream, need.registry))
            tag = job.tags.get(name)
            if tag is None:
                tag = job.tags[name] = _Tag(need, math.inf)
                tag.due = now if need.pending else now + later(need)
            elif need != tag.need:
                if need.pending:
                    tag.due, tag.failures = now, 0
                elif tag.need.pending:
                    tag.due = now + later(need)
                tag.need = need
        for job in list(jobs.values()):
            for name in [name for name in job.tags if name not in needs or needs[name].registry != job.registry]:
                del job.tags[name]
            if not job.tags and job.state is not _State.RUNNING:
                del jobs[job.registry]
            elif job.state is _State.WAITING and job.is_pending(now):
                self._lane(job.registry).put(job, now)
            self._set_alarm(job)
        if not jobs:
            del self._jobs[stream]

    def _later(self, need: Need) -> float:
        return self._pause(need, Ended.FAILED_FOR_NOW if need.failed else Ended.DONE, 1)

    def _pause(self, need: Need, how: Ended, failures: int) -> float:
        """Seconds until an import that ended so is due again."""
        usual = self._interval if need.scheduled else math.inf
        if how is Ended.FAILED_FOR_NOW:
            longest = self._interval if need.scheduled else LONGEST_RETRY
            usual = min(FIRST_RETRY * 2.0 ** (failures - 1), longest)
        return usual * (1 + self._random.uniform(0, JITTER))

    # --- what is due

    def take(self, now: float) -> Attempt | None:
        """The next import to attempt; `settle` must be told how it ended."""
        self._line_up(now)
        for registry, lane in self._lanes.items():
            job = self._first(lane, now)
            if job is not None:
                self._lanes[registry] = self._lanes.pop(registry)  # the others come first next time
                return Attempt(job.stream, registry, {name: job.tags[name].need for name in job.due(now)})
        return None

    def wait(self, now: float) -> float:
        """Seconds until `take`, which answered None at `now`, may answer more; infinity if nothing is to come."""
        waits = [self._alarms[0][0] - now] if self._alarms else []
        crowded = [lane for lane in self._lanes.values() if lane.is_open and (lane.pending or lane.again)]
        waits += [self._obstacle(lane, now) for lane in crowded]
        return max(0.0, min(waits, default=math.inf))

    def _line_up(self, now: float) -> None:
        """Let those wait at their registries whose time has come."""
        while self._alarms and self._alarms[0][0] <= now:
            alarm, _, job = heapq.heappop(self._alarms)
            if alarm != job.alarm:
                continue
            job.alarm = math.inf
            if job.state is _State.IDLE and job.due(now):
                job.state = _State.WAITING
                self._lane(job.registry).put(job, now)
            self._set_alarm(job)

    def _first(self, lane: _Lane, now: float) -> _Job | None:
        """The job whose turn it is at a registry, if that may be asked now."""
        self._drop_idle(lane, now)
        if not lane.is_open or not (lane.pending or lane.again) or self._obstacle(lane, now):
            return None
        if not lane.pending:
            self._streams.take(1, now)
        job = lane.pop()
        job.state = _State.RUNNING
        lane.running += 1
        lane.bucket.take(len(job.due(now)), now)
        return job

    def _drop_idle(self, lane: _Lane, now: float) -> None:
        """Send those away from the heads of the queues who have nothing to do there any more."""
        while lane.pending and not (lane.pending[0].state is _State.WAITING and lane.pending[0].is_pending(now)):
            job = lane.pop()
            if job.state is _State.WAITING:
                lane.again.append(job)
        while lane.again and not (lane.again[0].state is _State.WAITING and lane.again[0].due(now)):
            job = lane.again.popleft()
            if job.state is _State.WAITING:
                job.state = _State.IDLE
                self._set_alarm(job)

    def _obstacle(self, lane: _Lane, now: float) -> float:
        """Seconds until the head of a lane may go."""
        job = lane.pending[0] if lane.pending else lane.again[0]
        wait = max(lane.rests_until - now, lane.bucket.wait(len(job.due(now)), now))
        return max(0.0, wait if lane.pending else max(wait, self._streams.wait(1, now)))

    def _set_alarm(self, job: _Job) -> None:
        if job.state is _State.IDLE and job.next < job.alarm:
            job.alarm = job.next
            heapq.heappush(self._alarms, (job.alarm, next(self._count), job))

    def _lane(self, registry: str) -> _Lane:
        return self._lanes.setdefault(registry, _Lane())

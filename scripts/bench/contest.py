"""Measures several things in turns, so that the machine's moods hit all of them alike: medians of rounds, ratios."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.load import Outcome

Contender = Callable[[], Outcome]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; nan without any."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


@dataclass
class Round:
    """The figures of one contender in one round. Rates are successes a second, CPU is for each answer in ms."""

    rate: float
    p50: float
    p99: float
    cpu: float | None
    own: float
    others: float
    codes: Counter[int]


def _round(outcome: Outcome, group: int) -> Round:
    answers = outcome.groups[group]
    count = max(answers.codes.total(), 1)
    return Round(
        rate=len(answers.latencies) / outcome.seconds,
        p50=1000 * percentile(answers.latencies, 0.5),
        p99=1000 * percentile(answers.latencies, 0.99),
        cpu=None if outcome.server_cpu is None else 1000 * outcome.server_cpu / count,
        own=1000 * outcome.own_cpu / count,
        others=outcome.others,
        codes=answers.codes,
    )


class Contest:
    """The rounds of some contenders. The first group of a load is the one that counts."""

    def __init__(self, contenders: Mapping[str, Contender], rounds: int, say: Callable[[str], None]) -> None:
        self.rounds: dict[str, list[Round]] = {name: [] for name in contenders}
        self.beside: dict[str, list[Round]] = {name: [] for name in contenders}
        for number in range(rounds):
            order = list(contenders)
            for name in order if number % 2 == 0 else reversed(order):
                say(f"{name}, round {number + 1} of {rounds}")
                outcome = contenders[name]()
                self.rounds[name].append(_round(outcome, 0))
                if len(outcome.groups) > 1:
                    self.beside[name].append(_round(outcome, 1))

    def figures(self, name: str) -> dict[str, Any]:
        """The medians of one contender, and all its answers that were no success."""
        rounds = self.rounds[name]
        failures = sum((one.codes for one in rounds), Counter[int]())
        answered = failures.total()
        failed = {str(code or "lost"): count for code, count in sorted(failures.items()) if not 200 <= code < 300}
        cpu = [one.cpu for one in rounds if one.cpu is not None]
        return {
            "rate": _median(one.rate for one in rounds),
            "p50 ms": _median(one.p50 for one in rounds),
            "p99 ms": _median(one.p99 for one in rounds),
            "server CPU ms": _median(cpu) if cpu else None,
            "generator CPU ms": _median(one.own for one in rounds),
            "cores busy with others": _median(one.others for one in rounds),
            "rates": [round(one.rate, 1) for one in rounds],
            "answers": answered,
            "failures": failed,
            "share that failed": sum(failed.values()) / max(answered, 1),
        }

    def ratio(self, one: str, other: str) -> float:
        """The median of the rates of one by those of the other in the same round."""
        pairs = zip(self.rounds[one], self.rounds[other], strict=True)
        return _median(mine.rate / theirs.rate if theirs.rate else float("nan") for mine, theirs in pairs)


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 4)

"""Memory for what was used last: it is bounded, and what is used stays."""

from __future__ import annotations

from imagestream_es.application.recent import OVERHEAD, Recent


def test_the_things_used_last_are_kept_in_as_much_memory_as_there_is() -> None:
    recent = Recent(20 * (1000 + OVERHEAD))
    recent.put("favourite", "f", 1000)
    for number in range(100):
        recent.put(number, str(number), 1000)
        assert recent.get("favourite") == "f"
        assert recent.get(number) == str(number)
    assert 8 <= sum(recent.get(number) is not None for number in range(100)) <= 20


def test_what_takes_too_much_is_not_kept() -> None:
    recent = Recent(100_000)
    recent.put("long", "l", 60_000)
    assert recent.get("long") is None


def test_without_memory_nothing_is_kept() -> None:
    recent = Recent(0)
    recent.put("any", "a", 0)
    assert recent.get("any") is None


def test_putting_the_same_again_takes_no_more_memory() -> None:
    recent = Recent(10 * (1000 + OVERHEAD))
    recent.put("other", "o", 1000)
    for number in range(50):
        recent.put("same", number, 1000)
    assert recent.get("other") == "o"
    assert recent.get("same") == 49

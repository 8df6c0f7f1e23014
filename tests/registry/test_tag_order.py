"""The order in which a repository's tags are imported."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.registry.tag_order import import_order

CASE = json.loads((Path(__file__).parent.parent / "data" / "registry" / "tag_order.json").read_text())

tags = st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True) | st.just("latest"), unique=True)


def test_tags_come_in_the_recorded_order():
    assert import_order(CASE["input"]) == CASE["output"]


def test_numbers_are_compared_as_numbers():
    assert import_order(["1.9", "1.10", "1.100"]) == ["1.100", "1.10", "1.9"]
    assert import_order(["1.2.9", "1.2.10", "1.10.0"]) == ["1.10.0", "1.2.10", "1.2.9"]


def test_a_release_comes_before_what_led_to_it():
    tags = ["1.0-rc.2", "1.0-rc.10", "1.0", "1.0-alpha", "1.0-1"]
    assert import_order(tags) == ["1.0", "1.0-rc.10", "1.0-rc.2", "1.0-alpha", "1.0-1"]


@given(tags, st.randoms())
def test_the_order_does_not_depend_on_that_of_the_registry(tags, random):
    shuffled = random.sample(tags, len(tags))
    assert import_order(shuffled) == import_order(tags)


@given(tags)
def test_every_tag_is_there_once_and_latest_first(tags):
    ordered = import_order(tags)
    assert sorted(ordered) == sorted(tags)
    assert "latest" not in ordered[1:]

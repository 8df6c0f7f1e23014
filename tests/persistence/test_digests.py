"""Names of images come back as they were, and are found by their beginnings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.persistence.digests import beginning_with, packed, unpacked

digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)
names = (
    digests
    | st.text(st.characters(exclude_categories=("Cs",)))
    | digests.map(str.upper)
    | digests.map(lambda d: d[:-1])
)


@given(names)
def test_a_name_comes_back_as_it_was(name: str) -> None:
    assert unpacked(packed(name)) == name


@given(digests)
def test_a_digest_takes_half_the_bytes(name: str) -> None:
    assert len(packed(name)) == 33


@given(names, names)
def test_names_that_differ_are_packed_differently(one: str, other: str) -> None:
    assert (packed(one) == packed(other)) == (one == other)


@given(names, names, st.integers(0, 72))
def test_names_are_found_by_their_beginnings_and_no_others(name: str, other: str, length: int) -> None:
    for prefix in (name[:length], other[:length]):
        found = any(first <= packed(name) <= last for first, last in beginning_with(prefix))
        assert found == name.startswith(prefix)


@pytest.mark.parametrize("prefix", ["", "sha", "sha256:", "sha256:a", "sha256:ab", "sha256:g", "web", "sha256:A"])
def test_ranges_begin_before_they_end(prefix: str) -> None:
    ranges = beginning_with(prefix)
    assert ranges
    assert all(first <= last for first, last in ranges)
    assert len(ranges) == (2 if re.fullmatch("(s(h(a)?)?)?|sha256:[0-9a-f]*", prefix) else 1)

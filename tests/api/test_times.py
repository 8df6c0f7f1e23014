"""Times on the wire are what the calendar says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from api.schemas.fields import print_moment, print_time

BEGIN = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.integers(-62135596800, 253402300799))
def test_a_time_is_printed_as_the_calendar_has_it(seconds: int) -> None:
    expected = (BEGIN + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    assert print_time(seconds) == f"{expected}Z"
    assert print_moment(1000 * seconds + 7) == f"{expected}.007Z"


def test_no_time_is_none() -> None:
    assert print_time(None) is None

"""What is said of a change of a tag."""

from __future__ import annotations

import pytest

from imagestream_es.domain.actions import action_of
from imagestream_es.domain.image_stream import (
    CONDITIONS_SET,
    DROPPED,
    FOLLOWED,
    IMPORT_FAILED,
    IMPORTED,
    PUT,
    REPLACED,
    SPEC_REMOVED,
    SPEC_SET,
    TagChange,
)
from imagestream_es.domain.tags import TagEvent

A, B = TagEvent(1, "r@a", "a", 1), TagEvent(2, "r@b", "b", 1)
A_FROM_ELSEWHERE, A_LATER = TagEvent(1, "s@a", "a", 1), TagEvent(3, "r@a", "a", 2)
BARE, OTHER_BARE, BARE_LATER = TagEvent(1, "q:1", "", 1), TagEvent(1, "q:2", "", 1), TagEvent(1, "q:1", "", 2)


@pytest.mark.parametrize(
    ("kind", "before", "head", "action"),
    [
        (PUT, None, A, "Created"),
        (PUT, A, B, "Moved"),
        (PUT, A, A_FROM_ELSEWHERE, "Refreshed"),
        (PUT, A, A_LATER, "Refreshed"),
        (PUT, BARE, OTHER_BARE, "Moved"),
        (PUT, BARE, BARE_LATER, "Refreshed"),
        (PUT, BARE, A, "Moved"),
        (FOLLOWED, None, A, "Followed"),
        (FOLLOWED, A, B, "Followed"),
        (FOLLOWED, A, A_LATER, "Refreshed"),
        (IMPORTED, None, A, "Imported"),
        (IMPORTED, A, B, "Imported"),
        (IMPORTED, A, A_LATER, "Refreshed"),
        (IMPORT_FAILED, A, A, "ImportFailed"),
        (IMPORT_FAILED, None, None, "ImportFailed"),
        (SPEC_SET, None, None, "SpecSet"),
        (SPEC_REMOVED, A, A, "SpecRemoved"),
        (DROPPED, A, None, "Deleted"),
        (DROPPED, None, None, "Deleted"),
        (REPLACED, A, None, "Deleted"),
        (REPLACED, None, A, "Created"),
        (REPLACED, B, A, "Moved"),
        (REPLACED, A, A_LATER, "Refreshed"),
        (REPLACED, A, A, None),
        (REPLACED, None, None, None),
        (CONDITIONS_SET, A, A, None),
    ],
)
def test_an_action_follows_from_what_was_done_and_what_was_there(
    kind: str, before: TagEvent | None, head: TagEvent | None, action: str | None
) -> None:
    assert action_of(TagChange("latest", kind, before, head)) == action

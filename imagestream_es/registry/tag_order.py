"""The order in which the tags of a whole repository are imported: what people most likely want comes first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_match_version = re.compile(r"v?([0-9]++)\.([0-9]++)(?:\.([0-9]++))?(?:-([0-9A-Za-z.-]++))?").fullmatch


class _Precedence(NamedTuple):
    """As semantic versions have it: numbers first, and what is released comes after its pre-releases."""

    minor: bool
    numbers: tuple[int, ...]
    released: bool
    suffix: tuple[tuple[bool, int, str], ...]


def import_order(tags: Iterable[str]) -> list[str]:
    """`latest`, minor versions (5.1, v5.1, 5.1-rc1) newest first, full versions newest first, the rest by name."""
    names = sorted(tags)
    versions = [(precedence, tag) for tag in names if (precedence := _precedence(tag))]
    # Stable, in reverse too: versions that say the same stay in the order of names.
    versions.sort(key=lambda version: version[0], reverse=True)
    latest = [tag for tag in names if tag == "latest"]
    rest = [tag for tag in names if tag != "latest" and not _precedence(tag)]
    return [*latest, *(tag for _, tag in versions), *rest]


def _precedence(tag: str) -> _Precedence | None:
    match = _match_version(tag)
    if match is None:
        return None
    major, minor, patch, suffix = match.groups()
    numbers = [int(number) for number in (major, minor, patch) if number is not None]
    parts = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in (suffix or "").split("."))
    return _Precedence(patch is None, tuple(numbers), suffix is None, parts)

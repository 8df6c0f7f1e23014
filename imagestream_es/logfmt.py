"""How a value stands in a line of the log: plain if it can, else as JSON, so that nothing breaks out of its place."""

from __future__ import annotations

import json
import re

_is_plain = re.compile(r"[!#-<>-~]+").fullmatch


def value(told: object) -> str:
    """A value as it stands behind `key=`: on one line, in ASCII, and quoted if it holds a space, a quote or a =."""
    text = str(told)
    return text if _is_plain(text) else json.dumps(text)

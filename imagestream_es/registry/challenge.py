"""What a registry asks for when it answers 401: the WWW-Authenticate header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]++"
# A scheme, or one of the parameters that follow it: NAME=VALUE or NAME="VALUE".
_find_parts = re.compile(rf'({_WORD})(?:[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|({_WORD})))?').finditer


@dataclass(frozen=True)
class Challenge:
    """One way to prove who one is; `scheme` is in lower case, "" if there is nothing to prove."""

    scheme: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenge(header: str) -> Challenge:
    """The challenge that suits best of a WWW-Authenticate header: Bearer before Basic before none."""
    found: dict[str, dict[str, str]] = {}
    parameters: dict[str, str] = {}
    for match in _find_parts(header):
        name, quoted, plain = match[1].lower(), match[2], match[3]
        if quoted is None and plain is None:
            parameters = found.setdefault(name, {})
        else:
            parameters[name] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    for scheme in ("bearer", "basic"):
        if scheme in found:
            return Challenge(scheme, found[scheme])
    return Challenge()

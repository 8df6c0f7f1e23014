"""Who somebody is, however they proved it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AUTHENTICATED = "system:authenticated"
"""The group of everybody who proved who they are."""
UNAUTHENTICATED = "system:unauthenticated"
"""The group of those who said nothing about themselves."""
MASTERS = "system:masters"
"""The group of those who may do everything."""
LONGEST_NAME = 256
"""Characters of the name of a user or a group."""


def can_be_name(text: str) -> bool:
    """Whether a text can name a user or a group: it must be printable, so that every store and terminal takes it."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


@dataclass(frozen=True)
class User:
    """A caller: a name, a uid ("" for none), groups, what else is known, and by whom all this is vouched for.

    `issuer` is "token-file", "oidc:" and the issuer's URL, "certificate", "anonymous", "unsecured", or
    "impersonated" for whom another user acts as.
    """

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    issuer: str = ""


UNSECURED = User("system:unsecured", "", (MASTERS, AUTHENTICATED), issuer="unsecured")
"""Everybody, where no credentials are configured."""

ANONYMOUS = User("system:anonymous", "", (UNAUTHENTICATED,), issuer="anonymous")
"""Who gives no credentials where some are configured."""

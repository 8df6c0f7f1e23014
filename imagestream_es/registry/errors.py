"""What can go wrong between this service and a registry.

The texts are made here. They repeat no word of a registry's answer, no credentials and no URL, since a
registry may echo what it was sent, and they end up in statuses, conditions and logs.
"""

from __future__ import annotations


class RegistryError(Exception):
    """A registry did not give what it was asked for; the text says why."""


class Unknown(RegistryError):
    """The registry has no such repository, manifest or blob."""


class Denied(RegistryError):
    """The registry, or its token server, lets this caller not in; `wrong_password` if it said that much."""

    def __init__(self, message: str, *, wrong_password: bool = False) -> None:
        super().__init__(message)
        self.wrong_password = wrong_password


class Blocked(RegistryError):
    """A host that this service may not connect to: one of its addresses is not a public one."""

    def __init__(self, host: str) -> None:
        super().__init__(f"registry {host} blocked")
        self.host = host


class Unreachable(RegistryError):
    """There is no connection to the registry."""


class NoTls(Unreachable):
    """Whoever listens there does not speak TLS."""


class HttpOnly(RegistryError):
    """The registry speaks plain HTTP only, and that was not allowed."""


class NotARegistry(RegistryError):
    """Whoever answers there does not speak the registry API."""


class BadAnswer(RegistryError):
    """The registry answered with an error, or with something that cannot be what was asked for."""


class Overloaded(BadAnswer):
    """The registry says that it cannot answer now."""


class Exhausted(RegistryError):
    """It took too long."""

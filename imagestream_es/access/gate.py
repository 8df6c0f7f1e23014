"""The gate: proves who asks, and says what they may do, by all that is configured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from imagestream_es.access import certificates
from imagestream_es.access.files import Reread
from imagestream_es.access.identity import ANONYMOUS, UNSECURED, User
from imagestream_es.access.oidc import BadToken
from imagestream_es.access.policy import Policy

_logger = logging.getLogger(__name__)
TOLD_EVERY = 1.0
"""Seconds between two lines of the log about credentials that are wrong."""


class Unauthenticated(Exception):
    """Whoever asks has not proved who they are."""


class TokenSource(Protocol):
    """Knows whose token one is."""

    def user(self, token: str) -> User | None:
        """The user, None if the token is none of these. Raises BadToken."""


class Gate:
    """Proves who users are and knows what they may do.

    Without `secured` everybody is the one user who may do everything. `rules` holds the policy.
    """

    def __init__(
        self,
        rules: Reread[Policy],
        tokens: Sequence[TokenSource] = (),
        *,
        secured: bool = False,
        anonymous: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._tokens = tokens
        self._secured = secured
        self._anonymous = anonymous
        self._now = now
        self._told = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether no credentials are needed: then everybody may do everything."""
        return not self._secured

    @property
    def policy(self) -> Policy:
        """The policy that holds now."""
        return self._rules.value

    def authenticate(self, authorization: str | None, certificate: Mapping[str, Any] | None) -> User:
        """Who asks, by the Authorization header and the certificate of a request, if any. Raises Unauthenticated."""
        if not self._secured:
            return UNSECURED
        if certificate is not None:
            user = certificates.user_of(certificate)
            if user is None:
                self._tell("a certificate was refused: it has no common name, or names that nobody can have")
                raise Unauthenticated
            return user
        if authorization is None:
            if self._anonymous:
                return ANONYMOUS
            raise Unauthenticated
        scheme, _, token = authorization.partition(" ")
        # Two headers may come as one, with a comma between: which of them counts is nobody's guess.
        if scheme.lower() != "bearer" or not token.isascii() or not token.isprintable() or "," in token or " " in token:
            raise Unauthenticated
        return self._owner(token)

    def _owner(self, token: str) -> User:
        for source in self._tokens if token else ():
            try:
                user = source.user(token)
            except BadToken as error:
                self._tell(f"a token was refused: {error}")
                raise Unauthenticated from None
            if user is not None:
                return user
        raise Unauthenticated

    def _tell(self, problem: str) -> None:
        if self._now() - self._told >= TOLD_EVERY:
            self._told = self._now()
            _logger.warning("%s", problem)

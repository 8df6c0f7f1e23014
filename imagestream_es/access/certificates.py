"""Who shows a client certificate, which the server has verified: the common name, and each organization a group."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import Any

from imagestream_es.access.identity import AUTHENTICATED, User, can_be_name

ISSUER = "certificate"


def user_of(certificate: Mapping[str, Any]) -> User | None:
    """The user that a certificate, in the shape of `ssl.SSLSocket.getpeercert()`, names.

    None if it names none, or has a name that nobody can have.
    """
    parts = [pair for names in certificate.get("subject", ()) for pair in names]
    names = [value for key, value in parts if key == "commonName"]
    groups = dict.fromkeys(value for key, value in parts if key == "organizationName" and value)
    if not names or not all(map(can_be_name, (names[-1], *groups))):
        return None
    return User(names[-1], "", (*groups, AUTHENTICATED), issuer=ISSUER)


def has_expired(certificate: Mapping[str, Any]) -> bool:
    """Whether a certificate that was valid when it was shown is so no longer."""
    return ssl.cert_time_to_seconds(certificate["notAfter"]) <= time.time()

"""Bearer tokens that an OpenID Connect provider has signed.

A provider vouches for its own users only: whatever its tokens say, they name nobody, and no group, whose name begins
with "system:", unless the operator chose a prefix that does.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import urllib3
from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError

from imagestream_es.access.files import Reread, WrongFile, read
from imagestream_es.access.identity import AUTHENTICATED, User, can_be_name

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures with the provider's private key. Never `none`, never HS256, for which a public key would do."""
LEEWAY = 60
"""Seconds by which clocks may differ where a token begins to be valid."""
LATEST = 2**53
"""Seconds since the epoch that a token may name."""
LONGEST = 16 * 1024
"""Characters of a token."""
LARGEST = 1024 * 1024
"""Bytes that are read of a provider's answer."""
PAUSE = 10.0
"""Seconds between two requests for keys: tokens with made-up key ids cause no more."""
KEEP = 600.0
"""Seconds after which keys are asked for again, since the provider may have withdrawn one."""
PATIENCE = 6.0
"""Seconds that a request with an unknown key waits for new ones."""
WAITING = 100
"""Requests that may wait so at once, whatever the provider does: each holds a thread."""

_logger = logging.getLogger(__name__)
_RESERVED = "system:"

Key = jwk.RSAKey | jwk.ECKey
Keys = Sequence[tuple[str, Key]]


class KeySource(Protocol):
    """Where the provider's keys come from."""

    def find(self, key_id: str) -> list[Key]:
        """The keys of that id, all if it is empty."""


class BadToken(Exception):
    """A token proves nothing; the message says why, for the operator's log, and holds nothing of the token."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Which claims of a token are used, and how. `username_prefix` "" is the customary one, "-" none."""

    issuer: str
    client_id: str
    username_claim: str = "sub"
    username_prefix: str = ""
    groups_claim: str = ""
    groups_prefix: str = ""

    def prefix(self) -> str:
        """What is put before user names."""
        if self.username_prefix == "-":
            return ""
        return self.username_prefix or ("" if self.username_claim == "email" else f"{self.issuer}#")


class Oidc:
    """Users by the tokens of one provider. `now` is in seconds since the epoch."""

    def __init__(self, claims: Claims, keys: KeySource, now: Callable[[], float] = time.time) -> None:
        self._claims = claims
        self._keys = keys
        self._now = now

    def user(self, token: str) -> User | None:
        """Whose token it is; None if it is no token of this provider. Raises BadToken."""
        if len(token) > LONGEST or token.count(".") != 2:
            return None
        claims = self._verified(token)
        self._check(claims)
        name = self._name(claims)
        groups = self._groups(claims)
        issuer = f"oidc:{self._claims.issuer}"
        return User(name, "", (*groups, AUTHENTICATED), issuer=issuer)

    def _verified(self, token: str) -> Mapping[str, Any]:
        try:
            header = jws.extract_compact(token.encode("ascii")).headers()
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise BadToken("it is malformed") from None
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if algorithm not in ALGORITHMS or "crit" in header or not isinstance(key_id, str):
            raise BadToken("its header asks for what is not accepted")
        for key in self._keys.find(key_id):
            try:
                return jwt.decode(token, key, algorithms=[algorithm]).claims
            except (JoseError, ValueError, TypeError, RecursionError):
                continue
        raise BadToken("no key of the provider fits its signature")

    def _check(self, claims: Mapping[str, Any]) -> None:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self._claims.issuer:
            raise BadToken("another provider issued it")
        if self._claims.client_id not in audiences:
            raise BadToken("it is for another client")
        now, end = self._now(), _time(claims, "exp")
        if end is None or end <= now:
            raise BadToken("it has expired, or does not say when it does")
        if any((_time(claims, name) or 0) > now + LEEWAY for name in ("nbf", "iat")):
            raise BadToken("it is not valid yet")

    def _name(self, claims: Mapping[str, Any]) -> str:
        claim = self._claims.username_claim
        found = claims.get(claim)
        if not isinstance(found, str) or not found:
            raise BadToken(f"its claim {claim} is no name")
        if claim == "email" and claims.get("email_verified", True) is not True:
            raise BadToken("its mail address is not verified")
        prefix = self._claims.prefix()
        if not prefix and found.startswith(_RESERVED):
            raise BadToken("its name is one of the service's own")
        if not can_be_name(prefix + found):
            raise BadToken(f"its claim {claim} is too long for a name, or cannot be printed")
        return prefix + found

    def _groups(self, claims: Mapping[str, Any]) -> list[str]:
        found = claims.get(self._claims.groups_claim) if self._claims.groups_claim else None
        groups = [found] if isinstance(found, str) else found or []
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise BadToken(f"its claim {self._claims.groups_claim} is neither a name nor a list of names")
        prefix = self._claims.groups_prefix
        named = [
            prefix + group for group in dict.fromkeys(groups) if group and (prefix or not group.startswith(_RESERVED))
        ]
        if not all(map(can_be_name, named)):
            raise BadToken(f"its claim {self._claims.groups_claim} holds what is too long, or cannot be printed")
        return named


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    found = claims.get(name)
    if found is None:
        return None
    # Beyond this a float is no number of seconds any more, and some are no numbers at all.
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < LATEST:
        raise BadToken(f"its claim {name} is no time")
    return float(found)


# --- keys


def parse_keys(data: bytes) -> Keys:
    """The keys of a JSON web key set that may verify signatures, with their ids. Raises ValueError."""
    document = json.loads(data)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError('it is no JSON web key set: {"keys": [...]}')
    keys: list[tuple[str, Key]] = []
    for one in document["keys"]:
        if not isinstance(one, dict) or one.get("kty") not in ("RSA", "EC") or one.get("use", "sig") != "sig":
            continue
        try:
            key = jwk.RSAKey.import_key(one) if one["kty"] == "RSA" else jwk.ECKey.import_key(one)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"one of its keys can't be used ({type(error).__name__})") from None
        keys.append((str(one.get("kid", "")), key))
    return keys


def _chosen(keys: Keys, key_id: str) -> list[Key]:
    return [key for one, key in keys if not key_id or one == key_id]


class KeyFile:
    """The provider's keys in a file, for networks that do not reach it. Raises WrongFile when it is made."""

    def __init__(self, path: Path) -> None:
        self._keys: Reread[Keys] = Reread(lambda: [path], self._parse)
        self.refresh = self._keys.refresh

    @staticmethod
    def _parse(paths: Sequence[Path]) -> Keys:
        try:
            return parse_keys(read(paths[0]))
        except (ValueError, RecursionError) as error:
            raise WrongFile(f"{paths[0]}: {error}.") from error

    def find(self, key_id: str) -> list[Key]:
        """The keys of that id, all if it is empty."""
        return _chosen(self._keys.value, key_id)


class Provider:
    """The provider's keys, asked of itself over HTTPS and remembered.

    An unknown key id makes it ask again, but not more often than every `PAUSE` seconds; one thread asks, and who
    needs no new key does not wait. `now` is in seconds of a clock that never jumps.
    """

    def __init__(self, issuer: str, trust: ssl.SSLContext, now: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._now = now
        self._pool = urllib3.PoolManager(
            ssl_context=trust,
            retries=False,
            timeout=urllib3.Timeout(total=PATIENCE / 2),
            headers={"Connection": "close"},
        )
        self._keys: Keys = ()
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._asking: threading.Event | None = None
        self._places = threading.BoundedSemaphore(WAITING)

    def find(self, key_id: str) -> list[Key]:
        """The keys of that id, all if it is empty."""
        found = _chosen(self._keys, key_id)
        if found:
            if self._now() - self._asked > KEEP:
                self._ask()
            return found
        asking = self._ask()
        if asking is None or not self._places.acquire(blocking=False):
            return []
        try:
            return _chosen(self._keys, key_id) if asking.wait(PATIENCE) else []
        finally:
            self._places.release()

    def _ask(self) -> threading.Event | None:
        """Have a thread ask for the keys; what tells its end, or None if that was done a moment ago."""
        with self._lock:
            if self._asking is not None:
                return self._asking
            if self._now() - self._asked < PAUSE:
                return None
            self._asked = self._now()
            self._asking = asking = threading.Event()
        threading.Thread(target=self._fetch, args=(asking,), name="oidc keys", daemon=True).start()
        return asking

    def _fetch(self, done: threading.Event) -> None:
        try:
            found = json.loads(self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"))
            if not isinstance(found, dict) or found.get("issuer") != self._issuer:
                raise ValueError("its configuration names another issuer")
            self._keys = parse_keys(self._get(str(found.get("jwks_uri", ""))))
        except (urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
            _logger.error("the keys of the OIDC issuer %s could not be read: %s", self._issuer, error)
        finally:
            with self._lock:
                self._asking = None
            done.set()

    def _get(self, url: str) -> bytes:
        if not url.startswith("https://"):
            raise ValueError("one of its addresses is not https://")
        answer = self._pool.request("GET", url, redirect=False, preload_content=False)
        try:
            if answer.status != 200:
                raise ValueError(f"{url} answered {answer.status}")
            data = answer.read(LARGEST + 1)
        finally:
            answer.close()
        if len(data) > LARGEST:
            raise ValueError(f"{url} answered too much")
        return bytes(data)

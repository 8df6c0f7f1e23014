"""Tokens of a provider: which prove something, which do not, and how often keys are asked for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joserfc import jwk, jwt

from imagestream_es.access import oidc
from imagestream_es.access.identity import AUTHENTICATED, User
from imagestream_es.access.oidc import BadToken, Claims, Oidc, Provider, parse_keys

ISSUER = "https://issuer.example.com"
NOW = 1_800_000_000
KEY = jwk.RSAKey.generate_key(2048, {"kid": "k1"})
OTHER = jwk.RSAKey.generate_key(2048, {"kid": "k1"})
KEYS = parse_keys(json.dumps({"keys": [KEY.as_dict(private=False)]}).encode())


class Known:
    def find(self, key_id: str) -> list[Any]:
        return [key for one, key in KEYS if not key_id or one == key_id]


def reader(**claims: Any) -> Oidc:
    return Oidc(Claims(issuer=ISSUER, client_id="streams", **claims), Known(), lambda: NOW)


def token(key: Any = KEY, header: dict[str, Any] | None = None, **claims: Any) -> str:
    told = {"iss": ISSUER, "aud": "streams", "sub": "jane", "exp": NOW + 60, **claims}
    told = {name: value for name, value in told.items() if value is not None}
    return jwt.encode({"alg": "RS256", "kid": "k1", **(header or {})}, told, key)


def test_a_token_proves_who_somebody_is() -> None:
    found = reader(groups_claim="groups", groups_prefix="corp:").user(token(groups=["devs", "ops"]))
    groups = ("corp:devs", "corp:ops", AUTHENTICATED)
    assert found == User(f"{ISSUER}#jane", "", groups, issuer=f"oidc:{ISSUER}")


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({}, f"{ISSUER}#jane"),
        ({"username_prefix": "-"}, "jane"),
        ({"username_prefix": "corp:"}, "corp:jane"),
        ({"username_claim": "email"}, "jane@example.com"),
        ({"username_claim": "nick"}, f"{ISSUER}#jj"),
    ],
)
def test_the_name_is_a_claim_with_a_prefix(claims: dict[str, str], name: str) -> None:
    found = reader(**claims).user(token(email="jane@example.com", nick="jj"))
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example.com"},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": None},
        {"exp": NOW - 1},
        {"exp": NOW},
        {"exp": None},
        {"exp": "never"},
        {"exp": True},
        {"exp": 10**400},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"nbf": float("nan")},
        {"iat": -(10**400)},
        {"nbf": NOW + 3600},
        {"iat": NOW + 3600},
        {"sub": None},
        {"sub": ""},
        {"sub": ["jane"]},
    ],
)
def test_a_token_that_is_not_valid_here_and_now_proves_nothing(claims: dict[str, Any]) -> None:
    with pytest.raises(BadToken):
        reader().user(token(**claims))


def test_clocks_may_differ_a_little_and_a_token_may_be_for_several() -> None:
    assert reader().user(token(nbf=NOW + 30, iat=NOW + 30, aud=["other", "streams"])) is not None


def test_a_provider_gives_nobody_names_of_the_service() -> None:
    with pytest.raises(BadToken):
        reader(username_prefix="-").user(token(sub="system:admin"))
    found = reader(groups_claim="groups").user(token(groups=["system:masters", "devs"]))
    assert found is not None
    assert found.groups == ("devs", AUTHENTICATED)


def test_a_mail_address_that_is_not_verified_is_no_name() -> None:
    with pytest.raises(BadToken):
        reader(username_claim="email").user(token(email="jane@example.com", email_verified=False))


def test_a_token_signed_by_another_key_proves_nothing() -> None:
    with pytest.raises(BadToken):
        reader().user(token(OTHER))


def _part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def forged(header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    told = {"iss": ISSUER, "aud": "streams", "sub": "jane", "exp": NOW + 60}
    content = f"{_part(header)}.{_part(told)}"
    return f"{content}.{_part(sign(content.encode()))}"


def test_a_token_without_a_signature_proves_nothing() -> None:
    for algorithm in ("none", "None", "NONE", ""):
        with pytest.raises(BadToken):
            reader().user(forged({"alg": algorithm}, lambda _: b""))


def test_the_public_key_is_no_secret_to_sign_with() -> None:
    public = KEY.as_pem(private=False)
    for secret in (public, public.strip(), json.dumps(KEY.as_dict(private=False)).encode()):
        for kid in ({}, {"kid": "k1"}):
            sign = lambda data, secret=secret: hmac.new(secret, data, hashlib.sha256).digest()  # noqa: E731
            with pytest.raises(BadToken):
                reader().user(forged({"alg": "HS256", **kid}, sign))


def test_a_token_brings_no_key_of_its_own() -> None:
    with pytest.raises(BadToken):
        reader().user(token(OTHER, {"jwk": OTHER.as_dict(private=False)}))


@pytest.mark.parametrize("text", ["a.b.c", "..", "\u00e9.a.b", "e30.e30.e30", "." * 2 + "x"])
def test_what_is_malformed_proves_nothing(text: str) -> None:
    with pytest.raises(BadToken):
        reader().user(text)


@pytest.mark.parametrize("text", ["", "abc", "a.b", "a.b.c.d", "a.b." + "c" * 20_000])
def test_what_is_no_such_token_is_left_to_others(text: str) -> None:
    assert reader().user(text) is None


class Slow(Provider):
    """A provider whose answers are made here, and counted."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        super().__init__(ISSUER, __import__("ssl").create_default_context(), lambda: self.now)

    def _get(self, url: str) -> bytes:
        if url.endswith("openid-configuration"):
            self.asked += 1
            return json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}).encode()
        return json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()


def test_a_flood_of_unknown_keys_asks_the_provider_once_in_a_while() -> None:
    provider = Slow()
    assert len(provider.find("k1")) == 1
    for number in range(1000):
        assert provider.find(f"unknown-{number}") == []
    assert provider.asked == 1
    provider.now += oidc.PAUSE + 1
    for number in range(1000):
        assert provider.find(f"unknown-{number}") == []
    assert provider.asked == 2
    assert len(provider.find("k1")) == 1


def test_a_provider_that_does_not_answer_holds_only_so_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "WAITING", 2)
    monkeypatch.setattr(oidc, "PATIENCE", 60.0)
    provider, answer = Slow(), threading.Event()
    get = provider._get

    def late(url: str) -> bytes:
        assert answer.wait(60)
        return get(url)

    monkeypatch.setattr(provider, "_get", late)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(provider.find, "k1") for _ in range(2)]
        deadline = time.monotonic() + 60
        while provider._places._value and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [provider.find(f"unknown-{number}") for number in range(100)] == [[]] * 100
        answer.set()
        assert [len(one.result(60)) for one in waiting] == [1, 1]
    assert len(provider.find("k1")) == 1


def test_keys_are_asked_for_again_after_a_while_without_anybody_waiting() -> None:
    provider = Slow()
    provider.find("k1")
    provider.now += oidc.KEEP + 1
    assert len(provider.find("k1")) == 1
    deadline = time.monotonic() + 30
    while provider.asked < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert provider.asked == 2

"""A client of container registries (the HTTP API v2): manifests, blobs and tags, each checked before it is used.

Nothing that a registry says is believed: content must have the digest that names it, sizes and times are
limited, and credentials go to nobody but the registry and the token server that it names.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import orjson

from imagestream_es.domain.references import is_digest
from imagestream_es.registry.budget import Budget
from imagestream_es.registry.challenge import Challenge, parse_challenge
from imagestream_es.registry.credentials import Credentials
from imagestream_es.registry.errors import (
    BadAnswer,
    Denied,
    HttpOnly,
    NotARegistry,
    NoTls,
    Overloaded,
    RegistryError,
    Unknown,
    Unreachable,
)
from imagestream_es.registry.manifests import IMAGE_TYPES, LIST_TYPES
from imagestream_es.registry.transport import Answer, Transport, Url

MAX_DOCUMENT = 4 * 1024 * 1024
"""Bytes of a manifest, a config, or a page of tags."""
MAX_TOKEN_ANSWER = 1024 * 1024
MAX_VALUES = 50_000
"""JSON values in one document: they take far more memory than their text."""
MAX_TAGS = 200_000
"""The same on one page of tags, or of the catalog."""
MAX_PAGES = 1000
CATALOG_PAGE = 1000
"""Repositories asked for at a time; Distribution refuses more."""

REQUEST_SECONDS = 30.0
"""For one request with its retries, redirects and body."""
GREETING_SECONDS = 15.0
"""The same for finding out what answers there, and for a token."""

_ANY_MANIFEST = ", ".join(sorted(IMAGE_TYPES | LIST_TYPES))
_RETRIED = (429, 500, 502, 503, 504)
_PAUSES = (1.0, 2.0)
_LONGEST_PAUSE = 5.0
_SHORTEST_TOKEN_LIFE, _LONGEST_TOKEN_LIFE = 60.0, 3600.0

_is_tag = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}").fullmatch
_is_repository = re.compile(r"[a-z0-9._/-]{1,255}").fullmatch
_is_token = re.compile(r"[\x21-\x7e]{1,32768}").fullmatch
_match_next = re.compile(r'<([^<>]++)>[ \t]*+;[^<>,]*?\brel="?next\b').search


@dataclass(frozen=True)
class Manifest:
    """A manifest as the registry holds it: its bytes, what the registry calls it, and its digest."""

    content: bytes
    media_type: str
    digest: str


@dataclass(frozen=True)
class Tagged:
    """What a tag points to: the digest of a manifest and its media type.

    `time` is when that was told, by the registry's clock: seconds since the epoch, None if it did not say.
    """

    digest: str
    media_type: str
    time: float | None


class RegistryClient:
    """One registry, asked as one user (or as nobody) within one budget. Threads may share it.

    `host` is HOST or HOST:PORT. `insecure` accepts any certificate, and plain HTTP where there is no TLS. If
    `scheme` says what the registry speaks, nothing else is tried, and certificates are checked all the same.
    Every method may raise any RegistryError.
    """

    def __init__(
        self,
        transport: Transport,
        host: str,
        budget: Budget,
        credentials: Credentials | None = None,
        *,
        insecure: bool = False,
        scheme: str = "",
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = host
        self._transport = transport
        self._budget = budget
        self._credentials = credentials
        self._insecure = insecure or scheme == "http"
        self._scheme = scheme
        self._pause = pause
        self._lock = threading.Lock()
        self._greeting: tuple[Url, Challenge] | RegistryError | None = None
        self._tokens: dict[str, tuple[str, float] | Denied] = {}

    def manifest(self, repository: str, reference: str) -> Manifest:
        """The manifest of a tag or of a digest. Raises Unknown, Denied, BadAnswer if it is not that digest."""
        answer = self._ask(repository, f"manifests/{reference}", {"Accept": _ANY_MANIFEST})
        digest = reference if is_digest(reference) else f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        _check_digest(answer.body, digest)
        # For a tag, the digest that the registry announces tells that nothing was lost on the way.
        announced = answer.headers.get("docker-content-digest", digest)
        _check_digest(answer.body, announced)
        _check_values(answer.body, MAX_VALUES)
        return Manifest(answer.body, media_type, digest)

    def document(self, repository: str, digest: str) -> bytes:
        """A blob that holds JSON: the config of an image. Raises Unknown, Denied, BadAnswer."""
        if not is_digest(digest):
            raise BadAnswer("the manifest names its config by something that is no digest")
        body = self._ask(repository, f"blobs/{digest}", {}).body
        _check_digest(body, digest)
        _check_values(body, MAX_VALUES)
        return body

    def tagged(self, repository: str, tag: str) -> Tagged:
        """What a tag points to, without fetching it. Raises Unknown, Denied, BadAnswer."""
        answer = self._ask(repository, f"manifests/{tag}", {"Accept": _ANY_MANIFEST}, method="HEAD")
        digest = answer.headers.get("docker-content-digest", "")
        if not is_digest(digest):
            raise BadAnswer(f"{self.host} does not tell the digest of a tag")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Tagged(digest, media_type, _time(answer.headers.get("date", "")))

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository in no order, each once; "" counts as latest. Raises Unknown, Denied, BadAnswer."""
        budget = self._budget.within(REQUEST_SECONDS)
        # What is no tag cannot be asked for either.
        listed = (tag or "latest" for tag in self._listed(repository, "tags/list", "tags", budget))
        return list(dict.fromkeys(tag for tag in listed if _is_tag(tag)))

    def repositories(self) -> Iterator[str]:
        """The repositories of the registry, page by page, in its order. Raises Denied, BadAnswer."""
        for name in self._listed("", f"_catalog?n={CATALOG_PAGE}", "repositories", None):
            if _is_repository(name):
                yield name

    def _listed(self, repository: str, path: str, key: str, budget: Budget | None) -> Iterator[str]:
        url: Url | None = None
        for _ in range(MAX_PAGES):
            answer = self._ask(repository, path, {"Accept": "application/json"}, url, budget)
            listed = _json_object(answer.body, MAX_TAGS).get(key) or []
            if not isinstance(listed, list):
                raise BadAnswer(f"the registry's list of {key} is none")
            yield from (item for item in listed if isinstance(item, str))
            following = _match_next(answer.headers.get("link", ""))
            if following is None:
                return
            base = self._base()
            url = (url or base).join(following[1])
            if url.origin != base.origin:
                raise BadAnswer(f"the registry's list of {key} goes on somewhere else")
        raise BadAnswer(f"the registry's list of {key} does not end")

    # --- requests

    def _ask(
        self,
        repository: str,
        path: str,
        headers: dict[str, str],
        url: Url | None = None,
        budget: Budget | None = None,
        method: str = "GET",
    ) -> Answer:
        """An answer of status 200 to a request about a repository, or about all if that is ""."""
        base, challenge = self._greet()
        budget = budget or self._budget.within(REQUEST_SECONDS)
        url = url or base.join("/v2/" + "/".join(filter(None, (repository, path))))
        scope = f"repository:{repository}:pull" if repository else "registry:catalog:*"
        authorization = self._authorization(challenge, scope, budget)
        answer = self._get(url, headers, authorization, MAX_DOCUMENT, budget, method)
        if answer.status == 401:
            # A token that has run out, or a registry that asks for one only here: that is worth one more try.
            challenge = parse_challenge(answer.headers.get("www-authenticate", ""))
            renewed = self._authorization(challenge, scope, budget, refused=authorization)
            if renewed and renewed != authorization:
                answer = self._get(url, headers, renewed, MAX_DOCUMENT, budget, method)
        if answer.status == 200:
            return answer
        if answer.status == 404:
            raise Unknown(f"{self.host} does not have it")
        if answer.status in (401, 403):
            raise Denied(f"{self.host} denies access {self._as}")
        raise _unwelcome(self.host, answer)

    def _get(
        self,
        url: Url,
        headers: dict[str, str],
        authorization: str,
        limit: int,
        budget: Budget,
        method: str = "GET",
    ) -> Answer:
        """An answer of any status; a registry that is busy is asked twice more."""
        insecure = self._insecure and not (self._scheme and url.scheme == "https")
        for pause in (*_PAUSES, None):
            answer = self._transport.get(url, headers, authorization, limit, budget, insecure=insecure, method=method)
            if pause is None or answer.status not in _RETRIED:
                break
            wished = answer.headers.get("retry-after", "")
            seconds = min(float(wished), _LONGEST_PAUSE) if re.fullmatch("[0-9]{1,9}", wished) else pause
            if seconds >= budget.left():
                break
            self._pause(seconds)
        return answer

    # --- who is there

    def _base(self) -> Url:
        return self._greet()[0]

    def _greet(self) -> tuple[Url, Challenge]:
        """Where the registry answers, and what it asks of callers. Found out once, a failure as well."""
        with self._lock:
            if self._greeting is None:
                try:
                    self._greeting = self._find()
                except RegistryError as error:
                    self._greeting = error
        if isinstance(self._greeting, RegistryError):
            raise self._greeting
        return self._greeting

    def _find(self) -> tuple[Url, Challenge]:
        budget = self._budget.within(GREETING_SECONDS)
        if self._scheme:
            return self._ping(self._scheme, budget)
        try:
            return self._ping("https", budget)
        except Unreachable as error:
            if self._insecure:
                return self._ping("http", budget)
            if isinstance(error, NoTls):
                raise HttpOnly(str(error)) from None
            raise

    def _ping(self, scheme: str, budget: Budget) -> tuple[Url, Challenge]:
        url = Url.parse(f"{scheme}://{self.host}/v2/")
        answer = self._get(url, {}, "", MAX_DOCUMENT, budget)
        if answer.status in (200, 401, 403) or "docker-distribution-api-version" in answer.headers:
            return url, parse_challenge(answer.headers.get("www-authenticate", ""))
        if answer.status in _RETRIED:
            raise _unwelcome(self.host, answer)
        raise NotARegistry(f'registry "{self.host}" does not support the v2 Registry API')

    # --- who we are

    @property
    def _as(self) -> str:
        return "with the credentials that are known for it" if self._credentials else "without credentials"

    def _authorization(self, challenge: Challenge, scope: str, budget: Budget, refused: str = "") -> str:
        """The Authorization header that answers a challenge, "" for none; `refused` is one that did not do."""
        if challenge.scheme == "basic":
            return self._credentials.basic if self._credentials else ""
        if challenge.scheme != "bearer":
            return ""
        with self._lock:
            known = self._tokens.get(scope, ("", 0.0))
            if not isinstance(known, Denied) and (known[1] <= time.monotonic() or known[0] == refused):
                try:
                    known = self._fetch_token(challenge, scope, budget.within(GREETING_SECONDS))
                except Denied as denied:
                    # Not asked again: many tries with a wrong password lock accounts.
                    known = denied
                self._tokens[scope] = known
        if isinstance(known, Denied):
            raise known
        return known[0]

    def _fetch_token(self, challenge: Challenge, scope: str, budget: Budget) -> tuple[str, float]:
        """A Bearer header, and until when on the monotonic clock it is good."""
        realm = Url.parse(challenge.parameters.get("realm", ""))
        if realm.scheme == "http" and not self._insecure:
            raise BadAnswer(f"the token server of {self.host} does not use TLS")
        wanted = {"service": challenge.parameters.get("service", ""), "scope": scope}
        query = urlencode({name: value for name, value in wanted.items() if value})
        url = Url(realm.scheme, realm.host, realm.port, f"{realm.target}{'&' if '?' in realm.target else '?'}{query}")
        authorization = self._credentials.basic if self._credentials else ""
        answer = self._get(url, {"Accept": "application/json"}, authorization, MAX_TOKEN_ANSWER, budget)
        if answer.status in (400, 401, 403):
            wrong_password = b"username or password" in answer.body.lower()
            raise Denied(f"the token server of {self.host} denies access {self._as}", wrong_password=wrong_password)
        if answer.status != 200:
            raise _unwelcome(f"the token server of {self.host}", answer)
        found = _json_object(answer.body, MAX_VALUES)
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not _is_token(token):
            raise BadAnswer(f"the token server of {self.host} gives no token")
        seconds = found.get("expires_in")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            seconds = _SHORTEST_TOKEN_LIFE
        life = min(max(seconds, _SHORTEST_TOKEN_LIFE), _LONGEST_TOKEN_LIFE)
        return f"Bearer {token}", time.monotonic() + life


def _unwelcome(who: str, answer: Answer) -> BadAnswer:
    kind = Overloaded if answer.status in _RETRIED else BadAnswer
    return kind(f"{who} answered {answer.status}")


def _time(text: str) -> float | None:
    """A Date header as seconds since the epoch."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _json_object(body: bytes, limit: int) -> dict[str, Any]:
    _check_values(body, limit)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise BadAnswer("the registry's answer is no JSON object")
    return found


def _check_values(body: bytes, limit: int) -> None:
    """Raises BadAnswer for JSON that may hold more values than this."""
    if sum(map(body.count, (b",", b"[", b"{"))) > limit:
        raise BadAnswer("the registry's answer holds too many values")


def _check_digest(content: bytes, digest: str) -> None:
    algorithm = digest.partition(":")[0]
    if not is_digest(digest) or f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" != digest:
        raise BadAnswer("content integrity error: what the registry sent does not have the digest that it should")

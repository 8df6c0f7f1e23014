"""One API request, as handlers see it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from marshmallow import Schema, ValidationError
from msgspec import Struct
from werkzeug.utils import cached_property

from api import bodies, compiled
from api.errors import Refusal, qualified
from api.schemas.fields import json_type
from api.schemas.meta import Meta
from api.validation import findings
from imagestream_es.access.identity import User
from imagestream_es.access.policy import Action
from imagestream_es.application.commands import Caller, Expected
from imagestream_es.bootstrap import Services
from imagestream_es.domain.errors import FieldProblem, Invalid, Problem
from imagestream_es.domain.idempotency import Done
from imagestream_es.domain.tags import ImageGuard
from imagestream_es.later import UnderWay

logger = logging.getLogger(__name__)

GROUP = "image.openshift.io"


@dataclass(frozen=True)
class Door:
    """A group and version of the API: its path, and what objects and errors behind it say of it."""

    prefix: str
    group: str
    api_version: str
    metadata_version: str = ""
    """apiVersion of the metadata inside images"""
    legacy: bool = False
    """Whether this is the image API as it was before it had a group"""

    def qualified(self, resource: str) -> str:
        """The resource's name with the group that errors give."""
        return qualified(resource, self.group)


GROUP_DOOR = Door(f"/apis/{GROUP}/v1", GROUP, f"{GROUP}/v1", f"{GROUP}/1.0")
LEGACY_DOOR = Door("/oapi/v1", "", "v1", "1.0", legacy=True)


class InvalidOptions(Exception):
    """A parameter of a list or watch that breaks the rules."""

    def __init__(self, kind: Problem, field: str, detail: str, value: object = None) -> None:
        super().__init__(detail)
        self.problem = FieldProblem(kind, field, detail, value)


class Answer(Struct, frozen=True):
    """What a handler answers: an object or a list in wire shape, without kind and apiVersion unless it says so."""

    body: dict[str, Any]
    code: int = 200
    is_list: bool = False
    begun: UnderWay | None = None
    """What must come about before this is true; if it fails, that is the answer"""


@dataclass
class Call:
    """A request for a resource: where it came in, what it names, what it sent."""

    services: Services
    door: Door
    namespace: str
    name: str
    args: Mapping[str, str]
    user: User
    action: Action
    """What is asked for, as rules name it"""
    identify: Callable[[], Caller]
    """Makes the caller, and makes them known for ever: for writes alone"""
    media_type: str
    data: bytes
    agent: str = ""
    kind: str = ""
    at: int | None = None
    """The position at which an object, or a list, is read; None is now"""
    settled: bool = False
    """Whether the answer can never become another"""
    json_text: bytes | None = None
    """The body as it came, if it came as the JSON of the object itself"""
    unconditional: bool = False
    """Whether this writes a patch that names no resourceVersion: what it was made from need not be the newest"""
    seen: str = ""
    """resourceVersion of the object before a write, as far as the request tells it"""
    guard: ImageGuard | None = None
    """What the tag must name that is written"""
    reason: str = ""
    """Why this is done, in the caller's words"""
    key: str = ""
    """The idempotency key under which this is done, "" without one"""
    fingerprint: str = ""
    """What tells this request from others under the same key"""
    done: Done | None = None
    """What was done before under the key: then nothing is, and the first answer is given again"""
    applied: list[dict[str, Any]] | None = None
    """managedFields as server-side apply made them"""
    warnings: list[str] = field(default_factory=list)

    @property
    def registry(self) -> str:
        """Host of the internal registry."""
        return self.services.settings.internal_registry

    @cached_property
    def caller(self) -> Caller:
        """Who commands. Raises Unavailable."""
        caller = self.identify()
        if not (self.reason or self.key):
            return caller
        by = msgspec.structs.replace(caller.by, reason=self.reason, key=self.key, fingerprint=self.fingerprint)
        return msgspec.structs.replace(caller, by=by, done=self.done)

    @cached_property
    def dry(self) -> bool:
        """Whether nothing may be stored. Raises Invalid for any other value than All."""
        value = self.args.get("dryRun", "")
        if value not in ("", "All"):
            problem = FieldProblem(Problem.NOT_SUPPORTED, "dryRun", 'supported values: "All"', value)
            raise Invalid(self.kind or "Options", "", [problem])
        return value == "All"

    def log(self, error: Exception, resource: str) -> None:
        """Note a failure that is no refusal."""
        where = f"{self.namespace}/{self.name}"
        logger.error("a request for %s %s failed", resource, where, exc_info=error)

    def body(self) -> dict[str, Any]:
        """The body as an object of the kind that the path asks for. Raises Refusal."""
        value = self.of_kind(bodies.decode(self.data, self.media_type))
        self.json_text = self.data if self.media_type in ("", bodies.JSON) else None
        return value

    def of_kind(self, value: Any) -> dict[str, Any]:
        """A value that is an object of the kind that the path asks for; it need not say so. Raises Refusal."""
        if not isinstance(value, dict):
            raise Refusal(400, f"the body must be an object of kind {self.kind}, not {json_type(value)}")
        kind, version = value.get("kind") or self.kind, value.get("apiVersion") or ""
        versions = ["", self.door.api_version]
        if self.door in (GROUP_DOOR, LEGACY_DOOR):
            versions = ["", GROUP_DOOR.api_version, LEGACY_DOOR.api_version]
        if kind != self.kind or version not in versions:
            raise Refusal(
                400,
                f"{self.kind} in version {self.door.api_version!r} cannot be handled: "
                f"the body is a {kind} of apiVersion {version!r}"[:400],
            )
        return value

    @cached_property
    def manager(self) -> str:
        """Who is to own what is written: fieldManager, or the first part of the client's own name.

        Raises Invalid for a fieldManager that cannot be one.
        """
        given = self.args.get("fieldManager", "")
        if len(given) > 128 or not given.isprintable():
            detail = "must be at most 128 printable characters"
            raise Invalid(self.kind, "", [FieldProblem(Problem.INVALID, "fieldManager", detail, given[:200])])
        name = given or self.agent.partition("/")[0][:128]
        return name if name and name.isprintable() else "unknown"

    def _validate(self, schema: Schema, body: dict[str, Any], *, known: bool) -> None:
        """Look for duplicate fields, and for unknown ones unless all are `known`, as fieldValidation asks.

        Raises Refusal if it is Strict.
        """
        mode = self.args.get("fieldValidation", "") or "Warn"
        if mode not in ("Strict", "Warn", "Ignore"):
            detail = 'supported values: "Ignore", "Strict", "Warn"'
            raise Invalid(self.kind, "", [FieldProblem(Problem.NOT_SUPPORTED, "fieldValidation", detail, mode[:80])])
        if mode == "Ignore":
            return
        found = findings(None if known else schema, body, self.json_text)
        if found and mode == "Strict":
            text = f"strict decoding error: {', '.join(found)}"
            raise Refusal(400, f'{self.kind} in version "v1" cannot be handled as a {self.kind}: {text}')
        self.warnings = found

    def load(self, schema: Schema, body: dict[str, Any]) -> Any:
        """The values of a body. Raises Refusal for wrong JSON types, and for odd fields if they are not wanted."""
        loaded = compiled.load(schema, body)
        self._validate(schema, body, known=loaded is not None)
        if loaded is not None:
            return loaded
        try:
            return schema.load(body)
        except ValidationError as error:
            path, text = _first(error.messages)
            raise Refusal(
                400,
                f'{self.kind} in version "v1" cannot be handled as a {self.kind}: json: {text}: {self.kind}{path}',
            ) from None

    def check_meta(self, meta: Meta, *, name: str | None = None) -> None:
        """Raises Refusal if the body names another object, or another namespace, than the URL."""
        if self.namespace and meta.namespace and meta.namespace != self.namespace:
            raise Refusal(400, "the namespace of the provided object does not match the namespace sent on the request")
        if name is not None and meta.name and meta.name != name:
            raise Refusal(400, f"the name of the object ({meta.name}) does not match the name on the URL ({name})")


def _first(messages: Any, path: str = "") -> tuple[str, str]:
    """The first of marshmallow's messages, with the path of its field."""
    while True:
        if isinstance(messages, dict):
            key, messages = next(iter(messages.items()))
            if key != "_schema":
                path += f"[{key}]" if isinstance(key, int) else f".{key}"
        elif isinstance(messages, list):
            messages = messages[0]
        else:
            return path, str(messages)


def expected(call: Call, meta: Meta) -> Expected:
    """What the sender of this metadata saw of the object. Raises Refusal for a resourceVersion of another make."""
    call.seen = meta.resource_version
    return Expected(
        position=position(meta.resource_version), uid=meta.uid or None, pushes=call.unconditional, image=call.guard
    )


def is_set(args: Mapping[str, str], name: str) -> bool:
    """Whether a parameter is there and is neither `false` nor `0`, in capitals or not: so Kubernetes reads them."""
    return args.get(name, "false").lower() not in ("false", "0")


def position(resource_version: str) -> int | None:
    """The position in the log that a resourceVersion is; None for none. Raises Refusal."""
    if not resource_version:
        return None
    if not resource_version.isascii() or not resource_version.isdigit() or len(resource_version) > 19:
        raise Refusal(400, f'invalid resource version "{resource_version[:40]}": it must be a decimal number')
    return int(resource_version)

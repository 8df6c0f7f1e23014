"""Request bodies: JSON or YAML, with limits that keep hostile ones from costing more than they weigh."""

from __future__ import annotations

import re
from typing import Any

import orjson
import yaml
from flask import Request

from api.errors import Refusal
from api.headers import header
from api.protobuf import decode_review

MAX_BODY = 3 * 1024 * 1024
PASSED_OVER = 16 * 1024 * 1024
"""How many bytes of a body that is too long are read and forgotten."""
CHUNK = 64 * 1024
MAX_DEPTH = 64
MAX_MEMBERS = 10_000
"""The most members of one object or list."""
MAX_VALUES = 100_000
"""The most values of one body. Three megabytes of `{},{},{}` are a million: minutes of work, gigabytes of memory."""

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"


def read_body(request: Request) -> bytes:
    """The body of a request.

    Raises Refusal: 413 for one that is too long, and 400 for one that did not come whole, for what was left out
    might have been a precondition.
    """
    length = request.content_length or 0
    # A length that is told needs no stream of werkzeug's, which would only end it there.
    stream = request.environ["wsgi.input"] if length else request.stream
    data: bytes = stream.read(length or MAX_BODY + 1) if length <= MAX_BODY else b""
    if max(length, len(data)) > MAX_BODY:
        _pass_over(request, length)
        raise Refusal(413, f"the request body may have at most {MAX_BODY} bytes", headers={"Connection": "close"})
    # The server hands over what came of a chunked body before it broke off: nothing at all is not to be believed.
    if len(data) < length or (not data and header(request, "Transfer-Encoding") is not None):
        raise Refusal(400, "the request body did not come whole")
    return data


def _pass_over(request: Request, length: int) -> None:
    """Read on for a while: many clients see no answer before they have sent everything."""
    if length > PASSED_OVER or header(request, "Expect") is not None:
        return
    for _ in range(PASSED_OVER // CHUNK):
        if not request.stream.read(CHUNK):
            return


def decode(data: bytes, media_type: str) -> Any:
    """The value that a body holds.

    Raises Refusal: 400 for what is malformed, 413 for what has too many values, 415 for other media types.
    """
    if media_type in ("", JSON):
        return decode_json(data)
    if media_type == YAML:
        return decode_yaml(data)
    if media_type == PROTOBUF:
        try:
            return decode_review(data)
        except ValueError as error:
            raise Refusal(400, f"the protobuf body cannot be read: {error}") from None
    raise Refusal(
        415, f"the body of the request was in an unknown format - accepted media types include: {JSON}, {YAML}"
    )


def decode_json(data: bytes) -> Any:
    """The value of a JSON text. Raises Refusal."""
    try:
        value = orjson.loads(data)
    except (orjson.JSONDecodeError, RecursionError) as error:
        message = f"the object provided is unrecognized (must be of type {JSON} or {YAML}): {error}"
        raise Refusal(400, message) from None
    refuse_nul(data)
    # To leave them out is less work than to count them: they are found many bytes at a time.
    containers = len(data) - len(data.replace(b"{", b"").replace(b"[", b""))
    is_long = len(data) > MAX_MEMBERS  # each member brings a byte at least
    if containers > MAX_DEPTH or (is_long and containers + data.count(b",") > MAX_MEMBERS):
        _check_size(value)  # else no limit can be passed
    return value


_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def refuse_nul(data: bytes) -> None:
    """Raises Refusal if a text in this JSON holds a NUL, which not every database can look for."""
    # Looked for from its end, this costs half as much as from its beginning.
    if data.rfind(b"u0000") >= 0 and _NUL.search(data):
        raise Refusal(400, "the object provided holds a NUL character")


def _check_size(value: Any) -> None:
    level, values = [value], 1
    for _ in range(MAX_DEPTH + 1):
        level = [node for node in level if isinstance(node, dict | list)]
        if not level:
            return
        sizes = [len(node) for node in level]
        values += sum(sizes)
        if values > MAX_VALUES or max(sizes) > MAX_MEMBERS:
            raise _too_many()
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    raise _too_deep()


def _too_deep() -> Refusal:
    return Refusal(400, f"the object provided is nested deeper than {MAX_DEPTH} levels")


def _too_many() -> Refusal:
    limits = f"{MAX_VALUES} values, or {MAX_MEMBERS} in one of its objects or lists"
    return Refusal(413, f"the object provided has more than {limits}")


_PREFIX = "tag:yaml.org,2002:"


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: times stay text, and 1:30 is not ninety."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_PREFIX) in ("bool", "merge", "null")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern, _first in (  # the first that matches counts
    ("int", r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)\Z", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(_PREFIX + _kind, re.compile(_pattern), list(_first))

_HARMLESS_TAGS = (None, "!", _PREFIX + "str", _PREFIX + "seq", _PREFIX + "map")


def decode_yaml(data: bytes) -> Any:
    """The value of a YAML text of one document, without aliases and without tags that make values. Raises Refusal."""
    try:
        _check_events(data)
        # Through JSON: keys become text, and what JSON cannot say is refused.
        text = orjson.dumps(yaml.load(data, Loader=_Loader), option=orjson.OPT_NON_STR_KEYS)  # noqa: S506 (a safe loader)
        refuse_nul(text)
        value = orjson.loads(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        why = " ".join(str(error).split())[:400]
        raise Refusal(400, f"error converting YAML to JSON: {why}") from None
    _check_size(value)
    return value


def _check_events(data: bytes) -> None:
    """Raises Refusal for a YAML text that may not be loaded, or would cost too much to."""
    documents = nodes = depth = 0
    for event in yaml.parse(data, Loader=_Loader):
        match event:
            case yaml.ScalarEvent() | yaml.CollectionStartEvent():
                nodes += 1
                if nodes > 2 * MAX_VALUES:  # keys are nodes too
                    raise _too_many()
                if event.tag not in _HARMLESS_TAGS:
                    raise Refusal(400, f"YAML tags are not accepted: write the value without {event.tag[:80]!r}")
                if isinstance(event, yaml.CollectionStartEvent):
                    depth += 1
                    if depth > MAX_DEPTH:
                        raise _too_deep()
            case yaml.CollectionEndEvent():
                depth -= 1
            case yaml.AliasEvent():
                raise Refusal(400, "YAML aliases are not accepted: write the value out where it is meant")
            case yaml.DocumentStartEvent():
                documents += 1
                if documents > 1:
                    raise Refusal(400, "a body of YAML may hold only one document")

"""Request bodies: JSON or YAML, with limits that keep hostile ones from costing more than they weigh."""

from __future__ import annotations

from typing import Any

import orjson
import yaml

from api.errors import Refusal
from api.protobuf import decode_review

MAX_BODY = 3 * 1024 * 1024
MAX_DEPTH = 64

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"


def decode(data: bytes, media_type: str) -> Any:
    """The value that a body holds. Raises Refusal: 400 for what is malformed, 415 for other media types."""
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
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
    if level:
        raise Refusal(400, f"the object provided is nested deeper than {MAX_DEPTH} levels")


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: times stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def decode_yaml(data: bytes) -> Any:
    """The value of a YAML text of one document, without aliases. Raises Refusal."""
    try:
        depth = 0
        for event in yaml.parse(data, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                raise Refusal(400, "YAML aliases are not accepted: write the value out where it is meant")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise Refusal(400, f"the object provided is nested deeper than {MAX_DEPTH} levels")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        # Through JSON: keys become text, and what JSON cannot say is refused.
        return orjson.loads(
            orjson.dumps(yaml.load(data, Loader=_Loader), option=orjson.OPT_NON_STR_KEYS)  # noqa: S506 (a safe loader)
        )
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        text = " ".join(str(error).split())[:400]
        raise Refusal(400, f"error converting YAML to JSON: {text}") from None

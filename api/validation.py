"""What fieldValidation finds in a body: fields that the kind does not know, and keys that stand twice.

Neither makes a difference to what is done: unknown fields are dropped, and of two keys the last counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson
from marshmallow import Schema
from marshmallow.fields import Field

from api.schemas.fields import Many, One

MOST = 100
"""How many findings are told at most."""


def findings(schema: Schema | None, body: dict[str, Any], data: bytes | None) -> list[str]:
    """What is odd about a body of a schema's kind; `data` is its JSON text, None if it came as something else.

    Without a schema all fields are known already.
    """
    found = []
    if schema is not None:
        found += [f'unknown field "{path}"' for path in islice(_unknown(schema, body, ""), MOST)]
    if data is not None and not _is_all(body, data):
        found += [f'duplicate field "{path}"' for path in _duplicates(data)[: MOST - len(found)]]
    return found


def _unknown(schema: Schema, body: dict[str, Any], path: str) -> Iterator[str]:
    known = {field.data_key or name: field for name, field in schema.fields.items()}
    for key, value in body.items():
        here = f"{path}.{key}" if path else key
        if key not in known:
            yield here
        else:
            yield from _unknown_in(known[key], value, here)


def _unknown_in(field: Field[Any], value: Any, path: str) -> Iterator[str]:
    if isinstance(field, One) and isinstance(value, dict):
        schema = field.schema
        assert isinstance(schema, Schema)
        yield from _unknown(schema, value, path)
    elif isinstance(field, Many) and isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield from _unknown(field.schema, item, f"{path}[{index}]")


def known(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    """The body without the fields that the kind does not know."""
    fields = {field.data_key or name: field for name, field in schema.fields.items()}
    return {key: _known_in(fields[key], value) for key, value in body.items() if key in fields}


def _known_in(field: Field[Any], value: Any) -> Any:
    if isinstance(field, One) and isinstance(value, dict):
        schema = field.schema
        assert isinstance(schema, Schema)
        return known(schema, value)
    if isinstance(field, Many) and isinstance(value, list):
        return [known(field.schema, item) if isinstance(item, dict) else item for item in value]
    return value


class _Twice(dict[str, Any]):
    """A JSON object that remembers the keys that stood in it more than once."""

    twice: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Twice:
    found = _Twice(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        found.twice = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found


def _is_all(body: dict[str, Any], data: bytes) -> bool:
    """Whether a body surely holds all that stands in its text.

    That is so if it would be written in just this way, as programs do. Else: each key brings a colon, so a text in
    which some stand twice has more of them than what was read of it, as long as none is spelt as an escape.
    """
    text = orjson.dumps(body)
    if data.startswith(text):  # behind an object that is whole there can only be blanks
        return True
    # From the end such a short text is found, or not, in half the time.
    return data.rfind(b"\\u003") < 0 and text.count(b":") == data.count(b":")


def _duplicates(data: bytes) -> list[str]:
    try:
        return list(_twice(json.loads(data, object_pairs_hook=_object), ""))
    except (ValueError, RecursionError):  # the stricter decoder has accepted it: there is nothing to tell
        return []


def _twice(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Twice):
        yield from (f"{path}.{key}" if path else key for key in value.twice)
        for key, item in value.items():
            if isinstance(item, dict | list):
                yield from _twice(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict | list):
                yield from _twice(item, f"{path}[{index}]")

"""The few protobuf messages without which Kubernetes clients fail, read and written by hand.

Newer clients send access reviews and namespaces as protobuf and do not fall back to JSON; older clients read
the OpenAPI document only as protobuf. Neither is worth generated code: here a message is a table of
field numbers.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# --- reading what clients send ---

_MAGIC = b"k8s\0"


class _Read(NamedTuple):
    """A field: its JSON name, the fields of the message in it (None: it is text), whether it repeats."""

    name: str
    fields: "Mapping[int, _Read] | None" = None
    repeated: bool = False


def _texts(*names: str) -> dict[int, _Read]:
    """Fields that all are text, numbered from 1."""
    return {number: _Read(name) for number, name in enumerate(names, start=1)}


_ACCESS = {
    1: _Read(
        "resourceAttributes",
        _texts("namespace", "verb", "group", "version", "resource", "subresource", "name"),
    ),
    2: _Read("nonResourceAttributes", _texts("path", "verb")),
}
_ACCESS_OF_SOMEBODY = {**_ACCESS, 3: _Read("user"), 4: _Read("groups", repeated=True), 6: _Read("uid")}

_KINDS: dict[tuple[str, str], dict[int, _Read]] = {
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {2: _Read("spec", _ACCESS)},
    ("authorization.k8s.io/v1", "SubjectAccessReview"): {2: _Read("spec", _ACCESS_OF_SOMEBODY)},
    ("authorization.k8s.io/v1", "LocalSubjectAccessReview"): {2: _Read("spec", _ACCESS_OF_SOMEBODY)},
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): {2: _Read("spec", _texts("namespace"))},
    ("authentication.k8s.io/v1", "SelfSubjectReview"): {},
    ("v1", "Namespace"): {1: _Read("metadata", _texts("name"))},
}

_TYPE, _RAW = 1, 2


def decode_review(body: bytes) -> dict[str, Any]:
    """The JSON shape of an access review, self review or namespace in Kubernetes' protobuf encoding.

    Holds ``kind``, ``apiVersion`` and what the client set: empty texts are left out, as in JSON, and so is
    what the server fills in itself (status, and the metadata of reviews). Raises ValueError if the body is
    malformed or of another kind.
    """
    if not body.startswith(_MAGIC):
        raise ValueError("the body does not start like a Kubernetes protobuf message")
    envelope = _collect(body[len(_MAGIC) :], (_TYPE, _RAW))
    of = _decode(b"".join(envelope[_TYPE]), _texts("apiVersion", "kind"))
    kind = (of.get("apiVersion", ""), of.get("kind", ""))
    if kind not in _KINDS:
        raise ValueError(f"kind {kind[1]!r} of {kind[0]!r} cannot be read from protobuf")
    raw = envelope[_RAW][-1] if envelope[_RAW] else b""
    return {"kind": kind[1], "apiVersion": kind[0], **_decode(raw, _KINDS[kind])}


def _decode(message: bytes, fields: Mapping[int, _Read]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, pieces in _collect(message, fields.keys()).items():
        field = fields[number]
        if field.fields is not None:
            # Pieces of one message are the message: the format lets a writer send it in parts.
            if pieces:
                found[field.name] = _decode(b"".join(pieces), field.fields)
            continue
        texts = [piece.decode() for piece in pieces]
        if field.repeated and texts:
            found[field.name] = texts
        elif texts and texts[-1]:  # text does not merge: of several, the last one counts
            found[field.name] = texts[-1]
    return found


def _collect(message: bytes, numbers: Collection[int]) -> dict[int, list[bytes]]:
    """What the message holds under each of the numbers, in the order written; other fields are skipped."""
    found: dict[int, list[bytes]] = {number: [] for number in numbers}
    for number, value in _fields(message):
        if number not in found:
            continue
        if value is None:
            raise ValueError(f"field {number} is not of the type expected")
        found[number].append(value)
    return found


def _fields(message: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Each field's number, with its bytes if it is length-delimited, else with None."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise ValueError("field number 0")
        value = None
        if wire_type == _VARINT:
            _, at = _varint(message, at)
        elif wire_type == _FIXED64:
            at += 8
        elif wire_type == _FIXED32:
            at += 4
        elif wire_type == _BYTES:
            length, start = _varint(message, at)
            at = start + length
            value = message[start:at]
        else:
            raise ValueError(f"wire type {wire_type} in field {number}")
        if at > len(message):
            raise ValueError(f"field {number} is cut off")
        yield number, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that starts at this place, of at most 64 bits, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("the message is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    if byte >= 0x80 or value >> 64:
        raise ValueError("a number has more than 64 bits")
    return value, at


# --- writing the OpenAPI document ---

_Encode = Callable[[int, Any], bytes]
_Fields = Mapping[str, tuple[int, _Encode]]


def encode_openapi_v2(document: Mapping[str, Any]) -> bytes:
    """A Swagger 2.0 document as gnostic's ``openapi.v2.Document``, which old kubectl reads.

    Knows what documents of Kubernetes APIs hold, ``x-`` extensions included. Raises ValueError, naming the
    key, for anything else, so that nothing is lost unseen.
    """
    return _message(document, _DOCUMENT, extensions=16)


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _piece(number: int, content: bytes) -> bytes:
    return _number(number << 3 | _BYTES) + _number(len(content)) + content


def _text(number: int, value: str) -> bytes:
    return _piece(number, value.encode())


def _flag(number: int, value: bool) -> bytes:
    return _number(number << 3 | _VARINT) + _number(value)


def _any(number: int, value: Any) -> bytes:
    # A value of any type is YAML text, of which JSON is a part.
    return _piece(number, _text(2, json.dumps(value, ensure_ascii=False)))


def _each(encode: _Encode) -> _Encode:
    return lambda number, values: b"".join(encode(number, value) for value in values)


def _named(number: int, name: str, encode: _Encode, value: Any) -> bytes:
    """One entry of a map: a message of its name and its value."""
    return _piece(number, _text(1, name) + encode(2, value))


def _map(encode: _Encode) -> _Encode:
    """A message that holds a map in its field 1."""
    return lambda number, values: _piece(
        number, b"".join(_named(1, name, encode, value) for name, value in values.items())
    )


def _message(value: Mapping[str, Any], fields: _Fields, extensions: int) -> bytes:
    parts = []
    for key, member in value.items():
        if key.startswith("x-"):
            parts.append(_named(extensions, key, _any, member))
        elif key in fields:
            number, encode = fields[key]
            parts.append(encode(number, member))
        else:
            raise ValueError(f"no field for {key!r}")
    return b"".join(parts)


def _message_of(fields: _Fields, extensions: int) -> _Encode:
    return lambda number, value: _piece(number, _message(value, fields, extensions))


def _reference(value: Mapping[str, Any]) -> bytes:
    return _text(1, value["$ref"])


def _schema(number: int, value: Mapping[str, Any]) -> bytes:
    return _piece(number, _message(value, _SCHEMA, extensions=31))


def _types(number: int, value: str | list[str]) -> bytes:
    return _piece(number, _each(_text)(1, [value] if isinstance(value, str) else value))


def _items(number: int, value: Mapping[str, Any]) -> bytes:
    return _piece(number, _schema(1, value))


def _additional_properties(number: int, value: Mapping[str, Any] | bool) -> bytes:
    return _piece(number, _flag(2, value) if isinstance(value, bool) else _schema(1, value))


def _parameter(number: int, value: Mapping[str, Any]) -> bytes:
    """A body parameter, one of four other sorts, or a reference: there is a message around each choice."""
    if "$ref" in value:
        return _piece(number, _piece(2, _reference(value)))
    if value["in"] == "body":
        return _piece(number, _piece(1, _piece(1, _message(value, _BODY_PARAMETER, extensions=6))))
    if value["in"] not in _OTHER_PARAMETERS:
        raise ValueError(f"no parameter in {value['in']!r}")
    choice, fields, extensions = _OTHER_PARAMETERS[value["in"]]
    return _piece(number, _piece(1, _piece(2, _piece(choice, _message(value, fields, extensions)))))


def _paths(number: int, paths: Mapping[str, Any]) -> bytes:
    return _piece(number, b"".join(_named(2, path, _PATH_ITEM, item) for path, item in paths.items()))


def _response(number: int, value: Mapping[str, Any]) -> bytes:
    if "$ref" in value:
        return _piece(number, _piece(2, _reference(value)))
    return _piece(number, _piece(1, _message(value, _RESPONSE, extensions=5)))


_SCHEMA: _Fields = {
    "$ref": (1, _text),
    "format": (2, _text),
    "title": (3, _text),
    "description": (4, _text),
    "default": (5, _any),
    "required": (19, _each(_text)),
    "enum": (20, _each(_any)),
    "additionalProperties": (21, _additional_properties),
    "type": (22, _types),
    "items": (23, _items),
    "allOf": (24, _each(_schema)),
    "properties": (25, _map(_schema)),
}

_BODY_PARAMETER: _Fields = {
    "description": (1, _text),
    "name": (2, _text),
    "in": (3, _text),
    "required": (4, _flag),
    "schema": (5, _schema),
}
_HEADER_OR_PATH_PARAMETER: _Fields = {
    "required": (1, _flag),
    "in": (2, _text),
    "description": (3, _text),
    "name": (4, _text),
    "type": (5, _text),
    "format": (6, _text),
    "uniqueItems": (19, _flag),
    "enum": (20, _each(_any)),
}
_FORM_OR_QUERY_PARAMETER: _Fields = {
    "required": (1, _flag),
    "in": (2, _text),
    "description": (3, _text),
    "name": (4, _text),
    "allowEmptyValue": (5, _flag),
    "type": (6, _text),
    "format": (7, _text),
    "uniqueItems": (20, _flag),
    "enum": (21, _each(_any)),
}
_OTHER_PARAMETERS: Mapping[str, tuple[int, _Fields, int]] = {
    "header": (1, _HEADER_OR_PATH_PARAMETER, 22),
    "formData": (2, _FORM_OR_QUERY_PARAMETER, 23),
    "query": (3, _FORM_OR_QUERY_PARAMETER, 23),
    "path": (4, _HEADER_OR_PATH_PARAMETER, 22),
}

_RESPONSE: _Fields = {
    "description": (1, _text),
    "schema": (2, _items),  # a message around the schema, as that of items
}
_OPERATION = _message_of(
    {
        "tags": (1, _each(_text)),
        "summary": (2, _text),
        "description": (3, _text),
        "operationId": (5, _text),
        "produces": (6, _each(_text)),
        "consumes": (7, _each(_text)),
        "parameters": (8, _each(_parameter)),
        "responses": (9, _map(_response)),
        "schemes": (10, _each(_text)),
        "deprecated": (11, _flag),
    },
    extensions=13,
)
_PATH_ITEM = _message_of(
    {
        "get": (2, _OPERATION),
        "put": (3, _OPERATION),
        "post": (4, _OPERATION),
        "delete": (5, _OPERATION),
        "options": (6, _OPERATION),
        "head": (7, _OPERATION),
        "patch": (8, _OPERATION),
        "parameters": (9, _each(_parameter)),
    },
    extensions=10,
)
_INFO: _Fields = {"title": (1, _text), "version": (2, _text), "description": (3, _text)}
_DOCUMENT: _Fields = {
    "swagger": (1, _text),
    "info": (2, _message_of(_INFO, extensions=7)),
    "host": (3, _text),
    "basePath": (4, _text),
    "schemes": (5, _each(_text)),
    "consumes": (6, _each(_text)),
    "produces": (7, _each(_text)),
    "paths": (8, _paths),
    "definitions": (9, _map(_schema)),
}

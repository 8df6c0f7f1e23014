"""Field types with the strictness of Kubernetes' JSON: no coercion, null is the same as absent."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, missing

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def json_type(value: object) -> str:
    """The JSON name of a value's type, as error messages give it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "null" if value is None else "object"


def mismatch(value: object, wanted: str) -> ValidationError:
    """The error of a value of the wrong JSON type."""
    return ValidationError(f"cannot unmarshal {json_type(value)} into a field of type {wanted}")


T = TypeVar("T")
Metadata = Mapping[str, Any]


def _with(description: str, metadata: Metadata | None) -> Metadata:
    """What a document of the API says of a field."""
    return ({"description": description} if description else {}) | dict(metadata or {})


class Nullable(fields.Field[T]):
    """A field that may be null or absent; then it is what the schema says, else what its type says."""

    absent: ClassVar[Any] = None
    openapi: ClassVar[dict[str, Any]] = {}
    """The field's type, as documents of the API say it."""
    definition: ClassVar[str] = ""
    """The name of that type in these documents, where it has one."""

    def __init__(
        self, description: str = "", *, load_default: Any = missing, metadata: Metadata | None = None, **kwargs: Any
    ) -> None:
        default = self.absent if load_default is missing else load_default
        super().__init__(load_default=default, allow_none=True, metadata=_with(description, metadata), **kwargs)


class Text(Nullable[str]):
    """A string; absent is "" unless the schema says otherwise."""

    openapi: ClassVar = {"type": "string"}
    absent: ClassVar[Any] = ""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> str:
        if not isinstance(value, str):
            raise mismatch(value, "string")
        return value


class Flag(Nullable[bool]):
    """true or false; absent is false."""

    openapi: ClassVar = {"type": "boolean"}
    absent: ClassVar[Any] = False

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> bool:
        if not isinstance(value, bool):
            raise mismatch(value, "bool")
        return value


class Whole(Nullable[int]):
    """A whole number that fits 64 bits; absent is 0 unless the schema says otherwise."""

    openapi: ClassVar = {"type": "integer", "format": "int64"}
    absent: ClassVar[Any] = 0

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
            raise mismatch(value, "int64")
        return value


class Time(Nullable[int]):
    """RFC 3339 text, read as whole seconds since the epoch; absent is None."""

    openapi: ClassVar = {"type": "string", "format": "date-time"}
    definition: ClassVar = "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
    absent: ClassVar[Any] = None

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> int:
        if not isinstance(value, str):
            raise mismatch(value, "Time")
        return parse_time(value)


class TimeText(Text):
    """RFC 3339 text, kept as it came."""

    openapi: ClassVar = Time.openapi
    definition: ClassVar = Time.definition


class TextMap(Nullable[dict[str, str]]):
    """An object whose values are strings (null is ""); absent is {} unless the schema says otherwise."""

    openapi: ClassVar = {"type": "object", "additionalProperties": {"type": "string", "default": ""}}
    absent: ClassVar[Any] = dict

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise mismatch(value, "map of strings")
        for item in value.values():
            if not isinstance(item, str) and item is not None:
                raise mismatch(item, "string")
        return {key: item or "" for key, item in value.items()}


class TextList(Nullable[tuple[str, ...]]):
    """A list of strings; absent is ()."""

    openapi: ClassVar = {"type": "array", "items": {"type": "string", "default": ""}}
    absent: ClassVar[Any] = ()

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise mismatch(value, "list of strings")
        for item in value:
            if not isinstance(item, str):
                raise mismatch(item, "string")
        return tuple(value)


class Base64(Text):
    """Bytes as base64 text, kept as that text."""

    openapi: ClassVar = {"type": "string", "format": "byte"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if len(text) % 4 or not re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", text):
            raise ValidationError("illegal base64 data")
        return text


class AnyObject(Nullable[dict[str, Any]]):
    """An object of any shape; absent is None."""

    openapi: ClassVar = {"type": "object"}
    absent: ClassVar[Any] = None

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise mismatch(value, "object")
        return value


class One(fields.Nested):
    """An object of a schema; absent is None."""

    def __init__(
        self, schema: type[Schema], description: str = "", *, metadata: Metadata | None = None, **kwargs: Any
    ) -> None:
        metadata = _with(description, metadata)
        super().__init__(schema, load_default=None, allow_none=True, unknown=EXCLUDE, metadata=metadata, **kwargs)


class Many(Nullable[list[Any]]):
    """A list of objects of a schema (null elements are empty objects); absent is []."""

    absent: ClassVar[Any] = list

    def __init__(self, schema: type[Schema], description: str = "", **kwargs: Any) -> None:
        super().__init__(description, **kwargs)
        self.schema_class = schema
        self._schema: Schema | None = None

    @property
    def schema(self) -> Schema:
        """The schema of one element."""
        if self._schema is None:
            self._schema = self.schema_class(unknown=EXCLUDE)
        return self._schema

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> list[Any]:
        if not isinstance(value, list):
            raise mismatch(value, "list")
        loaded, errors = [], {}
        for index, item in enumerate(value):
            try:
                loaded.append(self.schema.load({} if item is None else item))
            except ValidationError as error:
                errors[index] = error.messages
        if errors:
            raise ValidationError(errors)
        return loaded


class ManyByName(Many):
    """An object that holds an object of a schema under each of its keys; answers alone have such fields."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> list[Any]:
        raise NotImplementedError


def parse_time(text: str) -> int:
    """Seconds since the epoch of RFC 3339 text. Raises ValidationError."""
    parts = _TIME.fullmatch(text)
    if parts is not None:
        try:
            date, clock, zone = parts.groups()
            moment = datetime.fromisoformat(f"{date}T{clock}")
            if zone not in "Zz":
                hours, minutes = int(zone[1:3]), int(zone[4:])
                offset = timedelta(hours=hours, minutes=minutes)
                moment = moment.replace(tzinfo=timezone(-offset if zone[0] == "-" else offset))
                return timegm(moment.utctimetuple())
            return timegm(moment.timetuple())
        except (ValueError, OverflowError):
            pass
    raise ValidationError(f'parsing time "{text[:80]}": not an RFC 3339 time')


def print_moment(milliseconds: int) -> str:
    """RFC 3339 text, UTC, of milliseconds since the epoch; none of them is lost."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{(print_time(seconds) or '').removesuffix('Z')}.{rest:03d}Z"


def print_time(seconds: int | None) -> str | None:
    """RFC 3339 text, UTC, of seconds since the epoch; None of None."""
    if seconds is None:
        return None
    hours, rest = divmod(seconds, 3600)  # long histories have thousands of times
    return _hour(hours) + _IN_HOUR[rest]


@lru_cache(maxsize=4096)
def _hour(hours: int) -> str:
    days, hour = divmod(hours, 24)
    return f"{datetime.fromordinal(_EPOCH + days).isoformat()[:11]}{hour:02d}:"


_EPOCH = datetime(1970, 1, 1).toordinal()  # noqa: DTZ001 (days have no zone here)


_IN_HOUR = [f"{second // 60:02d}:{second % 60:02d}Z" for second in range(3600)]

"""Schemas compiled to closures: what marshmallow would load, in one pass and at a tenth of its cost.

A schema stays the one contract. What it compiles to knows the common case only, in which every field is known and null
or of its own JSON type, and gives up on everything else: then `Schema.load` decides, and words the errors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from marshmallow import Schema, ValidationError
from marshmallow.decorators import POST_LOAD, PRE_LOAD, VALIDATES, VALIDATES_SCHEMA
from marshmallow.fields import Field

from api.schemas.fields import AnyObject, Flag, Many, One, Text, TextList, TextMap, TimeText, Whole

Convert = Callable[[Any], Any]


class Odd(Exception):
    """The body is no common case."""


_AS_IT_IS: dict[type[Field[Any]], type] = {Text: str, TimeText: str, Flag: bool, AnyObject: dict}
"""Fields whose values are loaded as they came, and what these are."""


@cache
def compiled(schema: Schema) -> Convert:
    """What loads a body, any JSON value, as `schema.load` does, or raises Odd or ValidationError.

    The body is shared with what is loaded, so treat both as read-only.
    """
    fields = schema.load_fields
    _refuse_unusual(schema)
    kinds = {field.data_key or name: (name, *_kind(field)) for name, field in fields.items()}
    given = {name: field.load_default for name, field in fields.items()}
    made = [(name, default) for name, default in given.items() if callable(default)]
    finish = [getattr(schema, name) for name, _, _ in type(schema).resolve_hooks()[POST_LOAD]]

    def load(body: Any) -> Any:
        if type(body) is not dict:
            raise Odd
        # In the order of the schema, in which marshmallow loads.
        loaded = given.copy()
        for name, make in made:
            loaded[name] = make()
        for key, value in body.items():
            known = kinds.get(key)
            if known is None:
                raise Odd
            name, kind, convert = known
            if type(value) is kind:
                loaded[name] = value if convert is None else convert(value)
            elif value is None:
                loaded[name] = None
            else:
                raise Odd
        for hook in finish:
            loaded = hook(loaded)
        return loaded

    return load


def _refuse_unusual(schema: Schema) -> None:
    """No schema here uses these means of marshmallow's; one that does needs them below."""
    hooks = type(schema).resolve_hooks()
    assert not any(hooks[hook] for hook in (PRE_LOAD, VALIDATES, VALIDATES_SCHEMA))
    for field in schema.load_fields.values():
        assert field.attribute is None
        assert field.allow_none
        assert not field.required
        assert not any((field.validators, field.pre_load, field.post_load))


def _kind(field: Field[Any]) -> tuple[type, Convert | None]:
    """Of which type the values of a field are, and what makes of one what is loaded; None if nothing has to."""
    kind = _AS_IT_IS.get(type(field))
    if kind is not None:
        return kind, None
    if isinstance(field, One):
        schema = field.schema
        assert isinstance(schema, Schema)
        return dict, compiled(schema)
    if type(field) is Many:
        one = compiled(field.schema)
        return list, lambda items: [one(item) for item in items]
    return _CHECKED.get(type(field)) or (str, field.deserialize)


def _whole(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise Odd
    return value


_STR = frozenset({str})


def _text_map(value: dict[str, Any]) -> dict[str, str]:
    if not set(map(type, value.values())) <= _STR:
        raise Odd
    return value


def _text_list(value: list[Any]) -> tuple[str, ...]:
    if not set(map(type, value)) <= _STR:
        raise Odd
    return tuple(value)


_CHECKED: dict[type[Field[Any]], tuple[type, Convert]] = {
    Whole: (int, _whole),
    TextMap: (dict, _text_map),
    TextList: (list, _text_list),
}


def load(schema: Schema, body: Any) -> Any:
    """What `schema.load` would make of a body; None if it is no common case."""
    try:
        return compiled(schema)(body)
    except (Odd, ValidationError):
        return None

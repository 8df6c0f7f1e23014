"""Compiled schemas load what marshmallow loads, or leave it to marshmallow."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError

from api import compiled
from api.groups import GROUPS
from api.schemas.fields import AnyObject, Base64, Flag, Many, One, Text, TextList, TextMap, Time, TimeText, Whole
from api.validation import findings

SCHEMAS = {
    type(resource.schema): resource.schema
    for resources in GROUPS.values()
    for one in resources
    for resource in (one, *one.subresources.values())
    if resource.schema is not None
}
names = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: type(schema).__name__)

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
RIGHT: dict[type, st.SearchStrategy[Any]] = {
    Text: texts,
    TimeText: texts,
    Flag: st.booleans(),
    Whole: st.integers(-(2**63), 2**63 - 1),
    Time: st.sampled_from(["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.5+02:00", "yesterday"]),
    TextMap: st.dictionaries(texts, texts | st.none(), max_size=2),
    TextList: st.lists(texts, max_size=2),
    Base64: st.sampled_from(["c2lnbmVk", "", "no"]),
    AnyObject: st.dictionaries(texts, anything, max_size=2),
}


def bodies(schema: Schema, odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Bodies of a schema in which some fields are missing, null, or whatever `odd` makes."""

    def value(field: Any) -> st.SearchStrategy[Any]:
        if isinstance(field, One):
            right = bodies(field.schema, odd)
        elif isinstance(field, Many):
            right = st.lists(bodies(field.schema, odd), max_size=2)
        else:
            right = RIGHT[type(field)]
        return right | st.none() | odd

    fields = {field.data_key or name: value(field) for name, field in schema.load_fields.items()}
    return st.fixed_dictionaries({}, optional=fields)


def marshmallow_of(schema: Schema, body: Any) -> Any:
    try:
        return schema.load(body)
    except ValidationError:
        return None


@names
@given(data=st.data())
def test_what_is_compiled_loads_what_the_schema_does_or_nothing(schema: Schema, data: st.DataObject) -> None:
    body = data.draw(bodies(schema, st.nothing()) | bodies(schema, anything) | anything)
    loaded = compiled.load(schema, body)
    if loaded is not None:
        assert loaded == marshmallow_of(schema, body)
        assert repr(loaded) == repr(marshmallow_of(schema, body)), "in the same order"
        assert findings(schema, body, None) == []


@names
def test_the_common_case_needs_no_marshmallow(schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    example = getattr(schema, "example", {}) | {"metadata": {"name": "web", "creationTimestamp": None}}
    expected = schema.load(example)
    monkeypatch.setattr(Schema, "load", None)
    assert compiled.load(schema, example) == expected


@names
@pytest.mark.parametrize(
    "change",
    [{"metadata": "web"}, {"metadata": {"name": 1}}, {"metadata": {"labels": {"team": None}}}, {"unheard": "of"}],
    ids=["no object", "no text", "null among texts", "unknown"],
)
def test_what_is_odd_is_left_to_marshmallow(schema: Schema, change: dict[str, Any]) -> None:
    assert compiled.load(schema, change) is None


members = st.lists(st.tuples(st.sampled_from(["a", "b", "a:b", 'a"', "é"]), st.integers(0, 9) | texts), max_size=4)


def as_json(pairs: list[tuple[str, Any]], *, ascii_only: bool, blank: str) -> str:
    """An object with these members, repeated ones included."""
    texts = [f"{json.dumps(key, ensure_ascii=ascii_only)}{blank}:{blank}{json.dumps(value)}" for key, value in pairs]
    return "{" + f",{blank}".join(texts) + "}"


@given(outer=members, inner=members, ascii_only=st.booleans(), escaped=st.booleans(), blank=st.sampled_from(["", " "]))
def test_repeated_keys_are_found_wherever_they_stand(
    outer: list[tuple[str, Any]], inner: list[tuple[str, Any]], ascii_only: bool, escaped: bool, blank: str
) -> None:
    text = as_json(outer, ascii_only=ascii_only, blank=blank)
    inside = as_json(inner, ascii_only=ascii_only, blank=blank)
    text = f'{text[:-1]}{"," if outer else ""}"inner":{inside}}}{blank}'
    if escaped:
        text = text.replace("a:b", "a\\u003ab")
    repeated = any(len({key for key, _ in pairs}) < len(pairs) for pairs in (outer, inner))
    assert bool(findings(None, orjson.loads(text), text.encode())) == repeated

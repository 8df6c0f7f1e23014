"""Label and field selectors: the two small languages in which clients say which objects they mean.

A selector is a list of requirements, all of which an object must meet; the empty text means every object.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

FieldValue = str | tuple[str, ...] | None
"""What a field of an object holds; of several values, each is what the field has. None is whatever is asked for:
no object has such a field, it says which objects to make."""


@dataclass(eq=False)
class SelectorError(Exception):
    """A selector that cannot be understood; `message` is what a client may read."""

    message: str


class Operator(Enum):
    """What a label requirement asks of a label; `=` and `!=` are sets of one value."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "!"
    GREATER = ">"
    LESS = "<"


@dataclass(frozen=True)
class Requirement:
    """One condition on the label `key`. `IN` and `NOT_IN` have values, `GREATER` and `LESS` exactly one."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case Operator.EXISTS:
                return value is not None
            case Operator.ABSENT:
                return value is None
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.GREATER | Operator.LESS:
                return self._compares(value)

    def _compares(self, value: str | None) -> bool:
        (limit,) = map(_integer, self.values)
        number = None if value is None else _integer(value)
        if number is None or limit is None:
            return False
        return number > limit if self.operator is Operator.GREATER else number < limit


@dataclass(frozen=True)
class LabelSelector:
    """Requirements on the labels of an object."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """Read what follows `labelSelector=`: `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k`,
        `!k`, `k>1` and `k<1`, separated by commas.

        Raises SelectorError for anything else, and for keys and values that no label can have.
        """
        return cls(tuple(_LabelParser(text).requirements()))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with `labels` meets every requirement."""
        return all(requirement.matches(labels) for requirement in self.requirements)


@dataclass(frozen=True)
class FieldTerm:
    """`field` must have `value`, or any other if `negated`."""

    field: str
    value: str
    negated: bool = False

    def is_met(self, found: FieldValue) -> bool:
        """Whether a field is as the term says."""
        if found is None:
            return True
        return (self.value in found if isinstance(found, tuple) else self.value == found) is not self.negated


@dataclass(frozen=True)
class FieldSelector:
    """Requirements on some fields of an object, which are named by their path."""

    terms: tuple[FieldTerm, ...] = ()

    @classmethod
    def parse(cls, text: str, supported: Collection[str]) -> FieldSelector:
        r"""Read what follows `fieldSelector=`: `f=v`, `f==v` and `f!=v`, separated by commas. In values `\`,
        `,` and `=` are written behind a backslash. `supported` are the fields that may be asked for.

        Raises SelectorError for anything else.
        """
        terms = tuple(_field_term(part) for part in _FIELD_PART.findall(text) if part)
        for term in terms:
            if term.field not in supported:
                raise SelectorError(f"field label not supported: {term.field}")
        return cls(terms)

    def matches(self, fields: Mapping[str, FieldValue]) -> bool:
        """Whether an object with `fields` meets every term; a field that is not there is empty."""
        return all(term.is_met(fields.get(term.field, "")) for term in self.terms)

    def requires(self, field: str) -> str | None:
        """The value that `field` must have, None if several are possible.

        No other value matches, but this one need not match either: further terms may exclude it.
        """
        return next((term.value for term in self.terms if term.field == field and not term.negated), None)


_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!<>(),]|[^ \t\r\n=!<>(),]+|\Z)")
_SYMBOLS = frozenset({"==", "!=", "=", "!", "<", ">", "(", ")", ",", ""})
_OPERATORS = {
    "=": Operator.IN,
    "==": Operator.IN,
    "in": Operator.IN,
    "!=": Operator.NOT_IN,
    "notin": Operator.NOT_IN,
    ">": Operator.GREATER,
    "<": Operator.LESS,
}

_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,63}")


class _LabelParser:
    """Reads tokens from left to right; the empty token is the end of the text."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = _TOKEN.findall(text)
        self._next = 0

    def requirements(self) -> Iterator[Requirement]:
        if self._peek() == "":
            return
        yield self._requirement()
        while self._peek() != "":
            self._expect(",")
            yield self._requirement()

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return Requirement(self._key(), Operator.ABSENT)
        key = self._key()
        if self._peek() in (",", ""):
            return Requirement(key, Operator.EXISTS)
        operator = self._operator()
        return Requirement(key, _OPERATORS[operator], self._values(operator))

    def _key(self) -> str:
        key = self._take()
        if not _is_label_key(key):
            raise _unparsable(f"{key[:100]!r} is not a label key")
        return key

    def _operator(self) -> str:
        operator = self._take()
        if operator not in _OPERATORS:
            raise _unparsable(f"found {operator[:100]!r} where an operator or ',' should be")
        return operator

    def _values(self, operator: str) -> frozenset[str]:
        if operator in ("in", "notin"):
            return self._set()
        value = self._value()
        if operator in (">", "<") and _integer(value) is None:
            raise _unparsable(f"{value!r} is not an integer")
        return frozenset({value})

    def _set(self) -> frozenset[str]:
        self._expect("(")
        values = {self._value()}
        while self._peek() == ",":
            self._take()
            values.add(self._value())
        self._expect(")")
        return frozenset(values)

    def _value(self) -> str:
        """A value, the empty one if something else follows."""
        if self._peek() in _SYMBOLS:
            return ""
        value = self._take()
        if not _LABEL_NAME.fullmatch(value):
            raise _unparsable(f"{value[:100]!r} is not a label value")
        return value

    def _expect(self, symbol: str) -> None:
        found = self._take()
        if found != symbol:
            raise _unparsable(f"found {found[:100]!r} where {symbol!r} should be")

    def _peek(self) -> str:
        return self._tokens[self._next]

    def _take(self) -> str:
        token = self._tokens[self._next]
        if token != "":
            self._next += 1
        return token


def _unparsable(detail: str) -> SelectorError:
    return SelectorError(f"unable to parse requirement: {detail}")


def _is_label_key(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    if slash and not (len(prefix) <= 253 and _SUBDOMAIN.fullmatch(prefix)):
        return False
    return _LABEL_NAME.fullmatch(name) is not None


def _integer(text: str) -> int | None:
    """`text` as a number that fits into 64 bits."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


_FIELD_PART = re.compile(r"(?:\\.|[^\\,])+|\\\Z", re.DOTALL)
_FIELD_TERM = re.compile(r"([^=!]*)(!=|==?)((?:\\[\\,=]|[^\\,=])*)")
_FIELD_ESCAPE = re.compile(r"\\(.)")


def _field_term(text: str) -> FieldTerm:
    found = _FIELD_TERM.fullmatch(text)
    if found is None:
        raise SelectorError(f"unable to parse field selector: {text[:100]!r} is not understood")
    field, operator, value = found.groups()
    return FieldTerm(field, _FIELD_ESCAPE.sub(r"\1", value), operator == "!=")

"""What label and field selectors mean, which texts are selectors, and what is said about the others."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.selectors import FieldSelector, LabelSelector, SelectorError

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --------------------------------------------------------------------------- label selectors

APP = {"app": "web", "tier": "front", "size": "10", "empty": "", "example.com/team": "a.b_C-9"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \t\r\n",
        "app",
        "!nothing",
        "! nothing",
        "app=web",
        "app==web",
        "app = web",
        " app\t==\nweb ",
        "app!=db",
        "nothing!=web",
        "app in (web)",
        "app in(web,db)",
        "app in ( db , web )",
        "app notin (db)",
        "nothing notin (web)",
        "nothing notin ()",
        "empty=",
        "empty==",
        "empty in ()",
        "empty in (,)",
        "empty in (a,)",
        "empty in (,a)",
        "empty in (a,,b)",
        "app!=",
        "nothing!=",
        "app notin (,)",
        "size>9",
        "size > 9",
        "size<11",
        "size>0009",
        "example.com/team=a.b_C-9",
        "app=web,tier=front,!nothing",
        "app,tier in (front,back),size>1,size<100",
        "empty=,app=web",
    ],
)
def test_a_selector_that_matches(text: str) -> None:
    assert LabelSelector.parse(text).matches(APP)


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "!app",
        "app=db",
        "app=",
        "app==WEB",
        "app!=web",
        "nothing=",
        "nothing=web",
        "nothing in (web,)",
        "app in (db,webb)",
        "app in ()",
        "app notin (web,db)",
        "empty notin ()",
        "empty!=",
        "size>10",
        "size<10",
        "app>1",
        "app<1",
        "empty>0",
        "empty<0",
        "nothing>1",
        "nothing<1",
        "app=web,nothing",
        "app=web,app=db",
    ],
)
def test_a_selector_that_does_not_match(text: str) -> None:
    assert not LabelSelector.parse(text).matches(APP)


@pytest.mark.parametrize("key", ["in", "notin"])
def test_the_words_for_operators_are_keys_and_values_too(key: str) -> None:
    for text in (key, f"{key} in ({key})", f"{key}={key}", f"{key} notin (x)", f"{key} notin (x,in{key})"):
        assert LabelSelector.parse(text).matches({key: key})
    assert not LabelSelector.parse(f"!{key}").matches({key: key})


@pytest.mark.parametrize(
    ("label", "more", "less"),
    [("5", True, False), ("-5", False, True), ("+5", True, False), ("007", True, False), ("3", False, False)],
)
def test_labels_are_compared_as_numbers(label: str, more: bool, less: bool) -> None:
    assert LabelSelector.parse("k>3").matches({"k": label}) is more
    assert LabelSelector.parse("k<3").matches({"k": label}) is less


@pytest.mark.parametrize("label", ["1_0", "1.5", "0x9", "9223372036854775808", "9" * 5000, "\u0665", " 5"])
def test_a_label_that_is_no_number_of_64_bits_is_neither_more_nor_less(label: str) -> None:
    assert not LabelSelector.parse("k>3").matches({"k": label})
    assert not LabelSelector.parse("k<3").matches({"k": label})


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "a,",
        ",a",
        "a,,b",
        "a b",
        "a b c",
        "!",
        "!!a",
        "!a=b",
        "!a,",
        "=",
        "=a",
        "==a",
        "a===b",
        "a=b=c",
        "a=b c",
        "a=!b",
        "a!b",
        "a=<b",
        "a<=1",
        "a>=1",
        "a>",
        "a<",
        "a>b",
        "a>1.5",
        "a>9223372036854775808",
        "a>" + "9" * 63,
        "a in",
        "a in b",
        "a in (",
        "a in (b",
        "a in (b c)",
        "a in (b))",
        "a in ((b))",
        "a in (b) c",
        "a in (!b)",
        "a in (b=c)",
        "a notin",
        "a notin b",
        "in (a)",
        "()",
        "(a)",
        "a)",
        "a IN (b)",
        "-a",
        "a-",
        "a.",
        "_a",
        "/a",
        "a/",
        "a/b/c",
        "A.example/b",
        "-x/b",
        "x..y/b",
        "x./b",
        "a=-b",
        "a=b-",
        "a=b/c",
        "a in (b,-c)",
        "k\u00e9y",
        "a=\u00e9",
        "a\u00a0=b",
        "a\x00",
        "k" * 64,
        "a=" + "v" * 64,
        "a in (" + "v" * 64 + ")",
        "p" * 254 + "/a",
        "a;b",
        "a='b'",
        "matchLabels: {a: b}",
        "a" * 100_000 + "!",
        "(" * 100_000,
        "!" * 100_000,
    ],
)
def test_a_text_that_is_no_label_selector_is_refused_shortly(text: str) -> None:
    with pytest.raises(SelectorError) as caught:
        LabelSelector.parse(text)
    assert caught.value.message.startswith("unable to parse requirement: ")
    assert len(caught.value.message) < 300


def test_keys_and_values_may_be_as_long_as_labels_may_be() -> None:
    key = "p" * 253 + "/" + "k" * 63
    assert LabelSelector.parse(f"{key}={'v' * 63}").matches({key: "v" * 63})


edges = string.ascii_letters + string.digits
names = st.builds(
    lambda first, middle, last: first + middle + last,
    st.sampled_from(edges),
    st.text(edges + "-_.", max_size=5),
    st.sampled_from(edges),
) | st.sampled_from(["a", "b", "in", "notin"])
keys = st.builds(lambda prefix, name: prefix + name, st.sampled_from(["", "", "x.example/", "y/"]), names)
values = st.just("") | names | st.integers(0, 99).map(str)
blanks = st.sampled_from(["", "", " ", "\t", "  \r\n"])


@dataclass(frozen=True)
class Wanted:
    """One requirement as a person means it."""

    key: str
    operator: str
    values: tuple[str, ...]


requirements = (
    st.builds(Wanted, keys, st.sampled_from(["=", "==", "!="]), st.tuples(values))
    | st.builds(Wanted, keys, st.sampled_from(["in", "notin"]), st.lists(values, min_size=1, max_size=4).map(tuple))
    | st.builds(Wanted, keys, st.sampled_from(["exists", "!"]), st.just(()))
    | st.builds(Wanted, keys, st.sampled_from([">", "<"]), st.tuples(st.integers(0, 99).map(str)))
)


def written(wanted: Wanted, blank: str) -> str:
    """`wanted` in the language of selectors, with `blank` wherever it may stand."""
    if wanted.operator == "exists":
        parts = [wanted.key]
    elif wanted.operator == "!":
        parts = ["!", wanted.key]
    elif wanted.operator in ("in", "notin"):
        listed = f"{blank},{blank}".join(wanted.values)
        return f"{blank}{wanted.key} {blank}{wanted.operator}{blank}({blank}{listed}{blank}){blank}"
    else:
        parts = [wanted.key, wanted.operator, *wanted.values]
    return blank + blank.join(parts) + blank


def is_met(wanted: Wanted, labels: dict[str, str]) -> bool:
    """What `wanted` says, read naively."""
    there = wanted.key in labels
    label = labels.get(wanted.key, "")
    match wanted.operator:
        case "=" | "==" | "in":
            return there and label in wanted.values
        case "!=" | "notin":
            return not there or label not in wanted.values
        case "exists":
            return there
        case "!":
            return not there
        case ">":
            return label.isdecimal() and int(label) > int(wanted.values[0])
        case _:
            return label.isdecimal() and int(label) < int(wanted.values[0])


@settings(unhurried, max_examples=300)
@given(st.data(), st.lists(requirements, max_size=4), blanks)
def test_a_written_selector_means_what_was_meant(data: st.DataObject, wanted: list[Wanted], blank: str) -> None:
    near = [value for each in wanted for value in each.values] or ["x"]
    known = [each.key for each in wanted] or ["k"]
    labels = data.draw(
        st.dictionaries(st.sampled_from(known) | keys, st.sampled_from(near) | values, max_size=6),
        label="labels",
    )
    selector = LabelSelector.parse(",".join(written(each, blank) for each in wanted))
    assert selector.matches(labels) is all(is_met(each, labels) for each in wanted)
    assert len(selector.requirements) == len(wanted)


BLANK = r"[ \t\r\n]*"
WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
KEY = rf"(?:[a-z0-9]+(?:(?:-+|\.)[a-z0-9]+)*/)?{WORD}"
ONE = rf"{KEY}{BLANK}(?:==?|!=){BLANK}(?:{WORD})?"
SOME = rf"{KEY}{BLANK[:-1]}+(?:in|notin){BLANK}\({BLANK}(?:{WORD})?(?:{BLANK},{BLANK}(?:{WORD})?)*{BLANK}\)"
COMPARED = rf"{KEY}{BLANK}[<>]{BLANK}[0-9]+"
REQUIREMENT = rf"{BLANK}(?:!{BLANK}{KEY}|{KEY}|{ONE}|{SOME}|{COMPARED}){BLANK}"
GRAMMAR = re.compile(rf"{BLANK}|{REQUIREMENT}(?:,{REQUIREMENT})*")

pieces = st.lists(
    st.sampled_from(
        [
            "a",
            "b/c",
            "1",
            " in ",
            "in",
            "notin",
            "(",
            ")",
            "()",
            ",",
            "=",
            "==",
            "!=",
            "!",
            "<",
            ">",
            " ",
            "-",
        ]
    ),
    max_size=9,
).map("".join)


@settings(unhurried, max_examples=500)
@given(pieces | st.text(max_size=20))
def test_a_text_is_a_label_selector_just_if_the_grammar_has_it(text: str) -> None:
    try:
        selector = LabelSelector.parse(text)
    except SelectorError:
        assert not GRAMMAR.fullmatch(text)
        return
    assert GRAMMAR.fullmatch(text)
    assert bool(selector.requirements) is bool(text.strip(" \t\r\n"))


# --------------------------------------------------------------------------- field selectors

NAMES = ("metadata.name", "metadata.namespace", "spec.dockerImageRepository")
FIELDS = {"metadata.name": "web", "metadata.namespace": "shop", "spec.dockerImageRepository": r"a,b=c\d"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        (",", True),
        ("metadata.name=web", True),
        ("metadata.name==web", True),
        ("metadata.name!=db", True),
        ("metadata.name=web,metadata.namespace=shop", True),
        (",metadata.name=web,,metadata.namespace=shop,", True),
        (r"spec.dockerImageRepository=a\,b\=c\\d", True),
        (r"spec.dockerImageRepository!=a\,b", True),
        ("metadata.name=db", False),
        ("metadata.name!=web", False),
        ("metadata.name=", False),
        ("metadata.name!=", True),
        ("metadata.name= web", False),
        ("metadata.name=web,metadata.namespace=other", False),
        ("metadata.name=web,metadata.name=db", False),
        (r"spec.dockerImageRepository=a\,b", False),
    ],
)
def test_what_a_field_selector_matches(text: str, matches: bool) -> None:
    assert FieldSelector.parse(text, NAMES).matches(FIELDS) is matches


def test_a_field_that_is_not_there_is_empty() -> None:
    assert FieldSelector.parse("metadata.namespace=", NAMES).matches({})
    assert not FieldSelector.parse("metadata.namespace!=", NAMES).matches({})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("spec.unknown=1", "spec.unknown"),
        ("metadata.name=web,spec.unknown!=1", "spec.unknown"),
        ("metadata.name =web", "metadata.name "),
        ("=web", ""),
        (r"metadata.name\=web", "metadata.name\\"),
        ("Metadata.name=web", "Metadata.name"),
    ],
)
def test_an_unsupported_field_is_refused_by_name(text: str, field: str) -> None:
    with pytest.raises(SelectorError) as caught:
        FieldSelector.parse(text, NAMES)
    assert caught.value.message == f"field label not supported: {field}"


@pytest.mark.parametrize(
    "text",
    [
        "metadata.name",
        "!metadata.name",
        "metadata.name in (a)",
        "metadata.name=a=b",
        "metadata.name===a",
        "metadata.name!==a",
        r"metadata.name=a\b",
        "metadata.name=a\\",
        "metadata.name=a\\\n",
        "metadata.name=web,nonsense",
        "=" * 100_000,
        "!" * 100_000,
        "\\" * 100_001,
    ],
)
def test_a_text_that_is_no_field_selector_is_refused_shortly(text: str) -> None:
    with pytest.raises(SelectorError) as caught:
        FieldSelector.parse(text, NAMES)
    assert caught.value.message.startswith("unable to parse field selector: ")
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", None),
        ("metadata.name=web", "web"),
        ("metadata.name==web", "web"),
        ("metadata.name=", ""),
        ("metadata.name!=web", None),
        ("metadata.namespace=shop", None),
        ("metadata.namespace=shop,metadata.name=web", "web"),
        ("metadata.name!=db,metadata.name=web", "web"),
        (r"metadata.name=a\,b", "a,b"),
    ],
)
def test_a_selector_says_which_value_it_requires(text: str, name: str | None) -> None:
    assert FieldSelector.parse(text, NAMES).requires("metadata.name") == name


def test_two_required_values_match_nothing_but_the_first_is_named() -> None:
    selector = FieldSelector.parse("metadata.name=web,metadata.name=db", NAMES)
    assert selector.requires("metadata.name") == "web"
    assert not selector.matches({"metadata.name": "web"})
    assert not selector.matches({"metadata.name": "db"})


field_values = st.text(st.sampled_from("ab,=\\! \n\u00e9"), max_size=6)
field_terms = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["=", "==", "!="]), field_values), max_size=4)


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


@unhurried
@given(field_terms, st.dictionaries(st.sampled_from(NAMES), field_values), st.booleans())
def test_a_written_field_selector_means_what_was_meant(
    terms: list[tuple[str, str, str]], fields: dict[str, str], meet: bool
) -> None:
    if meet:
        fields |= {field: value for field, _, value in terms}
    selector = FieldSelector.parse(
        ",".join(field + operator + escaped(value) for field, operator, value in terms), NAMES
    )
    assert selector.matches(fields) is all(
        (fields.get(field, "") == value) == (operator != "!=") for field, operator, value in terms
    )
    for field in NAMES:
        required = [value for name, operator, value in terms if name == field and operator != "!="]
        assert selector.requires(field) == (required[0] if required else None)


@unhurried
@given(st.text(st.sampled_from("ab=!,\\ "), max_size=15) | st.text(max_size=20))
def test_any_text_is_a_field_selector_or_refused(text: str) -> None:
    try:
        selector = FieldSelector.parse(text, ("a", "b"))
    except SelectorError:
        return
    assert selector.matches({"a": "b"}) in (True, False)
    assert bool(selector.terms) is bool(text.strip(","))

"""Who may import whom, and what may be written where: the rules that keep every part findable and replaceable."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from imagestream_es.domain.events import EVENTS, DomainEvent, ImageEvent, StreamEvent

ROOT = Path(__file__).parent.parent

ACCESS = "imagestream_es.access"
DOMAIN = "imagestream_es.domain"
PERSISTENCE = "imagestream_es.persistence"
PROJECTIONS = "imagestream_es.projections"
REGISTRY = "imagestream_es.registry"
APPLICATION = "imagestream_es.application"
SETTINGS = "imagestream_es.settings"
BOOTSTRAP = "imagestream_es.bootstrap"
MAINTENANCE = "imagestream_es.maintenance"
VERIFICATION = "imagestream_es.verification"
RECOVERY = "imagestream_es.recovery"
LATER = "imagestream_es.later"
LOGFMT = "imagestream_es.logfmt"
UUIDS = "imagestream_es.uuids"
BODIES = "imagestream_es.bodies"
FRONT = "imagestream_es.front"
SOCKETS = "imagestream_es.sockets"
SERVER = "imagestream_es.server"
SWEEPING = "imagestream_es.sweeping"
CLI = "imagestream_es.cli"
CLIENT = "imagestream_es.client"
API = "api"

MAY_IMPORT: dict[str, set[str]] = {
    ACCESS: {"joserfc", "urllib3", "yaml"},
    DOMAIN: {"msgspec"},
    PERSISTENCE: {DOMAIN, "eventsourcing", "msgspec", "psycopg"},
    PROJECTIONS: {DOMAIN, PERSISTENCE, "eventsourcing.persistence", "msgspec"},
    REGISTRY: {DOMAIN, "msgspec", "orjson", "urllib3"},
    APPLICATION: {ACCESS, DOMAIN, PROJECTIONS, PERSISTENCE, REGISTRY, "eventsourcing.persistence", "msgspec", "orjson"},
    SETTINGS: set(),
    BOOTSTRAP: {SETTINGS, ACCESS, DOMAIN, PROJECTIONS, PERSISTENCE, REGISTRY, APPLICATION, UUIDS},
    MAINTENANCE: {SETTINGS, DOMAIN, PROJECTIONS, PERSISTENCE, f"{APPLICATION}.principals", BOOTSTRAP},
    VERIFICATION: {SETTINGS, PROJECTIONS, PERSISTENCE, BOOTSTRAP, MAINTENANCE, "eventsourcing.persistence"},
    RECOVERY: {
        SETTINGS,
        PROJECTIONS,
        PERSISTENCE,
        BOOTSTRAP,
        MAINTENANCE,
        "eventsourcing.persistence",
        "msgspec",
        "zstandard",
    },
    LATER: set(),
    LOGFMT: set(),
    UUIDS: set(),
    BODIES: set(),
    FRONT: {BODIES},
    SOCKETS: {BODIES},
    SERVER: {SETTINGS, BODIES, FRONT, LATER, LOGFMT, SOCKETS, "flask", "granian"},
    SWEEPING: set(),
    CLIENT: {"click", "urllib3", "yaml"},
    CLI: {
        CLIENT,
        SETTINGS,
        BOOTSTRAP,
        MAINTENANCE,
        VERIFICATION,
        RECOVERY,
        SERVER,
        SWEEPING,
        PERSISTENCE,
        "eventsourcing.persistence",
        "click",
        "rich",
    },
    API: {
        SETTINGS,
        ACCESS,
        DOMAIN,
        APPLICATION,
        BOOTSTRAP,
        f"{PROJECTIONS}.past",  # what a question about a stream is answered with
        f"{PERSISTENCE}.store",  # a watch hands the transaction on in which it reads the log
        f"{REGISTRY}.errors",
        f"{REGISTRY}.manifests",
        LATER,
        LOGFMT,
        UUIDS,
        "flask",
        "jinja2",
        "jsonpatch",
        "marshmallow",
        "msgspec",
        "orjson",
        "prometheus_client",
        "werkzeug",
        "yaml",
    },
}
"""A part, and what it may import beside itself and the standard library."""

MAY_IMPORT_WHEN_IT_RUNS: dict[str, set[str]] = {CLI: {API}}
"""What only a function may import, so that nothing else of the part depends on it."""

PURE = {
    DOMAIN: {
        "__future__",
        "abc",
        "collections",
        "copy",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "itertools",
        "re",
        "typing",
    },
}
PURE[PROJECTIONS] = PURE[DOMAIN] | {"contextlib", "threading"}
"""Parts that read no clock, make no ids and open nothing: all they may take from the standard library."""

SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE (TABLE|INDEX)|ORDER BY|WHERE)\b")

NOT_REALLY_PRIVATE = {
    "_replace",  # of named tuples
    "_get_current_object",  # of what Flask gives in the place of the request
    "_max_notification_id",  # of the library's recorder, for those who extend it
}


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of the project by name."""
    paths = [path for package in ("imagestream_es", "api") for path in (ROOT / package).rglob("*.py")]
    return {_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    """The part of the project to which a module belongs."""
    return next((part for part in MAY_IMPORT if within(module, [part])), module)


def within(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of all modules that a piece of code imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in sources() else str(node.module)


def imported_at_once(tree: ast.Module) -> set[str]:
    """What is imported when the module is, not by a function later and not for the type checker alone."""
    return {name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for name in imports(node)}


def strings(tree: ast.Module) -> Iterator[str]:
    """The texts in a module that are no documentation."""
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def test_every_module_belongs_to_a_part() -> None:
    strangers = [module for module in sources() if part_of(module) not in MAY_IMPORT]
    assert strangers == ["imagestream_es"]
    assert not set(imports(sources()["imagestream_es"]))


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_it_may(part: str) -> None:
    at_any_time = {part, *MAY_IMPORT[part]}
    late = MAY_IMPORT_WHEN_IT_RUNS.get(part, set())
    wrong = {
        (module, name)
        for module, tree in sources().items()
        if part_of(module) == part
        for name in imports(tree)
        if not is_standard(name)
        and not within(name, at_any_time)
        and not (within(name, late) and name not in imported_at_once(tree))
    }
    assert not wrong


def test_the_parts_form_layers() -> None:
    parts = {part: {part_of(name) for name in names} & MAY_IMPORT.keys() for part, names in MAY_IMPORT.items()}
    TopologicalSorter(parts).prepare()


def test_no_module_needs_itself_to_be_imported() -> None:
    graph = {module: imported_at_once(tree) & sources().keys() for module, tree in sources().items()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("part", PURE)
def test_a_pure_part_takes_only_pure_things_from_the_standard_library(part: str) -> None:
    wrong = {
        (module, name)
        for module, tree in sources().items()
        if part_of(module) == part
        for name in imports(tree)
        if is_standard(name) and not within(name, PURE[part])
    }
    assert not wrong


@pytest.mark.parametrize("part", PURE)
def test_a_pure_part_reads_no_clock(part: str) -> None:
    wrong = {
        (module, node.lineno)
        for module, tree in sources().items()
        if part_of(module) == part
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
    }
    assert not wrong


def test_no_module_uses_a_private_name_of_another() -> None:
    wrong = {
        (module, node.lineno, name)
        for module, tree in sources().items()
        for node, name in private_uses(tree)
        if name not in private_definitions(tree) | NOT_REALLY_PRIVATE
    }
    assert not wrong


def private_uses(tree: ast.Module) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Private names that a module imports, or takes from anything but a module from outside."""
    outside = names_from_outside(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((node, alias.name) for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and root_of(node) not in outside:
            yield node, node.attr


def names_from_outside(tree: ast.Module) -> set[str]:
    """What the names of imported libraries are in a module."""
    return {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if part_of(alias.name) not in MAY_IMPORT
    }


def private_definitions(tree: ast.Module) -> set[str]:
    """Private names that a module makes: of functions, classes, variables and attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def root_of(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def test_sql_is_written_in_persistence_alone() -> None:
    found = {part_of(module) for module, tree in sources().items() for text in strings(tree) if SQL.search(text)}
    assert found == {PERSISTENCE}


def every_event_class(base: type[DomainEvent] = DomainEvent) -> Iterator[type[DomainEvent]]:
    for event_class in base.__subclasses__():
        if event_class.__module__ in sources():
            yield event_class
            yield from every_event_class(event_class)


def test_every_event_has_a_topic_of_its_own() -> None:
    for module in sources():
        importlib.import_module(module)
    classes = set(every_event_class()) - {StreamEvent, ImageEvent}
    assert classes == set(EVENTS)
    assert not [event_class for event_class in classes if "TOPIC" not in vars(event_class)]
    assert not [topic for topic, count in Counter(event_class.TOPIC for event_class in EVENTS).items() if count > 1]


def test_every_module_says_why_it_is_there() -> None:
    assert not [module for module, tree in sources().items() if not ast.get_docstring(tree)]


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(T[O]DO|F[I]XME|X[X]X)\b")
    code = (path for folder in ("imagestream_es", "api", "tests", "scripts") for path in (ROOT / folder).rglob("*"))
    left = [
        (str(path.relative_to(ROOT)), number)
        for path in code
        if path.suffix in (".py", ".sh", ".html", ".js", ".css", "") and path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if marks.search(line)
    ]
    assert not left

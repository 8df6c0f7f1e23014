"""The benchmark measures what it says: every row at a tiny scale. How fast anything is does not matter here."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

BENCHMARK = Path(__file__).parent.parent / "scripts" / "benchmark.py"
TINY = ("--seconds", "0.1", "--rounds", "1", "--scale", "0.001")


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARK), *arguments], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of all rows has written."""
    path = tmp_path_factory.mktemp("benchmark") / "benchmark.json"
    run = benchmark(*TINY, "--json", str(path))
    assert run.returncode == 0, run.stderr
    return path


@pytest.fixture(scope="module")
def rows(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())["rows"]
    return found


def figures(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """All numbers, with their paths."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from figures(inner, f"{path}/{key}")
    elif isinstance(value, int | float):
        yield path, value


def loads(value: Any) -> Iterator[dict[str, Any]]:
    """What came of every load."""
    if isinstance(value, dict):
        if "rates" in value:
            yield value
        for inner in value.values():
            yield from loads(inner)


def test_every_row_is_measured(rows: dict[str, Any]) -> None:
    assert set(rows) == {
        *("mappings", "reads", "list", "history", "entries", "decoding", "limits", "replay", "start", "disk"),
        *("past", "access", "watch", "webhook"),
    }


def test_the_machine_is_told(file: Path) -> None:
    machine = json.loads(file.read_text())["machine"]
    assert machine["cores"] >= 1
    assert machine["memory GB"] > 0
    assert all(machine[key] for key in ("processor", "kernel", "python", "sqlite", "time"))


def test_every_figure_is_a_number_that_can_be(rows: dict[str, Any]) -> None:
    assert not [(path, number) for path, number in figures(rows) if not math.isfinite(number) or number < 0]


def test_no_request_fails(rows: dict[str, Any]) -> None:
    found = list(loads(rows))
    assert len(found) > 20
    assert not [load["failures"] for load in found if load["failures"]]
    assert all(load["answers"] > 0 and load["rate"] > 0 for load in found)
    assert all(0 < load["p50 ms"] <= load["p99 ms"] for load in found)


def test_requests_of_services_cost_cpu_of_servers(rows: dict[str, Any]) -> None:
    spent = [load["server CPU ms"] for name in ("mappings", "reads", "history") for load in loads(rows[name])]
    assert all(cpu is not None for cpu in spent)
    assert sum(spent) > 0


def test_the_histories_are_as_long_as_told(rows: dict[str, Any]) -> None:
    assert rows["history"]["longest"] == 100
    assert {"at 10 entries", "at 100 entries"} <= set(rows["history"])
    assert rows["entries"]["entries"] == 10
    assert rows["replay"]["moves"] == rows["disk"]["moves"] == rows["start"]["moves"] == 1000
    assert 100 < rows["disk"]["bytes a move"] < 10_000


def test_lists_hold_all_streams_while_one_is_pushed_to(rows: dict[str, Any]) -> None:
    listing = rows["list"]
    assert listing["streams"] == 8
    assert listing["bytes at first"] > 8 * 400
    assert listing["after writes"]["pushes a second beside it"] > 0


def test_nothing_is_lost_on_the_way_from_a_registry(rows: dict[str, Any]) -> None:
    assert rows["webhook"]["repositories with a push lost, repeated or out of order"] == 0
    assert rows["watch"]["1 watches"]["lines"] > 0


def test_the_table_has_a_line_for_what_was_measured(file: Path) -> None:
    run = benchmark("--table", str(file))
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 17
    assert {line.count("|") for line in lines} == {5}
    assert "to one tag, 32 clients | 29/s, 92% fail (409) | " in run.stdout
    assert "The limits of that run" in run.stdout


def test_the_chart_is_a_picture_with_a_line_for_each_load(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "chart.svg"
    run = benchmark("--chart", str(file), str(picture))
    assert run.returncode == 0, run.stderr
    svg = ElementTree.parse(picture).getroot()
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    dots = [dot for dot in svg.iter("{http://www.w3.org/2000/svg}circle") if dot.get("class") == "ours"]
    assert len(dots) == 1 + 10  # the legend has one
    assert all(0 < float(dot.get("cx", "0")) < float(svg.get("width", "0")) for dot in dots)


def test_the_readme_shows_the_figures_that_are_published() -> None:
    run = benchmark("--table", str(BENCHMARK.with_suffix(".json")))
    assert run.returncode == 0, run.stderr
    assert run.stdout in (BENCHMARK.parent.parent / "README.md").read_text()


def test_the_published_chart_shows_the_figures_that_are_published(tmp_path: Path) -> None:
    picture = tmp_path / "chart.svg"
    assert benchmark("--chart", str(BENCHMARK.with_suffix(".json")), str(picture)).returncode == 0
    assert picture.read_text() == BENCHMARK.with_suffix(".svg").read_text()


def test_another_server_is_asked_what_it_can_answer(start_service, tmp_path: Path) -> None:
    file = tmp_path / "benchmark.json"
    run = benchmark(*TINY, "--only", "mappings,decoding", "--url", start_service().url, "--json", str(file))
    assert run.returncode == 0, run.stderr
    assert "left out, as they need our own service: decoding" in run.stderr
    rows = json.loads(file.read_text())["rows"]
    assert set(rows) == {"mappings"}
    assert rows["mappings"]["one tag"]["server CPU ms"] is None
    assert rows["mappings"]["one tag"]["failures"] == {}


def test_an_interrupted_run_keeps_what_it_has_measured(tmp_path: Path) -> None:
    file = tmp_path / "benchmark.json"
    arguments = ["--only", "decoding,limits", "--seconds", "0.1", "--rounds", "1000", "--json", str(file)]
    with subprocess.Popen([sys.executable, str(BENCHMARK), *arguments], stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("limits"):
                break
        run.send_signal(signal.SIGINT)
        told = run.stderr.read()
        assert run.wait(60) == 130, told
    assert "interrupted" in told
    assert set(json.loads(file.read_text())["rows"]) == {"decoding"}


def test_a_row_that_is_none_is_refused() -> None:
    run = benchmark("--only", "mappings,nothing")
    assert run.returncode != 0
    assert "no row is called nothing" in run.stderr

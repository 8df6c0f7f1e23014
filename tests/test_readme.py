"""The README's commands do what it says, word for word, and its table of settings is the settings."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from imagestream_es.settings import Settings, option_name, variable_name

README = Path(__file__).parent.parent / "README.md"
DEFAULT_URL = "http://127.0.0.1:8080"


INCIDENT = "An incident"
"""The section whose commands ask a service of its own."""

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


def told(wanted: Callable[[str], bool]) -> list[tuple[str, str]]:
    """The commands in the console blocks of the wanted sections, with the output that is told behind them."""
    sections = re.split(r"^## (.*)\n", README.read_text(), flags=re.MULTILINE)[1:]
    text = "".join(body for title, body in zip(sections[::2], sections[1::2], strict=True) if wanted(title))
    return [each for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for each in _commands(block)]


def _commands(block: str) -> list[tuple[str, str]]:
    found = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        end = next(
            (index + 1 for index, line in enumerate(lines) if line == "YAML\n"),
            next(
                index + 1
                for index, line in enumerate(lines)
                if not line.endswith("\\\n") and _closed(lines[: index + 1])
            ),
        )
        found.append(("".join(lines[:end]), "".join(lines[end:])))
    return found


def _closed(lines: list[str]) -> bool:
    return "".join(lines).count("'") % 2 == 0


def pattern(output: str) -> re.Pattern[str]:
    """Told output as a pattern: … stands for what differs every time, a line of it alone for some lines."""
    text = re.escape(output).replace(re.escape("  …\n"), "(?:  .*\n)*")
    return re.compile(text.replace("…", "[^\n]*"))


def run(command: str, home: Path, kubeconfig: str = os.devnull) -> str:
    """What a command prints on a machine whose user has configured nothing but `kubeconfig`."""
    # The tests bring a kubectl along.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "HOME": str(home), "KUBECONFIG": kubeconfig}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], env=env, capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_the_commands_of_the_readme_print_what_it_says(start_service, tmp_path: Path) -> None:
    service = start_service("--import-controller", "on")  # as it is by default
    for command, output in told(lambda title: title != INCIDENT):
        printed = run(command.replace(DEFAULT_URL, service.url), tmp_path)
        assert pattern(output).fullmatch(printed), f"{command}\nprinted\n{printed}\nnot\n{output}"


@pytest.fixture
def incident(tmp_path: Path, require: Callable[[str], str]) -> Iterator[str]:
    """The kubeconfig of a service on which the incident was played."""
    require("openssl")
    script = README.parent / "scripts/incident.py"
    played = subprocess.Popen([sys.executable, script, tmp_path / "incident"], stdout=subprocess.PIPE, text=True)
    try:
        assert played.stdout is not None
        yield played.stdout.readline().removeprefix("export KUBECONFIG=").strip()
    finally:
        played.terminate()
        assert played.wait(60) == 0


def test_an_incident_is_looked_into_as_the_readme_tells(incident: str, tmp_path: Path) -> None:
    asked = told(lambda title: title == INCIDENT)
    assert len(asked) == 8
    for command, output in asked:
        printed = run(command, tmp_path, incident)
        # What is compared is all but the times, which stand in for those of a week.
        assert TIME.sub("TIME", printed) == TIME.sub("TIME", output), f"{command}\nprinted\n{printed}"


def test_the_readme_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(--[a-z-]+)` \| `([A-Z_]+)` \|(?: `([^`]*)`)? \|$", README.read_text(), re.MULTILINE)
    assert rows == [
        (option_name(field.name), variable_name(field.name), "" if field.default in (None, ()) else str(field.default))
        for field in fields(Settings)
    ]

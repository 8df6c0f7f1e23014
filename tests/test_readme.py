"""The README's commands do what it says, word for word, and its table of settings is the settings."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from imagestream_es.settings import Settings, option_name, variable_name

README = Path(__file__).parent.parent / "README.md"
DEFAULT_URL = "http://127.0.0.1:8080"


def console_blocks() -> list[list[tuple[str, str]]]:
    """The commands of each console block, with the output that is told behind them."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    return [[(command, output) for command, output in _commands(block)] for block in blocks]


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


def test_the_commands_of_the_readme_print_what_it_says(start_service, tmp_path: Path) -> None:
    service = start_service("--import-controller", "on")  # as it is by default
    # The tests bring a kubectl along; it shall find no configuration of the machine's user.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "HOME": str(tmp_path), "KUBECONFIG": os.devnull}
    for block in console_blocks():
        for command, output in block:
            run = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command.replace(DEFAULT_URL, service.url)],
                env=env,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            assert pattern(output).fullmatch(run.stdout), f"{command}\nprinted\n{run.stdout}\nnot\n{output}"


def test_the_readme_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(--[a-z-]+)` \| `([A-Z_]+)` \|(?: `([^`]*)`)? \|$", README.read_text(), re.MULTILINE)
    assert rows == [
        (option_name(field.name), variable_name(field.name), "" if field.default in (None, ()) else str(field.default))
        for field in fields(Settings)
    ]

"""kubectl against a running service."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def kubectl(service, require: Callable[[str], str], tmp_path: Path) -> Callable[..., str]:
    """`kubectl("get", "is")` gives what it prints; it has a home of its own, where nothing is remembered."""
    program = require("kubectl")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECACHEDIR": str(tmp_path / "cache")}

    def run(*arguments: str, stdin: str = "") -> str:
        command = [program, "--server", service.url, *arguments]
        done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run

"""kubectl against a running service."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def kubectl(
    service, require: Callable[[str], str], tmp_path: Path
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """`kubectl("get", "is")` runs it, and expects success; it has a home of its own, where nothing is remembered."""
    program = require("kubectl")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECACHEDIR": str(tmp_path / "cache")}

    def run(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [program, "--server", service.url, *arguments]
        done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done

    return run

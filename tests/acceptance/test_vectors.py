"""The behaviour of OpenShift's image API, recorded from a real server and replayed over HTTP."""

import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parent.parent / "data"


@pytest.mark.parametrize("name", ["seed", "streams", "mappings", "tags", "tables", "imports"])
def test_recorded_behaviour_is_reproduced(name: str, start_service) -> None:
    service = start_service("--import-allow", "127.0.0.1")  # where the vectors' own registry is
    run = subprocess.run(
        [sys.executable, DATA / "run_vectors.py", "--url", service.url, DATA / "vectors" / f"{name}.json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert "Traceback" not in service.log

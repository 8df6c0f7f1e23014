"""The behaviour of OpenShift's image API, recorded from a real server and replayed over HTTP."""

import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parent.parent / "data"
ADMINISTRATOR = """apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: images-administrator}
rules:
- {verbs: ["*"], apiGroups: ["", image.openshift.io], resources: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: images-administrator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: images-administrator}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}]
"""


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


def test_all_of_it_is_so_with_credentials_too(start_service, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a-token,jane,1\n")
    (tmp_path / "rbac").mkdir()
    (tmp_path / "rbac" / "jane.yaml").write_text(ADMINISTRATOR)
    access = ("--token-auth-file", str(tmp_path / "tokens"), "--rbac", str(tmp_path / "rbac"))
    service = start_service("--import-allow", "127.0.0.1", *access)
    vectors = sorted((DATA / "vectors").glob("*.json"))
    run = subprocess.run(
        [sys.executable, DATA / "run_vectors.py", "--url", service.url, "--token", "a-token", *vectors],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert "Traceback" not in service.log

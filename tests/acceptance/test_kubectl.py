"""Real kubectl binaries, old and new, over plain HTTP and over TLS."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parent.parent / "data"
NEWEST = Path(sys.executable).with_name("kubectl")
MANIFESTS = Path(__file__).parents[3] / "shared" / "data" / "imagestreams"


@pytest.fixture(params=["of this machine", "newest"])
def kubectl(request, require: Callable[[str], str]) -> str:
    if request.param == "newest":
        return str(NEWEST)
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != NEWEST.parent)
    found = shutil.which("kubectl", path=path)
    return found or require("kubectl")


@pytest.fixture
def certificate(tmp_path: Path, require: Callable[[str], str]) -> tuple[Path, Path]:
    """A certificate of its own authority for 127.0.0.1, and its key."""
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        [
            *(require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def smoke(url: str, kubectl: str, *token: str, **env: str) -> str:
    run = subprocess.run(
        ["bash", DATA / "kubectl_smoke.sh", url, *token],
        env={**os.environ, "KUBECTL": kubectl, "SMOKE_VERBOSE": "1", **env},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return run.stdout


def test_kubectl_works_over_http(kubectl: str, start_service) -> None:
    service = start_service()
    assert smoke(service.url, kubectl).endswith("\n44 passed, 0 failed\n")
    assert "Traceback" not in service.log


def test_kubectl_works_over_tls(kubectl: str, start_service, certificate: tuple[Path, Path]) -> None:
    service = start_service("--tls-cert-file", str(certificate[0]), "--tls-private-key-file", str(certificate[1]))
    # Over TLS kubectl wants to send a credential; without any configured, each will do.
    output = smoke(service.url, kubectl, "anything", CA_FILE=str(certificate[0]))
    assert output.endswith("\n44 passed, 0 failed\n"), output


RULES = """apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: jane, namespace: smoke}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: jane-looks-everywhere}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}]
"""


def test_kubectl_works_for_the_admin_of_a_namespace(
    kubectl: str, start_service, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "tokens").write_text("a-token,jane,1\n")
    (tmp_path / "rbac").mkdir()
    (tmp_path / "rbac" / "jane.yaml").write_text(RULES)
    tls = ("--tls-cert-file", certificate[0], "--tls-private-key-file", certificate[1])
    access = ("--token-auth-file", tmp_path / "tokens", "--rbac", tmp_path / "rbac")
    service = start_service(*map(str, (*tls, *access)))
    output = smoke(service.url, kubectl, "a-token", CA_FILE=str(certificate[0]), NS="smoke")
    assert output.endswith("\n44 passed, 0 failed\n"), output
    assert "Traceback" not in service.log


class Kubectl:
    """kubectl with a home of its own, at one server and in one namespace."""

    def __init__(self, binary: str, url: str, home: Path, namespace: str) -> None:
        self._command = [binary, "--server", url, "--namespace", namespace]
        self._env = {**os.environ, "HOME": str(home), "KUBECONFIG": "/dev/null", "KUBECACHEDIR": str(home / "cache")}

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments], env=self._env, capture_output=True, text=True, timeout=300, check=False
        )


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """The vendors' image streams, those of one name in folders of their own."""
    if not MANIFESTS.is_dir():
        pytest.skip(f"needs the image streams in {MANIFESTS}")
    return MANIFESTS


def position(service) -> str:
    status, body = service.request("/apis/image.openshift.io/v1/namespaces/none/imagestreams")
    assert status == 200
    return body.decode().partition('"resourceVersion":"')[2].partition('"')[0]


@pytest.mark.parametrize("options", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_real_image_streams_are_applied_and_a_second_time_change_nothing(
    options: tuple[str, ...], manifests: Path, start_service, tmp_path: Path
) -> None:
    service = start_service()
    # Several files hold streams of the same name, so each folder of unlike names is a namespace.
    for number, files in enumerate(unlike(sorted(manifests.glob("*/*.json")))):
        kubectl = Kubectl(str(NEWEST), service.url, tmp_path, f"space-{number}")
        arguments = [argument for file in files for argument in ("-f", file)]
        first = kubectl("apply", *options, *arguments)
        assert first.returncode == 0, first.stderr
        before = position(service)
        second = kubectl("apply", *options, *arguments)
        assert second.returncode == 0, second.stderr
        assert position(service) == before, "the second apply appended events"
        difference = kubectl("diff", *options, *arguments)
        assert (difference.returncode, difference.stdout) == (0, ""), difference.stderr


def unlike(files: list[Path]) -> list[list[Path]]:
    """The files in as few groups as keep streams of one name apart."""
    groups: list[tuple[set[str], list[Path]]] = []
    for file in files:
        document = json.loads(file.read_text())
        names = {item["metadata"]["name"] for item in document.get("items", [document])}
        group = next((group for group in groups if not group[0] & names), None)
        if group is None:
            group = (set(), [])
            groups.append(group)
        group[0].update(names)
        group[1].append(file)
    return [found for _, found in groups]


def test_long_answers_come_compressed_and_are_read_again(kubectl: str, start_service) -> None:
    service = start_service()
    path = "/apis/image.openshift.io/v1/namespaces/shop/imagestreams"
    stream = {"metadata": {"name": "web", "annotations": {"long": "x" * 200_000}}}
    assert service.request(path, "POST", json.dumps(stream).encode(), {"Content-Type": "application/json"})[0] == 201

    def read(*what: str) -> dict[str, object]:
        command = [kubectl, "--server", service.url, "-n", "shop", "get", *what, "-o", "json"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    one = read("is", "web")
    assert read("is", "web") == one
    assert read("is")["items"] == read("is")["items"] == [one]

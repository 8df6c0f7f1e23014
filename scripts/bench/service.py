"""The service under test: started afresh with credentials and rules as in earnest, and watched from outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.endpoint import Connection, Endpoint
from bench.load import Group, Load, Request, cpu_of

COMMAND = Path(sys.executable).with_name("imagestream-es")

TOKEN, ROOT = "benchmark-token", "root-token"
_TOKENS = f'{TOKEN},registry,1\n{ROOT},root,2,"system:masters"\n'
_RULES = "".join(
    f"""apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: benchmark-{role}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: registry}}]
---
"""
    for role in ("edit", "auditor")
)


@dataclass
class Target:
    """A server under test; one that is not ours has no directory, and processes only if the caller named some."""

    endpoint: Endpoint
    pids: tuple[int, ...] = ()
    directory: Path | None = None

    def connect(self) -> Connection:
        """A new connection."""
        return Connection(self.endpoint)

    def within(self, namespace: str) -> Target:
        """The same server, with another namespace to write in."""
        return replace(self, endpoint=replace(self.endpoint, namespace=namespace))

    def load(self, requests: Sequence[Request], clients: int, seconds: float | None = None) -> Load:
        """A load of one group; each request once if `seconds` is None."""
        return Load(self.endpoint, [Group(requests, clients)], seconds, self.pids)

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        return cpu_of(self.pids)

    def memory(self) -> int:
        """Resident bytes."""
        found = (Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0] for pid in self.pids)
        return 1024 * sum(map(int, found))

    def stored(self) -> int:
        """Bytes of log and views on disk."""
        return 0 if self.directory is None else stored(self.directory)

    def batches(self) -> tuple[int, int]:
        """How many commits there were, and of how many commands together."""
        connection = self.connect()
        _, text = connection.request("GET", "/metrics", token=ROOT)
        connection.close()
        values = dict(line.rpartition(b" ")[::2] for line in text.splitlines() if not line.startswith(b"#"))
        name = b"imagestream_writer_batch_size"
        return int(float(values[name + b"_count"])), int(float(values[name + b"_sum"]))


def stored(directory: Path) -> int:
    """Bytes of log and views in a data directory."""
    return sum(file.stat().st_size for file in directory.glob("imagestream.db*"))


@contextmanager
def service(options: Sequence[str] = (), prepared: Path | None = None, *, secured: bool = True) -> Iterator[Target]:
    """A service on a fresh data directory, or on a copy of a prepared one; `secured` by tokens and rules.

    Everything else is as it is by default, its log of requests included.
    """
    with tempfile.TemporaryDirectory(prefix="imagestream-benchmark-") as directory:
        data = Path(directory) / "data"
        if prepared is not None:
            shutil.copytree(prepared, data)
        with start(data, [*options, *(_security(Path(directory)) if secured else ())]) as target:
            yield target


def security(directory: Path, tokens: str, rules: str) -> list[str]:
    """Options for credentials and rules, whose files are put into a directory."""
    (directory / "rbac").mkdir()
    (directory / "rbac" / "rules.yaml").write_text(rules)
    (directory / "tokens").write_text(tokens)
    return ["--token-auth-file", str(directory / "tokens"), "--rbac", str(directory / "rbac")]


def _security(directory: Path) -> list[str]:
    return security(directory, _TOKENS, _RULES)


@contextmanager
def start(data: Path, options: Sequence[str]) -> Iterator[Target]:
    """A service on a data directory, until the end of the block."""
    command = [str(COMMAND), "serve", "--bind", "127.0.0.1:0", "--data-dir", str(data), *options]
    with listening(command) as (process, url):
        token = TOKEN if "--token-auth-file" in options else ""
        yield Target(Endpoint.of(url, token=token), (process.pid,), data)


@contextmanager
def listening(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that says `Serving on URL`, until the end of the block. Raises StartFailed."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("IMAGESTREAM_")}
    env = inherited | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=env, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            if not line:
                log.seek(0)
                raise StartFailed(f"{' '.join(command)} did not start:\n{log.read()[-2000:]}")
            yield process, line.removeprefix("Serving on ").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class StartFailed(Exception):
    """A server did not start."""


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait until a condition holds; answers whether it does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True

"""A real registry (CNCF Distribution, as Debian has it) that tells a service what is pushed, and skopeo to push."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def high_port() -> int:
    """A free port above those that the kernel gives to outgoing connections."""
    for port in random.sample(range(61000, 65536), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


class RealRegistry:
    """`docker-registry serve` over a directory; `config` replaces top-level parts of its configuration."""

    def __init__(self, program: str, directory: Path, config: Mapping[str, Any] | None = None) -> None:
        self._program = program
        self._directory = directory
        self._config = dict(config or {})
        self.port = high_port()
        self.host = f"127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._hook: dict[str, Any] = {}

    def configure(self, **parts: Any) -> None:
        """Replace parts of the configuration from the next start on."""
        self._config |= parts

    def tell(self, url: str, secret: str, **more: Any) -> None:
        """Have notifications sent to a URL from the next start on."""
        self._hook = {
            "name": "imagestreams",
            "url": url,
            "headers": {"Authorization": [f"Bearer {secret}"]},
            "timeout": "5s",
            "threshold": 3,
            "backoff": "1s",
            "ignore": {"actions": ["pull"], "mediatypes": ["application/octet-stream"]},
            **more,
        }

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text()

    def start(self) -> RealRegistry:
        config = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self._directory / "storage")},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.host, "secret": "any"},
            **self._config,
        }
        if self._hook:
            config["notifications"] = {"events": {"includereferences": True}, "endpoints": [self._hook]}
        file = self._directory / "config.yml"
        file.write_text(json.dumps(config))
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen([self._program, "serve", file], stdout=log, stderr=log)
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError(f"the registry did not start: {self.log}") from None
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: what it had to tell is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest, and so the tags that point to it."""
        url = f"http://{self.host}/v2/{repository}/manifests/{digest}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10).close()


class Images:
    """Images in a local OCI layout, and skopeo, which copies them to registries."""

    def __init__(self, skopeo: str, layout: Path) -> None:
        self._skopeo = skopeo
        self._layout = layout
        self._digest = layout.parent / "pushed-digest"

    def push(self, image: str, registry: str, place: str, *options: str) -> str:
        """Copy an image to a place REPOSITORY:TAG; answers its digest there."""
        command = [self._skopeo, "--insecure-policy", "copy", "-q", "--digestfile", self._digest, *options]
        if "--dest-tls-verify=true" not in options:
            command.append("--dest-tls-verify=false")
        done = subprocess.run(
            [*command, f"oci:{self._layout}:{image}", f"docker://{registry}/{place}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return self._digest.read_text()

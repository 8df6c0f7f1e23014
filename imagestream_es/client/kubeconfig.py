"""Where the service is and who asks: from the current context of a kubeconfig file."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DEFAULT_SERVER = "http://127.0.0.1:8080"


class WrongConfiguration(Exception):
    """What is configured can't be used; says what to do."""


@dataclass(frozen=True)
class Access:
    """A server and what it takes to be let in: `ca`, `certificate` and `key` are PEM texts."""

    server: str = DEFAULT_SERVER
    token: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)
    verify: bool = True


def current(environ: Mapping[str, str], home: Path) -> Access:
    """What the current context says; the default server without any. Raises WrongConfiguration."""
    named = [Path(name) for name in environ.get("KUBECONFIG", "").split(":") if name]
    files = [(path, _load(path)) for path in (named or [home / ".kube/config"]) if path.is_file()]
    name = next((str(found["current-context"]) for _, found in files if found.get("current-context")), "")
    if not name:
        return Access()
    _, context = _entry(files, "context", name)
    place, cluster = _entry(files, "cluster", str(context.get("cluster", "")))
    home_of_user, user = _entry(files, "user", str(context["user"])) if context.get("user") else (place, {})
    if "exec" in user or "auth-provider" in user:
        raise WrongConfiguration(
            f"the user of context {name!r} gets its token from a program: run it, and give the token with --token"
        )
    return Access(
        server=str(cluster.get("server") or DEFAULT_SERVER),
        token=str(user.get("token") or _content(home_of_user, user, "tokenFile", "")).strip(),
        ca=_content(place, cluster, "certificate-authority", "certificate-authority-data"),
        certificate=_content(home_of_user, user, "client-certificate", "client-certificate-data"),
        key=_content(home_of_user, user, "client-key", "client-key-data"),
        verify=not cluster.get("insecure-skip-tls-verify", False),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise WrongConfiguration(f"{path} can't be read: mend it, or name the service with --server") from error
    return found if isinstance(found, dict) else {}


def _entry(files: list[tuple[Path, dict[str, Any]]], kind: str, name: str) -> tuple[Path, dict[str, Any]]:
    for path, found in files:
        for entry in found.get(f"{kind}s") or ():
            if entry.get("name") == name:
                return path.parent, entry.get(kind) or {}
    raise WrongConfiguration(f"the kubeconfig has no {kind} {name!r}: choose another context, or give --server")


def _content(directory: Path, entry: dict[str, Any], file: str, data: str) -> str:
    try:
        if entry.get(data):
            return b64decode(entry[data], validate=True).decode()
        return (directory / entry[file]).read_text() if entry.get(file) else ""
    except (OSError, ValueError) as error:
        raise WrongConfiguration(f"the kubeconfig's {file} can't be read: mend it, or give --server") from error

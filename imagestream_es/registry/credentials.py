"""Pull secrets: which user and password a namespace has for which registry.

They are files DIR/NAMESPACE/NAME.json in the format of docker's config.json, as Kubernetes keeps them in
secrets of type kubernetes.io/dockerconfigjson. They are read whenever they are needed, so what an operator
changes counts at once.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from imagestream_es.domain.references import DOCKER_HUB, DockerImageReference

_logger = logging.getLogger(__name__)

_LARGEST = 1024 * 1024
"""Bytes, the most that a Kubernetes secret may hold."""


@dataclass(frozen=True)
class Credentials:
    """A user of a registry."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class PullSecret:
    """A secret of a namespace: its name and the file as it is."""

    name: str
    content: bytes = field(repr=False)


class PullSecrets:
    """The pull secrets under a directory; none without one."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def of(self, namespace: str) -> list[PullSecret]:
        """The namespace's secrets in the order of names. A file that cannot be read counts as absent."""
        if self._directory is None:
            return []
        return list(_read_all(sorted((self._directory / namespace).glob("*.json"))))

    def credentials(self, namespace: str, reference: DockerImageReference) -> Credentials | None:
        """Who to be when an image of that repository is pulled: the entry with the longest path wins."""
        return matching((secret.content for secret in self.of(namespace)), reference)


def _read_all(files: Iterable[Path]) -> Iterator[PullSecret]:
    for file in files:
        try:
            with file.open("rb") as opened:
                content = opened.read(_LARGEST + 1)
        except OSError as error:
            _logger.warning("the pull secret %s cannot be read: %s", file, error.strerror)
            continue
        if len(content) > _LARGEST or not isinstance(_auths(content), dict):
            _logger.warning("the pull secret %s is not a docker config file and is not used", file)
            continue
        yield PullSecret(file.stem, content)


def matching(secrets: Iterable[bytes], reference: DockerImageReference) -> Credentials | None:
    """The credentials for a repository in files of docker's config.json format.

    An entry counts if its host is the registry's and its path, if it has one, the beginning of the
    repository's. The longest path wins, among equals the first.
    """
    wanted = reference.with_defaults()
    host, path = _host(wanted.registry), wanted.path()
    best: tuple[int, Credentials] | None = None
    for secret in secrets:
        for key, entry in _auths(secret).items():
            entry_host, entry_path = _place(key)
            if entry_host != host or not _begins(path, entry_path):
                continue
            found = _credentials(entry)
            if found is not None and (best is None or len(entry_path) > best[0]):
                best = len(entry_path), found
    return None if best is None else best[1]


def _auths(content: bytes) -> Any:
    try:
        return orjson.loads(content).get("auths")
    except (orjson.JSONDecodeError, AttributeError):
        return None


def _place(key: str) -> tuple[str, str]:
    """Host and path of a key of `auths`, which may be written as a URL."""
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    host, path = _host(host), path.strip("/")
    # docker's own key for its hub names a version of the API.
    return host, "" if path in ("v1", "v2") else path


def _host(host: str) -> str:
    host = host.lower()
    return DOCKER_HUB if DockerImageReference(host).api_host() == DockerImageReference().api_host() else host


def _begins(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(prefix + "/")


def _credentials(entry: Any) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    user, password, auth = entry.get("username"), entry.get("password"), entry.get("auth")
    if isinstance(auth, str) and auth:
        try:
            user, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
    if not isinstance(user, str) or not isinstance(password, str) or not user:
        return None
    return Credentials(user, password)

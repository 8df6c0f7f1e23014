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


class Keyring:
    """The credentials in files of docker's config.json format."""

    def __init__(self, files: Iterable[bytes]) -> None:
        entries = ((*_place(key), _credentials(entry)) for file in files for key, entry in _auths(file).items())
        known = [(host, path, credentials) for host, path, credentials in entries if credentials is not None]
        # Stable: among equals the first counts.
        self._entries = sorted(known, key=lambda entry: len(entry[1]), reverse=True)

    def find(self, reference: DockerImageReference) -> Credentials | None:
        """Who to be when an image of that repository is pulled, None for nobody.

        An entry counts if its host is the registry's, and its path, if it has one, the beginning of the
        repository's; the longest path wins.
        """
        wanted = reference.with_defaults()
        host, path = _host(wanted.registry), wanted.path()
        found = (entry for at, prefix, entry in self._entries if at == host and _begins(path, prefix))
        return next(found, None)


class PullSecrets:
    """The pull secrets under a directory; none without one."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def of(self, namespace: str) -> list[PullSecret]:
        """The namespace's secrets in the order of names. A file that cannot be read counts as absent."""
        if self._directory is None:
            return []
        return list(_read_all(sorted((self._directory / namespace).glob("*.json"))))

    def keyring(self, namespace: str) -> Keyring:
        """The credentials in the namespace's secrets."""
        return Keyring(secret.content for secret in self.of(namespace))


def _read_all(files: Iterable[Path]) -> Iterator[PullSecret]:
    for file in files:
        try:
            with file.open("rb") as opened:
                content = opened.read(_LARGEST + 1)
        except OSError as error:
            _logger.warning("the pull secret %s cannot be read: %s", file, error.strerror)
            continue
        if len(content) > _LARGEST or not _auths(content):
            _logger.warning("the pull secret %s holds no credentials and is not used", file)
            continue
        yield PullSecret(file.stem, content)


def _auths(content: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    auths = document.get("auths") if isinstance(document, dict) else None
    return auths if isinstance(auths, dict) else {}


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

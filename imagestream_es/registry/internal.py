"""The internal registry, as this service reaches it: where it is, whom to trust there, and as whom to read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from imagestream_es.domain.references import DockerImageReference
from imagestream_es.registry.budget import Budget
from imagestream_es.registry.client import RegistryClient
from imagestream_es.registry.credentials import Credentials, Keyring
from imagestream_es.registry.transport import Transport, Url

IMAGE_BYTES = 32 * 1024 * 1024
"""The most that is downloaded for one image with all its parts; manifest and config have a few KiB each."""
LISTING_BYTES = 256 * 1024 * 1024
"""The same for the catalog, or for the tags of one repository."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InternalRegistry:
    """The registry at `url`; `credentials_file`, in the format of docker's config.json, is read at each use."""

    url: Url
    transport: Transport
    credentials_file: Path | None = field(default=None, repr=False)

    def client(self, repository: str, seconds: float, size: int) -> RegistryClient:
        """A client for a repository, or for the catalog if that is "".

        It has `seconds` for all it does, and downloads at most `size` bytes.
        """
        credentials = self._credentials(repository)
        budget = Budget(seconds, size)
        return RegistryClient(self.transport, self.url.authority, budget, credentials, scheme=self.url.scheme)

    def _credentials(self, repository: str) -> Credentials | None:
        if self.credentials_file is None:
            return None
        try:
            keyring = Keyring([self.credentials_file.read_bytes()])
        except OSError as error:
            _logger.warning("the credentials of the registry cannot be read: %s", error.strerror)
            return None
        namespace, _, name = repository.partition("/")
        return keyring.find(DockerImageReference(self.url.authority, namespace, name))

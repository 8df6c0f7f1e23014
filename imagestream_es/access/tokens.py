"""Bearer tokens from a file, as kube-apiserver reads them: `token,user,uid,"group1,group2"` on each line.

Tokens are kept, and found, by their digest: how long that takes tells nothing of a token.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagestream_es.access.files import Reread, WrongFile, read
from imagestream_es.access.identity import AUTHENTICATED, LONGEST_NAME, User, can_be_name

ISSUER = "token-file"

_logger = logging.getLogger(__name__)


class TokenFile:
    """Users by their tokens. Raises WrongFile when it is made."""

    def __init__(self, path: Path) -> None:
        self._users: Reread[Mapping[bytes, User]] = Reread(lambda: [path], _parse)
        self.refresh = self._users.refresh

    def user(self, token: str) -> User | None:
        """Whose token it is, None if nobody's."""
        return self._users.value.get(_digest(token))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _parse(paths: Sequence[Path]) -> Mapping[bytes, User]:
    path, users = paths[0], {}
    try:
        text = read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise WrongFile(f"{path}: not a text in UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        for row in reader:
            if not row:
                continue
            where = f"{path}, line {reader.line_num}"
            if len(row) < 3:
                raise WrongFile(f'{where}: needed are token,user,uid and maybe "group1,group2".')
            token, name, uid = row[:3]
            if not token:
                _logger.warning("%s: the token is empty; nobody gets in with that", where)
                continue
            if not name:
                raise WrongFile(f"{where}: the user has no name.")
            digest = _digest(token)
            if digest in users:
                _logger.warning("%s: the token stands in the file twice; the later line counts", where)
            groups = dict.fromkeys(group.strip() for group in row[3].split(",")) if len(row) > 3 else {}
            groups.pop("", None)
            if not all(map(can_be_name, (name, *groups))):
                raise WrongFile(f"{where}: names may have at most {LONGEST_NAME} characters, all of them printable.")
            users[digest] = User(name, uid, (*groups, AUTHENTICATED), issuer=ISSUER)
    except csv.Error as error:
        raise WrongFile(f"{path}, line {reader.line_num}: {error}.") from error
    return users

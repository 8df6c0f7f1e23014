import fcntl
from pathlib import Path

import pytest

from imagestream_es.persistence import directory
from imagestream_es.persistence.directory import DirectoryInUse, DirectoryLock, in_use


def test_a_directory_is_in_use_while_somebody_holds_it(tmp_path: Path) -> None:
    assert not in_use(tmp_path)
    with DirectoryLock(tmp_path):
        assert in_use(tmp_path)
        with pytest.raises(DirectoryInUse, match="is in use by another"), DirectoryLock(tmp_path):
            pass
    assert not in_use(tmp_path)


def test_who_only_asks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / directory.LOCK).open("w") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        monkeypatch.setattr(directory.time, "sleep", lambda _: fcntl.flock(asking, fcntl.LOCK_UN))
        with DirectoryLock(tmp_path):
            assert in_use(tmp_path)

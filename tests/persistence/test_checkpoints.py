"""The file that remembers the log: only appended to, and read whatever happened to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagestream_es.persistence.checkpoints import CheckpointFile, CheckpointFileInUse, Line, lines
from imagestream_es.persistence.merkle import Checkpoint

NOON = 1_772_366_400_000  # 2026-03-01T12:00:00Z


def checkpoint(size: int) -> Checkpoint:
    return Checkpoint(size, size.to_bytes(32, "big"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def file(path: Path) -> Iterator[CheckpointFile]:
    file = CheckpointFile(path)
    yield file
    file.close()


def read(path: Path, until: int | None = None) -> list[tuple[int, int | None]]:
    """The numbers of the lines that count and the sizes in them."""
    with path.open("rb") as opened:
        found = lines(opened, path.stat().st_size if until is None else until)
        return [(number, line and line.checkpoint.size) for number, line in found]


def test_a_line_holds_size_root_and_time(path: Path, file: CheckpointFile) -> None:
    file.append(checkpoint(3), NOON + 7)
    file.append(checkpoint(4), NOON + 8, accepted=True)
    assert path.read_text() == (f"3:{3:064x} 2026-03-01T12:00:00.007Z\n4:{4:064x} 2026-03-01T12:00:00.008Z accepted\n")
    assert Line.read(path.read_bytes().splitlines()[1]) == (checkpoint(4), "2026-03-01T12:00:00.008Z", True)


def test_an_empty_file_has_no_last_checkpoint(file: CheckpointFile) -> None:
    assert file.last() is None


def test_the_last_checkpoint_is_that_of_the_last_line_also_of_a_long_file(path: Path, file: CheckpointFile) -> None:
    for size in range(1, 1200):
        path.open("a").write(f"{checkpoint(size)} 2026-03-01T12:00:00.000Z\n")
    assert file.last() == checkpoint(1199)


@pytest.mark.parametrize("rest", ["1", f"5:{5:064x}", f"5:{5:064x} 2026-03-01T12:00:00.000Z"])
def test_a_line_that_was_cut_off_does_not_count_and_is_marked_when_the_next_one_is_written(
    path: Path, file: CheckpointFile, rest: str
) -> None:
    file.append(checkpoint(4), NOON)
    with path.open("a") as opened:
        opened.write(rest)
    assert file.last() == checkpoint(4)
    assert read(path) == [(1, 4)]
    file.append(checkpoint(6), NOON)
    assert path.read_text().splitlines()[1] == f"{rest} torn"
    assert file.last() == checkpoint(6)
    assert read(path) == [(1, 4), (3, 6)]


def test_a_line_that_was_altered_is_passed_over_and_told_of(path: Path, file: CheckpointFile) -> None:
    for size in (1, 2, 3):
        file.append(checkpoint(size), NOON)
    text = path.read_bytes()
    path.write_bytes(text[:-3] + b"?" + text[-2:])
    assert file.last() == checkpoint(2)
    assert read(path) == [(1, 1), (2, 2), (3, None)]


def test_a_file_of_which_nothing_can_be_read_is_not_taken_for_an_empty_one(path: Path, file: CheckpointFile) -> None:
    path.write_text("something else\n")
    with pytest.raises(ValueError, match="no checkpoint can be read"):
        file.last()


def test_lines_before_an_accepted_one_do_not_count(path: Path, file: CheckpointFile) -> None:
    for size in (1, 8, 9):
        file.append(checkpoint(size), NOON)
    file.append(checkpoint(5), NOON, accepted=True)
    file.append(checkpoint(6), NOON)
    assert read(path) == [(4, 5), (5, 6)]
    assert file.last() == checkpoint(6)


def test_what_is_written_later_is_not_read(path: Path, file: CheckpointFile) -> None:
    file.append(checkpoint(1), NOON)
    until = path.stat().st_size
    file.append(checkpoint(2), NOON)
    file.append(checkpoint(1), NOON, accepted=True)
    assert read(path, until) == [(1, 1)]
    assert read(path, until + 9) == [(1, 1)]


def test_a_file_belongs_to_one_process(path: Path, file: CheckpointFile) -> None:
    with pytest.raises(CheckpointFileInUse, match="give each its own --checkpoint-file"):
        CheckpointFile(path)


def test_a_file_is_for_its_owner_alone(path: Path, file: CheckpointFile) -> None:
    assert path.stat().st_mode & 0o777 == 0o600

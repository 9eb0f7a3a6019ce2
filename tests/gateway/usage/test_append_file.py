import errno
import os
from pathlib import Path

import pytest

from gateway.usage.append_file import WINDOW, AppendFile


def test_what_is_appended_is_in_the_file_at_once(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "file")
    file.append(b"one\n")
    file.append(b"two\n")
    assert (tmp_path / "file").read_bytes().rstrip(b"\0") == b"one\ntwo\n"
    file.close()


def test_a_closed_file_is_as_long_as_what_was_written(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "file")
    file.append(b"one\n")
    file.close()
    assert (tmp_path / "file").read_bytes() == b"one\n"


def test_lines_run_on_over_the_borders_of_windows(tmp_path: Path) -> None:
    lines = [bytes([65 + number % 26]) * 999 + b"\n" for number in range(WINDOW // 400)]
    lines.append(b"z" * (2 * WINDOW) + b"\n")
    file = AppendFile(tmp_path / "file")
    for line in lines:
        file.append(line)
    file.close()
    assert (tmp_path / "file").read_bytes() == b"".join(lines)


def test_a_full_disk_is_an_error_and_loses_nothing_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AppendFile(tmp_path / "file")
    file.append(b"kept\n")

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        file.append(b"x" * WINDOW)
    file.close()
    assert (tmp_path / "file").read_bytes() == b"kept\n"


def test_a_file_that_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        AppendFile(tmp_path / "file")

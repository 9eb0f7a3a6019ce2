"""The data folder and the secrets in it, on a real file system."""

import errno
import fcntl
import os
import re
import resource
from pathlib import Path

import pytest

from gateway.app.plan import kept_secret, prepare
from tests.users import NOBODY, ordinary


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_folder_is_for_this_user_alone(tmp_path: Path) -> None:
    prepare(tmp_path / "deep" / "data")
    assert mode(tmp_path / "deep" / "data") == 0o700


def test_a_folder_of_ours_that_others_may_enter_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare(tmp_path)
    assert mode(tmp_path) == 0o700
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user needs root")
def test_a_volume_that_is_not_ours_is_taken_as_it_is(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    tmp_path.chmod(0o775)
    prepare(tmp_path)
    assert mode(tmp_path) == 0o775
    kept_secret(tmp_path, "admin-token")
    assert mode(tmp_path / "admin-token") == 0o600


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do() -> None:
    told = r"the data folder / cannot be used: .*user \d+ may write.*GATEWAY_DATA_DIR"
    with ordinary(), pytest.raises(OSError, match=told):
        prepare(Path("/"))


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(OSError, match=r"the data folder \S+/data cannot be used: File exists"):
        prepare(tmp_path / "data")


@pytest.mark.parametrize(("name", "wrong"), [("what?", "holds a ?"), ("\udcff", "is not UTF-8")])
def test_a_path_by_which_no_database_would_be_found_is_refused(name: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"its path {wrong}; set GATEWAY_DATA_DIR to another")):
        prepare(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)  # as NFS without its lock daemon has it
    with pytest.raises(OSError, match=r"cannot be used: No locks available; .*on a disk of this machine"):
        prepare(tmp_path)


def test_a_secret_stays_the_same_and_is_closed_again_where_a_mount_opened_it(tmp_path: Path) -> None:
    first = kept_secret(tmp_path, "starter-key", "gh-")
    assert first.startswith("gh-")
    assert len(first) >= 3 + 43, "32 random bytes"
    (tmp_path / "starter-key").chmod(0o660)
    assert kept_secret(tmp_path, "starter-key", "gh-") == first
    assert mode(tmp_path / "starter-key") == 0o600


def test_a_secret_that_does_not_fit_on_the_disk_is_made_anew_next_time(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            kept_secret(tmp_path, "admin-token")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(kept_secret(tmp_path, "admin-token")) > 20

import os
from pathlib import Path

import pytest

from gateway.config.variables import Variables, bytes_if_any


def fill(text: str, folder: Path = Path("/nowhere"), **environ: str) -> str:
    return Variables(environ, folder).fill(text)


def test_variables_are_filled_in_wherever_they_stand() -> None:
    assert fill("${A}", A="x") == "x"
    assert fill("http://${HOST}:${PORT:-80}/v1", HOST="h") == "http://h:80/v1"


def test_a_default_counts_for_what_is_absent_or_empty() -> None:
    assert fill("${A:-b}") == "b"
    assert fill("${A:-b}", A="") == "b"
    assert fill("${A:-b}", A="c") == "c"
    assert fill("${A:-}") == ""


def test_an_empty_variable_is_empty() -> None:
    assert fill("${A}", A="") == ""


def test_a_variable_without_default_must_exist() -> None:
    with pytest.raises(ValueError, match=r"the variable A_B is not set; set it, or write \$\{A_B:-\}"):
        fill("${A_B}")


def test_what_is_filled_in_is_not_filled_again() -> None:
    assert fill("${A}", A="${B}", B="no") == "${B}"


def test_two_dollars_leave_one_standing() -> None:
    assert fill("$${A} $x {y}", A="x") == "${A} $x {y}"


@pytest.mark.parametrize("text", ["${}", "${1}", "${A B}", "${A:b}", "${:-x}", "${A", "x ${"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\$\$\{"):
        fill(text, A="x")


def test_files_are_read_relative_to_the_folder_and_remembered(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret\n")
    variables = Variables({}, tmp_path)
    assert variables.fill("${file:key}") == "sk-secret"
    assert variables.fill(f"${{file:{tmp_path}/key}}") == "sk-secret"
    assert variables.files == {tmp_path / "key": b"sk-secret\n"}


def test_a_file_that_is_not_there_is_an_error_and_is_remembered_too(tmp_path: Path) -> None:
    variables = Variables({}, tmp_path)
    with pytest.raises(ValueError, match=r"the file gone cannot be read \(No such file"):
        variables.fill("${file:gone}")
    assert variables.files == {tmp_path / "gone": None}


def test_a_file_that_is_no_text_is_refused_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfesecret")
    with pytest.raises(ValueError, match="it is not UTF-8 text") as caught:
        fill("${file:key}", tmp_path)
    assert "secret" not in str(caught.value)


def test_what_would_be_waited_for_without_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "/dev/zero", "/dev/null", "."):
        with pytest.raises(ValueError, match=r"cannot be read \(it is not a plain file\); mend the path"):
            fill(f"${{file:{name}}}", tmp_path)


def test_bytes_are_read_where_there_are_any(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff")
    os.mkfifo(tmp_path / "pipe")
    assert [bytes_if_any(tmp_path / name) for name in ("key", "gone", "pipe")] == [b"\xff", None, None]


@pytest.mark.parametrize(
    ("name", "why"), [("~nosuchuser/k", "the home of nobody"), ("a\0b", "no NUL character")]
)
def test_a_file_that_cannot_be_named_is_refused(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fill(f"${{file:{name}}}")


def test_a_file_that_is_known_is_not_read_again(tmp_path: Path) -> None:
    for name in ("key", "empty", "other"):
        (tmp_path / name).write_text("as it is now")
    variables = Variables({}, tmp_path, {tmp_path / "key": b"as it was", tmp_path / "empty": b""})
    assert variables.fill("${file:key}|${file:empty}|${file:other}") == "as it was||as it is now"
    assert variables.files[tmp_path / "key"] == b"as it was"

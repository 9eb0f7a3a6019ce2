"""Flags are read as they are meant, or refused with what to write."""

import pytest

from local_backend.flags import build_parser


def kv_memory(text: str) -> int | float:
    found = build_parser().parse_args(["--model", "m", f"--kv-memory={text}"]).kv_memory
    assert isinstance(found, int | float)
    return found


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 << 30), ("512MiB", 512 << 20), ("4096", 4096), ("0.9", 0.9), (".5", 0.5), ("1.0", 1.0)],
)
def test_sizes_and_shares_are_read(text: str, size: float) -> None:
    found = kv_memory(text)
    assert found == size
    assert isinstance(found, type(size))


@pytest.mark.parametrize("text", ["0.0", "1.5", "-1", "many", "2GB", "", "90%"])
def test_what_is_neither_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        kv_memory(text)
    assert "such as 512MiB or 2GiB, or a share such as 0.5" in capsys.readouterr().err

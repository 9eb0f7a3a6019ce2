import json
from pathlib import Path

import pytest

from gateway.cli.main import main
from tests.shared import ROOT


def test_a_starter_folder_is_what_ships_and_passes_its_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "policies"
    assert main(["init", str(folder)]) == 0
    assert f"next: gateway check {folder}" in capsys.readouterr().out
    for name in ("gateway.yaml", "schema.json"):
        assert (folder / name).read_text() == (ROOT / "policies" / name).read_text()
    assert main(["check", str(folder)]) == 0


def test_machines_get_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "written": [str(tmp_path / "gateway.yaml"), str(tmp_path / "schema.json")]
    }


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.yaml").write_text("mine")
    assert main(["init", str(tmp_path)]) == 1
    assert "is there already; nothing was written" in capsys.readouterr().err
    assert (tmp_path / "gateway.yaml").read_text() == "mine"
    assert not (tmp_path / "schema.json").exists()


@pytest.mark.parametrize("place", ["file/sub", "a" * 300])
def test_a_place_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / place)]) == 2
    assert "cannot be written" in capsys.readouterr().err

import json
from pathlib import Path

import pytest

from gateway.cli.main import main

GOOD = """\
kind: providers
providers: {p: {type: compatible, base_url: "http://127.0.0.1:1/v1"}, o: {type: openai, api_key: ""}}
---
kind: models
models: {m: {targets: [{provider: p}, {provider: o}]}}
---
kind: access
teams: {all: {models: ["*"]}}
"""


def test_good_policies_are_counted_and_warnings_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    assert main(["check", str(tmp_path)]) == 0
    note, ok = capsys.readouterr().out.splitlines()
    assert note == 'note: provider "o" is off: its api_key is empty'
    assert ok.startswith("ok: 1 model, 1 provider, 1 team, 0 keys, 0 rules; version ")


def test_bad_policies_are_told_line_by_line_and_the_answer_is_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.replace("{provider: p}", "{provider: q}") + "---\nkind: budgets\n")
    assert main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f'{tmp_path}/a.yaml:10:7: kind: kind "budgets" is not built yet; remove this document'
    ]


@pytest.mark.parametrize("words", [["check"], ["explain", "--team", "all", "--model", "m"]])
def test_a_folder_that_cannot_be_reached_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """A name too long stands for all: a folder that is closed to others is open to root."""
    folder = tmp_path / ("a" * 300)
    assert main([*words, str(folder)]) == 1
    assert capsys.readouterr().out == f"{folder}:1:1: cannot be read (File name too long); mend its rights\n"


def test_machines_get_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    assert main(["check", "--json", str(tmp_path)]) == 0
    good = json.loads(capsys.readouterr().out)
    assert (good["ok"], good["models"], len(good["version"]), len(good["warnings"])) == (True, 1, 12, 1)
    (tmp_path / "a.yaml").write_text("kind: nope")
    assert main(["check", "--json", str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "problems": [
            {
                "file": f"{tmp_path}/a.yaml",
                "line": 1,
                "column": 7,
                "field": "kind",
                "message": 'there is no kind "nope"; there is access, models, providers, rate-limits, tests',
            }
        ],
    }


def test_a_setting_that_is_wrong_is_a_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_LOG_LEVEL", "loud")
    assert main(["check", str(tmp_path)]) == 2
    assert "GATEWAY_LOG_LEVEL" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["check", "explain", "schema", "init"])
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"example: gateway {verb}" in capsys.readouterr().out

import pytest

from gateway.cli.table import show

LONG = "openrouter/anthropic/claude-sonnet-4-5-20250929"


def test_names_and_numbers_are_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        ["model", "target", "tokens"],
        [[LONG, LONG, "1,234,567,890"]],
        ["total", "", "1,234,567,890"],
        numbers=1,
    )
    told = capsys.readouterr().out
    assert [told.count(one) for one in (LONG, "1,234,567,890", "…")] == [2, 2, 0]


def test_where_it_is_narrow_names_are_folded_and_no_number_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gateway.cli.table.WIDE", 40)
    show(["model", "prompt tokens"], [[LONG, "1,234,567,890"]], numbers=1)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    cells = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    assert "".join(name.strip() for name, _ in cells) == LONG
    assert [number.strip() for _, number in cells if number.strip()] == ["1,234,567,890"]


@pytest.mark.parametrize("name", ["llama[/b]", "llama[fp8]", "ci:key:prod", ":smile:"])
def test_a_name_is_shown_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(["model"], [[name]])
    assert f"│ {name} " in capsys.readouterr().out


def test_no_name_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(["user"], [["\x1b[2Jme\nyou\ud800"]])
    assert "│ ?[2Jme?you? │" in capsys.readouterr().out

import subprocess
import sys

import pytest

from gateway import __version__
from gateway.cli.main import NOT_YET, VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"example: gateway {verb}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("act", ["create", "list", "revoke", "rotate"])
def test_every_act_on_keys_has_a_help_with_an_example(act: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", act, "--help"]) == 0
    assert f"example: gateway keys {act}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("verb", NOT_YET)
def test_a_verb_that_is_not_built_says_so(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "policies"]) == 2
    assert f"gateway {verb}: is not built yet" in capsys.readouterr().err


@pytest.mark.parametrize("given", [[], ["sevre"], ["check", "--nonsense"]])
def test_what_is_no_command_ends_with_two(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 2
    assert "usage: gateway" in capsys.readouterr().err


def test_a_reader_who_has_enough_ends_a_command_without_a_word() -> None:
    command = [sys.executable, "-m", "gateway", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_command_is_as_good_where_its_output_is_closed() -> None:
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "gateway", "schema"]
    ended = subprocess.run(closed, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gatehouse {__version__}\n"

"""The images, as far as they can be held to their word without an engine: what a build would put into them is laid
out in a folder and run from there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.main import main
from tests.deploy.image import Stage, in_context, lay_out, stages
from tests.shared import ROOT

TEXT = (ROOT / "Dockerfile").read_text()
STAGES = stages(TEXT)
IMAGES = ["gateway", "local-backend"]


def run(cwd: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """With nothing but the image's own files on the path."""
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_the_base_image_is_pinned_to_one_release_of_python() -> None:
    assert re.search(r"(?m)^ARG PYTHON=python:3\.1\d\.\d+-slim-\w+$", TEXT)
    assert {stage.base for stage in STAGES.values()} - set(STAGES) == {"${PYTHON}"}


def test_a_plain_build_makes_the_gateway() -> None:
    assert list(STAGES)[-1] == "gateway"


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_nobody_in_particular(name: str) -> None:
    user = STAGES[name].last("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number, so that runAsNonRoot can be checked"
    steps = [word for word, _ in STAGES[name].steps]
    assert "RUN" not in steps[steps.index("USER") :], "what a build writes is not the user's to change"


@pytest.mark.parametrize("name", ["packages", "gateway-packages", "local-packages"])
def test_packages_come_by_their_hashes_from_the_lock(name: str) -> None:
    installs = [rest for word, rest in STAGES[name].steps if word == "RUN" and "pip install" in rest]
    for install in installs:
        assert "--require-hashes --no-deps --only-binary=:all: -r requirements/" in install
    assert "torch" not in " ".join(rest for _, rest in STAGES["gateway"].steps)


def test_secrets_and_histories_stay_out_of_the_build() -> None:
    for path in (".env", ".git/config", ".gateway/admin-token", ".venv/pyvenv.cfg", "tests/shared.py"):
        assert not in_context(path), path
    assert in_context("gateway/state/scripts/reserve.lua")
    assert not in_context("gateway/core/__pycache__/key.cpython-312.pyc")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(STAGES["gateway"], tmp_path_factory.mktemp("gateway"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(STAGES["local-backend"], tmp_path_factory.mktemp("local-backend"))


def test_the_gateway_image_holds_all_that_its_commands_need(gateway: Path, tmp_path: Path) -> None:
    assert "gatehouse" in run(gateway, "-m", "gateway", "--version").stdout
    assert run(gateway, "-m", "gateway", "init", str(tmp_path / "new")).returncode == 0
    policies = gateway.parent / "etc/gatehouse/policies"
    checked = run(gateway, "-m", "gateway", "check", str(policies))
    assert checked.returncode == 0, checked.stderr
    assert list((gateway / "gateway/state/scripts").glob("*.lua"))


def test_the_engine_image_holds_the_model_and_not_the_gateway(engine: Path) -> None:
    shown = run(engine, "-m", "local_backend", "--help")
    assert shown.returncode == 0, shown.stderr
    assert (engine / "local_backend/bundled/model.safetensors").stat().st_size > 1 << 20
    assert not (engine / "gateway").exists()


@pytest.mark.parametrize("name", IMAGES)
def test_a_health_check_that_nobody_answers_fails(name: str, gateway: Path, engine: Path) -> None:
    words = STAGES[name].words("HEALTHCHECK")
    assert words[:2] == ["python", "healthy.py"]
    nobody = words[2].replace(":8080", ":9").replace(":8000", ":9")
    failed = run({"gateway": gateway, "local-backend": engine}[name], words[1], nobody)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr


def test_the_default_command_is_one_the_gateway_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert STAGES["gateway"].words("ENTRYPOINT") == ["python", "-m", "gateway"]
    assert main([*STAGES["gateway"].words("CMD"), "--workers=0"]) == 2
    assert "worker" in capsys.readouterr().err, "all else was understood"
    assert main([*STAGES["gateway"].words("CMD"), "--no-such-option"]) == 2
    assert "--no-such-option" in capsys.readouterr().err


def test_the_reader_of_the_dockerfile_sees_what_is_there() -> None:
    text = "FROM a:1 AS one\n# no\nRUN x \\\n && y\nFROM one AS two\nUSER 1:1\n"
    two = stages(text)["two"]
    assert two == Stage("two", "one", [("RUN", "x  && y"), ("USER", "1:1")])

"""The wheel is whole: installed into an environment of its own and run from an empty folder, it needs nothing of the
checkout for its commands, its limits in Redis and the answer of the model that ships."""

import json
import os
import site
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.gateway.app.serving import LISTENS
from tests.redis_server import RedisServer
from tests.shared import ROOT

# Tells on whoever opens a file of the checkout; what is in its virtual environment are the dependencies.
WATCH = """
import os, sys
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith({root!r} + os.sep):
        if not arguments[0].startswith({packages!r}):
            with os.fdopen(os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "w") as log:
                log.write(arguments[0] + chr(10))
sys.addaudithook(watch)
"""


@dataclass
class Installed:
    """An environment with the wheel in it, and an empty folder to be in."""

    bin: Path
    folder: Path
    environ: dict[str, str]
    opened: Path  # what was opened of the checkout; absent: nothing

    def run(self, *words: str) -> str:
        command = [str(self.bin / words[0]), *words[1:]]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def build(folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: `make test` installs it")
    base = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(base / "venv")], check=True, timeout=60
    )
    python = str(base / "venv/bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", str(build(base))], check=True, timeout=60)
    [own] = (base / "venv/lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text("\n".join([*site.getsitepackages(), "import watch_checkout"]))
    watch = WATCH.format(root=str(ROOT), packages=str(ROOT / ".venv"), log=str(base / "opened"))
    (own / "watch_checkout.py").write_text(watch)
    kept = {"PATH": os.environ["PATH"], "HOME": str(base), "GATEWAY_DATA_DIR": str(base / "data")}
    (base / "empty").mkdir()
    yield Installed(base / "venv/bin", base / "empty", kept, base / "opened")


def test_all_that_a_checkout_keeps_beside_the_code_is_in_it(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "gateway", "local_backend"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    inside = set(zipfile.ZipFile(build(tmp_path)).namelist())
    assert set(tracked) - inside == set()
    assert {"gateway/policies/gateway.yaml", "gateway/policies/examples/models.yaml"} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "loadtests/", "deploy/", "docs/"))]


def test_a_folder_is_begun_and_checked(installed: Installed) -> None:
    assert "gatehouse " in installed.run("gateway", "--version")
    assert "wrote policies/gateway.yaml" in installed.run("gateway", "init")
    assert installed.run("gateway", "check").splitlines()[-1].startswith("ok: ")
    assert json.loads(installed.run("gateway", "schema"))["$defs"]
    assert "local/demo" in installed.run("gateway", "explain", "--team", "default", "--model", "demo")


def test_it_serves_the_model_that_ships(installed: Installed, redis_server: RedisServer) -> None:
    """Takes some seconds: the engine loads torch."""
    pytest.importorskip("torch", reason="the local engine needs torch: `make test` installs it")
    if not (installed.folder / "policies").exists():
        installed.run("gateway", "init")
    command = [str(installed.bin / "gateway"), "serve", "--starter-key", "--port", "0", "--admin-port", "0"]
    environ = installed.environ | {"GATEWAY_REDIS_URL": redis_server.url}
    with subprocess.Popen(
        command,
        cwd=installed.folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            told = ""
            while "api_key=" not in told:
                line = process.stdout.readline()
                assert line, told
                told += line
            match = LISTENS.search(told)
            assert match is not None
            key = told.split('api_key="')[1].split('"')[0]
            body = {"model": "demo", "messages": [{"role": "user", "content": "What is Gatehouse?"}]}
            headers = {"authorization": f"Bearer {key}"}
            answer = httpx.post(f"{match[1]}/v1/chat/completions", json=body, headers=headers, timeout=60)
            assert answer.status_code == 200, answer.text
            assert "gateway" in answer.json()["choices"][0]["message"]["content"].lower()
            assert answer.headers["x-gateway-target"] == "local/demo"
        finally:
            process.terminate()
    assert process.returncode == 0
    with redis_server.client() as client:
        assert client.keys("gatehouse:v1:*:open") or client.keys("gatehouse:v1:*"), "limits were kept there"


def test_nothing_was_read_of_the_checkout(installed: Installed) -> None:
    installed.run("python", "-c", "import gateway.app.run, gateway.cli.main, local_backend.server")
    assert not installed.opened.exists(), installed.opened.read_text()
    installed.run("python", "-c", f"open({str(ROOT / 'README.md')!r})")
    assert installed.opened.read_text() == f"{ROOT / 'README.md'}\n", "who looks there is told of"

"""The services of docker-compose.yml without containers: the same commands, environments, mounts and health checks,
with hosts, ports and paths of containers translated to ones of this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.children import free_port
from tests.deploy.image import lay_out, stages
from tests.shared import ROOT

HOSTS = re.compile(r"\b(?:gateway|local-backend|redis|prometheus)(?=:\d)|\b0\.0\.0\.0(?=:)")
PORTS = re.compile(r"(?<![\d.])(?:8080|8081|8000|6379|9090)(?!\d)")
SECRETS = {
    name: f"{name.lower()}-of-the-tests" for name in ("ADMIN_TOKEN", "METRICS_TOKEN", "REDIS_PASSWORD")
}
STARTS_WITHIN = 60.0


def interpolate(value: Any, environ: Mapping[str, str]) -> Any:
    """Compose's `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `$$` in every string. Raises KeyError."""
    if isinstance(value, dict):
        return {name: interpolate(one, environ) for name, one in value.items()}
    if isinstance(value, list):
        return [interpolate(one, environ) for one in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, default, required = match[1], match[2], match[3]
        if name is None:
            return "$"
        if required is not None and not environ.get(name):
            raise KeyError(f"{name}: {required}")
        return environ.get(name) or default or ""

    return re.sub(r"\$(?:\$|\{(\w+)(?::-([^}]*)|:\?([^}]*))?\})", replace, value)


def compose(environ: Mapping[str, str]) -> Any:
    return interpolate(yaml.safe_load((ROOT / "docker-compose.yml").read_text()), environ)


class Stack:
    """Start services one by one; they end in reverse when it is closed."""

    def __init__(self, folder: Path, **environ: str) -> None:
        """`environ` is added to the `.env` of the compose file."""
        self.folder = folder
        self.file = compose({**SECRETS, "GRAFANA_PASSWORD": "unused", **environ})
        self.ports = {port: free_port() for port in ("8080", "8081", "8000", "6379", "9090")}
        self._images = stages((ROOT / "Dockerfile").read_text())
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._work: dict[str, Path] = {}

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def mounted(self, service: str, path: str) -> Path:
        """Where a path of a container lies here."""
        return Path(self._translate(service, path))

    def start(self, service: str, **environ: str) -> None:
        """`environ` is added to what the compose file gives. Skips the test where a program is not installed."""
        self._mount(service)
        command = [self._translate(service, word) for word in self.file["services"][service]["command"]]
        command = [*self._entrypoint(service), *command]
        if shutil.which(command[0]) is None:
            pytest.skip(f"there is no {command[0]} on this machine; `apt-get install {command[0]}` brings it")
        with (self.folder / f"{service}.log").open("wb") as log:
            self._running[service] = subprocess.Popen(
                command, cwd=self._cwd(service), env=self.environ(service, **environ), stdout=log, stderr=log
            )
        self._wait_until_healthy(service)

    def run(self, service: str, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """As `docker compose exec SERVICE ...`."""
        command = [self._translate(service, word) for word in words]
        return subprocess.run(
            command,
            cwd=self._cwd(service),
            env=self.environ(service, **environ),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def is_healthy(self, service: str) -> bool:
        """What the service's own health check says."""
        kind, *words = self.file["services"][service]["healthcheck"]["test"]
        return self.run(service, *(["sh", "-c", *words] if kind == "CMD-SHELL" else words)).returncode == 0

    def signal(self, service: str, number: int) -> None:
        self._running[service].send_signal(number)

    def stop(self, service: str) -> int:
        process = self._running.pop(service)
        for number in (signal.SIGCONT, signal.SIGTERM):
            process.send_signal(number)
        try:
            return process.wait(20)
        finally:
            process.kill()
            process.wait()

    def close(self) -> None:
        for service in reversed(list(self._running)):
            self.stop(service)

    def environ(self, service: str, **more: str) -> dict[str, str]:
        """Nothing of this process's environment but the path and where the interpreter is."""
        image = self._images.get(service)
        given = dict(rest.split("=", 1) for rest in _env_lines(image)) if image else {}
        given |= self.file["services"][service].get("environment", {})
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {name: self._translate(service, text) for name, text in given.items()} | more | {"PATH": path}

    def _entrypoint(self, service: str) -> list[str]:
        image = self._images.get(service)
        if image is not None:
            return [sys.executable, *image.words("ENTRYPOINT")[1:]]
        return ["prometheus"] if service == "prometheus" else []

    def _cwd(self, service: str) -> Path:
        if service not in self._work:
            image, root = self._images.get(service), self.folder / "images" / service
            self._work[service] = lay_out(image, root) if image else root
            self._work[service].mkdir(parents=True, exist_ok=True)
        return self._work[service]

    def _mount(self, service: str) -> None:
        """Bind mounts are copied, with their texts translated; volumes are empty folders."""
        for volume in self.file["services"][service].get("volumes", []):
            source, inside = volume.split(":")[:2]
            place = self.mounted(service, inside)
            place.mkdir(parents=True, exist_ok=True)
            for file in (ROOT / source).rglob("*.y*ml") if source.startswith("./") else ():
                target = place / file.relative_to(ROOT / source)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(self._quickened(self._translate(service, file.read_text())))
        for name in self.file["services"][service].get("secrets", []):
            secret = self.mounted(service, f"/run/secrets/{name}")
            secret.parent.mkdir(parents=True, exist_ok=True)
            secret.write_text(SECRETS[self.file["secrets"][name]["environment"]])

    def _quickened(self, text: str) -> str:
        """A scrape each second instead of each fifteen."""
        return re.sub(r"(?m)^(\s+(?:scrape|evaluation)_interval:) \S+$", r"\1 1s", text)

    def _translate(self, service: str, text: str) -> str:
        text = PORTS.sub(lambda found: str(self.ports[found[0]]), HOSTS.sub("127.0.0.1", text))
        volumes = self.file["services"][service].get("volumes", [])
        inside = sorted([one.split(":")[1] for one in volumes] + ["/run/secrets"], key=len, reverse=True)
        here = self.folder / "mounts" / service
        paths = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, inside))})(?![\w-])")
        return paths.sub(lambda found: f"{here}{found[0]}", text)

    def _wait_until_healthy(self, service: str) -> None:
        until = time.monotonic() + STARTS_WITHIN
        while not self.is_healthy(service):
            dead = self._running[service].poll() is not None
            if dead or time.monotonic() > until:
                said = (self.folder / f"{service}.log").read_text()[-2000:]
                raise AssertionError(f"{service} {'ended' if dead else 'is not healthy'}: {said}")
            time.sleep(0.1)  # a health check is asked again and again, by an engine too


def _env_lines(image: Any) -> list[str]:
    lines = [rest for word, rest in image.steps if word == "ENV"]
    return [pair for line in lines for pair in line.split() if not pair.startswith("PATH=")]

"""What is to be run: settings, addresses, and the tokens kept in the data folder."""

import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.settings import Settings


@dataclass(slots=True, frozen=True)
class Plan:
    """`worker` is 0 for the only process, 1 and up for those a parent started."""

    settings: Settings
    config: Path
    host: str = "127.0.0.1"
    port: int = 8080
    admin_host: str = "127.0.0.1"
    admin_port: int = 8081
    workers: int = 1
    starter_key: bool = False
    worker: int = 0
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir

    @property
    def database_url(self) -> str:
        return self.settings.database_url or f"sqlite:///{self.data_dir.absolute() / 'gatehouse.db'}"


def prepare(data_dir: Path) -> None:
    """Make the data folder, for this user alone."""
    data_dir.mkdir(parents=True, exist_ok=True)
    os.chmod(data_dir, 0o700)


def kept_secret(data_dir: Path, name: str, prefix: str = "") -> str:
    """A secret that is made once and then stays the same, in a file that only this user can read."""
    path = data_dir / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        value = prefix + secrets.token_urlsafe(32)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(value + "\n")
        return value


def engine_command(model: str, socket: str) -> list[str]:
    """How the local engine is started: a program of its own that ends when its standard input does."""
    return [
        sys.executable, "-m", "local_backend",
        "--model", model, "--listen", f"unix:{socket}", "--exit-with-stdin",
    ]  # fmt: skip

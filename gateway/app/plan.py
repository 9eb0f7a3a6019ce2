"""What is to be run: settings, addresses, and the tokens kept in the data folder."""

import fcntl
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
        return self.settings.database_url or f"sqlite:///{self._file}"

    @property
    def ledger_url(self) -> str:
        """A file of its own: a transaction locks all of one, and the ledger's may take their time."""
        return self.settings.database_url or f"sqlite:///{self.data_dir.absolute() / 'usage.db'}"

    @property
    def earlier_ledger(self) -> str:
        """The file in which an earlier version kept it, where it is elsewhere now."""
        return "" if self.settings.database_url else str(self._file)

    @property
    def _file(self) -> Path:
        return self.data_dir.absolute() / "gatehouse.db"


def prepare(data_dir: Path) -> None:
    """Make the data folder, for this user alone. One that is there and belongs to another (a mounted volume is
    often root's) is taken as it is. Raises OSError, naming the folder, where it cannot be written, and ValueError for a
    path by which no database would be found."""
    _check(str(data_dir.absolute()))
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data_dir.stat().st_uid == os.geteuid():
            _close(data_dir, 0o700)
        # Tried in earnest: modes do not tell of mounts that are read-only, or have no locks.
        with tempfile.TemporaryFile(dir=data_dir) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise OSError(
            f"the data folder {data_dir} cannot be used: {error.strerror}; make it a folder that user "
            f"{os.geteuid()} may write, on a disk of this machine, or set GATEWAY_DATA_DIR to another"
        ) from None


def _check(path: str) -> None:
    """It becomes part of a database's address, which ends at a ?, and of what processes say to each other, in UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        wrong = "is not UTF-8"
    else:
        wrong = "holds a ?" if "?" in path else ""
    if wrong:
        raise ValueError(
            f"the data folder {path!a} cannot be used: its path {wrong}; set GATEWAY_DATA_DIR to another"
        )


def kept_secret(data_dir: Path, name: str, prefix: str = "") -> str:
    """A secret that is made once and then stays the same, in a file that only this user can read."""
    path = data_dir / name
    try:
        value = path.read_text().strip()
    except FileNotFoundError:
        value = prefix + secrets.token_urlsafe(32)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, "w") as file:
                file.write(value + "\n")
        except OSError:  # half a secret, on a full disk, would be taken for the whole one at the next start
            path.unlink(missing_ok=True)
            raise
    else:
        _close(path, 0o600)  # Kubernetes opens every file of a volume to its fsGroup at each mount
    return value


def _close(path: Path, mode: int) -> None:
    with suppress(PermissionError):  # another's, or on a file system without modes
        path.chmod(mode)


def engine_command(model: str, socket: str, flags: Sequence[str] = ()) -> list[str]:
    """How the local engine is started: a program of its own that ends when its standard input does."""
    return [
        sys.executable, "-m", "local_backend",
        "--model", model, "--listen", f"unix:{socket}", "--exit-with-stdin",
        "--drain-timeout", "4",  # less than the GRACE of its EngineProcess
        *flags,
    ]  # fmt: skip

"""What is told of a database that cannot be used, by trying real ones."""

import socket
from pathlib import Path

import pytest

from gateway.state import postgres
from gateway.state.database import Database
from gateway.state.fault import named_database
from gateway.state.keystore import KeyStore


def told(folder: Path, url: str = "", kind: type[Exception] = OSError) -> str:
    file = f"sqlite:///{folder}/gatehouse.db"
    with pytest.raises(kind, match="cannot be used") as caught:
        with named_database(url or file, is_set=bool(url)):
            KeyStore(Database(url or file), lambda: 0.0, lambda level, message: None)
    return str(caught.value)


def test_a_server_that_takes_no_connection_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "TAKEN", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://me:s3cret@127.0.0.1:{silent.getsockname()[1]}/x"
        why = told(tmp_path, url)
    assert "timeout" in why
    assert "s3cret" not in why


def test_a_file_that_is_no_database_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "gatehouse.db").write_bytes(b"garbage" * 1000)
    assert told(tmp_path) == (
        f"the database {tmp_path}/gatehouse.db (in GATEWAY_DATA_DIR) cannot be used (file is not a database); "
        "make room or mend its rights; if it is damaged, put a copy in its place or move it away"
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:////nowhere/s3cret/x.db", "unable to open database file); see that it runs"),
        ("foo://me:s3cret@host/x", "it is of no known kind); write it as sqlite:////path"),
        ("nonsense s3cret", "it is no address); write it as"),
        ("postgresql://me:s3cret@host:port/x", "it is no address); write it as"),
        ("mysql://me:s3cret@host/x", "it is of no known kind); write it as sqlite:////path"),
        ("postgresql+none://me:s3cret@host/x", "it is of no known kind); write it as"),
        (
            "postgresql+pg8000://me:s3cret@host/x",
            "its driver is not installed: No module named 'pg8000'); install",
        ),
    ],
)
def test_an_address_that_cannot_be_used_names_the_setting_and_never_itself(
    url: str, why: str, tmp_path: Path
) -> None:
    found = told(tmp_path, url, OSError if url.startswith("sqlite") else ValueError)
    assert found.startswith(f"the database of GATEWAY_DATABASE_URL cannot be used ({why}")
    assert "s3cret" not in found


def test_what_else_goes_wrong_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"):
        with named_database(f"sqlite:///{tmp_path}/x.db", is_set=False):
            raise OSError("the port is in use")

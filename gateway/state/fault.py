"""What is wrong with a database, in words for operators: no other room knows SQL's own errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.core.failure import DatabaseAway


class DatabaseFault(DatabaseAway):
    """Whatever goes wrong with a database: in a line, without the statement. `kind` names it without an address, and is
    all that callers are told."""

    def __init__(self, why: str, kind: str) -> None:
        super().__init__(kind)
        self.kind, self._why = kind, " ".join(why.split())

    def __str__(self) -> str:
        return self._why


class BadAddress(DatabaseFault):
    """An address that none could be opened by."""


@contextmanager
def named_database(url: str, *, is_set: bool) -> Iterator[None]:
    """Around what opens it: what goes wrong is told with its setting and a remedy. `is_set` by an operator, or
    else the file in the data folder. Raises ValueError for a wrong setting, OSError for a database that fails; without
    the address, as a password may stand in it."""
    try:
        yield
    except (BadAddress, ImportError) as error:
        raise ValueError(_of_setting(error)) from None
    except DatabaseFault as error:
        raise OSError(_of_setting(error) if is_set else _of_file(url, error)) from None


def _of_setting(error: DatabaseFault | ImportError) -> str:
    why, remedy = str(error), "see that it runs, takes this user and has room"
    if isinstance(error, ImportError):
        why = f"its driver is not installed: {error}"
        remedy = "install the driver, or name another behind a + in the address"
    elif isinstance(error, BadAddress):
        remedy = "write it as sqlite:////path/to/file.db or postgresql://user:password@host/name"
    return f"the database of GATEWAY_DATABASE_URL cannot be used ({why}); {remedy}"


def _of_file(url: str, error: DatabaseFault) -> str:
    file = url.removeprefix("sqlite:///")
    remedy = "make room or mend its rights; if it is damaged, put a copy in its place or move it away"
    return f"the database {file} (in GATEWAY_DATA_DIR) cannot be used ({error}); {remedy}"

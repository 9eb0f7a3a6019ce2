"""What is wrong with a database, in words for operators: no other room knows SQL's own errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

DatabaseFault = SQLAlchemyError  # whatever goes wrong with one that was opened


def reason(error: Exception) -> str:
    """In a line, without the statement."""
    return " ".join(str(error.orig if isinstance(error, DBAPIError) else type(error).__name__).split())


@contextmanager
def named_database(url: str, *, is_set: bool) -> Iterator[None]:
    """Around what opens it: what goes wrong is told with its setting and a remedy. `is_set` by an operator, or
    else the file in the data folder. Raises ValueError, without an address: a password may stand in it."""
    try:
        _check_address(url)
        yield
    except (SQLAlchemyError, ImportError) as error:
        raise ValueError(_of_setting(error) if is_set else _of_file(url, error)) from None


def _check_address(url: str) -> None:
    try:
        make_url(url)
    except ValueError:  # its port is no number
        raise ArgumentError from None


def _of_setting(error: SQLAlchemyError | ImportError) -> str:
    why, remedy = reason(error), "see that it runs, takes this user and has room"
    if isinstance(error, ImportError):
        why = f"its driver is not installed: {error}"
        remedy = "install the driver, or name another behind a + in the address"
    elif isinstance(error, ArgumentError):
        why = "it is of no known kind" if isinstance(error, NoSuchModuleError) else "it is no address"
        remedy = "write it as sqlite:////path/to/file.db or postgresql://user:password@host/name"
    return f"the database of GATEWAY_DATABASE_URL cannot be used ({why}); {remedy}"


def _of_file(url: str, error: SQLAlchemyError | ImportError) -> str:
    file = url.removeprefix("sqlite:///")
    remedy = "make room or mend its rights; if it is damaged, put a copy in its place or move it away"
    return f"the database {file} (in GATEWAY_DATA_DIR) cannot be used ({reason(error)}); {remedy}"

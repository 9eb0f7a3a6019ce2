"""A database that cannot be used is told with its setting and a remedy, not with the way down to it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from gateway.app.plan import Plan


@contextmanager
def named_database(plan: Plan) -> Iterator[None]:
    """Around what opens it. Raises ValueError, without the address: a password may stand in it."""
    try:
        _check_address(plan.database_url)
        yield
    except (SQLAlchemyError, ImportError) as error:
        raise ValueError(_told(plan, error)) from None


def _check_address(url: str) -> None:
    try:
        make_url(url)
    except ValueError:
        raise ArgumentError("its port is no number") from None


def _told(plan: Plan, error: SQLAlchemyError | ImportError) -> str:
    if isinstance(error, ImportError):
        why = f"its driver is not installed: {error}"
        remedy = "install the driver, or name another behind a + in GATEWAY_DATABASE_URL"
    elif isinstance(error, NoSuchModuleError | ArgumentError):
        why = "it is of no known kind" if isinstance(error, NoSuchModuleError) else "it is no address"
        remedy = "write it as sqlite:////path/to/file.db or postgresql://user:password@host/name"
    else:
        why = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        remedy = "see that it runs, takes this user and has room"
    if plan.settings.database_url:
        return f"the database of GATEWAY_DATABASE_URL cannot be used ({why}); {remedy}"
    remedy = "make room or mend its rights; if it is damaged, put a copy in its place or move it away"
    file = plan.database_url.removeprefix("sqlite:///")
    return f"the database {file} (in GATEWAY_DATA_DIR) cannot be used ({why}); {remedy}"

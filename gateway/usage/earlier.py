"""The ledger of an earlier version, which had no file of its own: it stood beside the keys."""

from sqlalchemy import Connection

from gateway.usage.tables import USAGE


def take_over(connection: Connection, file: str) -> None:
    """Copy the rows of that SQLite file, if it has any, but for those that are there: it may be done again. They stay
    where they are, for who goes back. Raises SQLAlchemyError."""
    run = connection.exec_driver_sql
    run("ATTACH ? AS earlier", (file,))
    try:
        if has := [name for _, name, *_ in run(f"PRAGMA earlier.table_info({USAGE.name})")]:
            names = ", ".join(f'"{name}"' for name in has if name in USAGE.columns)
            run(f"INSERT OR IGNORE INTO {USAGE.name} ({names}) SELECT {names} FROM earlier.{USAGE.name}")
            connection.commit()
    finally:
        connection.rollback()
        run("DETACH earlier")

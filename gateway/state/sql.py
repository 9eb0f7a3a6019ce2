"""How SQLAlchemy is used: engines as they are opened, tables as they are made, errors in words for operators."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, TextClause, create_engine, event, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from gateway.state.fault import BadAddress, DatabaseFault
from gateway.state.sqlite import begin

_KINDS = ("sqlite", "postgresql")  # in whose words rows are written: ON CONFLICT is none of the standard's
MAKING = 0x6761746568  # of all the locks that users of one database may agree on, that of making our tables


@contextmanager
def faults() -> Iterator[None]:
    """Raises DatabaseFault for what SQLAlchemy raises."""
    try:
        yield
    except NoSuchModuleError as error:
        raise BadAddress("it is of no known kind", type(error).__name__) from error
    except ArgumentError as error:
        raise BadAddress("it is no address", type(error).__name__) from error
    except SQLAlchemyError as error:
        kind = type(error).__name__
        raise DatabaseFault(_said(error) if isinstance(error, DBAPIError) else kind, kind) from error


def _said(error: DBAPIError) -> str:
    """PostgreSQL adds the line of the statement."""
    return str(error.orig).partition("\nLINE ")[0]


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Raises DatabaseFault."""
    with faults(), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """All that is written or nothing. Raises DatabaseFault."""
    with faults(), engine.begin() as connection:
        yield connection


def at_length(connection: Connection) -> AbstractContextManager[None]:
    """Around what no call waits for: a PostgreSQL ends it later than other statements. Raises SQLAlchemyError."""
    if connection.dialect.driver != "psycopg":
        return nullcontext()
    from gateway.state import postgres

    return postgres.at_length(connection)


def open_engine(url: str) -> Engine:
    """Raises DatabaseFault, and ImportError for a driver that is not installed."""
    with faults():
        address = _address(url)
        if address.get_backend_name() not in _KINDS:
            raise NoSuchModuleError
        engine = create_engine(address, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.driver == "psycopg":
        from gateway.state import postgres  # its driver is installed where one is used

        @event.listens_for(engine, "do_connect")
        def _connect(dialect: Any, record: Any, args: Any, named: Any) -> postgres.Patient:
            return postgres.connect(*args, **named)

    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _begin(connection: Any, record: Any) -> None:
            begin(connection)

    return engine


def close_engine(engine: Engine) -> None:
    """At once what nobody uses; what a thread still uses, once it gives it back: the engine's pool would keep it."""

    @event.listens_for(engine.pool, "checkin")
    def _end(connection: Any, record: Any) -> None:
        record.invalidate()

    engine.dispose()


def _address(url: str) -> URL:
    try:
        return make_url(url)
    except ValueError:  # its port is no number
        raise ArgumentError from None


def ensure(engine: Engine, tables: MetaData, *more: TextClause) -> None:
    """Make what is missing, columns that a table of an earlier version lacks among it. Processes that start at the same
    moment may all ask for it; `more` must allow that. Raises DatabaseFault."""
    with writing(engine) as connection, at_length(connection):
        if engine.dialect.name == "postgresql":
            # Its IF NOT EXISTS does not look at what others are making: of two at once one fails.
            connection.execute(text("SELECT pg_advisory_xact_lock(:making)"), {"making": MAKING})
        for table in tables.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            _widen(connection, table)
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))
        for statement in more:
            connection.execute(statement)


def _widen(connection: Connection, table: Table) -> None:
    there = connection.execute(select(text("*")).select_from(table).limit(0)).keys()
    for column in table.columns:
        if column.name not in there:
            made = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {made}")

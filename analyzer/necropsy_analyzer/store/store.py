"""The database. In: a URL. Out: transactions over migrated tables.

SQLite is embedded (write-ahead log, synchronous=FULL: what was acknowledged survives a power cut); PostgreSQL
is taken by URL where its driver is installed. A write transaction on SQLite begins with BEGIN IMMEDIATE, so
that it never fails half way for want of the lock (https://www.sqlite.org/lang_transaction.html).
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from necropsy_analyzer.store.schema import HEAD

_BUSY_MS: Final = 10_000
_PAGE_BYTES: Final = 4096
_ADVISORY_LOCK: Final = 0x6E6563726F707379  # "necropsy"
_PASSING: Final = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_LOCKED")


class StoreError(Exception):
    """The database cannot be opened, as the one line that a person reads."""


class StoreUnavailableError(Exception):
    """The database took nothing of this transaction: disk full, locked, or away. Trying again may help.

    `full` says that there is no room.
    """

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class Store:
    """The open database. Safe to use from several threads; each transaction has its own connection."""

    def __init__(self, engine: Engine, busy_ms: int = _BUSY_MS) -> None:
        self.engine = engine
        self._busy_ms = busy_ms
        self.embedded = engine.dialect.name == "sqlite"
        # SQLite has one writer: threads queue here in order, and do not poll for the file's lock.
        self._writer = threading.Lock()

    @classmethod
    def open(
        cls, url: str | URL, *, limit_bytes: int | None = None, create: bool = True, busy_ms: int = _BUSY_MS
    ) -> "Store":
        """Open the database and bring its tables up to date.

        `limit_bytes` bounds the SQLite file, `busy_ms` how long to wait for its lock. Raises StoreError where
        it cannot be opened, or is not there and `create` is False.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise StoreError("the database is no URL: give sqlite:////path or postgresql://…") from error
        shown = parsed.render_as_string(hide_password=True)
        embedded = parsed.get_backend_name() == "sqlite"
        if embedded:
            _prepare_file(parsed.database, create)
        try:
            engine = create_engine(parsed, pool_pre_ping=not embedded)
        except (NoSuchModuleError, ImportError) as error:
            raise StoreError(f"no driver for {shown}: pip install psycopg") from error
        if embedded:
            _configure_sqlite(engine, limit_bytes, busy_ms)
        store = cls(engine, busy_ms)
        try:
            store._migrate()
        except DBAPIError as error:
            raise StoreError(f"the store {shown} cannot be used: {error.orig}") from error
        except StoreUnavailableError as error:
            raise StoreError(f"the store {shown} cannot be used: {error}") from error
        return store

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a transaction that is kept whole when the block ends, and undone whole when it raises.

        Raises StoreUnavailableError where the database failed for want of room, a lock or a connection.
        """
        with self._serial(), _told(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a transaction that sees one state and writes nothing. Raises as `write` does."""
        with _told(), self.engine.connect() as connection:
            yield connection.execution_options(necropsy_read=True)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _serial(self) -> Iterator[None]:
        if not self.embedded:
            yield
            return
        if not self._writer.acquire(timeout=self._busy_ms / 1000):
            raise StoreUnavailableError("the store is busy")
        try:
            yield
        finally:
            self._writer.release()

    def _migrate(self) -> None:
        """Bring the tables up to date, one process at a time: the transaction itself is the lock."""
        with suppress(DBAPIError), self.engine.connect() as connection:
            # Loading Alembic takes 0.3 s, which a store that is up to date need not wait for.
            if _version(connection.execution_options(necropsy_read=True)) == HEAD:
                return
        with self.write() as connection:
            if not self.embedded:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            from alembic import command
            from alembic.config import Config
            from alembic.util import CommandError

            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", "necropsy_analyzer.store:migrations")
            config.set_main_option("path_separator", "os")
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StoreError(f"the store is of a newer necropsy ({error}): upgrade this one") from error


def sqlite_url(state_dir: Path) -> URL:
    """Give the URL of the embedded store in a state folder, whatever characters its name has."""
    return URL.create("sqlite", database=str(state_dir / "necropsy.db"))


def _version(connection: Connection) -> str | None:
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _prepare_file(database: str | None, create: bool) -> None:
    """Make the file readable to nobody else before SQLite opens it: it holds what hosts said."""
    if not database or database == ":memory:":
        raise StoreError("the store needs a file: sqlite:////path/to/necropsy.db")
    path = Path(database)
    if not create and not path.exists():
        raise StoreError(f"there is no store at {path}: run 'necropsy serve', or give its --state-dir")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One that exists is not touched: closing it would end this process's locks on it, also those of
        # another open store (https://www.sqlite.org/howtocorrupt.html section 2.2).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(
            f"the store {path} cannot be opened ({error.strerror}): give another --state-dir"
        ) from error


def _configure_sqlite(engine: Engine, limit_bytes: int | None, busy_ms: int) -> None:
    def connected(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={busy_ms}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA journal_size_limit={64 << 20}")
        if limit_bytes is not None:
            cursor.execute(f"PRAGMA max_page_count={max(1, limit_bytes // _PAGE_BYTES)}")
        cursor.close()

    def began(connection: Connection) -> None:
        reading = connection.get_execution_options().get("necropsy_read", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", began)


@contextmanager
def _told() -> Iterator[None]:
    """Turn a database's passing failures into StoreUnavailableError; others are ours and stay as they are."""
    try:
        yield
    except DBAPIError as error:
        original = error.orig
        name = getattr(original, "sqlite_errorname", "") or ""
        if isinstance(original, sqlite3.Error):
            if name.startswith(_PASSING):
                full = name.startswith("SQLITE_FULL")
                raise StoreUnavailableError(
                    "the store's disk is full" if full else str(original), full=full
                ) from error
        elif error.connection_invalidated or type(original).__name__ in ("OperationalError", "DiskFull"):
            raise StoreUnavailableError(str(original).splitlines()[0]) from error
        raise

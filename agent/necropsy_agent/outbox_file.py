"""The outbox's file. In: a path. Out: a SQLite connection to a sound outbox, or why there is none.

A damaged file is never worked with: it is renamed with the time, kept, and a fresh one takes its place.
SQLite's write-ahead log and `synchronous=FULL` make a committed transaction outlive a kill and a power cut
(sqlite.org/wal.html, sqlite.org/pragma.html#pragma_synchronous).
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from necropsy_agent.config import ConfigError

PAGE_BYTES: Final = 4096
KEPT_ASIDE: Final = 3
"""So many damaged outboxes are kept; older ones make room."""

_VERSION: Final = 1
_WAL_BYTES: Final = 4 << 20
_BUSY_S: Final = 20.0
_BESIDE: Final = ("", "-wal", "-shm")

# Constraints are what PRAGMA integrity_check holds the content of a damaged page against. STRICT tables
# would say the same from SQLite 3.37 on; RHEL 9 has 3.34.
_SCHEMA: Final = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq > 0),
    keep INTEGER NOT NULL CHECK (keep IN (0, 1, 2)),
    source TEXT NOT NULL CHECK (typeof(source) = 'text'),
    key TEXT CHECK (typeof(key) IN ('text', 'null')),
    bytes INTEGER NOT NULL CHECK (typeof(bytes) = 'integer' AND bytes > 0),
    line BLOB NOT NULL CHECK (typeof(line) = 'blob'),
    batch INTEGER CHECK (typeof(batch) IN ('integer', 'null')),
    refused TEXT CHECK (typeof(refused) IN ('text', 'null'))
);
CREATE INDEX events_keep ON events (keep, seq);
CREATE INDEX events_batch ON events (batch) WHERE batch IS NOT NULL;
CREATE TABLE batches (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL CHECK (typeof(id) = 'text')
);
CREATE TABLE keys (
    source TEXT NOT NULL CHECK (typeof(source) = 'text'),
    key TEXT NOT NULL CHECK (typeof(key) = 'text'),
    state INTEGER NOT NULL CHECK (state IN (0, 1, 2, 3)),
    asked_day INTEGER NOT NULL CHECK (typeof(asked_day) = 'integer'),
    PRIMARY KEY (source, key)
) WITHOUT ROWID;
CREATE INDEX keys_acknowledged ON keys (source) WHERE state = 1;
CREATE TABLE cursors (source TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE counts (
    what TEXT NOT NULL CHECK (typeof(what) = 'text'),
    keep INTEGER NOT NULL CHECK (keep IN (0, 1, 2)),
    n INTEGER NOT NULL CHECK (typeof(n) = 'integer'),
    PRIMARY KEY (what, keep)
) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, note TEXT NOT NULL) WITHOUT ROWID;
"""


class OutboxError(Exception):
    """The outbox could not do what it was asked, and has not done half of it."""


class OutboxFullError(OutboxError):
    """There is no room now: neither within the limit nor by dropping what is worth less."""


class OutboxUnavailableError(OutboxError):
    """The disk is full, read-only or failing, or another process holds the outbox: ask again later."""


class OutboxDamagedError(OutboxError):
    """The file is not sound: it has to be set aside."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's errors into ours; its result codes tell which (sqlite.org/rescode.html)."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the primary code; absent where Python's own part of the module complains.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise OutboxFullError("the disk or the outbox is full") from error
        if code in _LATER:
            raise OutboxUnavailableError(f"the outbox cannot be used: {error}") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT) or isinstance(
            error, sqlite3.OperationalError
        ):
            raise OutboxDamagedError(f"the outbox is damaged: {error}") from error
        raise


_LATER: Final = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOLFS),
    *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT),
)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Do all of it or nothing; the write lock comes first, so that nothing fails half-way for want of it."""
    with translated():
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # after some errors SQLite has rolled back by itself
                db.execute("ROLLBACK")
            raise


def one(db: sqlite3.Connection, sql: str, *values: object) -> int | str | None:
    """Give the first column of the first row; None where there is none."""
    row = db.execute(sql, values).fetchone()
    found: int | str | None = None if row is None else row[0]
    return found


def count(db: sqlite3.Connection, what: str, keep: int) -> None:
    """Count one more event of a class that was shipped or dropped."""
    db.execute(
        "INSERT INTO counts VALUES (?, ?, 1) ON CONFLICT (what, keep) DO UPDATE SET n = n + 1", (what, keep)
    )


def attach(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Open an outbox that is there, without checking it. Raises OutboxError."""
    mode = "ro" if readonly else "rw"
    with translated():
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_S, isolation_level=None
        )
        try:
            # Text that is damaged within is for whoever reads it, not an error while fetching.
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            if not readonly:
                for pragma in ("synchronous=FULL", f"journal_size_limit={_WAL_BYTES}", "secure_delete=FAST"):
                    connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute("PRAGMA cache_size=-1024").fetchall()
            if connection.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                raise OutboxDamagedError("the outbox has another version's form")
        except BaseException:
            connection.close()
            raise
    return connection


def open_sound(path: Path, limit_bytes: int, say: Callable[[str], None]) -> sqlite3.Connection:
    """Open the outbox at `path`, make it where there is none, set it aside where it is damaged.

    `say` is told of a damaged one. Raises OutboxUnavailableError where the disk does not let us, ConfigError
    where the folder cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent}: {error.strerror}: give another state_dir") from error
    try:
        connection = _checked(path)
    except OutboxDamagedError as damage:
        where = set_aside(path, say)
        say(f"{damage}: it was set aside as {where}; what is still on the host is collected anew")
        connection = _checked(path)
    with translated():
        connection.execute(f"PRAGMA max_page_count={limit_bytes // PAGE_BYTES}").fetchall()
    return connection


def set_aside(path: Path, say: Callable[[str], None]) -> Path:
    """Rename a damaged outbox and what belongs to it; give its new path. Raises OutboxUnavailableError."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = path.with_name(f"{path.stem}.damaged-{stamp}{path.suffix}")
    try:
        for end in _BESIDE:
            with suppress(FileNotFoundError):
                os.rename(f"{path}{end}", f"{aside}{end}")
        for old in sorted(path.parent.glob(f"{path.stem}.damaged-*{path.suffix}"))[:-KEPT_ASIDE]:
            for end in _BESIDE:
                with suppress(FileNotFoundError):
                    os.unlink(f"{old}{end}")
            say(f"{old}: removed, since {KEPT_ASIDE} damaged outboxes are kept")
    except OSError as error:
        raise OutboxUnavailableError(f"{path} is damaged and cannot be renamed: {error.strerror}") from error
    return aside


def _checked(path: Path) -> sqlite3.Connection:
    if not path.exists():
        _make(path)
    connection = attach(path)
    try:
        with translated():
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != ("ok",):
                raise OutboxDamagedError(f"the outbox is damaged: {str(verdict[0]).splitlines()[-1]}")
            _count_all(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _count_all(connection: sqlite3.Connection) -> None:
    """Read what is worked with; a table that is gone is an SQL error, which integrity_check does not see."""
    for table in ("events", "batches", "keys", "cursors", "counts", "notes"):
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  names are above


def _make(path: Path) -> None:
    """Make an empty outbox beside the place and move it there whole: no half-made one is ever seen."""
    draft = path.with_name(f"{path.name}.new")
    for end in ("", "-journal", *_BESIDE[1:]):
        for stale in (draft, path) if end else (draft,):
            with suppress(FileNotFoundError):
                os.unlink(f"{stale}{end}")
    with translated():
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
        finally:
            connection.close()
    try:
        os.chmod(draft, 0o600)
        os.rename(draft, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OutboxUnavailableError(f"{path}: {error.strerror}") from error

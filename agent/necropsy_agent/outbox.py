"""Events, kept on disk until the analyzer has them. In: `Found` values. Out: rows, keys, counts.

An event, the key that names it for ever and its source's cursor are stored in one transaction: after a kill
they are all there or none. The outbox never grows past its limit: what is worth less makes room, `routine`
first, crash evidence never; a crash record that finds no room stays where it is on the host, its source is
not advanced and is asked again. Whatever is dropped is counted.

The daemon adds; the shipper's process takes batches and acknowledges (parcels.py), the same file open.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from necropsy_agent import wire
from necropsy_agent.outbox_file import (
    PAGE_BYTES,
    OutboxFullError,
    attach,
    count,
    one,
    open_sound,
    transaction,
    translated,
)
from necropsy_agent.sources.source import Found
from necropsy_agent.wire import Event, Keep

NAME: Final = "outbox.sqlite3"
KEYS: Final = 20_000
"""Keys beyond so many are forgotten, those first that their source has not asked for longest."""
KEY_DAYS: Final = 30
"""No key is forgotten that its source asked for within so many days: its record is still there."""

_KEEPS: Final[tuple[Keep, ...]] = ("routine", "fault", "crash")  # in the file 0, 1, 2
_CRASH: Final = 2
_WAITING, ACKNOWLEDGED, _DONE, _DROPPED = range(4)  # what became of a key
_PACK_FROM_BYTES: Final = 1 << 10
_GROUP_EVENTS: Final = 64
_GROUP_BYTES: Final = 1 << 20
_RESERVED_PAGES: Final = 48  # interior pages, indexes, keys: what a transaction takes besides its events
_SLACK_PAGES: Final = 256
_VICTIMS: Final = 16
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose events these are: `wire.host_id()` and the running boot's id."""

    host: str
    boot: str


@dataclass(slots=True)
class Taken:
    """How many events of a look were stored, by class, and how many gave way or found no room."""

    stored: dict[Keep, int]
    dropped: int = 0


class Contact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How shipping went last. Times are CLOCK_REALTIME; `failures` counts those since the last success."""

    tried_wall_ns: int = 0
    reached_wall_ns: int = 0
    failures: int = 0
    why: str = ""
    retry_after_s: float | None = None


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """What waits, and what became of the rest, by class where it is a mapping."""

    events: int
    bytes: int
    limit_bytes: int
    waiting: dict[str, int]
    dropped: dict[str, int]
    shipped: dict[str, int]
    refused: int
    refused_why: str = ""


class Outbox:
    """The daemon's hold on the outbox. Every method raises OutboxError where the file does not let it."""

    def __init__(
        self, connection: sqlite3.Connection, limit_bytes: int = 0, origin: Origin | None = None
    ) -> None:
        self._db = connection
        self._limit_bytes = limit_bytes
        self._origin = origin
        self._asked: set[tuple[str, str]] = set()
        with translated():
            self._seq = int(one(self._db, "SELECT seq FROM sqlite_sequence WHERE name = 'events'") or 0)

    @classmethod
    def open(
        cls, state: Path, limit_bytes: int, origin: Origin, say: Callable[[str], None] = lambda _: None
    ) -> "Outbox":
        """Open the outbox in the folder `state`, sound or fresh; `say` hears of a damaged one."""
        connection = open_sound(state / NAME, limit_bytes, say)
        try:
            opened = cls(connection, limit_bytes, origin)
            opened._forget()
        except BaseException:
            connection.close()
            raise
        return opened

    @classmethod
    def attach(cls, state: Path) -> "Outbox":
        """Open the outbox that the daemon has made, to look at it."""
        connection = attach(state / NAME, readonly=True)
        try:
            return cls(connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # What the daemon asks for its sources.

    def cursor(self, source: str) -> str | None:
        """Give the cursor that the source stored last."""
        with translated():
            found = one(self._db, "SELECT cursor FROM cursors WHERE source = ?", source)
        return None if found is None else str(found)

    def known(self, source: str, key: str) -> bool:
        """Say whether the thing of that key waits here, was shipped, or was dropped."""
        with translated():
            row = self._db.execute(
                "SELECT asked_day FROM keys WHERE source = ? AND key = ?", (source, key)
            ).fetchone()
        if row is None:
            return False
        if row[0] < _today():
            self._asked.add((source, key))
        return True

    def take(self, source: str, found: Iterable[Found], taken: Taken | None = None) -> Taken:
        """Store all that a look gives, in transactions of some events each, and add it up in `taken`.

        What the source raises passes through after what it gave before is stored. Raises OutboxError where
        something was not stored: it and all that follows it are still the source's to give.
        """
        taken = Taken({}) if taken is None else taken
        group: list[tuple[Found, bytes]] = []
        size = 0
        try:
            for each in found:
                body = wire.pack(each.body)
                group.append((each, body))
                size += len(body)
                if len(group) >= _GROUP_EVENTS or size >= _GROUP_BYTES:
                    whole, group, size = group, [], 0
                    self._store(source, whole, taken)
        finally:
            if group:
                self._store(source, group, taken)
        return taken

    def acknowledged(self) -> list[tuple[str, str]]:
        """List source and key of what the analyzer has and the source has not been told of."""
        with translated():
            return self._db.execute(
                "SELECT source, key FROM keys WHERE state = ?", (ACKNOWLEDGED,)
            ).fetchall()

    def told(self, source: str, key: str) -> None:
        """Note that the source knows that the analyzer has it."""
        with transaction(self._db):
            self._db.execute("UPDATE keys SET state = ? WHERE source = ? AND key = ?", (_DONE, source, key))

    def tidy(self) -> None:
        """Give pages that are no longer needed back to the file system."""
        with translated():
            free = self._pragma("freelist_count") - _SLACK_PAGES
            if free > _SLACK_PAGES:
                # A row without columns for each page: execute() would step once and free one.
                self._db.executescript(f"PRAGMA incremental_vacuum({free});")

    def reconsider(self) -> None:
        """Let refused events be sent again: another agent or analyzer may know better."""
        with transaction(self._db):
            self._db.execute("UPDATE events SET refused = NULL WHERE refused IS NOT NULL")

    def contact(self) -> Contact:
        """Tell how shipping went last."""
        return contact_of(self._db)

    def heaviest(self) -> Keep | None:
        """Name the heaviest class of what waits to be shipped; None where nothing does."""
        with translated():
            keep = one(self._db, "SELECT max(keep) FROM events WHERE refused IS NULL")
        return None if keep is None else _KEEPS[int(keep)]

    def fill(self) -> Fill:
        """Tell what waits, and what was dropped, shipped and refused so far."""
        with translated():
            waiting = dict(self._db.execute("SELECT keep, count(*) FROM events GROUP BY keep").fetchall())
            counts: dict[str, dict[str, int]] = {"dropped": {}, "shipped": {}}
            for what, keep, n in self._db.execute("SELECT what, keep, n FROM counts ORDER BY keep"):
                counts.setdefault(what, {})[_KEEPS[keep]] = n
            refused = self._db.execute(
                "SELECT count(*), max(refused) FROM events WHERE refused IS NOT NULL"
            ).fetchone()
            return Fill(
                events=sum(waiting.values()),
                bytes=self._used_pages() * PAGE_BYTES,
                limit_bytes=self._limit_bytes,
                waiting={_KEEPS[keep]: n for keep, n in sorted(waiting.items())},
                dropped=counts["dropped"],
                shipped=counts["shipped"],
                refused=refused[0],
                refused_why=refused[1] or "",
            )

    # Storing.

    def _store(self, source: str, group: list[tuple[Found, bytes]], taken: Taken) -> None:
        before = self._seq
        done = Taken({})
        full: OutboxFullError | None = None
        try:
            with transaction(self._db):
                for each, body in group:
                    try:
                        self._put(source, each, body, done)
                    except OutboxFullError as error:
                        full = error
                        break  # what came before it is stored
                for asked, key in self._asked:
                    self._db.execute(
                        "UPDATE keys SET asked_day = ? WHERE source = ? AND key = ?", (_today(), asked, key)
                    )
        except BaseException:
            self._seq = before
            raise
        self._asked.clear()
        taken.dropped += done.dropped
        for keep, n in done.stored.items():
            taken.stored[keep] = taken.stored.get(keep, 0) + n
        if full is not None:
            raise full

    def _put(self, source: str, each: Found, body: bytes, done: Taken) -> None:
        """Store one event within the open transaction. Raises OutboxFullError where it has to wait."""
        if each.key is None or not self._has_key(source, each.key):
            weight = _KEEPS.index(each.keep)
            line, size = self._line(each, body)
            pages = -(-len(line) // (PAGE_BYTES - 12)) + 1
            self._db.execute("SAVEPOINT room")
            victims = self._make_room(pages, weight)
            if victims is None:
                self._db.execute("ROLLBACK TO room")
            self._db.execute("RELEASE room")
            if victims is not None:
                self._seq += 1
                self._db.execute(
                    "INSERT INTO events (seq, keep, source, key, bytes, line) VALUES (?, ?, ?, ?, ?, ?)",
                    (self._seq, weight, source, each.key, size, line),
                )
                done.stored[each.keep] = done.stored.get(each.keep, 0) + 1
                done.dropped += victims
            elif pages <= self._most_pages() and (each.key is not None or weight == _CRASH):
                raise OutboxFullError(f"the {self._limit_bytes >> 20} MiB of the outbox are full")
            else:
                count(self._db, "dropped", weight)
                done.dropped += 1
            if each.key is not None:
                state = _DROPPED if victims is None else _WAITING
                self._db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (source, each.key, state, _today()))
        if each.cursor is not None:
            self._db.execute(
                "INSERT INTO cursors VALUES (?, ?)"
                " ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor",
                (source, each.cursor),
            )

    def _line(self, each: Found, body: bytes) -> tuple[bytes, int]:
        """Write the event as it will travel, compressed if that pays; and its length as it will travel."""
        assert self._origin is not None
        line = _ENCODER.encode(
            Event(
                id=wire.event_id(),
                kind=wire.kind_of(each.body),
                host=self._origin.host,
                boot=self._origin.boot,
                of_boot=each.of_boot,
                seq=self._seq + 1,
                wall_ns=time.time_ns(),
                mono_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
                keep=each.keep,
                body=msgspec.Raw(body),
            )
        )
        if len(line) < _PACK_FROM_BYTES:
            return line, len(line)
        return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(line), len(line)

    def _make_room(self, pages: int, weight: int) -> int | None:
        """Drop what weighs less, then what weighs the same and is older, until `pages` fit.

        Gives how many events were dropped; None where all that may be dropped does not make room enough.
        """
        dropped = 0
        while self._used_pages() + pages > self._most_pages():
            victims = self._db.execute(
                "SELECT seq, keep, source, key, batch FROM events WHERE keep < ? OR (keep = ? AND keep < ?)"
                " ORDER BY keep, refused IS NULL, seq LIMIT ?",
                (weight, weight, _CRASH, _VICTIMS),
            ).fetchall()
            if not victims:
                return None
            for seq, keep, source, key, batch in victims:
                if self._used_pages() + pages <= self._most_pages():
                    break
                dropped += 1
                self._db.execute("DELETE FROM events WHERE seq = ?", (seq,))
                count(self._db, "dropped", keep)
                if key is not None:
                    self._db.execute(
                        "UPDATE keys SET state = ? WHERE source = ? AND key = ?", (_DROPPED, source, key)
                    )
                if batch is not None:
                    # Its id stands for other events than are left: those go in a batch with another id.
                    self._db.execute("UPDATE events SET batch = NULL WHERE batch = ?", (batch,))
                    self._db.execute("DELETE FROM batches WHERE row = ?", (batch,))
        return dropped

    def _most_pages(self) -> int:
        return self._limit_bytes // PAGE_BYTES - _RESERVED_PAGES

    def _forget(self) -> None:
        """Forget keys of what is long gone from the host."""
        with transaction(self._db):
            surplus = int(one(self._db, "SELECT count(*) FROM keys") or 0) - KEYS
            if surplus > 0:
                self._db.execute(
                    "DELETE FROM keys WHERE (source, key) IN (SELECT source, key FROM keys"
                    " WHERE state IN (?, ?) AND asked_day < ? ORDER BY asked_day LIMIT ?)",
                    (_DONE, _DROPPED, _today() - KEY_DAYS, surplus),
                )

    def _has_key(self, source: str, key: str) -> bool:
        return one(self._db, "SELECT 1 FROM keys WHERE source = ? AND key = ?", source, key) is not None

    def _used_pages(self) -> int:
        return self._pragma("page_count") - self._pragma("freelist_count")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])


def contact_of(db: sqlite3.Connection) -> Contact:
    """Read how shipping went last; a note that is damaged says nothing."""
    with translated():
        note = one(db, "SELECT note FROM notes WHERE name = 'contact'")
    try:
        return msgspec.json.decode(str(note or "{}"), type=Contact)
    except msgspec.MsgspecError:
        return Contact()


def _today() -> int:
    return time.time_ns() // (86_400 * 10**9)

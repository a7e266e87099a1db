"""The shipper's side of the outbox. In: the file that the daemon fills. Out: batches; acknowledgements back.

A batch's id and membership are on disk before it is given, so that one that is sent again is the same batch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from necropsy_agent import wire
from necropsy_agent.outbox import ACKNOWLEDGED, NAME, Contact, contact_of
from necropsy_agent.outbox_file import attach, count, transaction
from necropsy_agent.wire import Event

_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Parcel:
    """A batch's id and its events, each one line of JSON. `damaged` are events whose line cannot be read."""

    row: int
    id: str
    seqs: tuple[int, ...]
    lines: tuple[bytes, ...]
    damaged: tuple[int, ...] = ()


class Parcels:
    """The shipper's hold on the outbox. Every method raises OutboxError where the file does not let it."""

    def __init__(self, state: Path) -> None:
        self._db = attach(state / NAME)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def parcel(self, most_events: int, most_bytes: int) -> Parcel | None:
        """Give the newest batch that is not acknowledged, else a new one; None where nothing waits.

        There are several only where one was divided: its parts come before all else, so that what is wrong
        with them is found soon. A new batch takes what weighs most first. It is on disk with its id before
        it is given, so that a batch that is sent again has the same id and the same events. An event larger
        than `most_bytes` goes by itself.
        """
        with transaction(self._db):
            while batch := self._db.execute(
                "SELECT row, id FROM batches ORDER BY row DESC LIMIT 1"
            ).fetchone():
                rows = self._db.execute(
                    "SELECT seq, line FROM events WHERE batch = ? ORDER BY seq", (batch[0],)
                ).fetchall()
                if rows:
                    break
                self._db.execute("DELETE FROM batches WHERE row = ?", (batch[0],))
            else:
                seqs = self._chosen(most_events, most_bytes)
                if not seqs:
                    return None
                batch = self._batch(seqs)
                rows = self._db.execute(
                    "SELECT seq, line FROM events WHERE batch = ? ORDER BY seq", (batch[0],)
                ).fetchall()
        lines = [(seq, _plain(line)) for seq, line in rows]
        return Parcel(
            row=batch[0],
            id=batch[1],
            seqs=tuple(seq for seq, line in lines if line is not None),
            lines=tuple(line for _, line in lines if line is not None),
            damaged=tuple(seq for seq, line in lines if line is None),
        )

    def acknowledge(self, parcel: Parcel) -> None:
        """Let go of a batch that the analyzer has."""
        with transaction(self._db):
            for seq in parcel.seqs:
                row = self._db.execute(
                    "SELECT keep, source, key FROM events WHERE seq = ?", (seq,)
                ).fetchone()
                if row is None:
                    continue  # gave way meanwhile, and was counted
                keep, source, key = row
                self._db.execute("DELETE FROM events WHERE seq = ?", (seq,))
                count(self._db, "shipped", keep)
                if key is not None:
                    self._db.execute(
                        "UPDATE keys SET state = ? WHERE source = ? AND key = ?", (ACKNOWLEDGED, source, key)
                    )
            self._db.execute(
                "DELETE FROM batches WHERE row = ? AND NOT EXISTS (SELECT 1 FROM events WHERE batch = ?)",
                (parcel.row, parcel.row),
            )

    def divide(self, parcel: Parcel, parts: int = 2) -> None:
        """Put a batch's events into `parts` new batches of about the same size, each with its own id."""
        seqs = parcel.seqs
        with transaction(self._db):
            self._db.execute("DELETE FROM batches WHERE row = ?", (parcel.row,))
            size = -(-len(seqs) // parts)
            for at in reversed(range(0, len(seqs), size)):
                self._batch(seqs[at : at + size])

    def refuse(self, seqs: Iterable[int], why: str) -> None:
        """Set events aside that the analyzer does not take: they wait, counted, until `reconsider()`."""
        with transaction(self._db):
            for seq in seqs:
                self._db.execute("UPDATE events SET batch = NULL, refused = ? WHERE seq = ?", (why, seq))

    def contact(self) -> Contact:
        """Tell how shipping went last."""
        return contact_of(self._db)

    def note_contact(self, contact: Contact) -> None:
        """Remember how shipping went."""
        with transaction(self._db):
            self._db.execute(
                "INSERT INTO notes VALUES ('contact', ?)"
                " ON CONFLICT (name) DO UPDATE SET note = excluded.note",
                (msgspec.json.encode(contact).decode(),),
            )

    def _chosen(self, most_events: int, most_bytes: int) -> list[int]:
        seqs: list[int] = []
        size = 0
        for seq, length in self._db.execute(
            "SELECT seq, bytes FROM events WHERE batch IS NULL AND refused IS NULL"
            " ORDER BY keep DESC, seq LIMIT ?",
            (most_events,),
        ):
            size += length + 1
            if seqs and size > most_bytes:
                break
            seqs.append(seq)
        return seqs

    def _batch(self, seqs: Iterable[int]) -> tuple[int, str]:
        name = wire.event_id()
        row = self._db.execute("INSERT INTO batches (id) VALUES (?)", (name,)).lastrowid
        assert row is not None
        self._db.executemany("UPDATE events SET batch = ? WHERE seq = ?", [(row, seq) for seq in seqs])
        return row, name


def _plain(line: bytes) -> bytes | None:
    """Open a stored line; None where its bytes are not those that were stored."""
    try:
        if line.startswith(_ZSTD_MAGIC):
            line = zstandard.ZstdDecompressor().decompress(line)
        msgspec.json.decode(line, type=Event)
    except (zstandard.ZstdError, msgspec.MsgspecError):
        return None
    return line if b"\n" not in line else None

"""Batches. In: a transaction and one decoded batch. Out: what of it was new.

Idempotent by batch id and by event id. Routine events have no rows, so an event that comes again in another
batch is found through `seq`: only stored batches whose range overlaps are opened, and their ids compared. In
the usual course none overlaps.
"""

from collections.abc import Collection
from typing import Final

import msgspec
import zstandard
from sqlalchemy import Connection, insert, select

from necropsy_agent.wire import BatchHead, Event
from necropsy_analyzer.store import hosts, work
from necropsy_analyzer.store.body import Limits, plain
from necropsy_analyzer.store.schema import batches, events

_UNLIMITED: Final = Limits(body_bytes=1 << 40, plain_bytes=1 << 40, ratio=1 << 40)
_OVERLAPS: Final = 256  # an agent re-sends what was not acknowledged: a handful of batches


class BatchConflictError(Exception):
    """The batch id was used for other events."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that was read. `body` is as sent, in the coding `encoding`; `plain_bytes` its size opened."""

    head: BatchHead
    events: list[Event]
    body: bytes
    encoding: str
    plain_bytes: int


class Stored(msgspec.Struct, frozen=True):
    """How many events of a batch were new, and how many were there before."""

    accepted: int
    duplicates: int


class _Id(msgspec.Struct):
    id: str


def add(connection: Connection, host: int, batch: Batch, *, now_ns: int) -> Stored:
    """Store a batch that is not there yet, its evidence in rows, and the host among the work to be done.

    Raises hosts.HostError where the host may not send it, BatchConflictError where its id is taken.
    """
    head, count = batch.head, len(batch.events)
    hosts.seen(connection, host, machine=head.host, agent=head.agent, now_ns=now_ns)
    stored = connection.execute(
        select(batches.c.body, batches.c.encoding).where(batches.c.host == host, batches.c.id == head.id)
    ).one_or_none()
    if stored is not None:
        if {event.id for event in batch.events} != set(_ids(stored.body, stored.encoding)):
            raise BatchConflictError(f"batch {head.id} was sent before with other events")
        return Stored(0, count)
    known = _known(connection, host, batch.events)
    row = connection.execute(
        insert(batches)
        .values(
            host=host,
            id=head.id,
            encoding=batch.encoding,
            body=batch.body,
            plain_bytes=batch.plain_bytes,
            events=count,
            duplicates=len(known),
            first_seq=min(event.seq for event in batch.events),
            last_seq=max(event.seq for event in batch.events),
            sent_ns=head.sent_wall_ns,
            received_ns=now_ns,
        )
        .returning(batches.c.row)
    ).scalar_one()
    fresh = [event for event in batch.events if event.keep != "routine" and event.id not in known]
    if fresh:
        connection.execute(insert(events), [_row(event, host, row) for event in fresh])
        work.add(connection, host, now_ns=now_ns)
    return Stored(count - len(known), len(known))


def _known(connection: Connection, host: int, arrived: list[Event]) -> Collection[str]:
    """Give the ids of those events that were stored before."""
    ids = {event.id for event in arrived}
    overlapping = connection.execute(
        select(batches.c.body, batches.c.encoding)
        .where(
            batches.c.host == host,
            batches.c.first_seq <= max(event.seq for event in arrived),
            batches.c.last_seq >= min(event.seq for event in arrived),
        )
        .order_by(batches.c.row.desc())
        .limit(_OVERLAPS)
    )
    known = {one for found in overlapping for one in _ids(found.body, found.encoding) if one in ids}
    # Evidence is stored exactly once whatever the numbering did meanwhile (an outbox that began anew).
    weighty = [event.id for event in arrived if event.keep != "routine" and event.id not in known]
    for at in range(0, len(weighty), 500):
        again = select(events.c.id).where(events.c.host == host, events.c.id.in_(weighty[at : at + 500]))
        known.update(connection.execute(again).scalars())
    return known


def _ids(body: bytes, encoding: str) -> list[str]:
    lines = plain(body, encoding, _UNLIMITED).split(b"\n", 1)[1]
    return [one.id for one in _IDS.decode_lines(lines)]


_IDS: Final = msgspec.json.Decoder(_Id)


def _row(event: Event, host: int, batch: int) -> dict[str, object]:
    return {
        "host": host,
        "batch": batch,
        "id": event.id,
        "kind": event.kind,
        "boot": event.boot,
        "of_boot": event.of_boot,
        "seq": event.seq,
        "wall_ns": event.wall_ns,
        "mono_ns": event.mono_ns,
        "keep": event.keep,
        "body": zstandard.compress(bytes(event.body), 3),
    }

"""Evidence rows. In: a transaction and a host. Out: events as they were sent."""

from collections.abc import Collection
from typing import Any, Final

import msgspec
import zstandard
from sqlalchemy import ColumnElement, Connection, Row, Select, select

from necropsy_agent.wire import Event
from necropsy_analyzer.store.schema import events, incident_events
from necropsy_analyzer.store.schema import hosts as hosts_table

_IN_ONE_QUERY: Final = 500


class Stored(msgspec.Struct, frozen=True):
    """An event and the row it has."""

    row: int
    event: Event


def of_host(connection: Connection, host: int, *, bodies: Collection[str] = ()) -> tuple[Stored, ...]:
    """List a host's evidence in the order it was made; only the kinds in `bodies` with their bodies."""
    found = connection.execute(
        _select(False).where(events.c.host == host).order_by(events.c.seq, events.c.id)
    ).all()
    wanted = [row.row for row in found if row.kind in bodies]
    whole = {stored.row: stored for stored in of_rows(connection, wanted)}
    return tuple(whole.get(row.row) or _stored(row) for row in found)


def of_rows(connection: Connection, rows: Collection[int]) -> tuple[Stored, ...]:
    """Give evidence with its bodies by its rows, in the order it was made."""
    wanted = sorted(rows)
    found: list[Stored] = []
    for at in range(0, len(wanted), _IN_ONE_QUERY):
        some: ColumnElement[bool] = events.c.row.in_(wanted[at : at + _IN_ONE_QUERY])
        found += [_stored(row) for row in connection.execute(_select(True).where(some))]
    return tuple(sorted(found, key=lambda stored: (stored.event.seq, stored.event.id)))


def ids_of(connection: Connection, incident: int) -> dict[int, str]:
    """Map the rows of an incident's evidence to the events' ids."""
    found = connection.execute(
        select(events.c.row, events.c.id)
        .join(incident_events, incident_events.c.event == events.c.row)
        .where(incident_events.c.incident == incident)
        .order_by(events.c.row)
    )
    return {row.row: row.id for row in found}


def _select(with_body: bool) -> Select[Any]:
    columns = [column for column in events.c if column.name != "body" or with_body]
    return select(*columns, hosts_table.c.machine).join(hosts_table, hosts_table.c.id == events.c.host)


def _stored(row: Row[*tuple[object, ...]]) -> Stored:
    packed = getattr(row, "body", None)
    body = b"{}" if packed is None else zstandard.decompress(packed)
    return Stored(
        row.row,
        Event(
            id=row.id,
            kind=row.kind,
            host=row.machine or "",
            boot=row.boot,
            of_boot=row.of_boot,
            seq=row.seq,
            wall_ns=row.wall_ns,
            mono_ns=row.mono_ns,
            keep=row.keep,
            body=msgspec.Raw(body),
        ),
    )

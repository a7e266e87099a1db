"""Incidents and every verdict made of them. In: a transaction. Out: incidents, revisions.

An incident is one boot of one host that died. Its revisions are never changed; one that turns out to be the
same death as another keeps its revisions and points to it.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, select, update

from necropsy_analyzer.store.schema import hosts, incident_events, incidents, revisions
from necropsy_analyzer.verdict.verdict import Verdict


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One death as it is listed. `host` is the host's name, `revision` the last verdict's number (0: none).

    `boot` is the id of the boot that died, or how an unknown one is named (incident/deaths.py). `died_ns` is
    the time of death where something tells it, `opened_ns` when its first evidence was seen to belong to it.
    """

    id: int
    host: str
    boot: str
    died_ns: int | None
    opened_ns: int
    revision: int
    merged_into: int | None
    verdict: Verdict | None = None


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict on an incident, and the ids of the events it was made of."""

    n: int
    made_ns: int
    made_of: tuple[str, ...]
    verdict: Verdict


def listed(
    connection: Connection, *, host: str | None = None, since_ns: int | None = None, limit: int = 100
) -> tuple[Incident, ...]:
    """List incidents, the last death first, each with its latest verdict.

    An incident without a known time of death stands where it was opened. Merged ones are left out.
    """
    when = func.coalesce(incidents.c.died_ns, incidents.c.opened_ns)
    query = _with_verdict().where(incidents.c.merged_into.is_(None))
    if host is not None:
        query = query.where(hosts.c.name == host)
    if since_ns is not None:
        query = query.where(when >= since_ns)
    rows = connection.execute(query.order_by(when.desc(), incidents.c.id.desc()).limit(limit))
    return tuple(_incident(row) for row in rows)


def one(connection: Connection, incident: int) -> Incident | None:
    """Give an incident with its latest verdict; a merged one as the one that it turned out to be."""
    for _ in range(100):
        row = connection.execute(_with_verdict().where(incidents.c.id == incident)).one_or_none()
        if row is None or row.merged_into is None:
            break
        incident = row.merged_into
    return None if row is None else _incident(row)


def of_host(connection: Connection, host: int) -> tuple[Incident, ...]:
    """List a host's incidents, the oldest first, without verdicts and without merged ones."""
    query = _plain().where(incidents.c.host == host, incidents.c.merged_into.is_(None))
    return tuple(_incident(row) for row in connection.execute(query.order_by(incidents.c.id)))


def members(connection: Connection, host: int) -> dict[int, int]:
    """Map the rows of a host's events to the incidents they belong to."""
    rows = connection.execute(
        select(incident_events.c.event, incident_events.c.incident)
        .join(incidents, incidents.c.id == incident_events.c.incident)
        .where(incidents.c.host == host)
    )
    return {row.event: row.incident for row in rows}


def create(connection: Connection, host: int, boot: str, *, died_ns: int | None, now_ns: int) -> int:
    """Open an incident and give its id."""
    number: int = connection.execute(
        insert(incidents)
        .values(host=host, boot=boot, died_ns=died_ns, opened_ns=now_ns, revision=0)
        .returning(incidents.c.id)
    ).scalar_one()
    return number


def name(connection: Connection, incident: int, boot: str, *, died_ns: int | None) -> None:
    """Say anew which boot died in an incident, and when."""
    connection.execute(update(incidents).where(incidents.c.id == incident).values(boot=boot, died_ns=died_ns))


def merge(connection: Connection, incident: int, into: int) -> None:
    """Note that an incident is the same death as another. Its own revisions stay with it."""
    connection.execute(
        update(incidents)
        .where(incidents.c.id == incident)
        .values(merged_into=into, boot=f"merged:{incident}", considered=None)
    )


def assign(connection: Connection, host: int, of_events: dict[int, int]) -> None:
    """Set which of a host's events belong to which of its incidents."""
    before = members(connection, host)
    gone = [event for event, incident in before.items() if of_events.get(event) != incident]
    for at in range(0, len(gone), 500):
        connection.execute(delete(incident_events).where(incident_events.c.event.in_(gone[at : at + 500])))
    fresh = [
        {"event": event, "incident": incident}
        for event, incident in of_events.items()
        if before.get(event) != incident
    ]
    if fresh:
        connection.execute(insert(incident_events), fresh)


def digest(made_of: Iterable[str], model: str, name: str) -> bytes:
    """Name what a diagnosis is made of: while it stays the same, so would the verdict."""
    return hashlib.sha256("\n".join((model, name, *sorted(made_of))).encode()).digest()


def considered(connection: Connection, incident: int) -> bytes | None:
    """Give the digest of what the last diagnosis was made of."""
    return connection.execute(
        select(incidents.c.considered).where(incidents.c.id == incident)
    ).scalar_one_or_none()


def revise(
    connection: Connection,
    incident: int,
    verdict: Verdict,
    *,
    made_of: Collection[str],
    digest: bytes,
    now_ns: int,
) -> int | None:
    """Add a revision and give its number; None where it says the same as the last one, of the same events.

    More evidence that changes nothing is worth a revision: it says what the verdict now stands on.
    """
    row = connection.execute(
        select(incidents.c.revision, revisions.c.verdict, revisions.c.made_of)
        .outerjoin(revisions, _latest())
        .where(incidents.c.id == incident)
        .with_for_update(of=incidents)
    ).one()
    encoded, events = msgspec.json.encode(verdict), msgspec.json.encode(sorted(made_of)).decode()
    number: int | None = None
    if (row.verdict, row.made_of) != (encoded, events):
        number = int(row.revision) + 1
        connection.execute(
            insert(revisions).values(
                incident=incident,
                n=number,
                made_ns=now_ns,
                made_of=events,
                cause=verdict.cause,
                confidence=verdict.confidence,
                fatal=verdict.fatal,
                verdict=encoded,
            )
        )
    connection.execute(
        update(incidents)
        .where(incidents.c.id == incident)
        .values(considered=digest, revision=row.revision if number is None else number)
    )
    return number


def every_revision(connection: Connection, incident: int) -> tuple[Revision, ...]:
    """Give all verdicts on an incident, the first one first."""
    rows = connection.execute(
        select(revisions).where(revisions.c.incident == incident).order_by(revisions.c.n)
    )
    return tuple(
        Revision(
            n=row.n,
            made_ns=row.made_ns,
            made_of=msgspec.json.decode(row.made_of, type=tuple[str, ...]),
            verdict=msgspec.json.decode(row.verdict, type=Verdict),
        )
        for row in rows
    )


def _latest() -> Any:
    return and_(revisions.c.incident == incidents.c.id, revisions.c.n == incidents.c.revision)


def _plain() -> Select[Any]:
    return select(incidents, hosts.c.name.label("host_name")).join(hosts, hosts.c.id == incidents.c.host)


def _with_verdict() -> Select[Any]:
    return _plain().add_columns(revisions.c.verdict).outerjoin(revisions, _latest())


def _incident(row: Row[*tuple[object, ...]]) -> Incident:
    verdict = getattr(row, "verdict", None)
    return Incident(
        id=row.id,
        host=row.host_name,
        boot=row.boot,
        died_ns=row.died_ns,
        opened_ns=row.opened_ns,
        revision=row.revision,
        merged_into=row.merged_into,
        verdict=None if verdict is None else msgspec.json.decode(verdict, type=Verdict),
    )

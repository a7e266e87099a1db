"""Hosts that have evidence no verdict has seen yet. In: a transaction. Out: claims, which end by themselves.

A worker that dies loses its claim when the lease runs out. On PostgreSQL SKIP LOCKED keeps claimants out of
each other's way; on SQLite the write transaction does.
"""

import msgspec
from sqlalchemy import Connection, delete, insert, or_, select, update

from necropsy_analyzer.store.schema import work

LEASE_NS = 60 * 10**9
_LONGEST_DELAY_NS = 300 * 10**9


class Claim(msgspec.Struct, frozen=True):
    """A host to look at, by `owner` alone until the lease ends. `arrivals` tells whether more came since."""

    host: int
    arrivals: int
    attempts: int
    owner: str


def add(connection: Connection, host: int, *, now_ns: int) -> None:
    """Note that a host has new evidence. The claim that somebody may have on it stays."""
    changed = connection.execute(
        update(work)
        .where(work.c.host == host)
        .values(arrivals=work.c.arrivals + 1, due_ns=now_ns, attempts=0)
    )
    if changed.rowcount == 0:
        connection.execute(
            insert(work).values(host=host, arrivals=1, due_ns=now_ns, attempts=0, owner=None, lease_ns=None)
        )


def claim(connection: Connection, owner: str, *, now_ns: int, limit: int) -> tuple[Claim, ...]:
    """Claim up to `limit` hosts that are due, the longest waiting first.

    What `owner` still holds it gave up half way, since it works on one lot of claims at a time.
    """
    free = or_(work.c.lease_ns.is_(None), work.c.lease_ns < now_ns, work.c.owner == owner)
    rows = connection.execute(
        select(work)
        .where(work.c.due_ns <= now_ns, free)
        .order_by(work.c.due_ns)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if rows:
        connection.execute(
            update(work)
            .where(work.c.host.in_([row.host for row in rows]))
            .values(owner=owner, lease_ns=now_ns + LEASE_NS)
        )
    return tuple(Claim(row.host, row.arrivals, row.attempts, owner) for row in rows)


def extend(connection: Connection, held: Claim, *, now_ns: int) -> bool:
    """Hold on to a claim for another lease; False where it has gone to another worker."""
    changed = connection.execute(
        update(work)
        .where(work.c.host == held.host, work.c.owner == held.owner)
        .values(lease_ns=now_ns + LEASE_NS)
    )
    return changed.rowcount == 1


def done(connection: Connection, held: Claim) -> None:
    """Give a claim back as done; the host stays due where more evidence came meanwhile."""
    mine = (work.c.host == held.host, work.c.owner == held.owner)
    connection.execute(delete(work).where(*mine, work.c.arrivals == held.arrivals))
    connection.execute(update(work).where(*mine).values(owner=None, lease_ns=None))


def failed(connection: Connection, held: Claim, *, now_ns: int) -> None:
    """Give a claim back as not done: it is due again later, each time after twice as long."""
    delay_ns = min(10**9 << min(held.attempts, 20), _LONGEST_DELAY_NS)
    connection.execute(
        update(work)
        .where(work.c.host == held.host, work.c.owner == held.owner)
        .values(owner=None, lease_ns=None, attempts=held.attempts + 1, due_ns=now_ns + delay_ns)
    )


def release_all(connection: Connection) -> None:
    """End every claim: for the one process of an embedded store, as it starts."""
    connection.execute(update(work).values(owner=None, lease_ns=None))


def waiting(connection: Connection) -> int:
    """Count the hosts that wait or are being looked at."""
    return len(connection.execute(select(work.c.host)).all())

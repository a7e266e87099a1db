"""Incidents in step with deaths. In: a transaction, a host. Out: its incidents as the evidence has them.

An incident keeps its id when more becomes known of it: it is recognised by its evidence, not by the name of
its boot alone. Two that turn out to be one death are merged into the older.
"""

from collections import Counter

import msgspec
from sqlalchemy import Connection

from necropsy_analyzer.incident.deaths import READ, Death, deaths
from necropsy_analyzer.store import evidence, incidents


class Open(msgspec.Struct, frozen=True):
    """An incident, and the death that it is."""

    incident: int
    death: Death


def sync(connection: Connection, host: int, *, now_ns: int) -> tuple[Open, ...]:
    """Bring a host's incidents in step with its evidence."""
    stored = evidence.of_host(connection, host, bodies=READ)
    found = deaths([(one.row, one.event) for one in stored])
    known = {incident.id: incident for incident in incidents.of_host(connection, host)}
    members = incidents.members(connection, host)
    chosen, extra = _match(found, {one.boot: one.id for one in known.values()}, members)
    pairs = [(known[one], death) for one, death in zip(chosen, found, strict=True) if one is not None]
    for incident, death in pairs:
        if incident.boot != death.boot:
            # Two may change names with each other, and host and boot are unique at every moment.
            incidents.name(connection, incident.id, f"now:{incident.id}", died_ns=incident.died_ns)
    for incident, death in pairs:
        if (incident.boot, incident.died_ns) != (death.boot, death.died_ns):
            incidents.name(connection, incident.id, death.boot, died_ns=death.died_ns)
    opened = tuple(
        Open(
            incidents.create(connection, host, death.boot, died_ns=death.died_ns, now_ns=now_ns)
            if one is None
            else one,
            death,
        )
        for one, death in zip(chosen, found, strict=True)
    )
    of_boot = {one.death.boot: one.incident for one in opened}
    for former, boot in extra.items():
        incidents.merge(connection, former, of_boot[boot])
    incidents.assign(
        connection, host, {member.row: one.incident for one in opened for member in one.death.members}
    )
    return opened


def _match(
    found: tuple[Death, ...], by_boot: dict[str, int], members: dict[int, int]
) -> tuple[list[int | None], dict[int, str]]:
    """Choose for each death the incident it was so far, and tell which incidents merge into which boot's."""
    chosen: dict[str, int] = {}
    for death in found:
        if death.boot in by_boot:
            chosen[death.boot] = by_boot[death.boot]
    taken = set(chosen.values())
    extra: dict[int, str] = {}
    for death in found:
        mine = Counter(members[member.row] for member in death.members if member.row in members)
        for incident in sorted(mine.keys() - taken):
            taken.add(incident)
            if death.boot not in chosen:
                chosen[death.boot] = incident
            else:
                extra[incident] = death.boot
    return [chosen.get(death.boot) for death in found], extra

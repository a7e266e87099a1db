"""Hosts and their tokens. In: a transaction, a name or a token. Out: hosts.

A token is 256 random bits, shown once. Only its SHA-256 is stored: nothing slower is needed for a secret that
cannot be guessed.
"""

import hashlib
import hmac
import re
import secrets
from typing import Final

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from necropsy_analyzer.store.schema import hosts

_PREFIX: Final = "necropsy-"
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")


class HostError(Exception):
    """What could not be done with a host, as the one line that a person reads."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """An enrolled host. `machine` is the wire's host id once the host has spoken; times are wall ns."""

    id: int
    name: str
    machine: str | None
    labels: dict[str, str]
    agent: str | None
    enrolled_ns: int
    seen_ns: int | None
    revoked_ns: int | None


def enroll(
    connection: Connection, name: str, *, labels: dict[str, str], now_ns: int, renew: bool = False
) -> str:
    """Enroll a host and give its token, which is not stored and cannot be had again.

    A revoked host, or with `renew` any host, gets a new token; the old one ends at once, and the machine that
    uses the new one first is the host from then on. Raises HostError where the name is taken or no name.
    """
    if not _NAME.fullmatch(name):
        raise HostError(f"{name!r} is no host name: use letters, digits, '.', '_' and '-', at most 254")
    token = _PREFIX + secrets.token_hex(32)
    values = {"token_hash": _hash(token), "enrolled_ns": now_ns, "revoked_ns": None, "machine": None}
    if labels:
        values["labels"] = _text(labels)
    found = connection.execute(select(hosts).where(hosts.c.name == name)).one_or_none()
    if found is None:
        connection.execute(insert(hosts).values(name=name, **{"labels": _text(labels), **values}))
    elif renew or found.revoked_ns is not None:
        connection.execute(update(hosts).where(hosts.c.id == found.id).values(**values))
    else:
        raise HostError(f"{name} is enrolled already: --renew gives it a new token and ends the old one")
    return token


def revoke(connection: Connection, name: str, *, now_ns: int) -> None:
    """End a host's token; what the host sent stays. Raises HostError where there is no such host."""
    changed = connection.execute(
        update(hosts)
        .where(hosts.c.name == name, hosts.c.revoked_ns.is_(None))
        .values(token_hash=None, revoked_ns=now_ns)
    )
    if changed.rowcount == 0:
        raise HostError(f"there is no enrolled host {name}: 'necropsy hosts list' names them")


def every(connection: Connection) -> tuple[Host, ...]:
    """List all hosts by name, revoked ones too."""
    return tuple(_host(row) for row in connection.execute(select(hosts).order_by(hosts.c.name)))


def of_token(connection: Connection, token: str) -> Host | None:
    """Find the host whose token this is."""
    digest = _hash(token)
    row = connection.execute(select(hosts).where(hosts.c.token_hash == digest)).one_or_none()
    if row is None or not hmac.compare_digest(row.token_hash, digest):
        return None
    return _host(row)


def seen(connection: Connection, host: int, *, machine: str, agent: str, now_ns: int) -> None:
    """Note that a host has spoken, and at the first time which machine it is.

    Raises HostError where the token was ended or bound to another machine meanwhile, or the machine is
    enrolled under another name.
    """
    row = connection.execute(select(hosts).where(hosts.c.id == host)).one()
    if row.token_hash is None or row.machine not in (None, machine):
        raise HostError(f"this token is of another host than {machine}: enroll each host by itself")
    if row.machine is None:
        other = connection.execute(select(hosts.c.name).where(hosts.c.machine == machine)).scalar()
        if other is not None:
            raise HostError(f"this machine is enrolled as {other}: revoke or renew one of the two")
    connection.execute(
        update(hosts).where(hosts.c.id == host).values(machine=machine, agent=agent, seen_ns=now_ns)
    )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _text(labels: dict[str, str]) -> str:
    return msgspec.json.encode(labels).decode()


def _host(row: Row[*tuple[object, ...]]) -> Host:
    fields = {name: getattr(row, name) for name in Host.__struct_fields__ if name != "labels"}
    return Host(labels=msgspec.json.decode(row.labels, type=dict[str, str]), **fields)

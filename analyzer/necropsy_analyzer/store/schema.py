"""The tables of the store. In: nothing. Out: SQLAlchemy Core tables, the same on SQLite and PostgreSQL.

A batch is one row, its body as it was sent. Only evidence (an event whose `keep` is not `routine`) gets a row
of its own. Times are nanoseconds since the epoch. `migrations/` makes these tables; a test holds the two
together.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

HEAD: Final = "0001"
"""The newest migration; Alembic is only loaded where a store is not there yet."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the type is INTEGER, which has 64 bits there anyway.
_ROW = BigInteger().with_variant(Integer(), "sqlite")

hosts = Table(
    "hosts",
    metadata,
    Column("id", _ROW, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("machine", Text, unique=True, comment="the wire's host id, bound at the token's first use"),
    Column("token_hash", LargeBinary, unique=True, comment="SHA-256; null when revoked"),
    Column("labels", Text, nullable=False, comment="a JSON object"),
    Column("agent", Text),
    Column("enrolled_ns", BigInteger, nullable=False),
    Column("seen_ns", BigInteger),
    Column("revoked_ns", BigInteger),
)

batches = Table(
    "batches",
    metadata,
    Column("row", _ROW, primary_key=True),
    Column("host", _ROW, ForeignKey("hosts.id"), nullable=False),
    Column("id", Text, nullable=False, comment="the same over retries"),
    Column("encoding", Text, nullable=False, comment="zstd, gzip or identity"),
    Column("body", LargeBinary, nullable=False, comment="as sent"),
    Column("plain_bytes", BigInteger, nullable=False),
    Column("events", Integer, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("sent_ns", BigInteger, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    UniqueConstraint("host", "id"),
    Index("ix_batches_host_last_seq", "host", "last_seq"),
)

events = Table(
    "events",
    metadata,
    Column("row", _ROW, primary_key=True),
    Column("host", _ROW, ForeignKey("hosts.id"), nullable=False),
    Column("batch", _ROW, ForeignKey("batches.row"), nullable=False),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("of_boot", Text),
    Column("seq", BigInteger, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("mono_ns", BigInteger, nullable=False),
    Column("keep", Text, nullable=False),
    Column("body", LargeBinary, nullable=False, comment="JSON as sent, zstd"),
    UniqueConstraint("host", "id"),
    Index("ix_events_host_kind", "host", "kind"),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", _ROW, primary_key=True),
    Column("host", _ROW, ForeignKey("hosts.id"), nullable=False),
    Column("boot", Text, nullable=False, comment="boot id, or how an unknown boot is named"),
    Column("died_ns", BigInteger, comment="null where nothing tells"),
    Column("opened_ns", BigInteger, nullable=False),
    Column("considered", LargeBinary, comment="digest of what the last diagnosis was made of"),
    Column("revision", Integer, nullable=False, comment="0: not diagnosed yet"),
    Column("merged_into", _ROW, ForeignKey("incidents.id"), comment="the incident it turned out to be"),
    UniqueConstraint("host", "boot"),
    Index("ix_incidents_opened_ns", "opened_ns"),
)

incident_events = Table(
    "incident_events",
    metadata,
    Column("event", _ROW, ForeignKey("events.row"), primary_key=True, autoincrement=False),
    Column("incident", _ROW, ForeignKey("incidents.id"), nullable=False),
    Index("ix_incident_events_incident", "incident"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("incident", _ROW, ForeignKey("incidents.id"), primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("made_ns", BigInteger, nullable=False),
    Column("made_of", Text, nullable=False, comment="event ids, a JSON array"),
    Column("cause", Text, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("fatal", Boolean, nullable=False),
    Column("verdict", LargeBinary, nullable=False, comment="necropsy.verdict/1, JSON"),
)

work = Table(
    "work",
    metadata,
    Column("host", _ROW, ForeignKey("hosts.id"), primary_key=True, autoincrement=False),
    Column("arrivals", BigInteger, nullable=False, comment="counts what came while it was worked on"),
    Column("due_ns", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("owner", Text),
    Column("lease_ns", BigInteger, comment="the owner's claim ends"),
    Index("ix_work_due_ns", "due_ns"),
)
"""Hosts with evidence that no verdict has seen yet. One host is worked on by one worker at a time, since
its records and boots have to be looked at together to tell which boot died."""

"""The first tables: hosts, batches, evidence, incidents with their revisions, work.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "hosts",
        sa.Column("id", _ROW, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "machine", sa.Text(), nullable=True, comment="the wire's host id, bound at the token's first use"
        ),
        sa.Column("token_hash", sa.LargeBinary(), nullable=True, comment="SHA-256; null when revoked"),
        sa.Column("labels", sa.Text(), nullable=False, comment="a JSON object"),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("enrolled_ns", sa.BigInteger(), nullable=False),
        sa.Column("seen_ns", sa.BigInteger(), nullable=True),
        sa.Column("revoked_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hosts")),
        sa.UniqueConstraint("machine", name=op.f("uq_hosts_machine")),
        sa.UniqueConstraint("name", name=op.f("uq_hosts_name")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_hosts_token_hash")),
    )
    op.create_table(
        "batches",
        sa.Column("row", _ROW, nullable=False),
        sa.Column("host", _ROW, nullable=False),
        sa.Column("id", sa.Text(), nullable=False, comment="the same over retries"),
        sa.Column("encoding", sa.Text(), nullable=False, comment="zstd, gzip or identity"),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="as sent"),
        sa.Column("plain_bytes", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("duplicates", sa.Integer(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("sent_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.id"], name=op.f("fk_batches_host")),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_batches")),
        sa.UniqueConstraint("host", "id", name=op.f("uq_batches_host_id")),
    )
    op.create_index("ix_batches_host_last_seq", "batches", ["host", "last_seq"], unique=False)
    op.create_table(
        "incidents",
        sa.Column("id", _ROW, nullable=False),
        sa.Column("host", _ROW, nullable=False),
        sa.Column("boot", sa.Text(), nullable=False, comment="boot id, or how an unknown boot is named"),
        sa.Column("died_ns", sa.BigInteger(), nullable=True, comment="null where nothing tells"),
        sa.Column("opened_ns", sa.BigInteger(), nullable=False),
        sa.Column(
            "considered",
            sa.LargeBinary(),
            nullable=True,
            comment="digest of what the last diagnosis was made of",
        ),
        sa.Column("revision", sa.Integer(), nullable=False, comment="0: not diagnosed yet"),
        sa.Column("merged_into", _ROW, nullable=True, comment="the incident it turned out to be"),
        sa.ForeignKeyConstraint(["host"], ["hosts.id"], name=op.f("fk_incidents_host")),
        sa.ForeignKeyConstraint(["merged_into"], ["incidents.id"], name=op.f("fk_incidents_merged_into")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
        sa.UniqueConstraint("host", "boot", name=op.f("uq_incidents_host_boot")),
    )
    op.create_index("ix_incidents_opened_ns", "incidents", ["opened_ns"], unique=False)
    op.create_table(
        "work",
        sa.Column("host", _ROW, autoincrement=False, nullable=False),
        sa.Column(
            "arrivals", sa.BigInteger(), nullable=False, comment="counts what came while it was worked on"
        ),
        sa.Column("due_ns", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_ns", sa.BigInteger(), nullable=True, comment="the owner's claim ends"),
        sa.ForeignKeyConstraint(["host"], ["hosts.id"], name=op.f("fk_work_host")),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_work")),
    )
    op.create_index("ix_work_due_ns", "work", ["due_ns"], unique=False)
    op.create_table(
        "events",
        sa.Column("row", _ROW, nullable=False),
        sa.Column("host", _ROW, nullable=False),
        sa.Column("batch", _ROW, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("of_boot", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("wall_ns", sa.BigInteger(), nullable=False),
        sa.Column("mono_ns", sa.BigInteger(), nullable=False),
        sa.Column("keep", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="JSON as sent, zstd"),
        sa.ForeignKeyConstraint(["batch"], ["batches.row"], name=op.f("fk_events_batch")),
        sa.ForeignKeyConstraint(["host"], ["hosts.id"], name=op.f("fk_events_host")),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_events")),
        sa.UniqueConstraint("host", "id", name=op.f("uq_events_host_id")),
    )
    op.create_index("ix_events_host_kind", "events", ["host", "kind"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("incident", _ROW, autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("made_ns", sa.BigInteger(), nullable=False),
        sa.Column("made_of", sa.Text(), nullable=False, comment="event ids, a JSON array"),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("fatal", sa.Boolean(), nullable=False),
        sa.Column("verdict", sa.LargeBinary(), nullable=False, comment="necropsy.verdict/1, JSON"),
        sa.ForeignKeyConstraint(["incident"], ["incidents.id"], name=op.f("fk_revisions_incident")),
        sa.PrimaryKeyConstraint("incident", "n", name=op.f("pk_revisions")),
    )
    op.create_table(
        "incident_events",
        sa.Column("event", _ROW, autoincrement=False, nullable=False),
        sa.Column("incident", _ROW, nullable=False),
        sa.ForeignKeyConstraint(["event"], ["events.row"], name=op.f("fk_incident_events_event")),
        sa.ForeignKeyConstraint(["incident"], ["incidents.id"], name=op.f("fk_incident_events_incident")),
        sa.PrimaryKeyConstraint("event", name=op.f("pk_incident_events")),
    )
    op.create_index("ix_incident_events_incident", "incident_events", ["incident"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_incident_events_incident", table_name="incident_events")
    op.drop_table("incident_events")
    op.drop_table("revisions")
    op.drop_index("ix_events_host_kind", table_name="events")
    op.drop_table("events")
    op.drop_index("ix_work_due_ns", table_name="work")
    op.drop_table("work")
    op.drop_index("ix_incidents_opened_ns", table_name="incidents")
    op.drop_table("incidents")
    op.drop_index("ix_batches_host_last_seq", table_name="batches")
    op.drop_table("batches")
    op.drop_table("hosts")

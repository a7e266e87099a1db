"""The migrations make exactly the tables that the code works with, on an empty and on a used database."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from necropsy_analyzer.store import batches, hosts, schema
from necropsy_analyzer.store.store import Store, StoreError, sqlite_url


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "necropsy_analyzer.store:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _unlike_the_code(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, schema.metadata))


def test_the_newest_migration_is_the_one_the_code_knows() -> None:
    assert ScriptDirectory.from_config(_config()).get_heads() == [schema.HEAD]


def test_an_empty_database_gets_the_tables_of_the_code(store: Store) -> None:
    with store.read() as connection:
        assert _unlike_the_code(connection) == []
        assert {*inspect(connection).get_table_names()} == {*schema.metadata.tables, "alembic_version"}


def test_migrations_lead_down_and_up_again(store: Store) -> None:
    with store.write() as connection:
        command.downgrade(_config(connection), "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
        command.upgrade(_config(connection), "head")
        assert _unlike_the_code(connection) == []


def test_a_used_database_is_opened_as_it_is(tmp_path: Path, sender: Any) -> None:
    from necropsy_analyzer.ingest.decode import decode
    from necropsy_analyzer.store.body import Limits

    crash = sender.crash()
    for turn in range(2):
        store = Store.open(sqlite_url(tmp_path))
        with store.write() as connection:
            if turn == 0:
                hosts.enroll(connection, "node1", labels={"rack": "7"}, now_ns=1)
            batch = decode(sender.lines(crash, id="one"), "identity", Limits())
            assert batches.add(connection, 1, batch, now_ns=2).accepted == 1 - turn
        store.close()
    store = Store.open(sqlite_url(tmp_path))
    with store.read() as connection:
        (host,) = hosts.every(connection)
        assert (host.name, host.labels) == ("node1", {"rack": "7"})
        assert connection.execute(select(schema.events.c.id)).scalars().all() == [crash.id]
    store.close()


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "necropsy.db").touch(0o600)
    store = Store.open(sqlite_url(tmp_path))
    with store.read() as connection:
        assert hosts.every(connection) == ()
    store.close()


def test_a_database_left_half_migrated_is_completed(tmp_path: Path) -> None:
    """A process killed in its first transaction leaves a file with a log that is rolled back."""
    half = sqlite3.connect(tmp_path / "necropsy.db", isolation_level=None)
    half.execute("PRAGMA journal_mode=WAL")
    half.execute("BEGIN IMMEDIATE")
    half.execute("CREATE TABLE hosts (id INTEGER)")
    half.close()
    store = Store.open(sqlite_url(tmp_path))
    with store.read() as connection:
        assert _unlike_the_code(connection) == []
    store.close()


@pytest.mark.parametrize("name", ["with space", "what?x=1", "50%25", "käse", "a#b"])
def test_a_state_folder_may_be_called_anything(tmp_path: Path, name: str) -> None:
    store = Store.open(sqlite_url(tmp_path / name))
    store.close()
    assert (tmp_path / name / "necropsy.db").stat().st_size > 0


def test_a_store_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    store = Store.open(sqlite_url(tmp_path))
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(StoreError, match="newer") as refused:
        Store.open(sqlite_url(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    content = b"this is no database, but long enough to be taken for one" * 99
    (tmp_path / "necropsy.db").write_bytes(content)
    with pytest.raises(StoreError, match="cannot be used") as refused:
        Store.open(sqlite_url(tmp_path))
    assert "\n" not in str(refused.value)
    assert (tmp_path / "necropsy.db").read_bytes() == content


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "oracle://x/y", "x://"])
def test_a_url_that_leads_nowhere_is_told_in_one_line(url: str) -> None:
    with pytest.raises(StoreError) as refused:
        Store.open(url)
    assert "\n" not in str(refused.value)

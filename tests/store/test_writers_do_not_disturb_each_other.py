"""Several threads and processes write at once; who must wait too long is told so, nothing is lost."""

import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import func, select, text
from tests.conftest import Sender

from necropsy_agent.wire import INGEST_PATH
from necropsy_analyzer.ingest.app import make_app
from necropsy_analyzer.ingest.decode import decode
from necropsy_analyzer.store import batches, hosts, schema
from necropsy_analyzer.store.body import Limits
from necropsy_analyzer.store.store import Store, StoreUnavailableError, sqlite_url

ENROLL = """
import sys
from pathlib import Path
from necropsy_analyzer.store import hosts
from necropsy_analyzer.store.store import Store, sqlite_url
store = Store.open(sqlite_url(Path(sys.argv[1])))
for n in range(20):
    with store.write() as connection:
        hosts.enroll(connection, f"{sys.argv[2]}-{n}", labels={}, now_ns=1)
store.close()
"""


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the database's write lock, as another process would."""
    with closing(sqlite3.connect(folder / "necropsy.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_batches_of_many_writers_are_all_kept_once(store: Store, tmp_path: Path) -> None:
    second = Store.open(sqlite_url(tmp_path / "state"))
    senders = [Sender(f"{n:032x}") for n in range(1, 5)]
    with store.write() as connection:
        for n, _ in enumerate(senders, 1):
            hosts.enroll(connection, f"node{n}", labels={}, now_ns=1)
    sent = []
    for row, sender in enumerate(senders, 1):
        crashes = [sender.crash() for _ in range(10)]
        sent += [
            (row, decode(sender.lines(*some), "identity", Limits()))
            for some in (crashes[:6], crashes[4:], crashes[:6])
        ]
    sent = sent * 2
    random.Random(3).shuffle(sent)

    def write(n: int) -> int:
        row, batch = sent[n]
        with (store, second)[n % 2].write() as connection:
            return batches.add(connection, row, batch, now_ns=n).accepted

    others = [
        subprocess.Popen([sys.executable, "-c", ENROLL, tmp_path / "state", f"more{n}"]) for n in range(2)
    ]
    with ThreadPoolExecutor(6) as threads:
        accepted = sum(threads.map(write, range(len(sent))))
    assert [other.wait(timeout=60) for other in others] == [0, 0]
    second.close()
    assert accepted == 40
    with store.read() as connection:
        assert len(hosts.every(connection)) == 44
        events = connection.execute(select(schema.events.c.id)).scalars().all()
        assert len(events) == len(set(events)) == 40
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"


def test_a_locked_database_is_told_and_nothing_is_kept_by_halves(tmp_path: Path, sender: Any) -> None:
    store = Store.open(sqlite_url(tmp_path), busy_ms=50)
    with store.write() as connection:
        token = hosts.enroll(connection, "node1", labels={}, now_ns=1)
    with TestClient(make_app(store)) as client:
        client.headers.update({"authorization": f"Bearer {token}", "content-encoding": "zstd"})
        body = sender.body(sender.crash())
        with _locked(tmp_path):
            answer = client.post(INGEST_PATH, content=body)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert "\n" not in answer.json()["detail"]
            assert client.get("/ready").status_code == 200, "a reader needs no lock"
        again = client.post(INGEST_PATH, content=body)
        assert (again.status_code, again.json()["accepted"]) == (200, 1)
    store.close()


def test_a_transaction_that_fails_leaves_nothing(store: Store, sender: Any) -> None:
    with store.write() as connection:
        hosts.enroll(connection, "node1", labels={}, now_ns=1)
    batch = decode(sender.lines(sender.crash()), "identity", Limits())

    def fail_late() -> None:
        with store.write() as connection:
            batches.add(connection, 1, batch, now_ns=1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_late()
    with store.read() as connection:
        for table in (schema.batches, schema.events, schema.work):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0
    with store.write() as connection:
        assert batches.add(connection, 1, batch, now_ns=1).accepted == 1


def test_a_database_that_is_full_serves_those_who_read(tmp_path: Path, sender: Any) -> None:
    store = Store.open(sqlite_url(tmp_path), limit_bytes=300 << 10)
    with store.write() as connection:
        hosts.enroll(connection, "node1", labels={}, now_ns=1)
    noise = random.Random(1)
    kept, refused = 0, []
    for n in range(40):
        crash = sender.crash(noise.randbytes(4000).hex())
        try:
            with store.write() as connection:
                batch = decode(sender.lines(crash), "identity", Limits())
                kept += batches.add(connection, 1, batch, now_ns=n).accepted
        except StoreUnavailableError as full:
            refused.append(full.full)
    assert 0 < kept < 40
    assert all(refused)
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.events)).scalar_one() == kept
        assert connection.execute(select(func.count()).select_from(schema.batches)).scalar_one() == kept
    store.close()

"""A batch is acknowledged once it is stored, byte for byte; the same events again change nothing."""

import gzip
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import zstandard
from litestar.testing import TestClient
from sqlalchemy import func, select, text

from necropsy_agent import wire
from necropsy_agent.wire import INGEST_PATH, event_id
from necropsy_analyzer.ingest.app import make_app
from necropsy_analyzer.store import evidence, hosts, schema
from necropsy_analyzer.store.body import Limits, plain
from necropsy_analyzer.store.store import Store, sqlite_url


@pytest.fixture
def client(store: Store) -> Iterator[TestClient[Any]]:
    with store.write() as connection:
        token = hosts.enroll(connection, "node1", labels={}, now_ns=1)
    with TestClient(make_app(store)) as opened:
        opened.headers["authorization"] = f"Bearer {token}"
        yield opened


def _send(client: TestClient[Any], body: bytes, encoding: str = "zstd") -> dict[str, Any]:
    answer = client.post(INGEST_PATH, content=body, headers={"content-encoding": encoding})
    assert answer.status_code == 200, answer.text
    ack: dict[str, Any] = answer.json()
    return ack


def _events(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(schema.events.c.id)).scalars())


def test_a_batch_stands_as_it_was_sent_in_each_coding(
    client: TestClient[Any], store: Store, sender: Any
) -> None:
    sent = []
    for encoding, pack in (("identity", bytes), ("gzip", gzip.compress), ("zstd", zstandard.compress)):
        body = pack(sender.lines(sender.crash("caf\u00e9 \x01 \\x")))
        assert _send(client, body, encoding)["accepted"] == 1
        sent.append((encoding, body))
    with store.read() as connection:
        stored = connection.execute(select(schema.batches.c.encoding, schema.batches.c.body)).all()
    assert [tuple(row) for row in stored] == sent


def test_unknown_kinds_and_fields_of_a_newer_agent_are_kept(
    client: TestClient[Any], store: Store, sender: Any
) -> None:
    known = sender.crash()
    raw = b'{"sparks":[1,{"x":null}],  "n":1e400}'
    strange = sender.event(wire.DeviceChange(action="", subsystem="", devpath=""), kind="quantum.flux",
                           body=msgspec.Raw(raw))  # fmt: skip
    lines = sender.lines(known, strange).replace(b'"kind":', b'"colour":"blue","kind":')
    ack = _send(client, lines, "identity")
    assert ack["accepted"] == 2
    with store.read() as connection:
        body = connection.execute(select(schema.batches.c.body)).scalar_one()
        rows = evidence.of_host(connection, 1, bodies=("quantum.flux", "crash.record"))
    assert body == lines
    assert {row.event.kind: bytes(row.event.body) for row in rows}["quantum.flux"] == raw


def test_only_evidence_has_rows(client: TestClient[Any], store: Store, sender: Any) -> None:
    health = wire.AgentHealth(
        version="1", uptime_ns=1, resident_bytes=1, cpu_ns=1, outbox_events=0, outbox_bytes=0
    )
    crash = sender.crash()
    ack = _send(client, sender.body(sender.event(health, keep="routine"), crash))
    assert ack["accepted"] == 2
    assert _events(store) == [crash.id]


def test_the_same_batch_again_is_acknowledged_and_changes_nothing(
    client: TestClient[Any], store: Store, sender: Any
) -> None:
    body = sender.body(sender.crash(), sender.crash())
    first, again = _send(client, body), _send(client, body)
    assert (first["accepted"], first.get("duplicates", 0)) == (2, 0)
    assert (again["batch"], again["accepted"], again["duplicates"]) == (first["batch"], 0, 2)
    assert len(_events(store)) == 2


def test_events_that_come_again_in_other_batches_count_as_duplicates(
    client: TestClient[Any], store: Store, sender: Any
) -> None:
    health = wire.AgentHealth(
        version="1", uptime_ns=1, resident_bytes=1, cpu_ns=1, outbox_events=0, outbox_bytes=0
    )
    one, two, three = sender.crash(), sender.event(health, keep="routine"), sender.crash()
    four = sender.event(health, keep="routine")
    _send(client, sender.body(one, two))
    ack = _send(client, sender.body(two, three, one, four))
    assert (ack["accepted"], ack["duplicates"]) == (2, 2)
    assert sorted(_events(store)) == sorted([one.id, three.id])


def test_evidence_is_stored_once_though_its_numbering_began_anew(
    client: TestClient[Any], store: Store, sender: Any
) -> None:
    crash = sender.crash()
    _send(client, sender.body(crash))
    ack = _send(client, sender.body(msgspec.structs.replace(crash, seq=10**6), id=event_id()))
    assert (ack["accepted"], ack["duplicates"]) == (0, 1)
    assert _events(store) == [crash.id]


def test_a_full_store_says_when_to_come_again_and_keeps_nothing_by_halves(tmp_path: Any, sender: Any) -> None:
    full = Store.open(sqlite_url(tmp_path / "small"), limit_bytes=400 << 10)
    with full.write() as connection:
        token = hosts.enroll(connection, "node1", labels={}, now_ns=1)
    # Noise, so that no compression makes room: the batch's row would fit, the evidence after it not.
    noise = random.Random(7)
    with TestClient(make_app(full)) as client:
        client.headers["authorization"] = f"Bearer {token}"
        small = sender.crash("small")
        assert _send(client, sender.body(small))["accepted"] == 1
        large = sender.body(*(sender.crash(noise.randbytes(40_000).hex()) for _ in range(4)))
        answer = client.post(INGEST_PATH, content=large, headers={"content-encoding": "zstd"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "full" in answer.json()["detail"]
        assert _events(full) == [small.id]
        with full.read() as connection:
            assert connection.execute(select(func.count()).select_from(schema.batches)).scalar_one() == 1
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        assert _send(client, sender.body(small))["duplicates"] == 1
    full.close()


def test_opened_bodies_are_bounded_by_the_limits_given() -> None:
    limits = Limits(body_bytes=1000, plain_bytes=3000, ratio=2, ratio_from_bytes=100)
    assert plain(bytes(1000), "identity", limits) == bytes(1000)
    assert plain(zstandard.compress(bytes(100)), "zstd", limits) == bytes(100)
    for body, encoding in (
        (bytes(1001), "identity"),
        (zstandard.compress(bytes(2000)), "zstd"),
        (gzip.compress(bytes(2000)), "gzip"),
    ):
        with pytest.raises(Exception, match=r"larger than|opens to more"):
            plain(body, encoding, limits)

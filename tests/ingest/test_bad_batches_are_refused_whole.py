"""What is no batch, too large or of another host gets a clear answer, and nothing of it is stored."""

import gzip
import json
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import func, select
from tests.ingest.conftest import BAD

from necropsy_agent.wire import INGEST_PATH, event_id
from necropsy_analyzer.ingest.app import make_app
from necropsy_analyzer.ingest.decode import Refusal, decode
from necropsy_analyzer.store import hosts, schema
from necropsy_analyzer.store.body import BodyError, Limits, plain
from necropsy_analyzer.store.store import Store


@pytest.fixture
def client(store: Store) -> Iterator[TestClient[Any]]:
    with store.write() as connection:
        token = hosts.enroll(connection, "node1", labels={}, now_ns=1)
    with TestClient(make_app(store)) as opened:
        opened.headers["authorization"] = f"Bearer {token}"
        yield opened


def _stored(store: Store) -> list[int]:
    with store.read() as connection:
        return [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (schema.batches, schema.events, schema.incidents, schema.work)
        ]


def _problem(answer: Any) -> dict[str, Any]:
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"]
    assert "\n" not in problem["detail"]
    return problem


@pytest.mark.parametrize("name", BAD)
def test_it_is_told_in_one_line_and_nothing_is_stored(
    name: str, client: TestClient[Any], store: Store, sender: Any
) -> None:
    status, told, make = BAD[name]
    body, encoding = make(sender)
    answer = client.post(INGEST_PATH, content=body, headers={"content-encoding": encoding})
    assert answer.status_code == status
    assert told in _problem(answer)["detail"]
    assert _stored(store) == [0, 0, 0, 0]
    good = client.post(INGEST_PATH, content=sender.body(sender.crash()), headers={"content-encoding": "zstd"})
    assert good.status_code == 200


def test_a_hundred_megabytes_of_noise_are_too_large(client: TestClient[Any], store: Store) -> None:
    piece = os.urandom(1 << 20)
    answer = client.post(INGEST_PATH, content=(piece for _ in range(100)))
    assert answer.status_code == 413
    assert "smaller batches" in _problem(answer)["detail"]
    assert _stored(store) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic bm9kZTE6eA==", "Bearer wrong", "Bearer \u00e9"]
)
def test_without_a_valid_token_there_is_no_way_in(
    header: str | None, client: TestClient[Any], store: Store, sender: Any
) -> None:
    del client.headers["authorization"]
    headers = {b"content-encoding": b"zstd"}
    if header is not None:
        headers[b"authorization"] = header.encode()
    answer = client.post(INGEST_PATH, content=sender.body(sender.crash()), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    _problem(answer)
    assert _stored(store) == [0, 0, 0, 0]


def test_a_token_is_of_the_first_machine_that_used_it(
    client: TestClient[Any], store: Store, sender: Any
) -> None:
    other = type(sender)("f" * 32)
    zstd = {"content-encoding": "zstd"}
    assert client.post(INGEST_PATH, content=sender.body(sender.crash()), headers=zstd).status_code == 200
    refused = client.post(INGEST_PATH, content=other.body(other.crash()), headers=zstd)
    assert refused.status_code == 403
    assert "node1" in _problem(refused)["detail"]
    assert _stored(store)[:2] == [1, 1]


def test_a_machine_sends_under_one_name(client: TestClient[Any], store: Store, sender: Any) -> None:
    zstd = {"content-encoding": "zstd"}
    client.post(INGEST_PATH, content=sender.body(sender.crash()), headers=zstd)
    with store.write() as connection:
        second = hosts.enroll(connection, "node2", labels={}, now_ns=1)
    headers = {**zstd, "authorization": f"Bearer {second}"}
    refused = client.post(INGEST_PATH, content=sender.body(sender.crash()), headers=headers)
    assert refused.status_code == 403
    assert "node1" in _problem(refused)["detail"]
    assert _stored(store)[:2] == [1, 1]


def test_a_batch_id_is_of_one_batch(client: TestClient[Any], store: Store, sender: Any) -> None:
    zstd, number = {"content-encoding": "zstd"}, event_id()
    client.post(INGEST_PATH, content=sender.body(sender.crash(), id=number), headers=zstd)
    refused = client.post(INGEST_PATH, content=sender.body(sender.crash(), id=number), headers=zstd)
    assert refused.status_code == 409
    _problem(refused)
    assert _stored(store)[:2] == [1, 1]


@given(body=st.binary(max_size=400), encoding=st.sampled_from(["zstd", "gzip", "identity"]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_the_decoder_fail(body: bytes, encoding: str) -> None:
    with pytest.raises(Refusal) as refused:
        decode(body, encoding, Limits())
    assert 400 <= refused.value.status < 500


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_batch_is_refused_or_still_says_what_it_held(sender: Any, data: st.DataObject) -> None:
    whole = sender.lines(sender.crash(), sender.crash("second \u00fc"))
    at = data.draw(st.integers(0, 9999)) * len(whole) // 10_000
    change = data.draw(st.sampled_from(["cut", "byte", "twice"]))
    if change == "cut":
        damaged = whole[:at]
    elif change == "byte":
        damaged = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    else:
        damaged = whole + whole[at:]
    try:
        batch = decode(damaged, "identity", Limits())
    except Refusal as refusal:
        told = (refusal.status // 100, refusal.detail.isascii(), "\n" in refusal.detail)
        assert told == (4, True, False)  # whether it is refused depends on the damage
    else:
        assert len(batch.events) == batch.head.count
        assert all(msgspec.json.decode(event.body) is not None for event in batch.events)


@given(content=st.binary(max_size=5000), cut=st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_a_body_opens_to_what_was_packed_and_a_cut_one_does_not(content: bytes, cut: int) -> None:
    zstd = zstandard.compress(content[:2000]) + zstandard.compress(content[2000:])
    packed = gzip.compress(content[:2000]) + gzip.compress(content[2000:])
    assert plain(zstd, "zstd", Limits()) == content
    assert plain(packed, "gzip", Limits()) == content
    for body, encoding in ((zstandard.compress(content), "zstd"), (gzip.compress(content), "gzip")):
        with pytest.raises(BodyError):
            plain(body[: max(1, len(body) - cut)], encoding, Limits())


def test_the_api_describes_itself(client: TestClient[Any]) -> None:
    described = json.loads(client.get("/schema").text)
    operation = described["paths"][INGEST_PATH]["post"]
    assert {"200", "400", "401", "403", "413", "415", "422", "503"} <= operation["responses"].keys()
    assert "application/x-ndjson" in operation["requestBody"]["content"]
    assert client.get("/health").json()["status"] == "live"
    assert client.get("/ready").json()["status"] == "ready"
    _problem(client.get("/nowhere"))

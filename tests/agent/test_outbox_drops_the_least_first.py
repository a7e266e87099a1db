"""Where room ends, routine goes before faults and crash evidence never; what goes is counted for ever."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from necropsy_agent.outbox import Outbox
from necropsy_agent.outbox_file import OutboxFullError
from necropsy_agent.parcels import Parcels
from necropsy_agent.sources import Found
from necropsy_agent.wire import AgentHealth, KernelLog, unpack

from .conftest import MIB, Peer, Site, crash, lines_of, routine

Again = Callable[..., Outbox]
LIMIT_BYTES = 2 * MIB


def _noise(seed: int, size: int = 120_000) -> str:
    """Make text that no compression makes small."""
    return random.Random(seed).randbytes(size // 2).hex()


def _fault(seed: int) -> Found:
    return Found(body=KernelLog(records=(_noise(seed),), fault=True), keep="fault")


def _routine(seed: int) -> Found:
    return routine(_noise(seed))


def _size(state: Path) -> int:
    return (state / "outbox.sqlite3").stat().st_size


def test_the_file_never_grows_past_its_limit(outbox: Again, tmp_path: Path) -> None:
    kept = outbox(LIMIT_BYTES)
    for seed in range(150):
        kept.take("kmsg", [_routine(seed)])
    assert _size(tmp_path / "state") <= LIMIT_BYTES
    fill = kept.fill()
    assert fill.waiting["routine"] + fill.dropped["routine"] == 150
    assert fill.dropped["routine"] > 80


def test_of_routine_the_oldest_goes(outbox: Again, tmp_path: Path) -> None:
    kept = outbox(LIMIT_BYTES)
    for seed in range(100):
        kept.take("kmsg", [_routine(seed)])
    shipper = Parcels(tmp_path / "state")
    parcel = shipper.parcel(1000, 64 * MIB)
    shipper.close()
    assert parcel is not None
    seqs = [event.seq for event in lines_of(parcel.lines)]
    assert seqs == list(range(seqs[0], 101))


def test_crash_evidence_makes_room_for_itself(outbox: Again) -> None:
    kept = outbox(LIMIT_BYTES)
    kept.take("kmsg", [_routine(seed) for seed in range(25)] + [_fault(seed) for seed in range(25, 60)])
    for n in range(20):
        assert kept.take("pstore", [crash(f"k{n}", _noise(n))]).stored == {"crash": 1}
    fill = kept.fill()
    assert fill.waiting["crash"] == 20
    assert "routine" not in fill.waiting, "all of it went before the first fault did"
    assert fill.dropped["routine"] == 25
    assert 0 < fill.dropped["fault"] < 35


def test_crash_evidence_never_gives_way(outbox: Again) -> None:
    kept = outbox(LIMIT_BYTES)
    stored = 0
    with pytest.raises(OutboxFullError):  # noqa: PT012  how far it comes is what is asked
        for n in range(100):
            kept.take("pstore", [crash(f"k{n}", _noise(n), cursor=str(n))])
            stored = n + 1
    assert kept.fill().waiting == {"crash": stored}
    assert kept.fill().dropped == {}
    assert kept.cursor("pstore") == str(stored - 1), "the source stands before what found no room"
    assert not kept.known("pstore", f"k{stored}"), "and gives it again"


def test_what_finds_no_room_comes_in_when_there_is_some(outbox: Again, tmp_path: Path) -> None:
    kept = outbox(LIMIT_BYTES)
    records = [crash(f"k{n}", _noise(n)) for n in range(60)]
    shipper = Parcels(tmp_path / "state")
    arrived: list[str] = []
    for _ in range(10):
        try:
            kept.take("pstore", [record for record in records if not kept.known("pstore", str(record.key))])
        except OutboxFullError:
            while parcel := shipper.parcel(10, MIB):
                arrived += [event.id for event in lines_of(parcel.lines)]
                shipper.acknowledge(parcel)
    while parcel := shipper.parcel(10, MIB):
        arrived += [event.id for event in lines_of(parcel.lines)]
        shipper.acknowledge(parcel)
    shipper.close()
    assert len(arrived) == len(set(arrived)) == 60
    assert kept.fill().dropped == {}


def test_routine_that_finds_no_room_is_counted_and_passed(outbox: Again) -> None:
    kept = outbox(LIMIT_BYTES)
    with pytest.raises(OutboxFullError):
        kept.take("pstore", [crash(f"k{n}", _noise(n)) for n in range(100)])
    taken = kept.take("kmsg", [routine(_noise(1), cursor="77")])
    assert (taken.stored, taken.dropped) == ({}, 1)
    assert kept.cursor("kmsg") == "77"
    assert kept.fill().dropped == {"routine": 1}


def test_what_never_fits_is_dropped_once_and_counted(outbox: Again) -> None:
    kept = outbox(LIMIT_BYTES)
    taken = kept.take("pstore", [crash("huge", _noise(1, 4 * LIMIT_BYTES)), crash("small")])
    assert (taken.stored, taken.dropped) == ({"crash": 1}, 1)
    assert kept.known("pstore", "huge")
    assert kept.fill().dropped == {"crash": 1}


def test_drops_are_counted_over_restarts(outbox: Again) -> None:
    for start in range(3):
        kept = outbox(LIMIT_BYTES)
        kept.take("kmsg", [_routine(start * 100 + seed) for seed in range(40)])
    fill = outbox(LIMIT_BYTES).fill()
    assert fill.dropped["routine"] + fill.waiting["routine"] == 120


def test_a_batch_that_lost_an_event_goes_under_another_id(outbox: Again, tmp_path: Path) -> None:
    kept = outbox(LIMIT_BYTES)
    kept.take("kmsg", [_routine(seed) for seed in range(20)])
    shipper = Parcels(tmp_path / "state")
    sent = shipper.parcel(20, 64 * MIB)
    assert sent is not None
    kept.take("pstore", [crash(f"k{n}", _noise(n)) for n in range(20)])
    again = shipper.parcel(1000, 64 * MIB)
    assert again is not None
    assert again.id != sent.id
    shipper.acknowledge(sent)  # the answer to the first came late
    left = {event.keep for event in lines_of(again.lines)}
    shipper.close()
    assert "crash" in left
    fill = kept.fill()
    assert fill.waiting == {"crash": 20}
    assert fill.dropped["routine"] + fill.shipped["routine"] == 20


def test_room_is_given_back_to_the_disk(outbox: Again, tmp_path: Path) -> None:
    kept = outbox(16 * MIB)
    kept.take("pstore", [crash(f"k{n}", _noise(n)) for n in range(100)])
    kept = outbox(16 * MIB)
    grown = _size(tmp_path / "state")
    shipper = Parcels(tmp_path / "state")
    while parcel := shipper.parcel(100, 64 * MIB):
        shipper.acknowledge(parcel)
    shipper.close()
    kept.tidy()
    outbox(16 * MIB)
    assert _size(tmp_path / "state") < grown / 2


def test_drops_are_reported(site: Site, peer: Peer, outbox: Again) -> None:
    kept = outbox(LIMIT_BYTES)
    kept.take("kmsg", [_routine(seed) for seed in range(60)])
    dropped = kept.fill().dropped
    assert dropped["routine"] > 0
    kept.close()
    site.state = site.folder / "state"
    site.configure(peer.url)
    site.once()
    [event] = [event for event in peer.arrived if event.kind == "agent.health"]
    health = unpack(event)
    assert isinstance(health, AgentHealth)
    assert health.dropped == dropped
    told = site.agent("status", "--config", site.config).stdout
    line = next(line for line in told.splitlines() if line.startswith("dropped"))
    assert f"{dropped['routine']} routine" in line

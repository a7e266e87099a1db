"""What was stored stays, through restarts, until the analyzer has it; and is known for ever after."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from necropsy_agent.outbox import KEYS, Outbox
from necropsy_agent.parcels import Parcel, Parcels
from necropsy_agent.sources import Found

from .conftest import ORIGIN, crash, lines_of, routine

Again = Callable[..., Outbox]


@pytest.fixture
def parcels(tmp_path: Path) -> Iterator[Callable[[], Parcels]]:
    opened: list[Parcels] = []

    def again() -> Parcels:
        opened.append(Parcels(tmp_path / "state"))
        return opened[-1]

    yield again
    for left in opened:
        left.close()


def _next(parcels: Parcels, events: int = 1000, size: int = 4 << 20) -> Parcel:
    parcel = parcels.parcel(events, size)
    assert parcel is not None
    return parcel


def test_an_event_has_all_that_the_analyzer_needs(outbox: Again, parcels: Callable[[], Parcels]) -> None:
    outbox().take("pstore", [crash("k1", of_boot="d" * 32)])
    [event] = lines_of(_next(parcels()).lines)
    assert (event.kind, event.keep, event.seq) == ("crash.record", "crash", 1)
    assert (event.host, event.boot, event.of_boot) == (ORIGIN.host, ORIGIN.boot, "d" * 32)
    assert event.wall_ns > 0
    assert event.mono_ns > 0


def test_a_batch_is_the_same_after_a_restart(outbox: Again, parcels: Callable[[], Parcels]) -> None:
    outbox().take("pstore", [crash(f"k{n}", "x" * 5000) for n in range(5)])
    first = _next(parcels(), events=3)
    outbox().take("pstore", [crash("k9")])
    again = _next(parcels())
    assert (again.id, again.lines) == (first.id, first.lines)
    assert len(again.lines) == 3


def test_acknowledged_events_are_gone_and_their_keys_stay(
    outbox: Again, parcels: Callable[[], Parcels]
) -> None:
    outbox().take("pstore", [crash("k1")])
    shipper = parcels()
    shipper.acknowledge(_next(shipper))
    assert shipper.parcel(10, 1 << 20) is None
    kept = outbox()
    assert kept.known("pstore", "k1")
    assert not kept.known("kdump", "k1")
    assert kept.take("pstore", [crash("k1")]).stored == {}
    assert kept.acknowledged() == [("pstore", "k1")], "the source is told after a restart too"
    kept.told("pstore", "k1")
    assert outbox().acknowledged() == []


def test_numbers_go_on_where_they_were(outbox: Again, parcels: Callable[[], Parcels]) -> None:
    outbox().take("kmsg", [routine() for _ in range(3)])
    shipper = parcels()
    shipper.acknowledge(_next(shipper))
    outbox().take("kmsg", [routine()])
    assert [event.seq for event in lines_of(_next(shipper).lines)] == [4]


def test_what_weighs_most_goes_first(outbox: Again, parcels: Callable[[], Parcels]) -> None:
    outbox().take("kmsg", [routine() for _ in range(5)])
    outbox().take("pstore", [crash("k1")])
    assert [event.keep for event in lines_of(_next(parcels(), events=1).lines)] == ["crash"]


def test_a_large_event_goes_by_itself(outbox: Again, parcels: Callable[[], Parcels]) -> None:
    outbox().take("pstore", [crash("k1"), crash("k2", "x" * 200_000), crash("k3")])
    shipper = parcels()
    counts = []
    while parcel := shipper.parcel(1000, 100_000):
        counts.append(len(parcel.lines))
        shipper.acknowledge(parcel)
    assert counts == [1, 1, 1]


def test_a_cursor_is_stored_with_its_event_or_not_at_all(outbox: Again) -> None:
    def breaks_off() -> Iterator[Found]:
        yield routine(cursor="1")
        yield routine(cursor="2")
        raise OSError("the interface fails")

    kept = outbox()
    with pytest.raises(OSError, match="the interface fails"):
        kept.take("kmsg", breaks_off())
    assert outbox().cursor("kmsg") == "2"
    assert outbox().fill().waiting == {"routine": 2}
    assert outbox().cursor("journal") is None


def test_an_empty_look_stores_nothing(outbox: Again) -> None:
    assert outbox().take("kmsg", []).stored == {}


def test_only_keys_that_no_source_asks_for_are_forgotten(outbox: Again, tmp_path: Path) -> None:
    kept = outbox()
    kept.take("pstore", [crash("waits"), crash("asked")])
    with_age = [("pstore", f"old{n}", 2, 100) for n in range(KEYS + 10)]
    kept._db.executemany("INSERT INTO keys VALUES (?, ?, ?, ?)", with_age)
    kept._db.execute("UPDATE keys SET asked_day = 100 WHERE key = 'waits'")
    kept = outbox()
    assert kept.known("pstore", "asked")
    assert kept.known("pstore", "waits"), "what is not shipped is never forgotten"
    assert kept._db.execute("SELECT count(*) FROM keys").fetchone() == (KEYS,)

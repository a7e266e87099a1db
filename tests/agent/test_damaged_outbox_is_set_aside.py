"""A damaged outbox is renamed, kept and said; a fresh one goes on, whatever the damage was."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from necropsy_agent.outbox import Outbox
from necropsy_agent.outbox_file import KEPT_ASIDE, OutboxDamagedError
from necropsy_agent.parcels import Parcels

from .conftest import MIB, ORIGIN, Peer, Site, crash, routine

Again = Callable[..., Outbox]
DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "the header is zeroed": lambda raw, _: bytes(100) + raw[100:],
    "the first page is zeroed": lambda raw, _: bytes(4096) + raw[4096:],
    "it is empty": lambda raw, _: b"",
    "it is cut in a page": lambda raw, chance: raw[: chance.randrange(1, len(raw))],
    "it is cut at a page": lambda raw, chance: raw[: 4096 * chance.randrange(1, len(raw) // 4096)],
    "it is garbage": lambda raw, chance: chance.randbytes(len(raw)),
    "it is text": lambda raw, _: b"no database at all\n" * 100,
    "a page is garbage": lambda raw, chance: _over(raw, chance, chance.randbytes(4096)),
    "a page is zeroed": lambda raw, chance: _over(raw, chance, bytes(4096)),
    "a page is another's": lambda raw, chance: _over(raw, chance, raw[4096:8192]),
    "bits have flipped": lambda raw, chance: _flipped(raw, chance, 50),
    "it has another form": lambda raw, _: raw[:60] + b"\0\0\0\x63" + raw[64:],
}


def _over(raw: bytes, chance: random.Random, page: bytes) -> bytes:
    at = 4096 * chance.randrange(len(raw) // 4096)
    return raw[:at] + page + raw[at + 4096 :]


def _flipped(raw: bytes, chance: random.Random, bits: int) -> bytes:
    damaged = bytearray(raw)
    for _ in range(bits):
        damaged[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _filled(folder: Path) -> Path:
    outbox = Outbox.open(folder, 16 * MIB, ORIGIN)
    outbox.take("pstore", [crash(f"k{n}", "x" * 50 * n) for n in range(60)])
    outbox.take("kmsg", [routine(f"4,{n},1,-;line {n}", cursor=str(n)) for n in range(200)])
    outbox.close()
    shipper = Parcels(folder)
    parcel = shipper.parcel(20, MIB)
    assert parcel is not None
    shipper.acknowledge(parcel)
    shipper.parcel(20, MIB)
    shipper.close()
    return folder / "outbox.sqlite3"


def _works(folder: Path, said: list[str]) -> None:
    """Do all that an agent and its shipper do with an outbox."""
    outbox = Outbox.open(folder, 16 * MIB, ORIGIN, said.append)
    outbox.take("pstore", [crash("fresh")])
    assert outbox.known("pstore", "fresh")
    shipper = Parcels(folder)
    ids: list[str] = []
    while parcel := shipper.parcel(50, MIB):
        shipper.refuse(parcel.damaged, "damaged")
        shipper.acknowledge(parcel)
        ids.append(parcel.id)
    shipper.close()
    for source, key in outbox.acknowledged():
        outbox.told(source, key)
    outbox.fill()
    outbox.contact()
    outbox.tidy()
    outbox.close()
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("damage", DAMAGE)
def test_the_agent_goes_on(damage: str, seed: int, tmp_path: Path) -> None:
    path = _filled(tmp_path)
    raw = path.read_bytes()
    damaged = DAMAGE[damage](raw, random.Random(f"{damage}{seed}"))
    path.write_bytes(damaged)
    said: list[str] = []
    try:
        _works(tmp_path, said)
    except OutboxDamagedError:
        # Damage that only shows while working: the daemon answers it as `Agent.renew_outbox()` does.
        _works(_emptied(tmp_path, said), said)
    aside = list(tmp_path.glob("outbox.damaged-*.sqlite3"))
    if aside:
        assert aside[0].read_bytes()[:64] == damaged[:64], "it is kept as it was found"
        assert any(str(aside[0]) in line for line in said)
    _works(tmp_path, [])


def _emptied(folder: Path, said: list[str]) -> Path:
    from necropsy_agent.outbox_file import set_aside

    said.append(str(set_aside(folder / "outbox.sqlite3", said.append)))
    return folder


@pytest.mark.parametrize(
    "damage", ["the header is zeroed", "it is empty", "it is garbage", "it has another form"]
)
def test_damage_that_shows_at_once_is_said(damage: str, tmp_path: Path) -> None:
    path = _filled(tmp_path)
    path.write_bytes(DAMAGE[damage](path.read_bytes(), random.Random(0)))
    said: list[str] = []
    _works(tmp_path, said)
    [line] = said
    assert re.search(r"set aside as .*outbox\.damaged-\d{8}T\d{6}\.\d+Z\.sqlite3", line)


def test_so_many_damaged_ones_are_kept(tmp_path: Path) -> None:
    for _ in range(KEPT_ASIDE + 2):
        (tmp_path / "outbox.sqlite3").write_bytes(b"damaged" * 1000)
        Outbox.open(tmp_path, 16 * MIB, ORIGIN).close()
    assert len(list(tmp_path.glob("outbox.damaged-*.sqlite3"))) == KEPT_ASIDE


def test_what_is_still_on_the_host_is_collected_anew(site: Site, peer: Peer) -> None:
    site.configure(peer.url)
    name = site.pstore(1)
    assert site.once().returncode == 0
    (site.state / "outbox.sqlite3").write_bytes(random.Random(1).randbytes(50_000))
    again = site.once()
    assert again.returncode == 0
    assert "set aside" in again.stderr
    assert "Traceback" not in again.stderr
    records = [event for event in peer.arrived if event.kind == "crash.record"]
    assert len(records) == 2
    assert all(name.encode() in bytes(record.body) for record in records)
    told = site.agent("status", "--config", site.config).stdout
    assert "set aside" in told


def test_damage_under_a_running_agent_is_mended(site: Site, peer: Peer) -> None:
    site.configure(peer.url, sources={"look_every_s": 0.2})
    site.pstore(1)
    with site.running() as agent:
        peer.wait_for(lambda: any(event.keep == "crash" for event in peer.arrived))
        for end in ("", "-wal"):
            file = Path(f"{site.state / 'outbox.sqlite3'}{end}")
            file.write_bytes(random.Random(2).randbytes(max(file.stat().st_size, 8192)))
        name = site.pstore(2)
        peer.wait_for(lambda: any(name.encode() in bytes(event.body) for event in peer.arrived))
    assert agent.returncode == 0
    assert "set aside" in site.log
    assert "Traceback" not in site.log

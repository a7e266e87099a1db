"""The agent is killed at random points of its life, again and again, while the host goes on dying: in the end
the analyzer has every crash record exactly once.
"""

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard
from sqlalchemy import select
from tests.conftest import Analyzer
from tests.killing import written

from necropsy_agent import wire
from necropsy_analyzer.store import schema
from necropsy_analyzer.store.store import Store, sqlite_url

from .conftest import BIN, Site, environment

ROUNDS = 60
LONGEST_LIFE_S = 1.3  # from exec to the first look it takes 0.3 s here, to the first acknowledgement 0.8 s
LAST_LOOKS = 20

pytestmark = pytest.mark.kill


@pytest.fixture
def chance() -> random.Random:
    """Randomness that can be had again: NECROPSY_SEED in the environment; the seed is printed on failure."""
    seed = os.environ.get("NECROPSY_SEED") or os.urandom(4).hex()
    print(f"NECROPSY_SEED={seed}")
    return random.Random(seed)


class Dying:
    """A host that leaves crash records, one of three kinds at a time, and remembers which."""

    def __init__(self, site: Site, chance: random.Random) -> None:
        self._site = site
        self._chance = chance
        self._log = site.write("dev/kmsg", "6,0,1,-;Linux version 6.1.0\n")
        self._number = 0
        self.left: list[str] = []

    def dies(self) -> None:
        """Leave one more record. What names it appears nowhere else."""
        self._number += 1
        number = self._number
        name = f"mark-{number}-{self._chance.getrandbits(32):08x}"
        size = self._chance.choice([0, 100, 20_000])
        text = f"Kernel panic - not syncing: {name} {self._chance.randbytes(size).hex()}"
        match self._chance.choice(["pstore", "kdump", "kmsg"]):
            case "pstore":
                self._site.pstore(number, text)
            case "kdump":
                stamp = f"20261124{number:06d}"
                self._site.write(f"var/crash/{stamp}/dmesg.{stamp}", f"[    1.000000] {text}\n")
            case _:
                with self._log.open("a") as log:
                    log.write(f"0,{number},{number * 1_000_000},-;{text[:900]}\n")
        self.left.append(name)


def _arrived(state: Path) -> Iterator[str]:
    """Give the mark of every crash record in the analyzer's store, as often as it is there."""
    store = Store.open(sqlite_url(state))
    with store.read() as connection:
        rows = connection.execute(select(schema.events.c.kind, schema.events.c.body)).all()
    store.close()
    for kind, packed in rows:
        body = zstandard.decompress(packed)
        if kind == "crash.record":
            record = msgspec.json.decode(body, type=wire.CrashRecord)
            text = b"".join(part.blob.content() for part in record.parts).decode()
        elif kind == "kernel.log":
            text = "\n".join(msgspec.json.decode(body, type=wire.KernelLog).records)
        else:
            continue
        yield from re.findall(r"mark-\d+-[0-9a-f]{8}", text)


def test_every_crash_record_arrives_once(site: Site, analyzer: Analyzer, chance: random.Random) -> None:
    analyzer.start()
    (site.folder / "token").write_text(analyzer.enroll("node1"))
    site.configure(
        analyzer.url,
        sources={"look_every_s": 0.1, "crash_quiet_s": 0},
        ship={"batch_events": 3, "routine_wait_s": 0},
    )
    host = Dying(site, chance)
    for _ in range(ROUNDS):
        host.dies()
        with (site.folder / "agent.log").open("ab") as log:
            agent = subprocess.Popen(
                [BIN / "necropsy-agent", "run", "--config", site.config],
                stderr=log, env=environment(), start_new_session=True,
            )  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            agent.wait(chance.uniform(0, LONGEST_LIFE_S / 3))
        host.dies()
        due = (
            written(site.state / "outbox.sqlite3-wal", chance.randint(1, 12))
            if chance.random() < 0.5
            else lambda: False
        )
        until_s = time.monotonic() + chance.uniform(0, LONGEST_LIFE_S)
        while time.monotonic() < until_s and not due():
            time.sleep(0.0002)
        host.dies()
        if chance.random() < 0.3:
            agent.kill()  # its shipper goes on, and meets the next agent's
        else:
            os.killpg(agent.pid, signal.SIGKILL)
        assert agent.wait() == -signal.SIGKILL, site.log
    for _ in range(LAST_LOOKS):
        last = site.once()
        if last.returncode == 0:
            break
    assert last.returncode == 0, last.stderr
    assert analyzer.stop() == 0
    arrived = Counter(_arrived(analyzer.state))
    assert sorted(set(host.left) - set(arrived)) == [], "lost"
    assert {mark: n for mark, n in arrived.items() if n > 1} == {}, "arrived more than once"
    assert len(host.left) == 3 * ROUNDS
    assert "Traceback" not in site.log
    assert "set aside" not in site.log, "a kill damages nothing"
    told = site.agent("status", "--config", site.config).stdout
    assert re.search(r"^dropped +nothing$", told, re.MULTILINE)

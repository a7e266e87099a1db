"""The analyzer is killed at random points of its life, again and again, while agents' shippers send crash
records: in the end each is there exactly once, and each death has its verdict.
"""

import os
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select, text
from tests.conftest import NOW_NS, Analyzer
from tests.killing import written

from necropsy_agent import shipper
from necropsy_agent.config import Server, ShipConfig
from necropsy_agent.outbox import Origin, Outbox
from necropsy_agent.shipper import Job
from necropsy_agent.sources import Found
from necropsy_agent.wire import Blob, CrashPart, CrashRecord, host_id
from necropsy_analyzer.store import schema
from necropsy_analyzer.store.store import Store, sqlite_url

ROUNDS = 60
FRESH_ROUNDS = 12
RECORDS = 4
LONGEST_START_S = 0.6  # it listens after 0.4 s here
LONGEST_LIFE_S = 0.7
OUTBOX_BYTES = 256 << 20

pytestmark = pytest.mark.kill


@pytest.fixture
def chance() -> random.Random:
    """Randomness that can be had again: NECROPSY_SEED in the environment; the seed is printed on failure."""
    seed = os.environ.get("NECROPSY_SEED") or os.urandom(4).hex()
    print(f"NECROPSY_SEED={seed}")
    return random.Random(seed)


@dataclass
class Agent:
    """A host's outbox and shipper."""

    folder: Path
    machine: str
    job: Job
    deaths: list[str] = field(default_factory=list)

    def dies(self, chance: random.Random) -> None:
        """Leave some crash records in the outbox, each of a boot of its own."""
        outbox = Outbox.open(self.folder, OUTBOX_BYTES, Origin(host_id(self.machine), "f" * 32))
        for _ in range(RECORDS):
            boot = f"{chance.getrandbits(128):032x}"
            log = (
                f"<4>[   12.345678] noise {chance.randbytes(chance.choice([10, 5_000])).hex()}\n"
                "<1>[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000018\n"
                "<0>[   12.345790] Kernel panic - not syncing: Fatal exception\n"
            )
            part = CrashPart(name="dmesg-efi-1", blob=Blob.of(log.encode()))
            record = CrashRecord(origin="pstore", path="/sys/fs/pstore", key=boot, died_wall_ns=NOW_NS,
                                 parts=(part,))  # fmt: skip
            outbox.take("pstore", [Found(body=record, keep="crash", key=boot, of_boot=boot)])
            self.deaths.append(boot)
        outbox.close()

    def ships(self) -> bool:
        """Send what waits; say whether nothing waits any more."""
        return shipper.run(self.job) == shipper.EMPTY

    def delivered(self) -> set[str]:
        """Name the records that the analyzer has acknowledged."""
        outbox = Outbox.open(self.folder, OUTBOX_BYTES, Origin(host_id(self.machine), "f" * 32))
        assert outbox.fill().events == 0
        keys = {key for _, key in outbox.acknowledged()}
        outbox.close()
        return keys


def _agent(analyzer: Analyzer, folder: Path, number: int) -> Agent:
    folder.mkdir()
    token = folder / "token"
    token.write_text(analyzer.enroll(f"node{number}"))
    machine = f"{number:032x}"
    server = Server(url=analyzer.url, token_file=str(token), timeout_s=20)
    job = Job(state_dir=str(folder), host=host_id(machine), server=server, ship=ShipConfig(batch_events=3))
    agent = Agent(folder, machine, job)
    Outbox.open(folder, OUTBOX_BYTES, Origin(job.host, "f" * 32)).close()
    return agent


def _never() -> bool:
    return False


def test_every_crash_record_is_there_once_and_has_its_verdict(
    analyzer: Analyzer, tmp_path: Path, chance: random.Random
) -> None:
    analyzer.start()
    agents = [_agent(analyzer, tmp_path / f"agent{number}", number) for number in (1, 2)]
    analyzer.kill()
    for turn in range(ROUNDS):
        agents[turn % 2].dies(chance)
        if turn % 4 == 0:
            with analyzer.killed_when(_never, chance.uniform(0, LONGEST_START_S)):
                said = analyzer.begin()
                for agent in agents if said else ():
                    agent.ships()
            continue
        # Its life is counted from when it listens, so that a busy machine shortens none of these rounds.
        analyzer.start()
        due = written(analyzer.wal, chance.randint(1, 16)) if chance.random() < 0.6 else _never
        with analyzer.killed_when(due, chance.uniform(0, LONGEST_LIFE_S)):
            for agent in agents:
                agent.ships()
    analyzer.start()
    for agent in agents:
        while not agent.ships():
            pass
        assert agent.delivered() == set(agent.deaths)
    incidents = analyzer.diagnosed()
    died = sorted(boot for agent in agents for boot in agent.deaths)
    assert sorted(incident["boot"] for incident in incidents) == died
    assert all(incident["revision"] >= 1 and incident["mechanism"] for incident in incidents)
    assert analyzer.stop() == 0
    store = Store.open(sqlite_url(analyzer.state))
    with store.read() as connection:
        assert sorted(connection.execute(select(schema.events.c.of_boot)).scalars()) == died
        events = connection.execute(select(schema.batches.c.events, schema.batches.c.duplicates)).all()
        assert sum(row.events - row.duplicates for row in events) == len(died)
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    store.close()
    assert not re.search("Traceback|ERROR", analyzer.log)


def test_a_store_that_was_being_made_can_be_used(tmp_path: Path, chance: random.Random) -> None:
    for turn in range(FRESH_ROUNDS):
        (tmp_path / str(turn)).mkdir()
        analyzer = Analyzer(tmp_path / str(turn))
        due = written(analyzer.wal, chance.randint(1, 60)) if chance.random() < 0.5 else _never
        with analyzer.killed_when(due, chance.uniform(0.1, 0.8)):
            analyzer.begin()
        store = Store.open(sqlite_url(analyzer.state))
        with store.write() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
            assert found == [schema.HEAD]
        store.close()

"""A verdict is made when evidence has arrived and again when more has; what fails is tried again."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import NOW_NS, Sender

from necropsy_agent.records import pstore
from necropsy_agent.wire import Boot, Event, HardwareEvent, KernelLog, VmcoreReport
from necropsy_analyzer.cli.knowledge import rule_folders
from necropsy_analyzer.evidence.knowledge import Knowledge, load_knowledge
from necropsy_analyzer.incident.case import ARTIFACT_BYTES, HARDWARE_EVENTS, case_of
from necropsy_analyzer.incident.kernel_text import kernel_text
from necropsy_analyzer.incident.worker import Worker
from necropsy_analyzer.ingest.decode import decode
from necropsy_analyzer.store import batches, hosts, incidents, work
from necropsy_analyzer.store.body import Limits
from necropsy_analyzer.store.store import Store

CRASHES = Path(__file__).parents[2] / "fixtures" / "crashes"
DIED, NEXT = "a" * 32, "b" * 32


@cache
def _knowledge() -> Knowledge:
    return load_knowledge(rule_folders(), None)


@pytest.fixture
def arrive(store: Store, sender: Sender) -> Callable[..., None]:
    """Store events as ingest does."""
    with store.write() as connection:
        hosts.enroll(connection, "node1", labels={}, now_ns=1)

    def stored(*events: Event) -> None:
        with store.write() as connection:
            batches.add(connection, 1, decode(sender.lines(*events), "identity", Limits()), now_ns=NOW_NS)

    return stored


def _revisions(store: Store, number: int) -> list[incidents.Revision]:
    with store.read() as connection:
        return list(incidents.every_revision(connection, number))


def _unclean(sender: Sender) -> Event:
    body = Boot(release="6.1", started_wall_ns=NOW_NS, previous=DIED, end="unclean",
                previous_seen_wall_ns=NOW_NS - 10**11)  # fmt: skip
    return sender.event(body, boot=NEXT)


def _record(sender: Sender, crash: str) -> Event:
    """Make the event of a recorded crash's last pstore record."""
    record = pstore.read(CRASHES / crash / "host/sys/fs/pstore")[-1]
    return sender.event(record, boot=NEXT, of_boot=DIED)


def test_a_silent_end_becomes_a_crash_when_its_record_arrives(
    store: Store, sender: Sender, arrive: Callable[..., None]
) -> None:
    worker = Worker(store, _knowledge)
    boot = _unclean(sender)
    arrive(boot)
    assert worker.do_due() == 1
    (silent,) = _revisions(store, 1)
    assert (silent.verdict.cause, silent.verdict.mechanism) == ("unknown.silent", "reset_no_log")
    assert (silent.verdict.fatal, silent.verdict.crashed) == (True, False)
    record = _record(sender, "null-deref@6.1")
    arrive(record)
    worker.do_due()
    first, told = _revisions(store, 1)
    assert first == silent
    assert (told.verdict.mechanism, told.verdict.fatal) == ("null_deref", True)
    assert told.made_of == tuple(sorted((boot.id, record.id)))
    assert worker.do_due() == 0
    arrive(msgspec.structs.replace(record, id=sender.event(Boot(release="", started_wall_ns=1)).id))
    worker.do_due()
    assert len(_revisions(store, 1)) == 3, "what a verdict stands on is said, also where it changes nothing"


def test_a_verdict_is_the_same_whichever_evidence_came_first(store: Store, sender: Sender) -> None:
    boot, record = _unclean(sender), _record(sender, "oops-aftershocks@6.1")
    verdicts = []
    for row, told in enumerate(([boot, record], [record, boot]), 1):
        machine = f"{row:032x}"
        with store.write() as connection:
            hosts.enroll(connection, f"node{row}", labels={}, now_ns=1)
        for event in told:
            body = sender.lines(msgspec.structs.replace(event, host=machine), host=machine)
            with store.write() as connection:
                batches.add(connection, row, decode(body, "identity", Limits()), now_ns=NOW_NS)
            Worker(store, _knowledge).do_due()
        verdicts.append(_revisions(store, row)[-1].verdict)
    assert msgspec.structs.replace(verdicts[0], input="") == msgspec.structs.replace(verdicts[1], input="")


def test_what_cannot_be_diagnosed_now_waits_and_is_tried_again(
    store: Store, sender: Sender, arrive: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Knowledge:
        raise OSError("the rules cannot be read")

    arrive(_unclean(sender))
    assert Worker(store, broken).do_due() == 1
    assert "the rules cannot be read" in caplog.text
    with store.write() as connection:
        assert work.waiting(connection) == 1
        (due,) = work.claim(connection, "other", now_ns=NOW_NS * 2, limit=9)
        assert due.attempts == 1
    stuck = Worker(store, _knowledge)
    assert stuck.do_due() == 0, "another worker has it"
    with store.write() as connection:
        work.release_all(connection)
        work.add(connection, 1, now_ns=NOW_NS)
    assert stuck.do_due() == 1
    assert _revisions(store, 1)[0].verdict.mechanism == "reset_no_log"


def test_a_running_worker_is_woken_and_stopped(
    store: Store, sender: Sender, arrive: Callable[..., None]
) -> None:
    worker = Worker(store, _knowledge)
    worker.start()
    arrive(_unclean(sender))
    worker.wake()
    until_s = time.monotonic() + 60
    while not _revisions(store, 1) and time.monotonic() < until_s:
        pass
    assert worker.stop(60)
    assert len(_revisions(store, 1)) == 1


NOISE = st.binary(max_size=60).map(lambda noise: {"text": noise.decode("latin-1")}) | st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner, max_size=3)
)


@given(
    told=st.lists(
        st.tuples(
            st.sampled_from(
                ["crash.record", "vmcore.report", "kernel.log", "hardware.event", "boot", "new.kind"]
            ),
            NOISE,
        )
    )
)
@settings(max_examples=150, deadline=None)
def test_a_case_is_made_of_any_events(told: list[tuple[str, Any]]) -> None:
    sender = Sender()
    events = [
        msgspec.structs.replace(sender.crash(), kind=kind, body=msgspec.Raw(msgspec.json.encode(body)))
        for kind, body in told
    ]
    case = case_of("node1", DIED, [*events, sender.crash("whole\n")])
    assert case.artifacts[0].data == b"whole\n"
    assert case.input.isprintable()


def test_a_case_holds_what_was_said_within_bounds(sender: Sender) -> None:
    hardware = [
        sender.event(HardwareEvent(source="ras", component="memory", severity="corrected", last_wall_ns=n))
        for n in range(HARDWARE_EVENTS + 5)
    ]
    log = sender.event(KernelLog(records=("3,7,2000000,-;late", "4,6,1000000,-;early"), lost=2, fault=True))
    vmcore = sender.event(VmcoreReport(path="/var/crash/1/vmcore", format="elf", size_bytes=9, release="6.1"))
    large = sender.crash("x" * (ARTIFACT_BYTES + 10) + "\nend\n")
    case = case_of("node1", "before:" + NEXT, [*hardware, log, vmcore, large, _unclean(sender)])
    assert len(case.hardware) == HARDWARE_EVENTS
    assert case.hardware[-1].last_wall_ns == HARDWARE_EVENTS + 4
    assert case.vmcores[0].release == "6.1"
    assert case.boot is not None
    record, text = case.artifacts
    assert record.data.endswith(b"\nend\n")
    assert len(record.data) == ARTIFACT_BYTES
    assert text.data == b"<4>[    1.000000] early\n<3>[    2.000000] late\n"
    assert any("overwrote 2 records" in line for line in case.damage)
    assert case.input == f"node1, before boot {NEXT[:8]}"


@pytest.mark.parametrize(
    ("records", "text", "damage"),
    [
        ((), b"", 0),
        (("6,1,0,-;a", "6,1,0,-;a", "6,3,0,-;c", "6,2,0,-;b"), b"<6>[    0.000000] a\n<6>[    0.000000] b\n"
         b"<6>[    0.000000] c\n", 0),
        (("30,5,12345678901,-;daemon",), b"<6>[12345.678901] daemon\n", 0),
        (("4,1,1,-,caller=T123;task",), b"<4>[    0.000001][   T123] task\n", 0),
        (("4,1,1,c,caller=C1,later=x;cpu",), b"<4>[    0.000001][     C1] cpu\n", 0),
        (("6,1,0,-;head\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:1f.2",), b"<6>[    0.000000] head\n", 0),
        ((r"6,1,0,-;tab\x09back\x5cslash\x1b[31m",), b"<6>[    0.000000] tab\tback\\slash\\x1b[31m\n", 0),
        (("nonsense", "6,x,0,-;y", "", "6,1"), b"", 1),
    ],
)  # fmt: skip
def test_records_become_the_text_that_dmesg_prints(
    records: tuple[str, ...], text: bytes, damage: int
) -> None:
    found, told = kernel_text([KernelLog(records=records)])
    assert found == text
    assert len(told) == damage

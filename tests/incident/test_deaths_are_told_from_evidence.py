"""Which boot died is told from all of a host's evidence, the same whatever the order in which it came."""

import random
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import NOW_NS, Sender

from necropsy_agent.wire import Boot, Event, HardwareEvent, KernelLog, VmcoreReport
from necropsy_analyzer.incident.deaths import deaths
from necropsy_analyzer.incident.sync import sync
from necropsy_analyzer.store import batches, hosts, incidents
from necropsy_analyzer.store.store import Store

MINUTE_NS = 60 * 10**9
A, B, C = "a" * 32, "b" * 32, "c" * 32


def _boot(sender: Sender, boot: str, minute: int, **told: Any) -> Event:
    body = Boot(release="6.1", started_wall_ns=NOW_NS + minute * MINUTE_NS, **told)
    return sender.event(body, boot=boot)


def _at(minute: int) -> int:
    return NOW_NS + minute * MINUTE_NS


@dataclass(frozen=True)
class Story:
    """What a host sent, and which deaths that is: boots, each with how many pieces of evidence."""

    name: str
    sent: list[Event]
    died: dict[str, int]


def _stories() -> list[Story]:
    s = Sender()
    hardware = HardwareEvent(source="ras", component="memory", severity="corrected")
    fatal = HardwareEvent(source="bert", component="cpu", severity="fatal")
    window = KernelLog(records=("6,1,1,-;x",), fault=True)
    vmcore = VmcoreReport(path="/var/crash/x/vmcore", format="elf", size_bytes=1, crash_wall_ns=_at(-5))
    unclean = {"previous": A, "end": "unclean", "previous_seen_wall_ns": _at(-6)}
    return [
        Story("a clean boot", [_boot(s, B, 0, previous=A, end="clean")], {}),
        Story("an end nobody knows of", [_boot(s, B, 0, previous=A)], {}),
        Story("an unclean end without a record", [_boot(s, B, 0, **unclean)], {A: 1}),
        Story("an unclean end of a boot without a name", [_boot(s, B, 0, end="unclean")], {f"before:{B}": 1}),
        Story("a record that names its boot", [s.crash(of_boot=A)], {A: 1}),
        Story("a record and a boot", [s.crash(of_boot=A), _boot(s, B, 0, **unclean)], {A: 2}),
        Story("a record that knows nothing, after an unclean end",
              [s.crash(), _boot(s, B, 0, **unclean)], {A: 2}),
        Story("a record that knows nothing, boot not heard of", [s.crash()], {f"before:{B}": 1}),
        Story(
            "a record that knows nothing, after a clean end",
            [s.crash(), _boot(s, B, 0, previous=A, end="clean")],
            {f"found:{B}": 1},
        ),
        Story(
            "a record made just before an unclean boot",
            [s.crash(died_wall_ns=_at(-5)), _boot(s, B, 0, **unclean)],
            {A: 2},
        ),
        Story(
            "an old record beside the new one",
            [s.crash(died_wall_ns=_at(-5)), s.crash(died_wall_ns=_at(-9000)), _boot(s, B, 0, **unclean)],
            {A: 2, f"died:{_at(-9000) // 10**9}": 1},
        ),
        Story(
            "an oops that the running boot survived",
            [s.crash(died_wall_ns=_at(3)), _boot(s, B, 0, previous=A, end="clean")],
            {B: 1},
        ),
        Story(
            "a record between two boots that are known",
            [s.crash(died_wall_ns=_at(30), boot=C), _boot(s, B, 0, previous=A, end="clean"),
             _boot(s, C, 60, previous=B, end="unclean", previous_seen_wall_ns=_at(29))],
            {B: 2},
        ),
        Story(
            "an older record between two boots, the last of which ended later",
            [s.crash(died_wall_ns=_at(5), boot=C), _boot(s, B, 0, previous=A, end="clean"),
             _boot(s, C, 90, previous=A, end="unclean", previous_seen_wall_ns=_at(80))],
            {B: 1, A: 1},
        ),
        Story(
            "an oops and the panic after it, in no boot that is known",
            [s.crash(died_wall_ns=_at(0)), s.crash(died_wall_ns=_at(1)), s.crash(died_wall_ns=_at(30))],
            {f"died:{_at(0) // 10**9}": 2, f"died:{_at(30) // 10**9}": 1},
        ),
        Story("a vmcore and a record of one death",
              [s.event(vmcore), s.crash(died_wall_ns=_at(-5)), _boot(s, B, 0, **unclean)], {A: 3}),
        Story("a fault window of the running boot", [s.event(window, keep="fault")], {B: 1}),
        Story("windows of a boot that then died",
              [s.event(window, boot=A), s.event(window, boot=A), _boot(s, B, 0, **unclean)], {A: 3}),
        Story("corrected errors alone", [s.event(hardware, keep="fault")], {}),
        Story("corrected errors before a death",
              [s.event(hardware, boot=A), s.event(hardware, boot=C), _boot(s, B, 0, **unclean)], {A: 2}),
        Story("a fatal hardware event", [s.event(fatal)], {B: 1}),
        Story("a clean boot after a record of the boot before",
              [s.crash(of_boot=A), _boot(s, B, 0, previous=A, end="clean")], {A: 2}),
        Story("kinds nobody knows", [msgspec.structs.replace(s.crash(), kind="quantum.flux")], {}),
        Story("a record whose body does not fit",
              [msgspec.structs.replace(s.crash(), body=msgspec.Raw(b"[1]"))], {f"before:{B}": 1}),
        Story("a boot told of twice, the second time without memory",
              [_boot(s, B, 0, **unclean), _boot(s, B, 0)], {A: 1}),
    ]  # fmt: skip


STORIES = _stories()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_story_has_its_deaths_in_any_order(story: Story) -> None:
    for turn in range(4):
        rows = list(enumerate(story.sent, 1))
        random.Random(turn).shuffle(rows)
        assert {death.boot: len(death.members) for death in deaths(rows)} == story.died


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_evidence_is_lost_or_used_twice(data: st.DataObject) -> None:
    sent = data.draw(st.lists(st.sampled_from([e for story in STORIES for e in story.sent]), unique_by=id))
    found = deaths(list(enumerate(sent, 1)))
    rows = [member.row for death in found for member in death.members]
    assert len(rows) == len(set(rows))
    assert len({death.boot for death in found}) == len(found)
    records = {row for row, event in enumerate(sent, 1) if event.kind in ("crash.record", "vmcore.report")}
    assert records <= set(rows)


def _receive(store: Store, sender: Sender, *events: Event) -> dict[str, int]:
    """Store a batch as ingest does, and give the incidents by boot."""
    from necropsy_analyzer.ingest.decode import decode
    from necropsy_analyzer.store.body import Limits

    with store.write() as connection:
        batches.add(connection, 1, decode(sender.lines(*events), "identity", Limits()), now_ns=NOW_NS)
        sync(connection, 1, now_ns=NOW_NS)
        return {one.boot: one.id for one in incidents.of_host(connection, 1)}


@pytest.fixture
def host(store: Store) -> int:
    with store.write() as connection:
        hosts.enroll(connection, "node1", labels={}, now_ns=1)
    return 1


@pytest.mark.usefixtures("host")
def test_an_incident_keeps_its_number_when_its_boot_becomes_known(store: Store, sender: Sender) -> None:
    first = _receive(store, sender, sender.crash())
    assert first == {f"before:{B}": 1}
    assert _receive(store, sender, _boot(sender, B, 0, previous=A, end="unclean")) == {A: 1}


@pytest.mark.usefixtures("host")
def test_two_incidents_that_are_one_death_become_the_older(store: Store, sender: Sender) -> None:
    _receive(store, sender, sender.crash(of_boot=A))
    assert _receive(store, sender, sender.crash()) == {A: 1, f"before:{B}": 2}
    assert _receive(store, sender, _boot(sender, B, 0, previous=A, end="unclean")) == {A: 1}
    with store.read() as connection:
        merged = incidents.one(connection, 2)
        assert merged is not None
        assert merged.id == 1
        assert len(incidents.members(connection, 1)) == 3


@pytest.mark.usefixtures("host")
def test_incidents_are_the_same_whichever_order_evidence_came_in(store: Store) -> None:
    for story in STORIES:
        for turn in range(2):
            sent = list(story.sent)
            random.Random(turn).shuffle(sent)
            with store.write() as connection:
                name = f"h{STORIES.index(story)}-{turn}"
                hosts.enroll(connection, name, labels={}, now_ns=1)
                row = next(one.id for one in hosts.every(connection) if one.name == name)
                from necropsy_analyzer.ingest.decode import decode
                from necropsy_analyzer.store.body import Limits

                machine = f"{row:032x}"
                for event in sent:
                    single = msgspec.structs.replace(event, host=machine)
                    body = Sender().lines(single, host=machine)
                    batches.add(connection, row, decode(body, "identity", Limits()), now_ns=NOW_NS)
                    sync(connection, row, now_ns=NOW_NS)
                assert {one.boot for one in incidents.of_host(connection, row)} == story.died.keys(), (
                    story.name
                )

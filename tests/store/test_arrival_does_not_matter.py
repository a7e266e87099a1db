"""However the same events arrive, cut into batches, again, in any order, the store and the incidents are the
same, and an incident that was seen is never lost.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from tests.conftest import NOW_NS, Sender

from necropsy_agent import wire
from necropsy_agent.wire import Boot, Event, HardwareEvent, KernelLog, VmcoreReport
from necropsy_analyzer.incident.sync import sync
from necropsy_analyzer.ingest.decode import decode
from necropsy_analyzer.store import batches, evidence, hosts, incidents, schema, work
from necropsy_analyzer.store.body import Limits
from necropsy_analyzer.store.store import Store

MINUTE_NS = 60 * 10**9
ENDS: list[Literal["clean", "unclean", "unknown"]] = ["clean", "unclean", "unknown"]
BOOTS = [letter * 32 for letter in "abcde"]


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """Draw what a host told over a few boots: some ended badly, some left records, some came twice."""
    sender = Sender()
    told: list[Event] = []
    for n, boot in enumerate(BOOTS[1 : draw(st.integers(2, len(BOOTS)))], 1):
        began_ns = NOW_NS + n * 60 * MINUTE_NS
        end = draw(st.sampled_from(ENDS))
        previous = draw(st.sampled_from([BOOTS[n - 1], None]))
        seen_ns = draw(st.sampled_from([began_ns - 2 * MINUTE_NS, None]))
        start = Boot(release="6.1", started_wall_ns=began_ns, previous=previous, end=end,
                     previous_seen_wall_ns=seen_ns)  # fmt: skip
        told.append(sender.event(start, boot=boot, wall_ns=began_ns))
        if draw(st.booleans()):
            again = Boot(release="6.1", started_wall_ns=began_ns)
            told.append(sender.event(again, boot=boot, wall_ns=began_ns + MINUTE_NS))
        for kind in draw(st.lists(st.sampled_from(["timed", "named", "bare", "vmcore", "log", "corrected"]))):
            died_ns = began_ns - draw(st.sampled_from([1, 3, 20, 70, 4000])) * MINUTE_NS
            of_boot = draw(st.sampled_from([None, BOOTS[n - 1]]))
            if kind == "timed":
                told.append(sender.crash(died_wall_ns=died_ns, boot=boot))
            elif kind == "named":
                told.append(sender.crash(died_wall_ns=died_ns, boot=boot, of_boot=BOOTS[n - 1]))
            elif kind == "bare":
                told.append(sender.crash(boot=boot))
            elif kind == "vmcore":
                body = VmcoreReport(path="/v", format="elf", size_bytes=1, crash_wall_ns=died_ns)
                told.append(sender.event(body, boot=boot, of_boot=of_boot))
            elif kind == "log":
                told.append(sender.event(KernelLog(records=("3,1,1,-;x",), fault=True), boot=boot))
            else:
                hardware = HardwareEvent(source="ras", component="memory", severity="corrected")
                told.append(sender.event(hardware, boot=boot, keep="fault"))
    health = wire.AgentHealth(
        version="1", uptime_ns=1, resident_bytes=1, cpu_ns=1, outbox_events=0, outbox_bytes=0
    )
    told.append(sender.event(health, keep="routine"))
    return told


def _arrivals(draw: Callable[[Any], Any], told: list[Event]) -> list[list[Event]]:
    """Cut events into batches in some order, some of them more than once."""
    order = [*draw(st.permutations(told)), *draw(st.lists(st.sampled_from(told), max_size=6))]
    cut: list[list[Event]] = []
    while order:
        take = draw(st.integers(1, 6))
        cut.append(list({event.id: event for event in order[:take]}.values()))
        del order[:take]
    return cut


def _emptied(store: Store) -> None:
    with store.write() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            connection.execute(delete(table))
        hosts.enroll(connection, "node1", labels={}, now_ns=1)


def _received(store: Store, cut: list[list[Event]], synced: Callable[[], bool]) -> dict[str, list[str]]:
    """Store batches, with a look at the incidents here and there; give the evidence of each incident."""
    _emptied(store)
    seen: set[int] = set()
    machine = Sender()
    for n, some in enumerate(cut):
        body = machine.lines(*some)
        with store.write() as connection:
            added = batches.add(connection, 1, decode(body, "identity", Limits()), now_ns=n)
            assert added.accepted + added.duplicates == len(some)
        with store.write() as connection:
            again = batches.add(connection, 1, decode(body, "identity", Limits()), now_ns=n)
            assert again.accepted == 0
            if synced():
                seen |= {one.incident for one in sync(connection, 1, now_ns=n)}
    with store.write() as connection:
        opened = sync(connection, 1, now_ns=len(cut))
        assert len({one.incident for one in opened}) == len(opened)
        listed = {one.id for one in incidents.of_host(connection, 1)}
        assert listed == {one.incident for one in opened}
        for number in seen:
            now = incidents.one(connection, number)
            assert now is not None
            assert now.id in listed
        return {one.death.boot: sorted(evidence.ids_of(connection, one.incident).values()) for one in opened}


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_events_give_the_same_incidents(store: Store, data: st.DataObject) -> None:
    told = data.draw(lives())
    expected = _received(store, [[event] for event in told], lambda: False)
    assert _received(store, _arrivals(data.draw, told), lambda: data.draw(st.booleans())) == expected
    with store.read() as connection:
        kept = {one.event.id for one in evidence.of_host(connection, 1)}
    assert kept == {event.id for event in told if event.keep != "routine"}
    records = {event.id for event in told if event.kind in ("crash.record", "vmcore.report")}
    assert records <= {one for ids in expected.values() for one in ids}


NOISE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TIMES = st.sampled_from([0, -1, 1, NOW_NS, (1 << 63) - 1, 1 << 63, 10**30])
TOLD = st.fixed_dictionaries(
    {},
    optional={
        "died_wall_ns": TIMES | NOISE, "crash_wall_ns": TIMES, "started_wall_ns": TIMES | NOISE,
        "previous_seen_wall_ns": TIMES, "end": st.sampled_from(["clean", "unclean", "unknown", "odd"]),
        "previous": st.sampled_from(["now:1", "merged:1", "a" * 32, "", "\0", "\x1b[3m", "x" * 9999]) | NOISE,
        "release": NOISE | st.text(), "severity": st.sampled_from(["fatal", "corrected", ""]) | NOISE,
        "records": NOISE, "parts": NOISE, "log": NOISE, "source": st.text(), "component": st.text(),
        "path": st.text(), "key": st.text(), "origin": st.sampled_from(["pstore", "x"]),
        "format": st.text(), "size_bytes": TIMES,
    },
)  # fmt: skip


@given(
    sent=st.lists(
        st.tuples(
            st.sampled_from(["crash.record", "vmcore.report", "kernel.log", "hardware.event", "boot"]),
            st.sampled_from(BOOTS),
            st.sampled_from([None, "a" * 32, "died.1"]),
            TOLD | NOISE,
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_host_says_of_itself_its_incidents_are_made(store: Store, sent: list[Any]) -> None:
    sender = Sender()
    crash = sender.crash()
    told = [
        msgspec.structs.replace(
            sender.crash(), kind=kind, boot=boot, of_boot=of_boot, body=msgspec.Raw(msgspec.json.encode(body))
        )
        for kind, boot, of_boot, body in sent
    ]
    found = _received(store, [told, [crash]], lambda: True)
    assert crash.id in {one for ids in found.values() for one in ids}


def test_a_host_is_due_until_all_that_came_was_looked_at(store: Store, sender: Sender) -> None:
    _emptied(store)

    def arrive() -> None:
        with store.write() as connection:
            batch = decode(sender.lines(sender.crash()), "identity", Limits())
            batches.add(connection, 1, batch, now_ns=NOW_NS)

    def claim(owner: str, now_ns: int) -> tuple[work.Claim, ...]:
        with store.write() as connection:
            return work.claim(connection, owner, now_ns=now_ns, limit=9)

    def told(what: Callable[..., Any], held: work.Claim, **when: int) -> Any:
        with store.write() as connection:
            return what(connection, held, **when)

    assert claim("a", NOW_NS) == ()
    arrive()
    (held,) = claim("a", NOW_NS)
    assert claim("b", NOW_NS) == (), "one worker at a time"
    arrive()
    told(work.done, held)
    (held,) = claim("b", NOW_NS)
    assert held.arrivals == 2, "what came while it was looked at is looked at again"
    (stolen,) = claim("c", NOW_NS + work.LEASE_NS + 1)
    assert told(work.extend, held, now_ns=NOW_NS) is False
    told(work.done, held)
    assert told(work.extend, stolen, now_ns=NOW_NS + work.LEASE_NS + 1) is True
    told(work.failed, stolen, now_ns=NOW_NS)
    assert claim("c", NOW_NS) == (), "a failure is not tried again at once"
    (held,) = claim("c", NOW_NS + 10**9)
    assert held.attempts == 1
    assert claim("c", NOW_NS + 10**9) == (held,), "what its owner left half way it finds again"
    told(work.done, held)
    with store.read() as connection:
        assert work.waiting(connection) == 0


@pytest.mark.parametrize("count", [1, 1500])
def test_an_incident_has_as_much_evidence_as_came(store: Store, sender: Sender, count: int) -> None:
    _emptied(store)
    hardware = HardwareEvent(source="ras", component="memory", severity="corrected")
    told = [sender.event(hardware, keep="fault", boot="a" * 32) for _ in range(count)]
    found = _received(store, [[*told, sender.crash(of_boot="a" * 32)]], lambda: False)
    assert {boot: len(ids) for boot, ids in found.items()} == {"a" * 32: count + 1}

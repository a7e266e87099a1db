"""What travels is given back as it was sent, unknown things included, and names no host by its raw id."""

import hashlib
import hmac
import time
import uuid
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from necropsy_agent import wire
from necropsy_agent.wire import Ack, BatchHead, Blob, Body, CrashPart, CrashRecord, Event, KernelLog

MACHINE = "0123456789abcdef0123456789abcdef"


# Ids


def test_event_ids_are_ordered_by_time() -> None:
    walls_ns = [0, 10**6, 2 * 10**6, 10**15, 1_795_000_000 * 10**9, 1_795_000_000 * 10**9 + 10**6, 2**62]
    ids = [wire.event_id(wall_ns) for wall_ns in walls_ns]
    assert ids == sorted(ids)
    assert wire.event_id() > wire.event_id(time.time_ns() - 10**9)


def test_event_ids_of_one_moment_are_unique() -> None:
    assert len({wire.event_id(7) for _ in range(20_000)}) == 20_000


@given(st.integers(0, 2**63))
def test_event_id_is_a_uuid_version_7_of_its_millisecond(wall_ns: int) -> None:
    made = uuid.UUID(wire.event_id(wall_ns))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == wall_ns // 10**6 & (1 << 48) - 1


def test_host_id_is_derived_as_systemd_derives_application_ids() -> None:
    derived = wire.host_id(MACHINE + "\n")
    # sd_id128_get_machine_app_specific(3): HMAC-SHA256, its first half as a random UUID
    app = uuid.UUID("8a4e6ac2-21f5-4d4f-9a3c-0c0b6f3f2f5d").bytes
    digest = hmac.new(bytes.fromhex(MACHINE), app, hashlib.sha256).digest()[:16]
    assert derived == uuid.UUID(bytes=digest, version=4).hex
    assert derived == wire.host_id(MACHINE)


@given(st.binary(min_size=16, max_size=16))
def test_host_id_never_shows_the_machine_id(raw: bytes) -> None:
    derived = wire.host_id(raw.hex())
    assert len(derived) == 32
    assert not any(raw.hex()[at : at + 8] in derived for at in range(25))


@pytest.mark.parametrize("text", ["", "uninitialized\n", "0123", MACHINE + "00", "x" * 32])
def test_what_is_no_machine_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        wire.host_id(text)


# Bytes


@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_blob_gives_its_bytes_back(content: bytes) -> None:
    blob = Blob.of(content)
    assert blob.content() == content
    again = msgspec.json.decode(msgspec.json.encode(blob), type=Blob)
    assert again.content() == content


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\xef\xbb\xbfx", "caf\u00e9\n".encode(), b"\r\n", "\u2028".encode()]
)
def test_text_travels_as_text(content: bytes) -> None:
    assert Blob.of(content).data is None


@pytest.mark.parametrize("content", [b"\xff", b"\xc3", b"\xed\xa0\x80", "x".encode("utf-16")])
def test_what_is_no_text_travels_as_data(content: bytes) -> None:
    assert Blob.of(content).text is None


# Bodies and events


def event(of: Body, **fields: Any) -> Event:
    given: dict[str, Any] = {
        "id": wire.event_id(),
        "kind": wire.kind_of(of),
        "host": wire.host_id(MACHINE),
        "boot": "b" * 32,
        "seq": 1,
        "wall_ns": 1_795_000_000 * 10**9,
        "mono_ns": 10**9,
        "body": msgspec.Raw(wire.pack(of)),
    }
    return Event(**{**given, **fields})


SAMPLES: dict[str, Body] = {
    "kernel.log": KernelLog(records=("4,1,2,-;x\n SUBSYSTEM=pci",), lost=3, fault=True),
    "hardware.event": wire.HardwareEvent(
        source="edac", component="mc0", severity="fatal", fields={"a": 1, "b": 1.5}
    ),
    "device.change": wire.DeviceChange(action="remove", subsystem="nvme", devpath="/devices/x"),
    "boot": wire.Boot(release="6.1.0", started_wall_ns=1, previous="d" * 32, end="unclean", proof=("a", "b")),
    "crash.record": CrashRecord(
        origin="pstore",
        path="/sys/fs/pstore",
        key="pstore:erst:1",
        reason="Panic",
        died_wall_ns=2**63 - 1,
        complete=False,
        damage=("cut",),
        parts=(CrashPart(name="a", blob=Blob.of(b"\xff"), was="lzo"),),
    ),
    "vmcore.report": wire.VmcoreReport(path="/x", format="elf", size_bytes=2**50, log=Blob.of(b"x")),
    "recorder.samples": wire.RecorderSamples(
        start_wall_ns=1, interval_ns=10**9, columns={"psi": (1.0, None, 0.5)}
    ),
    "host.inventory": wire.HostInventory(
        hostname="h", release="r", architecture="x86_64", facts={"dmi.x": "y"}
    ),
    "agent.health": wire.AgentHealth(
        version="1",
        uptime_ns=1,
        resident_bytes=2,
        cpu_ns=3,
        outbox_events=4,
        outbox_bytes=5,
        dropped={"routine": 6},
        sources=(wire.SourceState(name="kmsg", state="failed", why="x", failed=1),),
    ),
}


def test_every_kind_is_sampled_here() -> None:
    assert set(SAMPLES) == set(wire.KINDS)


@pytest.mark.parametrize("kind", SAMPLES)
def test_body_of_every_kind_is_given_back(kind: str) -> None:
    sent = event(SAMPLES[kind])
    assert sent.kind == kind
    received = msgspec.json.decode(msgspec.json.encode(sent), type=Event)
    assert wire.unpack(received) == SAMPLES[kind]
    assert received == sent


@pytest.mark.parametrize("kind", SAMPLES)
def test_fields_of_a_newer_agent_are_passed_over_and_kept(kind: str) -> None:
    body = msgspec.json.decode(wire.pack(SAMPLES[kind]))
    newer = event(SAMPLES[kind], body=msgspec.Raw(msgspec.json.encode({**body, "novel": {"deep": [1]}})))
    assert wire.unpack(newer) == SAMPLES[kind]
    received = msgspec.json.decode(msgspec.json.encode(newer), type=Event)
    assert msgspec.json.decode(received.body)["novel"] == {"deep": [1]}


def test_kind_of_a_newer_agent_is_no_error_and_its_body_survives() -> None:
    newer = event(SAMPLES["boot"], kind="quantum.flux", body=msgspec.Raw(b'{"qubits": [1, 2.50, "x"]}'))
    received = msgspec.json.decode(msgspec.json.encode(newer), type=Event)
    assert wire.unpack(received) is None
    assert bytes(received.body) == b'{"qubits": [1, 2.50, "x"]}'


@pytest.mark.parametrize("body", [b"[]", b'{"records": 7}', b'{"lost": "x"}', b"null"])
def test_body_that_does_not_fit_its_kind_is_a_decoding_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        wire.unpack(event(KernelLog(), body=msgspec.Raw(body)))


# Batches


@given(st.lists(st.sampled_from(sorted(SAMPLES)), max_size=20))
def test_batch_is_given_back_line_by_line(kinds: list[str]) -> None:
    events = [event(SAMPLES[kind], seq=n + 1) for n, kind in enumerate(kinds)]
    head = BatchHead(
        wire=wire.WIRE_VERSION,
        id=wire.event_id(),
        host=wire.host_id(MACHINE),
        agent="0.1.0",
        count=len(events),
        sent_wall_ns=1,
    )
    body = zstandard.compress(msgspec.json.Encoder().encode_lines([head, *events]))
    first, *rest = zstandard.decompress(body).splitlines()
    assert msgspec.json.decode(first, type=BatchHead) == head
    assert [msgspec.json.decode(line, type=Event) for line in rest] == events
    assert len(rest) == head.count


def test_newline_in_a_record_does_not_break_the_lines_of_a_batch() -> None:
    sent = event(SAMPLES["kernel.log"])
    assert b"\n" not in msgspec.json.encode(sent)


def test_acknowledgement_of_a_newer_analyzer_is_understood() -> None:
    ack = msgspec.json.decode(b'{"batch": "x", "accepted": 2, "novel": 1}', type=Ack)
    assert (ack.accepted, ack.duplicates) == (2, 0)

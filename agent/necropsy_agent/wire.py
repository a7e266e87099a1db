"""What travels from agent to analyzer: events in batches, acknowledgements back.

In: Python values of the sources. Out: zstd-compressed NDJSON, a `BatchHead` line and then one `Event` a
line, and the analyzer's `Ack`. The schema is necropsy's own; `WIRE_VERSION` counts its incompatible
changes. Within a version fields and kinds are only added, so both sides keep what they do not know: an
event's `body` is raw JSON that nobody between source and incident looks into, and a batch is stored as it
was sent.
"""

import hashlib
import hmac
import os
import time
import uuid
from typing import Final, Literal

import msgspec

WIRE_VERSION: Final = 1
CONTENT_TYPE: Final = "application/x-ndjson"
INGEST_PATH: Final = f"/v{WIRE_VERSION}/batches"

Keep = Literal["crash", "fault", "routine"]
"""How long an event is worth its room: `routine` is dropped first where room ends, `crash` last."""

_APP_ID: Final = uuid.UUID("8a4e6ac2-21f5-4d4f-9a3c-0c0b6f3f2f5d").bytes


def host_id(machine_id: str) -> str:
    """Derive the host id from the text of /etc/machine-id: 32 hexadecimal digits.

    The same construction as sd_id128_get_machine_app_specific(3), HMAC-SHA256 keyed by the machine id over
    an application id and made a version 4 UUID, so the raw id never leaves the host.

    Raises ValueError where the text is no machine id (machine-id(5)).
    """
    key = bytes.fromhex(machine_id.strip())
    if len(key) != 16:
        raise ValueError("a machine id has 32 hexadecimal digits")
    digest = hmac.new(key, _APP_ID, hashlib.sha256).digest()[:16]
    return uuid.UUID(bytes=digest, version=4).hex


def event_id(wall_ns: int | None = None) -> str:
    """Make a time-ordered unique id: a UUID version 7 (RFC 9562 section 5.7) in its 36-character form."""
    wall_ms = (time.time_ns() if wall_ns is None else wall_ns) // 1_000_000
    value = (wall_ms & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one kind of event says. A subclass names its kind in `KINDS`."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a host saw.

    `host` is `host_id()`'s, `boot` the boot id (32 hexadecimal digits) in which it was collected, `of_boot`
    the boot it speaks of where that is another one and known (a crash record found after the reboot). `seq`
    counts the host's events from 1 over restarts and reboots; `wall_ns` and `mono_ns` are the time of
    collection (CLOCK_REALTIME, CLOCK_BOOTTIME).
    """

    id: str
    kind: str
    host: str
    boot: str
    of_boot: str | None = None
    seq: int
    wall_ns: int
    mono_ns: int
    keep: Keep = "routine"
    body: msgspec.Raw = msgspec.Raw(b"{}")


class BatchHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """First line of a batch. `id` stays the same over retries; `count` is the number of lines that follow."""

    wire: int
    id: str
    host: str
    agent: str
    count: int
    sent_wall_ns: int


class Ack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The analyzer has this batch on disk. `duplicates` counts its events that were there before."""

    batch: str
    accepted: int
    duplicates: int = 0


class Blob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes as they were read: `text` where they are UTF-8, else `data` (base64 in JSON)."""

    text: str | None = None
    data: bytes | None = None

    @classmethod
    def of(cls, content: bytes) -> "Blob":
        """Wrap `content` in whichever form gives it back byte for byte."""
        try:
            return cls(text=content.decode("utf-8"))
        except UnicodeDecodeError:
            return cls(data=content)

    def content(self) -> bytes:
        """Give the bytes back."""
        return self.data if self.data is not None else (self.text or "").encode("utf-8")


class KernelLog(Body, frozen=True, kw_only=True, omit_defaults=True):
    """Kernel log records in their order, each as /dev/kmsg gave it (Documentation/ABI/testing/dev-kmsg).

    A record is `prefix,sequence,microseconds,flags[,…];message` with its continuation lines ` KEY=value`,
    without the final newline. `lost` counts records that the kernel overwrote before they were read, just
    before the first of these. `fault` says that the window around a fault is in this batch.
    """

    records: tuple[str, ...] = ()
    lost: int = 0
    fault: bool = False


class HardwareEvent(Body, frozen=True, kw_only=True, omit_defaults=True):
    """One hardware fault or counter change. `fields` are the interface's own names and values."""

    source: str
    component: str
    device: str | None = None
    severity: Literal["info", "corrected", "recoverable", "fatal"]
    message: str = ""
    count: int = 1
    first_wall_ns: int = 0
    last_wall_ns: int = 0
    fields: dict[str, str | int | float] = {}


class DeviceChange(Body, frozen=True, kw_only=True, omit_defaults=True):
    """A uevent: `action` add, remove, change …, with the properties the kernel sent."""

    action: str
    subsystem: str
    devpath: str
    properties: dict[str, str] = {}


class Boot(Body, frozen=True, kw_only=True, omit_defaults=True):
    """A boot began. `end` says how the one before ended, `proof` what shows that (one line each).

    `previous` is its boot id where known, `previous_seen_wall_ns` the last moment it is known to have run.
    """

    release: str
    started_wall_ns: int
    previous: str | None = None
    previous_seen_wall_ns: int | None = None
    end: Literal["clean", "unclean", "unknown"] = "unknown"
    proof: tuple[str, ...] = ()


class CrashPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a crash record, as read from `name` (its base name), or decompressed if `was` says so."""

    name: str
    blob: Blob
    was: str | None = None


class CrashRecord(Body, frozen=True, kw_only=True, omit_defaults=True):
    """What a dying kernel left behind: text in reading order plus where it came from.

    `origin` is the interface, `path` the file or folder, `key` names the record on its host for ever (so
    that it is shipped once). `died_wall_ns` is the time of death as the interface tells it, `reason` the
    kernel's kmsg_dump reason (Panic, Oops …) where given, `complete` whether every part was there.
    """

    origin: Literal["pstore", "journal", "kdump", "kmsg"]
    path: str
    key: str
    reason: str | None = None
    died_wall_ns: int | None = None
    release: str | None = None
    complete: bool = True
    damage: tuple[str, ...] = ()
    parts: tuple[CrashPart, ...] = ()


class VmcoreReport(Body, frozen=True, kw_only=True, omit_defaults=True):
    """What could be read of one vmcore; `damage` says what could not."""

    path: str
    format: str
    size_bytes: int
    release: str | None = None
    build_id: str | None = None
    crash_wall_ns: int | None = None
    log: Blob | None = None
    damage: tuple[str, ...] = ()


class RecorderSamples(Body, frozen=True, kw_only=True, omit_defaults=True):
    """Flight-recorder columns of equal length, sampled every `interval_ns` from `start_wall_ns` on."""

    start_wall_ns: int
    interval_ns: int
    columns: dict[str, tuple[float | None, ...]] = {}


class HostInventory(Body, frozen=True, kw_only=True, omit_defaults=True):
    """What the host is made of. `facts` maps dotted names (`dmi.product_name`) to values."""

    hostname: str
    release: str
    architecture: str
    facts: dict[str, str] = {}


class SourceState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One source's three outcomes, counted since the agent started, and how long its last look took."""

    name: str
    state: Literal["on", "off", "failed"]
    why: str = ""
    found: int = 0
    nothing: int = 0
    failed: int = 0
    last_ns: int = 0


class AgentHealth(Body, frozen=True, kw_only=True, omit_defaults=True):
    """How the agent itself is. `dropped` counts events given up for want of room, by `keep` class."""

    version: str
    uptime_ns: int
    resident_bytes: int
    cpu_ns: int
    outbox_events: int
    outbox_bytes: int
    dropped: dict[str, int] = {}
    sources: tuple[SourceState, ...] = ()


KINDS: Final[dict[str, type[Body]]] = {
    "kernel.log": KernelLog,
    "hardware.event": HardwareEvent,
    "device.change": DeviceChange,
    "boot": Boot,
    "crash.record": CrashRecord,
    "vmcore.report": VmcoreReport,
    "recorder.samples": RecorderSamples,
    "host.inventory": HostInventory,
    "agent.health": AgentHealth,
}
"""Every kind of event this version knows, and its body."""

_KIND_OF: Final = {body: kind for kind, body in KINDS.items()}
_ENCODER: Final = msgspec.json.Encoder()


def kind_of(body: Body) -> str:
    """Name the kind of a body: `crash.record` of a CrashRecord."""
    return _KIND_OF[type(body)]


def pack(body: Body) -> bytes:
    """Encode a body as JSON."""
    return _ENCODER.encode(body)


def unpack(event: Event) -> Body | None:
    """Decode an event's body; None for a kind that this version does not know.

    Fields that this version does not know are passed over. Raises msgspec.DecodeError where the JSON does
    not fit the kind.
    """
    body = KINDS.get(event.kind)
    return None if body is None else msgspec.json.decode(event.body, type=body)

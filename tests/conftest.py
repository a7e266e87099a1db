"""What tests of several stages need: a host that makes events, and batches of them as an agent sends them."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from necropsy_agent import wire
from necropsy_agent.wire import BatchHead, Body, Event
from necropsy_analyzer.store.store import Store, sqlite_url

NOW_NS = 1_795_000_000 * 10**9


class Sender:
    """A host as the analyzer sees it: its events are numbered, its batches have the wire's form."""

    def __init__(self, machine: str = "0123456789abcdef0123456789abcdef") -> None:
        self.machine = wire.host_id(machine)
        self._seq = itertools.count(1)

    def event(self, of: Body, boot: str = "b" * 32, **fields: Any) -> Event:
        """Make an event of a body, kept as a crash unless told otherwise."""
        given: dict[str, Any] = {
            "id": wire.event_id(),
            "kind": wire.kind_of(of),
            "host": self.machine,
            "boot": boot,
            "seq": next(self._seq),
            "wall_ns": NOW_NS,
            "mono_ns": 60 * 10**9,
            "keep": "crash",
            "body": msgspec.Raw(wire.pack(of)),
        }
        return Event(**{**given, **fields})

    def crash(self, text: str = "Kernel panic - not syncing: test\n", **fields: Any) -> Event:
        """Make the event of a pstore record of that text."""
        record = {name: fields.pop(name) for name in ("key", "died_wall_ns", "path") if name in fields}
        part = wire.CrashPart(name="dmesg-efi-1", blob=wire.Blob.of(text.encode()))
        body = wire.CrashRecord(
            origin="pstore", parts=(part,), **{"path": "/sys/fs/pstore", "key": wire.event_id(), **record}
        )
        return self.event(body, **fields)

    def lines(self, *events: Event, **head: Any) -> bytes:
        """Write a batch as NDJSON."""
        given: dict[str, Any] = {
            "wire": wire.WIRE_VERSION,
            "id": wire.event_id(),
            "host": self.machine,
            "agent": "0.1.0",
            "count": len(events),
            "sent_wall_ns": NOW_NS,
        }
        return msgspec.json.Encoder().encode_lines([BatchHead(**{**given, **head}), *events])

    def body(self, *events: Event, **head: Any) -> bytes:
        """Write a batch as NDJSON, zstd."""
        return zstandard.compress(self.lines(*events, **head))


@pytest.fixture
def sender() -> Sender:
    """A host."""
    return Sender()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty embedded store."""
    opened = Store.open(sqlite_url(tmp_path / "state"))
    yield opened
    opened.close()

"""Kernel logs that the tests read: recorded ones, made ones, and what a source gives of them."""

import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import zstandard
from tests.sources.conftest import BOOT, FIXTURES, never

from necropsy_agent.sources import Found, Hits, Host
from necropsy_agent.sources.kmsg import Kmsg, nothing
from necropsy_agent.wire import KernelLog

RECORDED = sorted([*FIXTURES.glob("crashes/*/kmsg.zst"), *FIXTURES.glob("healthy/*/kmsg.zst")])


def recorded(path: Path) -> list[bytes]:
    """The records of a recording, each with its continuation lines."""
    text = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    return re.findall(rb"^\S.*(?:\n .*)*", text, re.MULTILINE)


def line(seq: int, text: str, level: int = 6, time_us: int | None = None) -> bytes:
    """A record of the kernel (facility 0)."""
    return f"{level},{seq},{seq * 1000 if time_us is None else time_us},-;{text}".encode()


@contextmanager
def stream(hits: Hits = nothing, cursor: str | None = None) -> Iterator[tuple[Kmsg, socket.socket]]:
    """A kernel log that gives one record a read, as the device does, and the end that writes it."""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kmsg = Kmsg(hits, fd=ours.detach())
    with theirs:
        assert kmsg.open(Host(Path("/"), BOOT), cursor) is None
        try:
            yield kmsg, theirs
        finally:
            kmsg.close()


def feed(kmsg: Kmsg, writer: socket.socket, records: Iterable[bytes]) -> list[Found]:
    """Write records, read whenever the other end is full and once at the end."""
    found: list[Found] = []
    writer.setblocking(False)
    for record in records:
        while True:
            try:
                writer.send(record)
                break
            except BlockingIOError:
                found += kmsg.read(never)
    return found + list(kmsg.read(never))


def shipped(records: Sequence[bytes], hits: Hits = nothing) -> list[Found]:
    """All that is given of these records."""
    with stream(hits) as (kmsg, writer):
        return feed(kmsg, writer, records)


def logs(found: Iterable[Found]) -> list[KernelLog]:
    return [item.body for item in found if isinstance(item.body, KernelLog)]


def texts(found: Iterable[Found]) -> list[str]:
    """The records as they were given."""
    return [record for log in logs(found) for record in log.records]


def seqs(found: Iterable[Found]) -> list[int]:
    return [int(record.split(",")[1]) for record in texts(found)]

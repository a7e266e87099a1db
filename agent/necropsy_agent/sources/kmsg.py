"""The running kernel's log. In: /dev/kmsg. Out: `KernelLog` bodies with the records worth shipping.

Record format and reading rules are those of Documentation/ABI/testing/dev-kmsg: one record a read(2),
`prefix,sequence,microseconds,flags[,…];message`, then lines ` KEY=value`; EPIPE once when records were
overwritten, EAGAIN at the end, EINVAL where the buffer is too small. Text is kept as it comes, with its
escapes. A recording of such records in a file, FIFO or socket is read the same way.
"""

import errno
import os
import re
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from necropsy_agent.sources.descriptors import silence
from necropsy_agent.sources.kmsg_window import Batch, Hits, Record, Window
from necropsy_agent.sources.source import Found, Host
from necropsy_agent.wire import KernelLog

_BUFFER_BYTES: Final = 64 << 10  # a record has at most 8 KiB (CONSOLE_EXT_LOG_MAX, 2 KiB messages since 6.4)
_CHUNK_RECORDS: Final = 2000
_CHUNKS: Final = 25
_CHECKPOINT_RECORDS: Final = 2000
_FOLLOW_S: Final = 1.0
_HEAD: Final = re.compile(rb"(\d{1,6}),(\d{1,19}),(\d{1,19}),[^;\n]*;")
_CURSOR: Final = re.compile(r"([0-9a-f]{32}):(\d{1,19}):(-?\d{1,19})")


def nothing(text: bytes) -> Iterable[int]:
    """Be a prefilter without rules."""
    return ()


class Kmsg:
    """The kernel log as a stream.

    `hits` is the rules' prefilter. `fd` reads from an open descriptor instead of `path`. The cursor is
    `boot:sequence:end of the open fault window`; what the log still has of the records up to it is read
    again, for the window's memory, and not given again.
    """

    name = "kmsg"

    def __init__(self, hits: Hits = nothing, path: str = "/dev/kmsg", fd: int | None = None) -> None:
        self.interval_s: float | None = None
        self._hits = hits
        self._path = path
        self._fd = -1 if fd is None else fd
        self._buffer = bytearray(_BUFFER_BYTES)
        self._reset()

    def _reset(self) -> None:
        self._boot = ""
        self._seq = -1  # the last record seen
        self._stored = -1  # the last record whose cursor was handed out
        self._lost = 0
        self._whole_reads = True
        self._rest = b""
        self._rest_seen = b""  # what a followed file ended with when it was last looked at
        self._ended = False
        self._resume_seq = -1  # the last record that was seen before a restart
        self._resume_until_us = -1
        self._window = Window(self._hits)

    def open(self, host: Host, cursor: str | None) -> str | None:
        """Open the log where reading stopped in this boot, else at its oldest record."""
        if self._fd < 0:
            try:
                self._fd = os.open(host.path(self._path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return f"there is no {self._path} on this host"
            except PermissionError as error:
                return (
                    f"{self._path}: {error.strerror}; it takes CAP_SYSLOG, and ProtectKernelLogs= must be off"
                )
            except OSError as error:
                return f"{self._path}: {error.strerror}"
        self._reset()
        os.set_blocking(self._fd, False)
        mode = os.fstat(self._fd).st_mode
        self._whole_reads = stat.S_ISCHR(mode) or (stat.S_ISSOCK(mode) and _keeps_records(self._fd))
        # epoll refuses regular files: those are looked at again and again, as tail -f does
        self.interval_s = _FOLLOW_S if stat.S_ISREG(mode) else None
        self._boot = host.boot
        match = _CURSOR.fullmatch(cursor or "")
        if match is not None and match[1] == host.boot:
            self._seq = self._stored = self._resume_seq = int(match[2])
            self._resume_until_us = int(match[3])
        return None

    def fileno(self) -> int | None:
        """Give the descriptor to poll; None for a regular file."""
        return None if self.interval_s is not None or self._fd < 0 else self._fd

    def read(self, known: Callable[[str], bool]) -> Iterable[Found]:
        """Give what is worth shipping of all records up to now; of a long burst some, the rest next time.

        Raises OSError where the log itself cannot be read.
        """
        for _ in range(_CHUNKS if self._fd >= 0 else 0):
            records, drained = self._take()
            seen, fresh = self._parsed(records)
            if seen:
                self._window.resume(seen)
            if fresh:
                if self._resume_until_us >= 0:
                    self._window.hold_open(self._resume_until_us)
                    self._resume_until_us = -1
                for batch in self._window.sift(fresh):
                    yield self._found(batch)
                if self._seq - self._stored >= _CHECKPOINT_RECORDS:
                    # Without it a restart could not tell what was overwritten from what was passed over.
                    yield self._found(Batch((), "routine", False, self._seq, self._window.until_us))
            if drained:
                break
        if self._fd >= 0 and self._lost:
            yield self._found(Batch((), "routine", False, self._seq, self._window.until_us))

    def acknowledged(self, key: str) -> None:
        """The log has no mark for what was shipped."""

    def close(self) -> None:
        """Close the log."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self) -> tuple[list[bytes], bool]:
        """Read records until there are no more (True) or enough for once."""
        records: list[bytes] = []
        view = memoryview(self._buffer)
        for _ in range(_CHUNK_RECORDS):
            if self._ended or len(records) >= _CHUNK_RECORDS:
                break
            try:
                size = os.readv(self._fd, (self._buffer,))
            except BlockingIOError:
                return records, True
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten; the next read gives the oldest that is left
                    continue
                raise
            if size == 0:
                records += _split(self._at_end())
                return records, True
            data = bytes(view[:size])
            if self._whole_reads and b"\n" not in data[:-1]:
                records.append(data[:-1] if data.endswith(b"\n") else data)
            elif self._whole_reads:
                records += _split(data)
            else:
                whole, self._rest = _cut(self._rest + data)
                records += _split(whole)
        return records, self._ended

    def _at_end(self) -> bytes:
        """Give what was held back until the next record begins: of a file that may still grow whole lines."""
        rest = self._rest
        if self.interval_s is None:
            self._ended = True
            silence(self._fd)
        elif rest != self._rest_seen and not rest.endswith(b"\n"):
            self._rest_seen = rest
            return b""
        self._rest = self._rest_seen = b""
        return rest

    def _parsed(self, records: list[bytes]) -> tuple[list[Record], list[Record]]:
        """Parse records and count what is missing between them; those seen before a restart stand apart."""
        seen: list[Record] = []
        fresh: list[Record] = []
        for raw in records:
            head = _HEAD.match(raw)
            if head is None:  # noise in a recording; it keeps its place
                if raw and self._seq != self._resume_seq:
                    fresh.append(Record(raw, 6, max(self._seq, 0), fresh[-1].time_us if fresh else 0))
                continue
            record = Record(raw, int(head[1]), int(head[2]), int(head[3]))
            if record.seq <= self._resume_seq:
                seen.append(record)
            elif record.seq > self._seq:
                self._lost += record.seq - self._seq - 1
                self._seq = record.seq
                fresh.append(record)
        return seen, fresh

    def _found(self, batch: Batch) -> Found:
        self._stored = max(self._stored, batch.last_seq)
        body = KernelLog(
            records=tuple(raw.decode("ascii", "backslashreplace") for raw in batch.records),
            lost=self._taken_lost(),
            fault=batch.fault,
        )
        return Found(body=body, keep=batch.keep, cursor=self._cursor(batch.last_seq, batch.until_us))

    def _taken_lost(self) -> int:
        lost, self._lost = self._lost, 0
        return lost

    def _cursor(self, seq: int, until_us: int) -> str:
        return f"{self._boot}:{max(seq, 0)}:{until_us}"


def _keeps_records(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as end:
        return end.type in (socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)


def _split(data: bytes) -> Iterator[bytes]:
    """Split records that stand one after the other: lines that begin with a space continue one."""
    start = 0
    at = data.find(b"\n")
    while at >= 0:
        if data[at + 1 : at + 2] != b" ":
            yield data[start:at]
            start = at + 1
        at = data.find(b"\n", at + 1)
    if start < len(data):
        yield data[start:]


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """Cut where the last record begins: it may go on in what has not come yet."""
    at = len(data)
    while (at := data.rfind(b"\n", 0, at)) >= 0:
        if at + 1 < len(data) and data[at + 1 : at + 2] != b" ":
            return data[: at + 1], data[at + 1 :]
    if len(data) > 1 << 20:  # no record is as long: this is no kernel log
        return data, b""
    return b"", data

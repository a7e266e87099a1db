"""Which kernel log records are worth shipping. In: records in order. Out: batches, each with its weight.

A record goes on its way if the kernel called it a warning or worse (include/linux/kern_levels.h), if a
rule's prefilter wants it, or if it stands near a fault: the lines just before a fault's heading tell what the
machine was doing, those after it are the report itself, of which many carry no heading and a low level.
"""

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from necropsy_agent.wire import Keep

Hits = Callable[[bytes], Iterable[int]]
"""A prefilter: offsets into the given text, one anywhere within each line that some rule may match."""

WARNING: Final = 4
BEFORE_US: Final = 60_000_000
BEFORE_RECORDS: Final = 300
"""How far a fault's window reaches back, in microseconds and in records."""
QUIET_US: Final = 10_000_000
"""A window ends when the kernel has warned of nothing for so long."""
WINDOW_RECORDS: Final = 5000
"""Of one window so many records below warning are taken; more is a storm, not a report."""
BATCH_RECORDS: Final = 1000
BATCH_BYTES: Final = 192 << 10

# What opens a window. It decides how much is shipped and nothing else: what a line means is in the rules.
_HEADING_WORDS: Final = (
    *(
        b"BUG:",
        b"BUG at",
        b"Oops",
        b"Kernel panic",
        b";WARNING:",
        b";INFO: ",
        b"rcu: INFO: ",
        b"[ INFO: ",
        b"cut here",
        b"all Trace",
        b"all trace",
    ),
    *(b"protection fault", b"Unable to handle", b"nternal error", b"LOCKUP", b" lockup", b"detected stall"),
    *(
        b"Hardware Error",
        b"achine check",
        b"NMI received",
        b"NMI: ",
        b"NMI backtrace",
        b"SAN: ",
        b"nvoked oom-killer",
        b"ut of memory",
    ),
    *(
        b"allocation failure",
        b"divide error",
        b"invalid opcode",
        b"double fault",
        b"stack guard",
        b"nhandled",
    ),
    *(
        b"Bad page",
        b"corruption",
        b"orrupt",
        b"WATCHDOG",
        b"-fs error",
        b"Shutting down filesystem",
        b"SysRq",
    ),
    *(
        b"sysrq:",
        b"I/O error",
        b"blocked for more than",
        b"scheduling while atomic",
        b"AER: Cor",
        b"AER: Unc",
        b"AER: Mul",
        b"Xid",
    ),
)
_HEADING: Final = re.compile(b"|".join(map(re.escape, _HEADING_WORDS)))
_FATAL: Final = re.compile(
    rb"Kernel panic|Oops|BUG:|BUG at|general protection fault|Unable to handle kernel|Internal error:"
    rb"|Hardware Error\]: .*(?:fatal|Fatal|PANIC|panic)|hard LOCKUP|double fault"
)


class Record(NamedTuple):
    """One record of /dev/kmsg, and the fields that matter here; `time_us` is microseconds since boot."""

    raw: bytes
    prefix: int
    seq: int
    time_us: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that travel together; `last_seq` and `until_us` are where the window stood after the last."""

    records: tuple[bytes, ...]
    keep: Keep
    fault: bool
    last_seq: int
    until_us: int


class Window:
    """Chooses records. Mutable: holds the records just passed over, and how long the open window lasts."""

    def __init__(self, hits: Hits) -> None:
        self._hits = hits
        self._until_us = -1
        self._room = WINDOW_RECORDS
        self._before: deque[Record] = deque(maxlen=BEFORE_RECORDS)

    @property
    def until_us(self) -> int:
        """When the open window ends, if nothing more happens; in the past where none is open."""
        return self._until_us

    def sift(self, records: list[Record]) -> Iterator[Batch]:
        """Give the batches worth shipping, all of them: nothing is held back for a later call.

        A host that is dying may not live to see a later call; where records come one by one, they go one by
        one, and where they come faster than they are stored, the next call finds many.
        """
        text = b"\n".join(record.raw for record in records)
        starts = _starts(records)
        wanted = {bisect_right(starts, offset) - 1 for offset in self._hits(text)}
        headings: set[int] = set()
        if any(word in text for word in _HEADING_WORDS):
            headings = {bisect_right(starts, match.start()) - 1 for match in _HEADING.finditer(text)}
        batch: list[bytes] = []
        size = 0
        fault = False
        seq = until_us = 0
        for n, record in enumerate(records):
            kernel = record.prefix < 8  # facility 0; what userspace writes into the log opens no window
            warning = record.prefix & 7 <= WARNING
            opening: list[bytes] = []
            if n in headings and kernel:
                if record.time_us > self._until_us:
                    self._room = WINDOW_RECORDS
                    opening = self._looking_back(record.time_us)
                self._until_us = max(self._until_us, record.time_us + QUIET_US)
            inside = record.time_us <= self._until_us
            if inside and warning and kernel:
                self._until_us = max(self._until_us, record.time_us + QUIET_US)
            if inside and not warning and n not in wanted:
                self._room -= 1
            if not warning and n not in wanted and (not inside or self._room < 0):
                self._before.append(record)
                continue
            if batch and (fault != inside or len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES):
                yield _closed(batch, fault, seq, until_us)
                batch, size = [], 0
            fault, seq, until_us = inside, record.seq, self._until_us
            batch += opening
            batch.append(record.raw)
            size += len(record.raw) + sum(map(len, opening))
        if batch:
            yield _closed(batch, fault, seq, until_us)

    def resume(self, seen: list[Record]) -> None:
        """Go through records that were sifted before a restart, to remember what they left behind."""
        for _ in self.sift(seen):
            pass

    def hold_open(self, until_us: int) -> None:
        """Keep the window open until then at least, where what opened it can no longer be read."""
        self._until_us = max(self._until_us, until_us)

    def _looking_back(self, time_us: int) -> list[bytes]:
        before = [record.raw for record in self._before if time_us - record.time_us <= BEFORE_US]
        self._before.clear()
        return before


def _closed(batch: list[bytes], fault: bool, seq: int, until_us: int) -> Batch:
    keep: Keep = "routine"
    if fault:
        keep = "crash" if any(map(_FATAL.search, batch)) else "fault"
    return Batch(tuple(batch), keep, fault, seq, until_us)


def _starts(records: list[Record]) -> list[int]:
    """Where each record begins in the text that joins them with newlines."""
    starts = []
    at = 0
    for record in records:
        starts.append(at)
        at += len(record.raw) + 1
    return starts

"""Bytes of a log, in any of the shapes that people keep them in → kernel messages in reading order.

Shapes: printk's own prefix (kernel/printk/printk.c: `<4>[   12.345678][  T123] `, CONFIG_PRINTK_CALLER), dmesg -T,
-x, -r and --time-format iso, /dev/kmsg records (Documentation/ABI/testing/dev-kmsg), journalctl short, short-iso,
short-monotonic and json, syslog (RFC 3164, RFC 5424), serial consoles with other output between, netconsole, pstore
parts. They may follow each other and stand inside each other; each line is looked at by itself.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from necropsy_analyzer.report.report import Log, LogLine

WHOLE_BYTES: Final = 48 << 20
"""A log up to this size is read whole; of a longer one the two ends, and what surrounds likely faults."""

LINE_CHARACTERS: Final = 4096
"""A longer line is cut: printk's own limit is 1024 (LOG_LINE_MAX)."""

_HEAD_BYTES: Final = 4 << 20
_TAIL_BYTES: Final = 24 << 20
_BEFORE_BYTES: Final = 128 << 10
_AFTER_BYTES: Final = 512 << 10
_WINDOWS: Final = 24
_LIKELY: Final = re.compile(
    rb"BUG: |Oops: |Kernel panic|cut here|general protection|blocked for more than|soft lockup|LOCKUP|detected stall"
    rb"|Unable to handle|Machine Check|Internal error: |Out of memory"
)

_PRINTK: Final = re.compile(
    r"(?:<(\d{1,3})>)?\[ {0,7}(\d{1,10})\.(\d{3,9})\](?:\[ {0,8}([TC]\d{1,10})(?:@[^\]\n]*)?\])? ?"
)
_INSIDE: Final = re.compile(r"\[ {0,7}\d{1,10}\.\d{6}\](?:\[ {0,8}[TC]\d{1,10}\])? ")
_LEVEL: Final = re.compile(r"<(\d{1,3})>")
_CALLER: Final = re.compile(r"\[ {0,8}([TC]\d{1,10})\] ")
_KMSG: Final = re.compile(r"(\d{1,4}),(\d{1,20}),(\d{1,20}),([^;\n]{1,200});")
_DECODED: Final = re.compile(
    r"(?:kern|user|daemon|syslog|auth)\s*:(emerg|alert|crit|err|warn|notice|info|debug)\s*: "
)
_HUMAN: Final = re.compile(
    r"\[(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) "
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4})\] ?"
)
_ISO: Final = re.compile(
    r"(?:<\d{1,3}>(?:1 )?)?\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?\]?:? "
)
_BSD: Final = re.compile(
    r"(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} )?"
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d(?: \d{4})? \d\d:\d\d:\d\d(?:\.\d{1,9})? "
)
_TAG: Final = re.compile(r"(?:[\w.:@-]{1,255} )?([\w./@+()-]{1,64}?)(?:\[[\d ]{1,10}\])?: ?")
_RFC5424_TAG: Final = re.compile(r"\S{1,255} (\S{1,48}) (?:-|\d{1,10}) \S{1,32} (?:-|\[[^\]\n]*\]) ?")
_HOST_TAG: Final = re.compile(r"[\w.-]{1,255} (kernel|[\w.@-]{1,64}\[\d{1,10}\]): ")
_RECORD_HEAD: Final = re.compile(
    r"(?:Panic|Oops|Emergency|Restart|Shutdown|Halt|Poweroff|Unknown)#\d+ Part ?\d+$|====\d+\.\d+-[DC]$"
)
_CONTINUED: Final = re.compile(r" [A-Z_][A-Z0-9_]*=")
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78cM])")
_HEX: Final = re.compile(r"\\x([0-9a-f]{2})")
_MONTHS: Final = {
    name: number
    for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}
_LEVELS: Final = {
    name: n for n, name in enumerate(("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"))
}


def read(data: bytes) -> Log:
    """Read a log; never raises on content. What is wrong with the bytes stands in `Log.damage`."""
    damage: list[str] = []
    lines: list[LogLine] = []
    for first, piece in _pieces(data, damage):
        text = piece.decode("utf-8", "replace")
        if "\0" in text:
            text = text.replace("\0", "")
        if "\x1b" in text:
            text = _ESCAPES.sub("", text)
        if text.lstrip()[:1] == "{" and '"MESSAGE"' in text:
            lines.extend(_journal(text, first))
        else:
            lines.extend(_plain(text, first, damage))
    return Log(lines=tuple(lines), damage=tuple(damage))


def _pieces(data: bytes, damage: list[str]) -> Iterator[tuple[int, bytes]]:
    """Give the parts of the log that are read, each with the number of its first line."""
    if len(data) <= WHOLE_BYTES:
        yield 1, data
        return
    spans = [(0, _HEAD_BYTES), (len(data) - _TAIL_BYTES, len(data))]
    position = 0
    for _ in range(_WINDOWS):
        found = _LIKELY.search(data, position)
        if found is None:
            break
        spans.append((max(0, found.start() - _BEFORE_BYTES), found.start() + _AFTER_BYTES))
        position = found.start() + _AFTER_BYTES
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    number, counted, taken = 1, 0, 0
    for start, end in merged:
        begin = start if start == 0 else data.find(b"\n", start) + 1 or start
        number += data.count(b"\n", counted, begin)
        counted = begin
        taken += min(end, len(data)) - begin
        yield number, data[begin:end]
    damage.append(
        f"{(len(data) - taken) >> 20} MiB of {len(data) >> 20} MiB between likely faults were passed over"
    )


def _plain(text: str, first: int, damage: list[str]) -> Iterator[LogLine]:
    printk = _PRINTK.match
    cut = 0
    record = False
    raw_lines = text.split("\n")
    if raw_lines and not raw_lines[-1]:
        raw_lines.pop()
    for number, whole in enumerate(raw_lines, first):
        raw = whole
        if raw[-1:] == "\r":
            raw = raw.rstrip("\r")
        if len(raw) > LINE_CHARACTERS:
            raw = raw[:LINE_CHARACTERS]
            cut += 1
        stamp = printk(raw)
        if stamp is not None:
            record = False
            message = raw[stamp.end() :]
            if "] " in message and _INSIDE.search(message) is not None:
                yield from _several(raw, number)
                continue
            if "kernel: " in message[:96]:
                tag = _HOST_TAG.match(message)
                if tag is not None:
                    message = message[tag.end() :]
            level, seconds, fraction, caller = stamp.groups()
            yield LogLine(
                number=number,
                text=message,
                time_s=float(f"{seconds}.{fraction}"),
                level=None if level is None else int(level) & 7,
                caller=caller,
            )
            continue
        if record and raw[:1] == " " and _CONTINUED.match(raw):
            continue
        kmsg = _KMSG.match(raw)
        record = kmsg is not None
        if kmsg is not None:
            yield _kmsg(kmsg, raw, number)
        else:
            yield from _prefixed(raw, number)
    if cut:
        damage.append(f"{cut} lines longer than {LINE_CHARACTERS} characters were cut")


def _several(raw: str, number: int) -> Iterator[LogLine]:
    """Part a line into which two CPUs or another program wrote: each time stamp begins a message."""
    starts = [found.start() for found in _INSIDE.finditer(raw)]
    if starts and starts[0] > 0:
        head = raw[: starts[0]]
        level = _LEVEL.fullmatch(head)
        if level is not None:
            starts[0] = 0
        elif head.strip() and _BSD.match(head) is None and _ISO.match(head) is None:
            yield LogLine(number=number, text=head, kernel=False)
    for start, end in zip(starts, [*starts[1:], len(raw)], strict=True):
        stamp = _PRINTK.match(raw, start, end)
        if stamp is None:
            continue
        level_text, seconds, fraction, caller = stamp.groups()
        yield LogLine(
            number=number,
            text=raw[stamp.end() : end],
            time_s=float(f"{seconds}.{fraction}"),
            level=None if level_text is None else int(level_text) & 7,
            caller=caller,
        )


def _kmsg(record: re.Match[str], raw: str, number: int) -> LogLine:
    priority, _, microseconds, flags = record.groups()
    text = raw[record.end() :]
    if "\\x" in text:
        text = _HEX.sub(lambda found: chr(int(found[1], 16)), text)
    caller = next((flag[7:] for flag in flags.split(",") if flag.startswith("caller=")), None)
    facility, level = divmod(int(priority), 8)
    return LogLine(
        number=number,
        text=text,
        time_s=int(microseconds) / 1e6,
        level=level,
        caller=caller,
        kernel=facility == 0,
    )


def _prefixed(raw: str, number: int) -> Iterator[LogLine]:
    """Read a line that does not begin with printk's time."""
    if _INSIDE.search(raw) is not None and not _is_daemon(raw):
        wall_s = _wall(raw)
        for line in _several(raw, number):
            yield line if wall_s is None else msgspec.structs.replace(line, wall_s=wall_s)
        return
    text, wall_s, kernel, level = raw, None, True, None
    human = _HUMAN.match(raw)
    if human is not None:
        month, *rest = human.groups()
        day, hour, minute, second, year = map(int, rest)
        wall_s = _epoch(year, _MONTHS[month], day, hour, minute, second)
        text = raw[human.end() :]
    elif (iso := _ISO.match(raw)) is not None:
        wall_s = _wall(raw)
        text = raw[iso.end() :]
        if "," not in iso[0]:  # dmesg --time-format iso has a comma, and no tag
            kernel, text = _untagged(text, raw.startswith("<") and ">1 " in raw[:6])
    elif (bsd := _BSD.match(raw)) is not None:
        kernel, text = _untagged(raw[bsd.end() :], False)
    elif (decoded := _DECODED.match(raw)) is not None:
        level = _LEVELS[decoded[1]]
        text = raw[decoded.end() :]
    elif _RECORD_HEAD.match(raw) is not None:
        kernel = False
    elif raw[:8] == "kernel: ":
        text = raw[8:]
    found = _LEVEL.match(text)
    if found is not None:
        level = int(found[1]) & 7
        text = text[found.end() :]
    time_s = None
    caller = None
    stamp = _PRINTK.match(text)
    if stamp is not None:
        _, seconds, fraction, caller = stamp.groups()
        time_s = float(f"{seconds}.{fraction}")
        text = text[stamp.end() :]
    elif (called := _CALLER.match(text)) is not None:
        caller = called[1]
        text = text[called.end() :]
    yield LogLine(
        number=number, text=text, time_s=time_s, wall_s=wall_s, level=level, caller=caller, kernel=kernel
    )


def _is_daemon(raw: str) -> bool:
    """Say whether another program's syslog line quotes a kernel message."""
    for prefix in (_ISO, _BSD):
        found = prefix.match(raw)
        if found is not None:
            tag = _TAG.match(raw, found.end())
            return tag is not None and tag[1] != "kernel" and not tag[1].startswith("[")
    return False


def _untagged(text: str, rfc5424: bool) -> tuple[bool, str]:
    """Take off host name and program; say whether the kernel speaks. A line without a tag is taken as the kernel's."""
    tag = _RFC5424_TAG.match(text) if rfc5424 else None
    if tag is None:
        tag = _TAG.match(text)
        if tag is not None and tag[1] != "kernel" and text[: tag.end()].count(" ") < 2 and "[" not in tag[0]:
            # `nvme nvme0: …`, `BUG: …`: the message's own words, or one host name and no program.
            return True, text
    if tag is None:
        return True, text
    return tag[1] == "kernel", text[tag.end() :]


def _wall(raw: str) -> float | None:
    found = _ISO.match(raw)
    if found is None:
        return None
    stamp, fraction, zone = found.groups()
    zone = "+00:00" if zone in (None, "Z") else zone
    try:
        moment = datetime.fromisoformat(stamp.replace(" ", "T") + zone)
    except ValueError:
        return None
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


def _epoch(*fields: int) -> float | None:
    try:
        return datetime(*fields, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]
    except ValueError:
        return None


class _Entry(msgspec.Struct):
    """What is needed of a journal entry (systemd.journal-fields(7))."""

    MESSAGE: str | list[int] | None = None
    PRIORITY: str | None = None
    transport: str | None = msgspec.field(name="_TRANSPORT", default=None)
    identifier: str | None = msgspec.field(name="SYSLOG_IDENTIFIER", default=None)
    source_us: str | None = msgspec.field(name="_SOURCE_MONOTONIC_TIMESTAMP", default=None)
    monotonic_us: str | None = msgspec.field(name="__MONOTONIC_TIMESTAMP", default=None)
    realtime_us: str | None = msgspec.field(name="__REALTIME_TIMESTAMP", default=None)


def _journal(text: str, first: int) -> Iterator[LogLine]:
    decode = msgspec.json.Decoder(_Entry).decode
    for number, raw in enumerate(text.split("\n"), first):
        if not raw.strip():
            continue
        try:
            entry = decode(raw)
        except (msgspec.DecodeError, UnicodeEncodeError):
            yield from _prefixed(raw[:LINE_CHARACTERS], number)
            continue
        message = entry.MESSAGE
        if message is None:
            continue
        if isinstance(message, list):
            message = bytes(byte & 0xFF for byte in message).decode("utf-8", "replace")
        kernel = entry.transport == "kernel" or entry.identifier == "kernel"
        if entry.transport is None and entry.identifier is None:
            kernel = True
        monotonic = _number(entry.source_us) or _number(entry.monotonic_us)
        realtime = _number(entry.realtime_us)
        for part in message.split("\n"):
            yield LogLine(
                number=number,
                text=part[:LINE_CHARACTERS],
                time_s=None if monotonic is None else monotonic / 1e6,
                wall_s=None if realtime is None else realtime / 1e6,
                level=_number(entry.PRIORITY),
                kernel=kernel,
            )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 20 else None


def line_starts(texts: Iterable[str]) -> tuple[str, list[int]]:
    """Join messages with newlines; give the joined text and where each of them begins in it."""
    starts: list[int] = []
    position = 0
    kept = list(texts)
    for text in kept:
        starts.append(position)
        position += len(text) + 1
    return "\n".join(kept), starts


def line_at(starts: list[int], offset: int) -> int:
    """Give the index of the message in which an offset of the joined text lies."""
    return bisect_right(starts, offset) - 1

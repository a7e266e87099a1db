"""Bytes of a log, in any of the shapes that people keep them in → kernel messages in reading order.

Shapes: printk's own prefix (kernel/printk/printk.c: `<4>[   12.345678][  T123] `, CONFIG_PRINTK_CALLER),
dmesg -T, -x, -r, -d, -H and --time-format iso, /dev/kmsg records and extended netconsole
(Documentation/ABI/testing/dev-kmsg, Documentation/networking/netconsole.rst), journalctl short and json in
their variants, syslog (RFC 3164, RFC 5424), serial consoles with other output between, pstore parts,
Android's `[cpu:process: pid]`. They may follow each other and stand inside each other; each line is looked at
by itself.
"""

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from msgspec import structs

from necropsy_analyzer.report.journal import entry_lines
from necropsy_analyzer.report.report import Log, LogLine
from necropsy_analyzer.report.windows import pieces

LINE_CHARACTERS: Final = 4096
"""A longer line is cut: printk's own limit is 2048 (PRINTK_MESSAGE_MAX), a console's lines run together."""

_PRINTK: Final = re.compile(
    r"(?:<(\d{1,3})>)?\[ {0,7}(\d{1,10})\.(\d{2,9})\](?:\[ {0,8}([TC]\d{1,10})(?:@[^\]\n]{0,64})?\])? ?"
)
_INSIDE: Final = re.compile(r"(?:<\d{1,3}>)?\[ {0,7}\d{1,10}\.\d{6}\](?:\[ {0,8}[TC]\d{1,10}\])? ")
_LEVEL: Final = re.compile(r"<(\d{1,3})>")
_CALLER: Final = re.compile(r"\[ {0,8}([TC]\d{1,10})\] ")
_VENDOR_CALLER: Final = re.compile(
    r" {0,2}[A-Z]?\[(?P<cpu>\d{1,3}): {0,16}[^:\[\]\n]{1,16}: {0,8}(?P<pid>\d{1,10})\] ?"
    r"|-?\((?P<core>\d{1,3})\)\[(?P<task>\d{1,10}):[^\]\n]{1,32}\]"
)
_KMSG: Final = re.compile(r"(?:\d+\.\d[^,;\s]{0,80},)?(\d{1,4}),(\d{1,20}),(\d{1,20}),([^;\n]{1,200});")
# What a daemon that reads /dev/kmsg passes on with its own time and host before it.
_PASSED_ON: Final = re.compile(r"(?:[\w.-]{1,255} )?(\d{1,4}),(\d{1,20}),(\d{1,20}),([^;\n]{1,80});")
_DECODED: Final = re.compile(
    r"(kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|local\d) {0,6}:"
    r"(emerg|alert|crit|err|warn|notice|info|debug) {0,4}: "
)
_HUMAN: Final = re.compile(
    r"\[(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) "
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4})\] ?"
)
_RELATIVE: Final = re.compile(
    r"\[(?:[A-Z][a-z]{2} {0,2}\d{1,2} \d\d:\d\d| {1,8}\+\d{1,8}\.\d{6}"
    r"| {0,8}(?P<time>\d{1,10}\.\d{6}) ?< {0,8}\d{1,8}\.\d{6}>|< {0,8}\d{1,8}\.\d{6}>)\] ?"
)
_ISO: Final = re.compile(
    r"(?:<(?P<pri>\d{1,3})>(?P<version>1 )?)?\[?(?:[A-Z][a-z]{2} )?"
    r"(?P<moment>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
    r"(?P<zone>Z|[+-]\d\d:?\d\d| [A-Z]{3,5}(?= ))?\]?:? "
)
_BSD: Final = re.compile(
    r"(?:<(?P<pri>\d{1,3})>)?(?:[A-Z][a-z]{2} )?"
    r"(?:(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d(?: \d{4})? \d\d:\d\d:\d\d(?:\.\d{1,9})?"
    r"|\d{10}\.\d{6}) "
)
# journalctl and dmesg -T under a locale that is not English; what grep put before a line; first columns cut.
_LOCAL: Final = re.compile(r"(?:[^\W\d_]{2,9}\.?|\d{1,2}月) {1,2}\d{1,2} \d\d:\d\d:\d\d(?:\.\d{1,9})? ")
_LOCAL_HUMAN: Final = re.compile(r"\[[^\W_][^\]\n\[]{3,24}\d\d:\d\d:\d\d(?: [^\]\n\[]{1,12})?\] ?")
_SEARCHED: Final = re.compile(
    r"[^\s:]{0,64}:?(?:\d{1,7}[:-] ?)?[^\n]{0,24}?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\S{0,6} (?:[\w.-]{1,255} )?"
    r"kernel(?:\[\d{1,10}\])?: ?"
)
_CUT_STAMP: Final = re.compile(r" {0,7}(\d{1,10}\.\d{6})\] ")
_TAG: Final = re.compile(
    r"(?:(?!kernel: )[\w.:@-]{1,255} )?(?:(?:kern|user|daemon)\.[a-z]{1,7} )?"
    r"([\w./@+()-]{1,64}?)(\[[\d ]{1,10}\])?: ?"
)
_RFC5424_TAG: Final = re.compile(r"\S{1,255} (\S{1,48}) (?:-|\d{1,10}) \S{1,32} (?:-|\[[^\]\n]{0,1024}\]) ?")
_HOST_TAG: Final = re.compile(r"[\w.-]{1,255} (?:(kernel): |[\w.@-]{1,64}\[\d{1,10}\]: )")
# What these write to /dev/kmsg stands among the kernel's messages.
_DAEMON: Final = re.compile(
    r"(?:systemd|dracut|cloud-init|kubelet|dockerd|containerd|udevd)[\w-]{0,32}\[\d{1,10}\]: "
)
_RECORD_HEAD: Final = re.compile(
    r"[A-Z][a-z]{2,15}#\d{1,10} Part ?\d{1,5}$|====\d{1,12}\.\d{1,9}-[DC]$"
    r"|-- (?:Boot |Reboot|Logs begin|Journal begins)"
)
_CONTINUED: Final = re.compile(r" [A-Z_][A-Z0-9_]{0,63}=")
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|[()][A-Z0-9]|[=>78cM])")
_INDENTED: Final = " " * 8
_HEX: Final = re.compile(r"\\x([0-9a-f]{2})")
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
_LEVELS: Final = {
    name: n for n, name in enumerate(("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"))
}


class _Outer(NamedTuple):
    """What a log's keeper wrote before the message, and where the message begins."""

    start: int
    kernel: bool = True
    level: int | None = None
    wall_s: float | None = None
    time_s: float | None = None
    tagged: bool = False


_BARE: Final = _Outer(0)


def read(data: bytes) -> Log:
    """Read a log; never raises on content. What is wrong with the bytes stands in `Log.damage`."""
    damage: list[str] = []
    lines: list[LogLine] = []
    cut = 0
    for first, text in pieces(data, damage):
        tagged = " kernel: " in text or " kernel - " in text
        raw_lines = (_ESCAPES.sub("", text) if "\x1b" in text else text).split("\n")
        if not raw_lines[-1]:
            raw_lines.pop()
        bare: list[int] = []
        start = len(lines)
        cut += _read(raw_lines, first, tagged, lines, bare)
        _tell_noise(lines, start, bare)
    if cut:
        damage.append(f"{cut} lines longer than {LINE_CHARACTERS} characters were cut")
    return Log(lines=tuple(lines), damage=tuple(damage))


def _tell_noise(lines: list[LogLine], start: int, bare: list[int]) -> None:
    """Mark the lines of a console that bear no time between messages that do: other programs wrote them.

    The kernel stamps each line; only dmesg indents the further lines of a message instead.
    """
    if not bare:
        return
    stamped = (place for place in range(start, len(lines)) if lines[place].time_s is not None)
    first = next(stamped, None)
    last = next((place for place in range(len(lines) - 1, start, -1) if lines[place].time_s is not None), 0)
    if first is None:
        return
    for place in bare:
        if first < place < last and not lines[place].text.startswith(_INDENTED):
            lines[place] = structs.replace(lines[place], kernel=False)


def _read(raw_lines: list[str], first: int, tagged: bool, lines: list[LogLine], bare: list[int]) -> int:
    """Append the messages of raw lines; note the places of those without prefix; give how many were cut."""
    cut = 0
    record = False
    for number, whole in enumerate(raw_lines, first):
        raw = whole.rstrip("\r") if whole[-1:] == "\r" else whole
        if raw[:1] == "{" and '"MESSAGE"' in raw:
            entry = entry_lines(raw, number, LINE_CHARACTERS)
            lines.extend((LogLine(number=number, text=raw[:200], kernel=False),) if entry is None else entry)
            continue
        if len(raw) > LINE_CHARACTERS:
            raw = raw[:LINE_CHARACTERS]
            cut += 1
        if record and raw[:1] == " " and _CONTINUED.match(raw):
            continue
        stamp = _PRINTK.match(raw)
        kmsg = None if stamp is not None else _KMSG.match(raw)
        record = kmsg is not None
        if stamp is not None:
            _stamped(raw, number, stamp, None, lines)
        elif kmsg is not None:
            _kmsg(kmsg, raw, number, lines)
        elif _kept(raw, number, tagged, lines):
            bare.append(len(lines) - 1)
    return cut


def _stamped(raw: str, number: int, stamp: re.Match[str], outer: _Outer | None, lines: list[LogLine]) -> None:
    """Append the message behind a time stamp; others that were written into the same line follow it."""
    start = stamp.end()
    following = _INSIDE.search(raw, start) if raw.find("] ", start) > 0 else None
    end = len(raw) if following is None else following.start()
    text = raw[start:end]
    level_text, seconds, fraction, caller = stamp.groups()
    level = outer.level if outer is not None else None
    if level_text is not None:
        level = int(level_text) & 7
    kernel = True
    if text[:1] in " [(-ABCDEFGHIJKLMNOPQRSTUVWXYZ" and "]" in text[:48]:
        vendor = _VENDOR_CALLER.match(text)
        if vendor is not None:
            caller = _vendor_caller(vendor)
            text = text[vendor.end() :]
    if "]: " in text[:96] or "kernel: " in text[:96]:
        tag = _HOST_TAG.match(text)
        if tag is not None:
            kernel = tag[1] is not None
            text = text[tag.end() :]
        elif (daemon := _DAEMON.match(text)) is not None:
            kernel = False
            if daemon.end() == len(text) and following is not None:  # it quotes a message
                text, following = raw[start:], None
    lines.append(
        LogLine(
            number=number,
            text=text,
            time_s=float(f"{seconds}.{fraction}"),
            wall_s=None if outer is None else outer.wall_s,
            level=level,
            caller=caller,
            kernel=kernel,
        )
    )
    while following is not None:
        stamp_inside = _PRINTK.match(raw, following.start())
        start = following.end()
        following = _INSIDE.search(raw, start)
        if stamp_inside is not None:
            # `_PRINTK` reads from the same place; what follows it is cut off above it.
            end = len(raw) if following is None else following.start()
            _stamped(raw[:end], number, stamp_inside, outer, lines)


def _vendor_caller(found: re.Match[str]) -> str:
    """Give `[cpu:process: pid]` the form of printk's caller id; PID 0 is every CPU's idle task."""
    cpu, pid = found["cpu"] or found["core"], found["pid"] or found["task"]
    return f"C{int(cpu)}" if int(pid) == 0 else f"T{int(pid)}"


def _kmsg(record: re.Match[str], raw: str, number: int, lines: list[LogLine]) -> None:
    priority, _, microseconds, flags = record.groups()
    text = raw[record.end() :]
    if "\\x" in text:
        text = _HEX.sub(lambda found: chr(int(found[1], 16)), text)
    caller = next((flag[7:] for flag in flags.split(",") if flag.startswith("caller=")), None)
    facility, level = divmod(int(priority), 8)
    lines.extend(
        LogLine(
            number=number,
            text=part,
            time_s=int(microseconds) / 1e6,
            level=level,
            caller=caller,
            kernel=facility == 0,
        )
        for part in text.replace("\0", "").split("\n")
    )


def _kept(raw: str, number: int, tagged: bool, lines: list[LogLine]) -> bool:
    """Append the messages of a line that does not begin with printk's time; say whether it has no prefix."""
    outer = _outer(raw, tagged)
    text = raw[outer.start :]
    level = outer.level
    if outer.kernel:
        stamp = _PRINTK.match(text)
        if stamp is not None:
            _stamped(text, number, stamp, outer, lines)
            return False
        inside = _INSIDE.search(text)
        if inside is not None:
            head = text[: inside.start()]
            if head.strip():
                lines.append(LogLine(number=number, text=head, wall_s=outer.wall_s, kernel=False))
            stamp = _PRINTK.match(text, inside.start())
            if stamp is not None:
                _stamped(text, number, stamp, outer, lines)
            return False
        found = _LEVEL.match(text)
        if found is not None:
            level = int(found[1]) & 7
            text = text[found.end() :]
        outer = outer._replace(kernel=_DAEMON.match(text) is None)
        record = _PASSED_ON.match(text) if ",-;" in text[:64] or ",c;" in text[:64] else None
        if record is not None:
            _kmsg(record, text, number, lines)
            return False
    caller = None
    called = _CALLER.match(text)
    if called is not None:
        caller = called[1]
        text = text[called.end() :]
    parts = [text]
    if outer.tagged and "#01" in text:  # rsyslog's escapes of control characters
        parts = text.replace("#011", "\t").split("#012")
    lines.extend(
        LogLine(
            number=number,
            text=part,
            time_s=outer.time_s,
            wall_s=outer.wall_s,
            level=level,
            caller=caller,
            kernel=outer.kernel,
        )
        for part in parts
    )
    return outer == _BARE and level is None and caller is None


def _outer(raw: str, tagged: bool) -> _Outer:
    """Read what dmesg, journalctl or a syslog daemon put before the message."""
    level = None
    start = 0
    kernel = True
    decoded = _DECODED.match(raw)
    if decoded is not None:
        level = _LEVELS[decoded[2]]
        kernel = decoded[1] == "kern"
        start = decoded.end()
    human = _HUMAN.match(raw, start)
    if human is not None:
        return _Outer(human.end(), kernel, level, wall_s=_epoch(human))
    relative = _RELATIVE.match(raw, start)
    if relative is not None:
        time = relative["time"]
        return _Outer(relative.end(), kernel, level, time_s=None if time is None else float(time))
    found = _ISO.match(raw, start)
    if found is not None:
        wall_s = _wall(found)
        if "," in found[0]:  # dmesg --time-format iso has a comma, and no tag
            return _Outer(found.end(), kernel, level, wall_s)
        spoken, end = _untagged(raw, found.end(), found["version"] is not None, tagged)
        return _Outer(end, spoken, _level(found["pri"], level), wall_s, tagged=tagged)
    found = _BSD.match(raw, start)
    if found is not None:
        spoken, end = _untagged(raw, found.end(), False, tagged)
        return _Outer(end, spoken, _level(found["pri"], level), tagged=tagged)
    if start:
        return _Outer(start, kernel, level)
    uncommon = _uncommon(raw, tagged)
    if uncommon is not None:
        return uncommon
    if _RECORD_HEAD.match(raw) is not None:
        return _Outer(0, kernel=False)
    return _Outer(8 if raw[:8] == "kernel: " else 0)


def _uncommon(raw: str, tagged: bool) -> _Outer | None:
    """Read what stands before the message where a locale, grep or a careless copy changed it."""
    head = raw[:160]
    stamp = _CUT_STAMP.match(raw) if "] " in head[:24] else None
    if stamp is not None:
        return _Outer(stamp.end(), time_s=float(stamp[1]))
    if ":" not in head:
        return None
    local = _LOCAL.match(raw)
    if local is not None:
        spoken, end = _untagged(raw, local.end(), False, tagged)
        return _Outer(end, spoken, tagged=tagged)
    human = _LOCAL_HUMAN.match(raw) if raw[:1] == "[" else None
    if human is not None:
        return _Outer(human.end())
    searched = _SEARCHED.match(raw) if "kernel" in head else None
    return None if searched is None else _Outer(searched.end(), tagged=True)


def _level(priority: str | None, level: int | None) -> int | None:
    return level if priority is None else int(priority) & 7


def _untagged(raw: str, start: int, rfc5424: bool, tagged: bool) -> tuple[bool, int]:
    """Say whether the kernel speaks, and where its words begin; a program's keep its name.

    Where no line of the log is tagged as the kernel's, its keeper only put the time before what a console
    showed: `Call Trace:` is no program then.
    """
    if rfc5424:
        tag = _RFC5424_TAG.match(raw, start)
        if tag is not None:
            return tag[1] == "kernel", tag.end()
    tag = _TAG.match(raw, start)
    if tag is None:
        return True, start
    if tag[1] == "kernel":
        return True, tag.end()
    if tag[2] is not None:
        return False, tag.start(1)
    # `BUG: …` is the message's own word: a program has a host name before it.
    own = not tagged or raw[start : tag.end()].count(" ") < 2
    return (True, start) if own else (False, tag.start(1))


def _wall(found: re.Match[str]) -> float | None:
    zone = found["zone"]
    if zone is None or zone == "Z" or zone[0] == " ":
        zone = "+00:00"
    try:
        moment = datetime.fromisoformat(found["moment"].replace(" ", "T") + zone)
        seconds = moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds + (float(f"0.{found['fraction']}") if found["fraction"] else 0.0)


def _epoch(human: re.Match[str]) -> float | None:
    month, *rest = human.groups()
    day, hour, minute, second, year = map(int, rest)
    try:
        return datetime(year, _MONTHS[month], day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None

"""How the boot before this one ended. In: a host tree, the agent's own mark. Out: an `Ending` with its proof.

What tells: kdump's folders; the end of that boot's journal (systemd's SD_MESSAGE_JOURNAL_STOPPED and
systemd-shutdown's lines, sd-messages.h); the shutdown record in wtmp (utmp(5), written by
systemd-update-utmp); pstore's files; file systems that had to be recovered. Each says something only where
its writer was at work, so without any of them the end is unknown, not unclean.
"""

import json
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from necropsy_agent.records.kdump import crash_roots
from necropsy_agent.sources import child
from necropsy_agent.sources.source import Host

End = Literal["clean", "unclean", "unknown"]

_MARK: Final = "boot-seen.json"
_JOURNAL_TIMEOUT_S: Final = 15.0
_JOURNAL_LINES: Final = 20
_HEAD_BYTES: Final = 64 << 10
# kexec names the dead kernel's memory on the command line; arm64 has it in the device tree and tells of it
# (drivers/of/fdt.c, fdt_reserve_elfcorehdr).
_CAPTURE: Final = re.compile(rb"ommand line:.*\belfcorehdr=|Reserving .* for elfcorehdr")
_JOURNAL_STOPPED: Final = "d93fb3c9c24d451a97cea615ce59c00b"
_SHUTDOWN_UNITS: Final = ("systemd-shutdown", "shutdown")
_WTMP_BYTES: Final = 100 * 9600  # a multiple of both sizes of a record
_RUN_LVL: Final = 1
_BOOT_TIME: Final = 2
# Size of a record, where its seconds are and their form: x86's, and that of arm64 and others (bits/utmp.h).
_UTMP: Final = ((384, 340, "<l"), (400, 344, "<q"))
_EARLY_US: Final = 300_000_000
_SLACK_NS: Final = 300 * 10**9
_SAME_START_NS: Final = 60 * 10**9
_KMSG_RECORDS: Final = 20_000
_DIGITS: Final = 16  # of microseconds until the year 2286
_NEVER_NS: Final = 10**19
_RECOVERED: Final = re.compile(
    rb"EXT4-fs \(\S+\): recovery complete|EXT4-fs \(\S+\): orphan cleanup|XFS \(\S+\): Starting recovery"
    rb"|BTRFS.*: start tree-log replay|FAT-fs \(\S+\): Volume was not properly unmounted"
    rb"|F2FS-fs \(\S+\): recover fsync data"
)
_RESET: Final = re.compile(
    rb"[Pp]revious (?:system )?reset reason|[Rr]eset reason:|previously reset", re.ASCII
)
_ID: Final = re.compile(r"[0-9a-f]{32}")
_BTIME: Final = re.compile(rb"^btime (\d{1,10})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a boot ended: `previous` is its id, `began_ns` and `seen_ns` the first and last moment known of it.

    `proof` has one line each for what was found, whichever way it points. `started_ns` is when the running
    boot began. Times are CLOCK_REALTIME.
    """

    end: End = "unknown"
    previous: str | None = None
    began_ns: int | None = None
    seen_ns: int | None = None
    started_ns: int = 0
    proof: tuple[str, ...] = ()

    def boot_of(self, died_ns: int | None, running: str) -> str | None:
        """Name the boot that left a record at `died_ns`; None where it may be an older one than the last."""
        if died_ns is None:
            return self.previous if self.end == "unclean" else None
        if self.started_ns and died_ns >= self.started_ns:
            return running
        earliest_ns = self.began_ns if self.began_ns is not None else self.seen_ns
        if earliest_ns is None or died_ns >= earliest_ns - _SLACK_NS:
            return self.previous
        return None


class _Sign(NamedTuple):
    """What one witness says."""

    end: End
    proof: str


@dataclass(slots=True)
class LastBoot:
    """Looks once a boot and remembers. `state` is the agent's state folder; None keeps no mark."""

    state: Path | None
    program: str = "journalctl"
    _known: dict[str, Ending] = field(default_factory=dict)

    def of(self, host: Host) -> Ending:
        """Tell how the boot before `host.boot` ended. Asks journalctl, so it may take some seconds."""
        if host.boot not in self._known:
            self._known[host.boot] = self._look(host)
        return self._known[host.boot]

    def seen(self, host: Host) -> None:
        """Note that the running boot is still alive. Raises OSError where the mark cannot be written."""
        if self.state is None:
            return
        path = self.state / _MARK
        mark = _read_mark(path)
        if mark.get("boot") == host.boot:
            os.utime(path)
            return
        ending = self.of(host)
        fresh = {"boot": host.boot, "started_ns": ending.started_ns, "before": _before(mark, path, host)}
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(fresh))
        draft.replace(path)

    def _look(self, host: Host) -> Ending:
        started_ns = started_wall_ns(host.root)
        before: dict[str, object] = {}
        if self.state is not None:
            mark = _read_mark(self.state / _MARK)
            before = _before(mark, self.state / _MARK, host)
        previous = host.previous or _text(before.get("boot"))
        began_ns, seen_ns = _number(before.get("started_ns")), _number(before.get("seen_ns"))
        journal, told, journal_ns = self._journal(host, previous)
        # The agent may not have run in the last boot; the journal knows every boot.
        previous = told or previous
        wtmp, wtmp_ns = _wtmp(host.root, started_ns)
        seen_ns = max((ns for ns in (seen_ns, journal_ns) if ns), default=wtmp_ns)
        recovered, resets = _kernel_signs(host.root)
        since_ns = None if seen_ns is None else seen_ns - _SLACK_NS
        signs = [
            *_kdump_left(host.root, since_ns, started_ns),
            *([journal] if journal else []),
            *([wtmp] if wtmp else []),
            *_pstore_left(host.root, since_ns, started_ns),
            *recovered,
        ]
        return Ending(
            end=next((sign.end for sign in signs if sign.end != "unknown"), "unknown"),
            previous=previous,
            began_ns=began_ns,
            seen_ns=seen_ns,
            started_ns=started_ns,
            proof=(*(sign.proof for sign in signs), *resets),
        )

    def _journal(self, host: Host, previous: str | None) -> tuple[_Sign | None, str | None, int | None]:
        """Ask for the end of the previous boot's journal: what it says, its boot id, its last time."""
        program = child.find(self.program)
        if program is None:
            return None, None, None
        for which in boots_of_journal(host, previous):
            found = self._end_of_journal(program, host, which)
            if found is None:
                break
            sign, boot, last_ns = found
            if sign.end == "unclean" and self._is_captures(program, host, boot):
                continue
            return sign, boot, last_ns
        return None, None, None

    def _end_of_journal(self, program: str, host: Host, which: str) -> tuple[_Sign, str, int | None] | None:
        """Ask for the end of one boot's journal; None where there is no such boot."""
        argv = [program, *journal_of(host), "--no-pager", f"--lines={_JOURNAL_LINES}", "--output=json"]
        try:
            printed = child.output([*argv, which], _JOURNAL_TIMEOUT_S, 1 << 20)
        except OSError:
            return None
        entries = []
        for line in (printed or b"").splitlines():
            with suppress(ValueError, RecursionError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
        boots = {boot for entry in entries if (boot := _text(entry.get("_BOOT_ID"))) and _ID.fullmatch(boot)}
        if len(boots) != 1 or boots == {host.boot}:
            return None
        last_us = max(_number(entry.get("__REALTIME_TIMESTAMP")) or 0 for entry in entries)
        last_ns = last_us * 1000
        for entry in reversed(entries):
            who, what = _text(entry.get("SYSLOG_IDENTIFIER")), _text(entry.get("MESSAGE"))
            if entry.get("MESSAGE_ID") == _JOURNAL_STOPPED or who in _SHUTDOWN_UNITS:
                sign = _Sign("clean", f"the last boot's journal ends with {who}: {(what or '')[:120]}")
                return sign, boots.pop(), last_ns or None
        what = _text(entries[-1].get("MESSAGE")) or ""
        proof = (
            f"the last boot's journal breaks off after: {what.splitlines()[0][:120] if what else '(binary)'}"
        )
        return _Sign("unclean", proof), boots.pop(), last_ns or None

    def _is_captures(self, program: str, host: Host, boot: str) -> bool:
        """Say whether a boot was kdump's capture kernel, which came up in the place of the one that died."""
        argv = [program, *journal_of(host), "--no-pager", "--dmesg", "--output=cat", f"--boot={boot}"]
        try:
            return _CAPTURE.search(child.beginning(argv, _JOURNAL_TIMEOUT_S, _HEAD_BYTES)) is not None
        except OSError:
            return False


def journal_of(host: Host) -> list[str]:
    """Give the options that point journalctl at the host's journal; none for the running machine's."""
    return [] if host.root == Path("/") else [f"--root={host.root}"]


def boots_of_journal(host: Host, previous: str | None) -> tuple[str, ...]:
    """Give the options that choose the last boot, and the one before it, should the last be kdump's.

    A recorded tree may lack the running boot's own journal.
    """
    return (f"--boot={previous}",) if previous and host.root != Path("/") else ("--boot=-1", "--boot=-2")


def started_wall_ns(root: Path) -> int:
    """Give the start of the running boot by /proc/stat's `btime`, to a second; 0 where it is not told."""
    with suppress(OSError):
        found = _BTIME.search((root / "proc/stat").read_bytes())
        return int(found[1]) * 10**9 if found else 0
    return 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    """Take a count of micro- or nanoseconds, as journalctl and the mark have them; None for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
        return int(value)
    return value if isinstance(value, int) and 0 <= value < _NEVER_NS else None


def _read_mark(path: Path) -> dict[str, object]:
    """Read the agent's mark; a damaged one is none."""
    with suppress(OSError, ValueError, RecursionError):
        mark = json.loads(path.read_text())
        if isinstance(mark, dict):
            return mark
    return {}


def _before(mark: dict[str, object], path: Path, host: Host) -> dict[str, object]:
    """Tell from the mark which boot was before: the one it is of, or after a restart the one it remembers."""
    if mark.get("boot") == host.boot:
        before = mark.get("before")
        return before if isinstance(before, dict) else {}
    if not mark:
        return {}
    with suppress(OSError):
        return {
            "boot": mark.get("boot"),
            "started_ns": mark.get("started_ns"),
            "seen_ns": path.stat().st_mtime_ns,
        }
    return {}


def _utmp(raw: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Take utmp records apart, newest first: type, user, seconds. Sizes differ: 384 bytes, 400 on arm64."""
    for size, seconds_at, form in sorted(_UTMP, key=lambda layout: len(raw) % layout[0] != 0):
        records = [raw[at : at + size] for at in range(len(raw) % size, len(raw) - size + 1, size)]
        kinds = {struct.unpack_from("<h", record)[0] for record in records[-64:]}
        if kinds <= set(range(10)) and any(kinds):
            for record in reversed(records):
                kind = struct.unpack_from("<h", record)[0]
                seconds = struct.unpack_from(form, record, seconds_at)[0]
                if 0 < seconds < 1 << 33:
                    yield kind, record[44:76].split(b"\0")[0], seconds
            return


def _wtmp(root: Path, started_ns: int) -> tuple[_Sign | None, int | None]:
    """Look for a shutdown record between the last two starts: what that says, and when it was.

    Without this boot's own start record nothing is said: it is not written yet, or the clock was set since.
    """
    try:
        with (root / "var/log/wtmp").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _WTMP_BYTES))
            raw = file.read(_WTMP_BYTES)
    except OSError:
        return None, None
    own = False  # whether the running boot's start record was passed
    for kind, user, seconds in _utmp(raw):
        near = not started_ns or abs(seconds * 10**9 - started_ns) <= _SAME_START_NS
        if kind == _BOOT_TIME and near and not own:
            own = True
        elif kind == _RUN_LVL and user == b"shutdown":
            return _Sign("clean", "wtmp has a shutdown record before this boot"), seconds * 10**9
        elif kind == _BOOT_TIME and not own:
            return None, None
        elif kind == _BOOT_TIME:
            return _Sign("unclean", "wtmp has no shutdown record between the last two boots"), None
    return None, None


def _kernel_signs(root: Path) -> tuple[list[_Sign], list[str]]:
    """Look at the running kernel's first minutes: what had to be recovered, which reset reason it read."""
    recovered: list[_Sign] = []
    resets: list[str] = []
    try:
        fd = os.open(root / "dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return recovered, resets
    try:
        for _ in range(_KMSG_RECORDS):
            try:
                record = os.read(fd, 64 << 10)
            except BrokenPipeError:
                continue
            head, _, message = record.split(b"\n", 1)[0].partition(b";")
            fields = head.split(b",")
            if len(fields) < 3 or not re.fullmatch(rb"\d{1,16}", fields[2]) or int(fields[2]) > _EARLY_US:
                break
            line = message.decode("ascii", "backslashreplace")[:160]
            if _RECOVERED.search(message):
                recovered.append(_Sign("unclean", f"a file system was not unmounted: {line}"))
            elif _RESET.search(message):
                resets.append(f"the firmware says: {line}")
    except OSError:
        pass  # EAGAIN: that was all
    finally:
        os.close(fd)
    return recovered[:5], resets[:5]


def _kdump_left(root: Path, since_ns: int | None, started_ns: int) -> Iterator[_Sign]:
    """Look for crash folders that were made between the last sign of life and this boot."""
    if since_ns is None:
        return
    for crash_root in crash_roots(root):
        with suppress(OSError), os.scandir(crash_root) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False) or entry.name.startswith("kdump-test-"):
                    continue
                if since_ns <= entry.stat(follow_symlinks=False).st_mtime_ns <= started_ns:
                    yield _Sign("unclean", f"kdump left {entry.path}")


def _pstore_left(root: Path, since_ns: int | None, started_ns: int) -> Iterator[_Sign]:
    """Look for pstore records by the time in their names, else in their status; see records/pstore.py."""
    if since_ns is None:
        return
    with suppress(OSError), os.scandir(root / "sys/fs/pstore") as entries:
        for entry in entries:
            words = entry.name.split("-")
            if len(words) < 3 or words[0] != "dmesg":
                continue
            ident = words[2].split(".")[0]
            number = int(ident) if ident.isascii() and ident.isdigit() else 0
            seconds = {"erst": number >> 32, "efi": number // 100_000, "efi_pstore": number // 100_000}
            died_ns = seconds.get(words[1], 0) * 10**9 or entry.stat(follow_symlinks=False).st_mtime_ns
            if since_ns <= died_ns <= started_ns:
                yield _Sign("unclean", f"the dying kernel left {entry.name}")
                return

"""One crash, written down in every way in which people keep kernel logs, is one report."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
import zstandard

from necropsy_analyzer.report.lines import LINE_CHARACTERS, read
from necropsy_analyzer.report.report import LogLine, Report

Reports = Callable[[str | bytes], tuple[Report, ...]]


class Message(NamedTuple):
    time_s: float
    level: int
    caller: str
    text: str


BOOT = datetime(2026, 3, 9, 7, 59, 50, tzinfo=UTC)
CRASH = tuple(
    Message(round(37.99 + n * 0.000213, 6), level, "T3874", text)
    for n, (level, text) in enumerate(
        (
            (6, "e1000e 0000:00:1f.6 eth0: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: Rx/Tx"),
            (1, "BUG: kernel NULL pointer dereference, address: 0000000000000078"),
            (1, "#PF: supervisor read access in kernel mode"),
            (1, "#PF: error_code(0x0000) - not-present page"),
            (6, "PGD 0 P4D 0 "),
            (4, "Oops: 0000 [#1] PREEMPT SMP NOPTI"),
            (4, "CPU: 4 PID: 3874 Comm: ring_poll Tainted: G        W  OE      6.1.0-21-amd64 #1"),
            (4, "Hardware name: Dell Inc. PowerEdge R640/0H28RR, BIOS 2.10.2 02/24/2021"),
            (4, "Workqueue: events ring_refill_work [ringnic]"),
            (4, "RIP: 0010:ring_next_desc+0x1d/0x40 [ringnic]"),
            (4, "Code: 0f 1f 44 00 00 8b 47 18 85 c0 74 05 c3 cc cc cc cc 48 c7 <8b> 40 78 c3"),
            (4, "RSP: 0018:ffffb5c0803efd98 EFLAGS: 00010246"),
            (4, "RAX: 0000000000000000 RBX: ffff8d9b0127c200 RCX: 0000000000000000"),
            (4, "CR2: 0000000000000078 CR3: 0000000002d16000 CR4: 0000000000750ee0"),
            (4, "Call Trace:"),
            (4, " <TASK>"),
            (4, " ring_refill+0x6b/0x120 [ringnic]"),
            (4, " ? __mod_timer+0x2a0/0x3f0"),
            (4, " process_one_work+0x1c7/0x380"),
            (4, " worker_thread+0x4d/0x380"),
            (4, " kthread+0xda/0x100"),
            (4, " ret_from_fork+0x22/0x30"),
            (4, " </TASK>"),
            (4, "Modules linked in: ringnic(OE) nls_ascii vfat fat [last unloaded: floppy]"),
            (4, "CR2: 0000000000000078"),
            (4, "---[ end trace 0000000000000000 ]---"),
            (0, "Kernel panic - not syncing: Fatal exception"),
            (0, "---[ end Kernel panic - not syncing: Fatal exception ]---"),
        )
    )
)  # fmt: skip
LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")


def _when(message: Message) -> datetime:
    return BOOT + timedelta(seconds=message.time_s)


def _stamp(message: Message) -> str:
    return f"[{message.time_s:12.6f}]"


def _joined(line: Callable[[Message], str], *, end: str = "\n") -> bytes:
    return "".join(line(message) + end for message in CRASH).encode()


def _dmesg(message: Message) -> str:
    return f"{_stamp(message)} {message.text}"


def _kmsg_file() -> bytes:
    lines = []
    for n, message in enumerate(CRASH, start=4017):
        lines.append(
            f"{message.level},{n},{int(message.time_s * 1e6)},-,caller={message.caller};{message.text}"
        )
        if n == 4017:
            lines += [" SUBSYSTEM=pci", " DEVICE=+pci:0000:00:1f.6"]
    return "\n".join(lines).encode() + b"\n"


def _journal(*, array: bool = False) -> bytes:
    entries: list[dict[str, object]] = []
    for message in CRASH:
        entry: dict[str, object] = {
            "_TRANSPORT": "kernel",
            "PRIORITY": str(message.level),
            "SYSLOG_IDENTIFIER": "kernel",
            "_SOURCE_MONOTONIC_TIMESTAMP": str(int(message.time_s * 1e6)),
            "__REALTIME_TIMESTAMP": str(int(_when(message).timestamp() * 1e6)),
            "MESSAGE": list(message.text.encode()) if array else message.text,
        }
        entries.append(entry)
        entries.append({"_TRANSPORT": "journal", "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": None})
        entries.append({"_TRANSPORT": "stdout", "SYSLOG_IDENTIFIER": "agetty", "MESSAGE": "ring_next_desc"})
    return "\n".join(json.dumps(entry) for entry in entries).encode() + b"\n"


def _console() -> bytes:
    """What a serial console shows: other programs between the kernel's lines and inside them."""
    noise = (
        "\r\n\r\nDebian GNU/Linux 12 node14 ttyS0\r\n\r\nnode14 login: ",
        "\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mMulti-User System\x1b[0m.\r\n",
        "Starting periodic command scheduler: cron.\r\n",
        "",
    )
    parts = []
    for n, message in enumerate(CRASH):
        parts += [noise[n % len(noise)], f"\x1b[33m{_dmesg(message)}\x1b[m\r\n"]
    return "".join(parts).encode()


def _pstore(*, newest_first: bool) -> bytes:
    """A dump in three parts as efi-pstore or ERST keep them: Part1 is the end of the log."""
    third = len(CRASH) // 3
    parts = [
        f"Panic#1 Part{3 - n}\n" + "".join(f"<{m.level}>{_dmesg(m)}\n" for m in some)
        for n, some in enumerate((CRASH[:third], CRASH[third : 2 * third], CRASH[2 * third :]))
    ]
    return "".join(reversed(parts) if newest_first else parts).encode()


SHAPES: dict[str, bytes] = {
    "dmesg": _joined(_dmesg),
    "dmesg without time": _joined(lambda m: m.text),
    "dmesg with levels": _joined(lambda m: f"<{m.level}>{_dmesg(m)}"),
    "levels without time": _joined(lambda m: f"<{m.level}>{m.text}"),
    "caller ids": _joined(lambda m: f"{_stamp(m)}[{m.caller:>6}] {m.text}"),
    "caller ids of interrupts": _joined(lambda m: f"<{m.level}>{_stamp(m)}[    C4] {m.text}"),
    "dmesg -T": _joined(lambda m: f"[{_when(m):%a %b %e %H:%M:%S %Y}] {m.text}"),
    "dmesg -x": _joined(lambda m: f"{'kern':6}:{LEVELS[m.level]:6}: {_dmesg(m)}"),
    "dmesg -x -T": _joined(
        lambda m: f"{'kern':6}:{LEVELS[m.level]:6}: [{_when(m):%a %b %e %H:%M:%S %Y}] {m.text}"
    ),
    "dmesg -d": _joined(lambda m: f"[{m.time_s:12.6f} <    0.000213>] {m.text}"),
    "dmesg -H": _joined(
        lambda m: f"[{_when(m):%b%e %H:%M}] {m.text}" if m is CRASH[0] else f"[  +0.000213] {m.text}"
    ),
    "dmesg --time-format iso": _joined(
        lambda m: f"{_when(m):%Y-%m-%dT%H:%M:%S},{m.time_s % 1 * 1e6:06.0f}+00:00 {m.text}"
    ),
    "/dev/kmsg": _kmsg_file(),
    "journalctl short": _joined(lambda m: f"{_when(m):%b %d %H:%M:%S} web-04 kernel: {m.text}"),
    "journalctl short-full": _joined(
        lambda m: f"{_when(m):%a %Y-%m-%d %H:%M:%S} UTC web-04 kernel: {m.text}"
    ),
    "journalctl short-iso": _joined(lambda m: f"{_when(m):%Y-%m-%dT%H:%M:%S}+0000 web-04 kernel: {m.text}"),
    "journalctl short-iso-precise": _joined(
        lambda m: f"{_when(m):%Y-%m-%dT%H:%M:%S.%f}+00:00 web-04 kernel: {m.text}"
    ),
    "journalctl short-precise": _joined(lambda m: f"{_when(m):%b %d %H:%M:%S.%f} web-04 kernel: {m.text}"),
    "journalctl short-monotonic": _joined(lambda m: f"{_stamp(m)} web-04 kernel: {m.text}"),
    "journalctl short-unix": _joined(lambda m: f"{_when(m).timestamp():.6f} web-04 kernel: {m.text}"),
    "journalctl json": _journal(),
    "journalctl json, byte arrays": _journal(array=True),
    "syslog file": _joined(lambda m: f"{_when(m):%b %e %H:%M:%S} web-04 kernel: {_dmesg(m)}"),
    "syslog RFC 3164": _joined(lambda m: f"<{m.level}>{_when(m):%b %e %H:%M:%S} web-04 kernel: {_dmesg(m)}"),
    "syslog RFC 5424": _joined(
        lambda m: f"<{m.level}>1 {_when(m):%Y-%m-%dT%H:%M:%S.%f}Z web-04 kernel - - - {_dmesg(m)}"
    ),
    "syslog ISO with facility tag": _joined(
        lambda m: f"{_when(m):%Y-%m-%dT%H:%M:%S.%f}+00:00 web-04 kernel: {_dmesg(m)}"
    ),
    "serial console": _console(),
    "serial console, time put before": _joined(
        lambda m: f"{_when(m):%Y-%m-%d %H:%M:%S.%f} {m.text}"
    ),
    "CR LF": _joined(_dmesg, end="\r\n"),
    "CR CR LF": _joined(_dmesg, end="\r\r\n"),
    "netconsole": _joined(_dmesg),
    "netconsole into syslog": _joined(lambda m: f"{_when(m):%b %e %H:%M:%S} 10.20.0.14 {_dmesg(m)}"),
    "netconsole extended": _joined(lambda m: f"{m.level},517,{int(m.time_s * 1e6)},-;{m.text}"),
    "netconsole extended with release": _joined(
        lambda m: f"6.1.0-21-amd64,{m.level},517,{int(m.time_s * 1e6)},-;{m.text}"
    ),
    "pstore in reading order": _pstore(newest_first=False),
    "pstore newest first": _pstore(newest_first=True),
    "ramoops": b"====1773043190.123456-C\n" + _joined(lambda m: f"<{m.level}>{_dmesg(m)}"),
    "Android": _joined(lambda m: f"<{m.level}>{_stamp(m)}  [4:      ring_poll: 3874] {m.text}"),
    "Android, letter before": _joined(lambda m: f"{_stamp(m)} I[4:      ring_poll: 3874] {m.text}"),
    "MediaTek": _joined(lambda m: f"<{m.level}>{_stamp(m)}(4)[3874:ring_poll]{m.text}"),
    "UTF-8 with BOM": b"\xef\xbb\xbf" + _joined(_dmesg),
    "UTF-16 little endian": b"\xff\xfe" + _joined(_dmesg).decode().encode("utf-16-le"),
    "UTF-16 big endian": b"\xfe\xff" + _joined(_dmesg).decode().encode("utf-16-be"),
    "NULs between": b"\0" * 512 + _joined(_dmesg).replace(b"\n", b"\n\0\0") + b"\0" * 4096,
    "Latin-1 between": _joined(_dmesg).replace(b"\n", b"\nplaque arri\xe8re d\xe9branch\xe9e\n", 3),
    "last line without an end": _joined(_dmesg).rstrip(b"\n"),
    "journalctl in French": _joined(lambda m: f"mars {_when(m):%d %H:%M:%S} web-04 kernel: {m.text}"),
    "journalctl in German": _joined(lambda m: f"M\u00e4r {_when(m):%d %H:%M:%S} web-04 kernel: {m.text}"),
    "journalctl in Chinese": _joined(lambda m: f"3\u6708 {_when(m):%d %H:%M:%S} web-04 kernel: {m.text}"),
    "dmesg -T in Hungarian": _joined(lambda m: f"[h m\u00e1rc {_when(m):%e %H:%M:%S %Y}] {m.text}"),
    "busybox syslog": _joined(lambda m: f"{_when(m):%b %e %H:%M:%S} web-04 kern.warn kernel: {m.text}"),
    "grep -n": _joined(lambda m: f"4017:{_when(m):%b %e %H:%M:%S} web-04 kernel: {m.text}"),
    "grep in files": _joined(lambda m: f"log/kern.log.1:{_when(m):%b %e %H:%M:%S} web-04 kernel: {m.text}"),
    "time of day alone": _joined(lambda m: f"{_when(m):%H:%M:%S} web-04 kernel: {m.text}"),
    "records passed on": _joined(
        lambda m: f"{_when(m):%b %e %H:%M:%S} web-04 {m.level},517,{int(m.time_s * 1e6)},-;{m.text}"
    ),
    "hypervisor's log of the console": _joined(
        lambda m: f"{_when(m):%Y-%m-%dT%H:%M:%S.000Z} In(05) vcpu-5 - Guest: <{m.level}>{_dmesg(m)}"
    ),
    "quoted in a mail": _joined(lambda m: f"> {_dmesg(m)}"),
    "first column cut": _joined(lambda m: _dmesg(m)[1:]),
}  # fmt: skip
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "gzip in members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "zstd in frames": lambda data: zstandard.compress(data[:700]) + zstandard.compress(data[700:]),
    "gzip in xz": lambda data: lzma.compress(gzip.compress(data)),
}


def _facts(report: Report) -> dict[str, object]:
    return {
        "mechanism": report.mechanism,
        "title": report.title,
        "culprit": report.culprit,
        "module": report.culprit_module,
        "stack": [(frame.function, frame.module, frame.reliable) for frame in report.stack],
        "who": (report.process, report.pid, report.cpu),
        "kernel": (report.release, report.tainted, report.hardware),
        "workqueue": report.workqueue,
        "address": report.address,
        "modules": report.modules,
        "fatal": report.fatal,
        "aftershock": report.aftershock,
        "corrupted": report.corrupted,
    }


EXPECTED = {
    "mechanism": "null_deref",
    "title": "kernel NULL pointer dereference in ring_next_desc",
    "culprit": "ring_next_desc",
    "module": "ringnic",
    "stack": [
        ("ring_next_desc", "ringnic", True),
        ("ring_refill", "ringnic", True),
        ("__mod_timer", None, False),
        ("process_one_work", None, True),
        ("worker_thread", None, True),
        ("kthread", None, True),
        ("ret_from_fork", None, True),
    ],
    "who": ("ring_poll", 3874, 4),
    "kernel": ("6.1.0-21-amd64", "WOE", "Dell Inc. PowerEdge R640/0H28RR"),
    "workqueue": "events ring_refill_work [ringnic]",
    "address": 0x78,
    "modules": {"ringnic": "OE", "nls_ascii": "", "vfat": "", "fat": ""},
    "fatal": True,
    "aftershock": False,
    "corrupted": False,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_crash_is_the_same_report_in_every_shape(shape: str, reports: Reports) -> None:
    (report,) = reports(SHAPES[shape])
    assert _facts(report) == EXPECTED


@pytest.mark.parametrize("packing", PACKED)
def test_compressed_logs_are_opened(packing: str, reports: Reports) -> None:
    (report,) = reports(PACKED[packing](SHAPES["dmesg"]))
    assert _facts(report) == EXPECTED


@pytest.mark.parametrize("shape", SHAPES)
def test_line_numbers_are_those_of_the_input(shape: str, reports: Reports) -> None:
    (report,) = reports(SHAPES[shape])
    data = SHAPES[shape]
    text = data.decode("utf-16") if data[:1] in (b"\xff", b"\xfe") else data.decode("utf-8", "replace")
    numbered = text.split("\n")
    if "byte arrays" not in shape:
        assert "NULL pointer dereference" in numbered[report.first_line - 1]
        assert "end Kernel panic" in numbered[report.last_line - 1]
        assert report.ip is not None
        assert "RIP: 0010:ring_next_desc" in numbered[report.ip.line - 1]


TIMED = {
    "dmesg", "dmesg with levels", "caller ids", "dmesg -x", "dmesg -d", "/dev/kmsg", "journalctl json",
    "journalctl short-monotonic", "syslog file", "syslog RFC 5424", "serial console", "netconsole extended",
    "pstore newest first", "Android", "MediaTek", "UTF-16 little endian",
}  # fmt: skip


@pytest.mark.parametrize("shape", sorted(TIMED))
def test_kernel_time_is_kept(shape: str) -> None:
    spoken = [line for line in read(SHAPES[shape]).lines if line.time_s is not None]
    assert [line.time_s for line in spoken] == pytest.approx([message.time_s for message in CRASH])
    assert [line.text for line in spoken] == [message.text for message in CRASH]


WALL = {
    "dmesg -T", "dmesg --time-format iso", "journalctl short-full", "journalctl short-iso",
    "journalctl short-iso-precise", "journalctl json", "syslog RFC 5424", "serial console, time put before",
}  # fmt: skip


@pytest.mark.parametrize("shape", sorted(WALL))
def test_wall_time_is_kept_where_it_is_told(shape: str) -> None:
    spoken = [line for line in read(SHAPES[shape]).lines if line.kernel]
    assert [line.wall_s for line in spoken] == pytest.approx(
        [_when(message).timestamp() for message in CRASH], abs=1.0
    )


LEVELLED = {
    "dmesg with levels", "levels without time", "dmesg -x", "dmesg -x -T", "/dev/kmsg", "journalctl json",
    "syslog RFC 3164", "syslog RFC 5424", "netconsole extended", "pstore in reading order",
}  # fmt: skip


@pytest.mark.parametrize("shape", sorted(LEVELLED))
def test_levels_are_kept(shape: str) -> None:
    spoken = [line for line in read(SHAPES[shape]).lines if line.kernel]
    assert [line.level for line in spoken] == [message.level for message in CRASH]


@pytest.mark.parametrize(
    ("line", "caller"),
    [
        ("[   12.345678][  T123] text", "T123"),
        ("[   12.345678][    C7] text", "C7"),
        ("<4>[   12.345678][  T123] text", "T123"),
        ("[   12.345678][  T123@C2] text", "T123"),
        ("4,100,12345678,-,caller=T123;text", "T123"),
        ("[   37.99]  [4:SdpManagerServi: 3874] text", "T3874"),
        ("[   37.991234]  [2:      swapper/2:    0] text", "C2"),
        ("[   37.991234](1)[0:swapper/1]text", "C1"),
        ("Mar  9 08:00:27 web-04 kernel: [   12.345678][  T123] text", "T123"),
        ("[   12.345678] text", None),
    ],
)
def test_callers_are_told(line: str, caller: str | None) -> None:
    (read_line,) = read(line.encode()).lines
    assert (read_line.text, read_line.caller, read_line.kernel) == ("text", caller, True)


@pytest.mark.parametrize(
    "line",
    [
        "Mar  9 08:00:27 web-04 kubelet[811]: BUG: soft lockup",
        "2026-03-09T08:00:27+00:00 web-04 dockerd[900]: BUG: soft lockup",
        "2026-03-09T08:00:27.123456+00:00 web-04 monitor: BUG: soft lockup",
        "<30>1 2026-03-09T08:00:27Z web-04 kubelet 811 - - BUG: soft lockup",
        "[   12.345678] web-04 kubelet[811]: BUG: soft lockup",
        "[   12.345678] systemd[1]: BUG: soft lockup",
        "30,100,12345678,-;systemd[1]: BUG: soft lockup",
        "daemon:err   : [   12.345678] BUG: soft lockup",
        '{"_TRANSPORT":"syslog","SYSLOG_IDENTIFIER":"kubelet","MESSAGE":"BUG: soft lockup"}',
        '{"_TRANSPORT":["a"],"MESSAGE":"BUG: soft lockup"}',
        "Panic#1 Part1",
        "-- Boot 3f1c0c8a5c5e4c6f8f1e --",
    ],
)
def test_other_programs_are_told_from_the_kernel(line: str) -> None:
    log = read(f"Mar  9 08:00:26 web-04 kernel: usb 1-1: new device\n{line}\n".encode())
    assert [told.kernel for told in log.lines] == [True, False]


@pytest.mark.parametrize(
    "text", ["BUG: scheduling while atomic: worker/771", "mce: [Hardware Error]: events"]
)
def test_the_kernel_is_heard_where_the_host_name_was_left_out(text: str) -> None:
    log = read(f"Mar 09 08:00:28 kernel: {text}\nMar 09 08:00:29 kernel: sd 0:0:0:0: Attached\n".encode())
    assert [(line.text, line.kernel) for line in log.lines] == [(text, True), ("sd 0:0:0:0: Attached", True)]


@pytest.mark.parametrize(
    ("log", "texts"),
    [
        ('{"_TRANSPORT":"kernel","MESSAGE":"one\\ntwo"}', ["one", "two"]),
        ("6,1,100,-;one\\x0atwo", ["one", "two"]),
        ("Mar  9 08:00:26 h kernel: one#012two", ["one", "two"]),
        ("Mar  9 08:00:26 h kernel: one\n          two", ["one", "          two"]),
        ("[    1.000000] one[    1.000100] two", ["one", "two"]),
        ("<6>[    1.000000] one<4>[    1.000100] two", ["one", "two"]),
        ("node14 login: [    1.000000] one", ["one"]),
        ("6,1,100,-;a\\x5cb\\xc3\\xa4", ["a\\bÃ¤"]),
        ("", []),
        ("\n\n", ["", ""]),
    ],
)  # fmt: skip
def test_several_messages_in_one_line_are_parted(log: str, texts: list[str]) -> None:
    assert [line.text for line in read(log.encode()).lines if line.kernel] == texts


def test_a_line_without_an_end_is_cut_and_that_is_said() -> None:
    log = read(b"x" * (LINE_CHARACTERS * 3) + b"\n[    1.000000] BUG: soft lockup\n")
    assert [len(line.text) for line in log.lines] == [LINE_CHARACTERS, 16]
    assert log.damage == (f"1 lines longer than {LINE_CHARACTERS} characters were cut",)


def test_pstore_dumps_of_several_crashes_keep_their_order() -> None:
    log = b"Oops#1 Part2\na\nOops#1 Part1\nb\nPanic#2 Part1\nd\nPanic#2 Part2\nc\n"
    assert [(line.number, line.text) for line in read(log).lines if line.kernel] == [
        (2, "a"), (4, "b"), (8, "c"), (6, "d"),
    ]  # fmt: skip


def test_a_line_says_no_more_than_the_input() -> None:
    (line,) = read(b"plain words").lines
    assert line == LogLine(number=1, text="plain words")

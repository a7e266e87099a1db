"""Several reports in one log: which belong together, which follow from others, which came first."""

from collections.abc import Callable

import pytest

from necropsy_analyzer.report.principal import principal_report
from necropsy_analyzer.report.report import Report

Reports = Callable[[str | bytes], tuple[Report, ...]]
HEADER = "CPU: {cpu} PID: {pid} Comm: {process} {taint} 6.1.0-21-amd64 #1  Debian 6.1.90-1"


def _oops(
    function: str,
    *,
    n: int = 1,
    cpu: int = 1,
    pid: int = 500,
    process: str = "qd",
    taint: str = "Not tainted",
) -> list[str]:
    return [
        "BUG: kernel NULL pointer dereference, address: 0000000000000010",
        "#PF: supervisor read access in kernel mode",
        f"Oops: 0000 [#{n}] PREEMPT SMP NOPTI",
        HEADER.format(cpu=cpu, pid=pid, process=process, taint=taint),
        f"RIP: 0010:{function}+0x1d/0x40",
        "RAX: 0000000000000000 RBX: ffff8d9b0127c200 RCX: 0000000000000000",
        "Call Trace:",
        " <TASK>",
        f" {function}_caller+0x6b/0x120",
        " vfs_write+0xc7/0x3f0",
        " </TASK>",
        "---[ end trace 0000000000000000 ]---",
        f"RIP: 0010:{function}+0x1d/0x40",
    ]


def _warning(
    function: str, *, cpu: int = 1, pid: int = 500, process: str = "qd", taint: str = "Not tainted"
) -> list[str]:
    return [
        "------------[ cut here ]------------",
        f"WARNING: CPU: {cpu} PID: {pid} at drivers/misc/qd.c:210 {function}+0x1d/0x40",
        HEADER.format(cpu=cpu, pid=pid, process=process, taint=taint),
        f"RIP: 0010:{function}+0x1d/0x40",
        "Call Trace:",
        " <TASK>",
        f" {function}_caller+0x6b/0x120",
        " </TASK>",
        "---[ end trace 0000000000000000 ]---",
    ]


def _hung(process: str, pid: int, function: str) -> list[str]:
    return [
        f"INFO: task {process}:{pid} blocked for more than 120 seconds.",
        "      Not tainted 6.1.0-21-amd64 #1 Debian 6.1.90-1",
        '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.',
        f"task:{process:<16}state:D stack:0     pid:{pid:<5} ppid:1      flags:0x00004002",
        "Call Trace:",
        " <TASK>",
        " __schedule+0x351/0xa00",
        " schedule+0x5d/0xe0",
        f" {function}+0x5a/0x90",
        " </TASK>",
    ]


def _soft_lockup(function: str, *, cpu: int = 7, pid: int = 4410, process: str = "spin") -> list[str]:
    return [
        f"watchdog: BUG: soft lockup - CPU#{cpu} stuck for 26s! [{process}:{pid}]",
        "Modules linked in: xfs",
        HEADER.format(cpu=cpu, pid=pid, process=process, taint="Not tainted"),
        f"RIP: 0010:{function}+0x9/0x20",
        "Call Trace:",
        " <TASK>",
        f" {function}_ioctl+0x11/0x30",
        " __x64_sys_ioctl+0x92/0xd0",
        " </TASK>",
    ]


def _panic(reason: str, *functions: str, cpu: int = 1, pid: int = 500, process: str = "qd") -> list[str]:
    trace = [f" {function}+0x1d/0x40" for function in functions]
    header = HEADER.format(cpu=cpu, pid=pid, process=process, taint="Tainted: G             L")
    return [
        f"Kernel panic - not syncing: {reason}",
        *(
            [
                header,
                "Call Trace:",
                " <TASK>",
                " dump_stack_lvl+0x44/0x5c",
                " panic+0x118/0x2f4",
                *trace,
                " </TASK>",
            ]
            if trace
            else []
        ),
        f"---[ end Kernel panic - not syncing: {reason} ]---",
    ]


def _log(*blocks: tuple[float, list[str]], stamps: bool = True) -> str:
    lines = []
    for start_s, texts in blocks:
        for n, text in enumerate(texts):
            lines.append(f"[{start_s + n * 0.0001:12.6f}] {text}" if stamps else text)
    return "\n".join(lines) + "\n"


def _told(found: tuple[Report, ...]) -> list[tuple[str, str | None, bool, bool]]:
    return [(report.mechanism, report.culprit, report.fatal, report.aftershock) for report in found]


STAMPS = pytest.mark.parametrize("stamps", [True, False], ids=["with time", "without time"])


@STAMPS
@pytest.mark.parametrize(
    ("report", "reason", "functions", "expected"),
    [
        (_oops("ring_next"), "Fatal exception", (), ("null_deref", "ring_next")),
        (_oops("ring_next"), "Fatal exception in interrupt", (), ("null_deref", "ring_next")),
        (
            _oops("ring_next"),
            "Attempted to kill init! exitcode=0x00000009",
            ("do_exit",),
            ("null_deref", "ring_next"),
        ),
        (_warning("ring_stop"), "panic_on_warn set ...", ("__warn", "ring_stop"), ("warn", "ring_stop")),
        (_warning("ring_stop"), "kernel: panic_on_warn set ...", (), ("warn", "ring_stop")),
        (
            _soft_lockup("spin_wait"),
            "softlockup: hung tasks",
            ("watchdog_timer_fn",),
            ("soft_lockup", "spin_wait_ioctl"),
        ),
        (
            _hung("dd", 120, "bigfs_wait"),
            "hung_task: blocked tasks",
            ("watchdog",),
            ("hung_task", "bigfs_wait"),
        ),
        (
            [
                "list_del corruption. prev->next should be ffff8db6c1befc00, but was ffff8db6c1befb40",
                "------------[ cut here ]------------",
                "kernel BUG at lib/list_debug.c:59!",
                "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
                *_oops("__list_del_entry_valid")[3:8],
                " ring_drop+0xe/0x40",
                "---[ end trace 0000000000000000 ]---",
            ],
            "Fatal exception",
            (),
            ("memory_corruption", "ring_drop"),
        ),
        (
            [
                "mce: [Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 7: be00000001010091",
                "mce: [Hardware Error]: TSC 48fb6b305 ADDR 12345000 MISC 8c",
            ],
            "Fatal machine check",
            (),
            ("mce", None),
        ),
        (
            ["Uhhuh. NMI received for unknown reason 2c on CPU 0."],
            "NMI: Not continuing",
            ("unknown_nmi_error",),
            ("nmi", None),
        ),
        (
            ["sysrq: Trigger a crash"],
            "sysrq triggered crash",
            ("sysrq_handle_crash",),
            ("sysrq", "sysrq_handle_crash"),
        ),
        (
            ["BUG: scheduling while atomic: qd/500/0x00000002"],
            "scheduling while atomic",
            ("__schedule_bug", "__schedule", "ring_sync"),
            ("deadlock", "ring_sync"),
        ),
    ],
)
def test_a_panic_that_only_obeys_belongs_to_what_it_obeys(
    report: list[str],
    reason: str,
    functions: tuple[str, ...],
    expected: tuple[str, str | None],
    stamps: bool,
    reports: Reports,
) -> None:
    log = _log((100.0, report), (100.5, _panic(reason, *functions)), stamps=stamps)
    assert _told(reports(log)) == [(*expected, True, False)]


@STAMPS
def test_a_panic_with_a_reason_of_its_own_is_a_report(stamps: bool, reports: Reports) -> None:
    log = _log(
        (100.0, _warning("ring_stop")),
        (120.0, _panic("qd: firmware asked for it", "qd_fatal_event")),
        stamps=stamps,
    )
    found = reports(log)
    assert _told(found) == [
        ("warn", "ring_stop", False, False),
        ("panic_other", "qd_fatal_event", True, False),
    ]
    principal = principal_report(found)
    assert principal is not None
    assert principal.culprit == "qd_fatal_event"


def test_a_panic_long_after_a_lockup_is_not_its_consequence(reports: Reports) -> None:
    log = _log(
        (100.0, _soft_lockup("spin_wait")), (900.0, _panic("softlockup: hung tasks", "watchdog_timer_fn"))
    )
    assert [report.fatal for report in reports(log)] == [False, True]


@STAMPS
def test_oopses_after_the_first_are_aftershocks(stamps: bool, reports: Reports) -> None:
    log = _log(
        (100.0, _oops("ring_next")),
        (101.0, _oops("link_walk", n=2, process="kworker/1:1", taint="Tainted: G      D           ")),
        (140.0, _soft_lockup("spin_wait")),
        (300.0, _hung("sync", 77, "bigfs_wait")),
        stamps=stamps,
    )
    assert _told(reports(log)) == [
        ("null_deref", "ring_next", False, False),
        ("null_deref", "link_walk", False, True),
        ("soft_lockup", "spin_wait_ioctl", False, True),
        ("hung_task", "bigfs_wait", False, True),
    ]


@STAMPS
def test_memory_written_wrongly_explains_the_oops_after_it(stamps: bool, reports: Reports) -> None:
    overrun = [
        "BUG: KASAN: slab-out-of-bounds in ring_fill+0x2a/0x80",
        "Write of size 8 at addr ffff888103c4e540 by task qd/500",
        *_warning("ring_fill")[2:8],
    ]
    log = _log((100.0, overrun), (107.0, [*_oops("lookup"), *_panic("Fatal exception")]), stamps=stamps)
    found = reports(log)
    assert _told(found) == [
        ("out_of_bounds", "ring_fill", False, False),
        ("null_deref", "lookup", True, True),
    ]
    principal = principal_report(found)
    assert principal is not None
    assert principal.culprit == "ring_fill"


@STAMPS
def test_a_checkers_panic_obeys_whichever_checker_it_is(stamps: bool, reports: Reports) -> None:
    report = [
        "BUG: KMSAN: uninit-value in ring_fill+0x2a/0x80",
        " ring_fill+0x2a/0x80",
        " ring_fill_caller+0x6b/0x120",
    ]
    log = _log((100.0, report), (100.5, _panic("panic_on_kmsan set ...", "kmsan_report")), stamps=stamps)
    assert _told(reports(log)) == [("uninit_value", "ring_fill", True, False)]


@STAMPS
def test_a_warning_explains_no_oops(stamps: bool, reports: Reports) -> None:
    log = _log((100.0, _warning("ring_stop")), (100.01, _oops("ring_next")), stamps=stamps)
    found = reports(log)
    assert _told(found) == [("warn", "ring_stop", False, False), ("null_deref", "ring_next", False, False)]
    assert [report.stack[-1].function for report in found] == ["ring_stop_caller", "vfs_write"]


@STAMPS
def test_a_report_right_after_another_keeps_its_own_people(stamps: bool, reports: Reports) -> None:
    log = _log(
        (100.0, _warning("ring_stop", cpu=2, pid=11, process="first")),
        (100.002, _warning("link_stop", cpu=5, pid=22, process="second")),
        stamps=stamps,
    )
    assert [(r.culprit, r.process, r.pid, r.cpu) for r in reports(log)] == [
        ("ring_stop", "first", 11, 2),
        ("link_stop", "second", 22, 5),
    ]


def test_an_aftershock_alone_says_that_it_is_one(reports: Reports) -> None:
    (report,) = reports(_log((100.0, _oops("link_walk", n=3, taint="Tainted: G      D           "))))
    assert report.aftershock


@pytest.mark.parametrize("callers", [("T500", "T600"), ("C1", "C2")])
def test_two_cpus_that_speak_at_once_are_parted_by_their_caller_ids(
    callers: tuple[str, str], reports: Reports
) -> None:
    one = _oops("ring_next", cpu=1, pid=500, process="one")
    other = _warning("link_stop", cpu=2, pid=600, process="other")
    lines = []
    for n in range(max(len(one), len(other))):
        for texts, caller in ((one, callers[0]), (other, callers[1])):
            if n < len(texts):
                lines.append(f"[  100.{n:06}][{caller:>6}] {texts[n]}")
    found = reports("\n".join(lines))
    assert [(r.culprit, r.process, r.cpu, [f.function for f in r.stack]) for r in found] == [
        ("ring_next", "one", 1, ["ring_next", "ring_next_caller", "vfs_write"]),
        ("link_stop", "other", 2, ["link_stop", "link_stop_caller"]),
    ]


def test_lines_of_two_reports_without_caller_ids_give_both_headings(reports: Reports) -> None:
    one, other = _oops("ring_next"), _warning("link_stop")
    mixed = [text for pair in zip(one, other, strict=False) for text in pair]
    assert {report.mechanism for report in reports(_log((100.0, mixed)))} == {"null_deref", "warn"}


def test_another_programs_lines_between_change_nothing(reports: Reports) -> None:
    lines = _log((100.0, _oops("ring_next"))).splitlines()
    noisy = "\n".join(
        f"{line}\n[ OK ] Started Session {n} of user root. ? foo+0x1/0x2" for n, line in enumerate(lines)
    )
    (quiet,), (loud,) = reports("\n".join(lines)), reports(noisy)
    assert (quiet.stack[0].function, len(quiet.stack)) == (loud.stack[0].function, len(loud.stack))
    assert loud.process == "qd"


def test_all_hung_tasks_of_the_round_that_panicked_are_fatal_and_the_first_is_the_subject(
    reports: Reports,
) -> None:
    log = _log(
        (100.0, _hung("dd", 120, "bigfs_wait")),
        (500.0, _hung("cp", 121, "bigfs_wait")),
        (500.1, _hung("sync", 122, "bigfs_sync")),
        (500.2, _hung("jbd2/sda1-8", 123, "jbd2_commit")),
        (500.3, _panic("hung_task: blocked tasks", "watchdog", process="khungtaskd", pid=30, cpu=4)),
    )
    found = reports(log)
    assert [(r.process, r.pid, r.cpu, r.fatal, r.aftershock) for r in found] == [
        ("dd", 120, None, False, False),
        ("cp", 121, None, True, False),
        ("sync", 122, None, True, False),
        ("jbd2/sda1-8", 123, None, True, False),
    ]
    principal = principal_report(found)
    assert principal is not None
    assert principal.process == "cp"


@STAMPS
def test_a_long_list_of_hung_tasks_gives_each_of_them(stamps: bool, reports: Reports) -> None:
    blocks = [(100.0 + n / 10, _hung(f"worker-{n}", 1000 + n, "bigfs_wait")) for n in range(300)]
    found = reports(_log(*blocks, stamps=stamps))
    assert [(r.process, r.pid, r.culprit) for r in found] == [
        (f"worker-{n}", 1000 + n, "bigfs_wait") for n in range(300)
    ]


BANNER = "Linux version 6.1.0-21-amd64 (debian-kernel@lists.debian.org) (gcc-12) #1 SMP"
BOOT = [
    BANNER,
    "Command line: BOOT_IMAGE=/vmlinuz root=/dev/sda1 panic=10",
    *(f"dev {n}: ready" for n in range(150)),
]


@STAMPS
def test_boots_are_counted(stamps: bool, reports: Reports) -> None:
    log = _log(
        (0.0, BOOT),
        (3.0, _oops("ring_next")),
        (3.5, _panic("Fatal exception")),
        (0.0, BOOT),
        (900.0, _soft_lockup("spin_wait")),
        (0.0, BOOT),
        (1.0, ["all is well"]),
        (0.0, BOOT),
        (2.0, _warning("ring_stop")),
        stamps=stamps,
    )
    assert [(r.mechanism, r.boot, r.aftershock) for r in reports(log)] == [
        ("null_deref", 0, False),
        ("soft_lockup", 1, False),
        ("warn", 3, False),
    ]


def test_a_log_that_begins_within_a_boot_counts_from_there(reports: Reports) -> None:
    log = _log((5000.0, _warning("ring_stop")), (0.0, BOOT), (4.0, _warning("link_stop")))
    assert [report.boot for report in reports(log)] == [0, 1]


@pytest.mark.parametrize(
    ("lines", "who"),
    [
        # The watchdog names the task; the header below is the CPU's that looked.
        (
            [
                "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 4",
                HEADER.format(cpu=3, pid=0, process="swapper/3", taint="Not tainted"),
                "Call Trace:",
                " watchdog_hardlockup_check+0x1/0x9",
            ],
            (None, None, 4),
        ),
        (
            [
                *_hung("dd", 120, "bigfs_wait"),
                "NMI backtrace for cpu 2",
                HEADER.format(cpu=2, pid=30, process="khungtaskd", taint="Not tainted"),
                "Call Trace:",
                " watchdog+0x1/0x9",
            ],
            ("dd", 120, None),
        ),
        (_soft_lockup("spin_wait", cpu=7, pid=4410, process="a b:c"), ("a b:c", 4410, 7)),
        (
            [
                "rcu: INFO: rcu_sched self-detected stall on CPU",
                "rcu: \t1-....: (1248 ticks this GP) idle=4b04/1/0x4 softirq=150/150",
                "NMI backtrace for cpu 1",
                HEADER.format(cpu=1, pid=9, process="pump", taint="Not tainted"),
                "Call Trace:",
                " <IRQ>",
                " nmi_cpu_backtrace+0x1/0x9",
                " </IRQ>",
                " asm_sysvec_apic_timer_interrupt+0x16/0x20",
                " pump_all+0x1/0x9",
                " __x64_sys_write+0x1/0x9",
            ],
            ("pump", 9, 1),
        ),
        (
            [
                "BUG: Bad page state in process a b  pfn:12345",
                HEADER.format(cpu=6, pid=88, process="a b", taint="Not tainted"),
                "Call Trace:",
                " bad_page+0x1/0x9",
                " qd_free+0x1/0x9",
            ],
            ("a b", 88, 6),
        ),
    ],
)
def test_who_and_where_are_those_of_the_victim(
    lines: list[str], who: tuple[str | None, int | None, int | None], reports: Reports
) -> None:
    (report,) = reports(_log((100.0, lines)))
    assert (report.process, report.pid, report.cpu) == who


def test_pid_0_is_a_pid(reports: Reports) -> None:
    (report,) = reports(_log((100.0, _warning("ring_stop", pid=0, process="swapper/1"))))
    assert (report.process, report.pid) == ("swapper/1", 0)


def test_a_silence_ends_a_report(reports: Reports) -> None:
    log = _log((100.0, _oops("ring_next")[:-2]), (400.0, [" late_function+0x1/0x2", "usb 1-1: new device"]))
    (report,) = reports(log)
    assert "late_function" not in [frame.function for frame in report.stack]
    assert report.last_line == 11


def test_the_last_words_of_a_panic_alone_are_a_report(reports: Reports) -> None:
    (report,) = reports(
        "[   12.345678] ---[ end Kernel panic - not syncing: Fatal exception in interrupt ]---\n"
    )
    assert (report.mechanism, report.fatal) == ("panic_other", True)


@pytest.mark.parametrize(
    ("pid", "process", "mark", "fatal"),
    [
        (500, "qd", " <TASK>", False),
        (0, "swapper/1", " <TASK>", True),
        (1, "systemd", " <TASK>", True),
        (500, "qd", " <IRQ>", True),
    ],
)
def test_an_oops_of_what_cannot_be_killed_is_fatal(
    pid: int, process: str, mark: str, fatal: bool, reports: Reports
) -> None:
    lines = [mark if text == " <TASK>" else text for text in _oops("ring_next", pid=pid, process=process)]
    (report,) = reports(_log((100.0, lines)))
    assert report.fatal == fatal
    assert report.context == ("irq" if mark == " <IRQ>" else "task")
    (warning,) = reports(_log((100.0, _warning("ring_stop", pid=pid, process=process))))
    assert not warning.fatal


def test_a_stall_takes_no_lines_of_a_report_that_is_open(reports: Reports) -> None:
    oops = [f"[  100.{n:06}][  T500] {text}" for n, text in enumerate(_oops("ring_next"))]
    stall = [f"[  100.{n:06}][    C7] {text}" for n, text in enumerate(_soft_lockup("spin_wait"))]
    found = reports("\n".join([*oops[:3], *stall[:4], *oops[3:], *stall[4:]]))
    assert [(r.culprit, r.process, r.cpu) for r in found] == [
        ("ring_next", "qd", 1),
        ("spin_wait_ioctl", "spin", 7),
    ]

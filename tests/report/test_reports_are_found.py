"""Each kind of report, of old and new kernels and of several architectures, says what stands in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from necropsy_analyzer.report.formats import HEADINGS
from necropsy_analyzer.report.report import Report

Reports = Callable[[str | bytes], tuple[Report, ...]]
HERE = Path(__file__).parent
LOGS = HERE / "logs"
WORDINGS = [line.split(maxsplit=1) for line in (HERE / "wordings.txt").read_text().splitlines()]

EXPECTED: dict[str, dict[str, Any]] = {
    "x86-of-6.12": {
        "mechanism": "bad_page_fault", "culprit": "vnic_unmap", "culprit_module": "vnic", "pid": 2210,
        "cpu": 5, "process": "kworker/5:1", "release": "6.12.9-amd64", "tainted": "WO",
        "address": 0xFFFFC90000A41018,
        "hardware": "Supermicro SYS-6029P/X11DPi-N", "workqueue": "events vnic_unmap_work [vnic]",
        "modules": {"vnic": "O", "nvme": "", "nvme_core": ""}, "fatal": False,
    },
    "x86-of-rhel7": {
        "mechanism": "null_deref", "culprit": "bond_poll_one", "process": "bond0_mon", "pid": 1127, "cpu": 3,
        "release": "3.10.0-1160.el7.x86_64", "tainted": "OE", "address": 0x38, "fatal": True,
        "modules": {
            "vbond": "OE", "ip6table_filter": "", "iptable_filter": "", "ip_tables": "", "xfs": "",
            "libcrc32c": "", "sd_mod": "", "crc_t10dif": "",
        },
    },
    "x86-of-rhel6-without-time": {
        "mechanism": "null_deref", "culprit": "qreq_complete", "process": "qstor_rx", "pid": 4311,
        "release": "2.6.32-754.el6.x86_64", "hardware": "Dell Inc. PowerEdge R710/00NH4P", "fatal": True,
    },
    "arm64": {
        "mechanism": "null_deref", "culprit": "hisi_ring_start", "process": "modprobe", "cpu": 12,
        "tainted": "O", "address": 0x20, "fatal": True, "release": "6.6.30",
        "hardware": "Huawei TaiShan 200 (Model 2280)/BC82AMDDA",
    },
    "arm64-of-4.14": {
        "mechanism": "bad_page_fault", "culprit": "mdev_unlink", "process": "sh", "cpu": 1,
        "address": 0xDEAD000000000108, "fatal": False,
    },
    "arm64-brk": {"mechanism": "bug", "culprit": "mring_push", "process": "mringd", "cpu": 3},
    "arm64-serror": {"mechanism": "mce", "culprit": "nvme_irq", "cpu": 6, "process": "fio", "fatal": True},
    "kasan-tags": {
        "mechanism": "use_after_free", "culprit": "sdma_desc_done", "process": "irq/44-sdma", "cpu": 2,
    },
    "riscv": {"mechanism": "null_deref", "culprit": "rvdev_open", "process": "insmod", "cpu": 2},
    "ppc64": {"mechanism": "null_deref", "culprit": "pdev_show", "culprit_module": "pdev", "process": "cat"},
    "arm32": {"mechanism": "null_deref", "culprit": "bcm_fifo_read", "process": "kworker/0:2"},
    "warning-of-3.2": {
        "mechanism": "warn", "culprit": "vdev_queue_stop", "process": "swapper/4", "pid": 0, "fatal": False,
        "release": "3.2.0-4-amd64", "tainted": None,
    },
    "warning-of-6.18": {
        "mechanism": "warn", "culprit": "vdev_queue_stop", "culprit_module": "vdev", "process": "swapper/4",
        "pid": 0, "cpu": 4,
    },
    "double-fault": {"mechanism": "double_fault", "culprit": "fsd_walk", "process": "fsd", "fatal": True},
    "soft-lockup": {
        "mechanism": "soft_lockup", "culprit": "cachefs_spin", "process": "flushd", "pid": 4410, "cpu": 7,
    },
    "hard-lockup": {
        "mechanism": "hard_lockup", "culprit": "gdrv_wait_idle", "cpu": 3, "process": "gdrvd", "fatal": True,
    },
    "hard-lockup-of-3.10": {"mechanism": "hard_lockup", "culprit": "gdrv_wait_idle", "cpu": 3},
    "hard-lockup-told-by-neighbour": {
        "mechanism": "hard_lockup", "cpu": 4, "process": "spinner", "pid": 612, "fatal": True,
    },
    "rcu-stall-told-twice": {
        "mechanism": "rcu_stall", "culprit": "tx_pump_write", "process": "tx_pump", "cpu": 2, "fatal": False,
    },
    "hung-task-of-4.19": {
        "mechanism": "hung_task", "culprit": "jbd2_journal_commit_transaction", "process": "jbd2/dm-0-8",
        "pid": 412, "cpu": None,
    },
    "hung-task": {
        "mechanism": "hung_task", "culprit": "bigfs_wait_extent", "process": "dd", "pid": 120, "cpu": None,
    },
    "lockdep": {"mechanism": "deadlock", "culprit": "qd_flush", "process": "qd_writer", "cpu": 1},
    "kasan": {"mechanism": "out_of_bounds", "culprit": "tlv_parse", "process": "tlvd", "cpu": 1},
    "kfence": {"mechanism": "use_after_free", "culprit": "sess_touch", "process": "swapper/0"},
    "kmsan": {"mechanism": "uninit_value", "culprit": "hdr_check", "process": "pktd"},
    "kcsan": {"mechanism": "data_race", "culprit": "stat_bump"},
    "ubsan": {"mechanism": "out_of_bounds", "culprit": "vsw_map", "process": "vswd"},
    "kmemleak": {"mechanism": "memory_leak", "culprit": "conf_parse"},
    "workqueue-lockup": {"mechanism": "hung_task", "culprit": "slowdev_poll_work"},
    "machine-check-on-two-cpus": {"mechanism": "mce", "cpu": 14, "fatal": True, "culprit": None},
    "apei-fatal": {"mechanism": "mce", "fatal": True, "culprit": None},
    "recursion-of-one": {
        "mechanism": "stack_overflow", "culprit": "tarfs_walk", "process": "tarfsd", "fatal": True,
    },
    "recursion-of-several": {"mechanism": "stack_overflow", "culprit": "tarfs_lookup"},
    "arm64-stack-overflow": {
        "mechanism": "stack_overflow", "culprit": "deep_walk", "process": "deepd", "fatal": True,
    },
    "sysrq-of-3.10": {
        "mechanism": "sysrq", "culprit": "sysrq_handle_crash", "process": "bash", "fatal": True,
    },
    "sysrq-without-its-line": {
        "mechanism": "sysrq", "culprit": "sysrq_handle_crash", "process": "bash", "fatal": True,
    },
    "transmit-timeout": {"mechanism": "tx_timeout", "device": "ens1f0", "culprit_module": "ixgbe", "cpu": 7},
    "filesystem-panics": {
        "mechanism": "fs_error", "device": "dm-3", "fatal": True, "culprit": None, "process": "ls",
    },
    "filesystem-panics-over-its-disk": {"mechanism": "io_error", "device": "sda2", "fatal": True},
    "slab-already-free": {
        "mechanism": "memory_corruption", "culprit": "rdesc_drop", "process": "insmod", "tainted": "OE",
    },
    "x86-32": {
        "mechanism": "null_deref", "culprit": "snd_ring_read", "culprit_module": "sndring",
        "process": "aplay", "pid": 2044, "cpu": 1, "tainted": "O",
    },
    "slab-of-6.12": {
        "mechanism": "memory_corruption", "culprit": "rdesc_free", "process": "insmod", "cpu": 1,
        "tainted": "BOE", "modules": {"rdesc": "OE+"},
    },
    "jump-into-data": {
        "mechanism": "bad_page_fault", "culprit": "rx_complete", "culprit_module": "rxd", "process": "rxd",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_report_says_stands_in_its_fields(name: str, reports: Reports) -> None:
    (report,) = reports((LOGS / f"{name}.log").read_text())
    expected = EXPECTED[name]
    assert {field: getattr(report, field) for field in expected} == expected
    assert not report.corrupted or name == "workqueue-lockup"


SECTIONS = {
    "warning-of-3.2": {"warn_slowpath_common": "irq", "call_timer_fn": "irq", "intel_idle": "task"},
    "warning-of-6.18": {"vdev_timeout": "irq", "cpuidle_enter_state": "task", "cpuidle_enter": "task"},
    "double-fault": {"fsd_walk": "task", "exc_double_fault": "exception", "fsd_read": "task"},
    "nmi-within-irq-within-task": {
        "default_do_nmi": "nmi", "timer_fn": "irq", "net_rx": "softirq", "do_idle": "task",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_of_a_trace_are_told_apart(name: str, reports: Reports) -> None:
    (report,) = reports((LOGS / f"{name}.log").read_text())
    told = {frame.function: frame.section for frame in report.stack}
    assert {function: told[function] for function in SECTIONS[name]} == SECTIONS[name]


@pytest.mark.parametrize(
    ("name", "guesses"),
    [("x86-of-rhel7", ["process_one_work"]), ("ppc64", ["kernfs_seq_show"]), ("arm64", [])],
)
def test_guesses_of_the_unwinder_are_told_from_frames(
    name: str, guesses: list[str], reports: Reports
) -> None:
    (report,) = reports((LOGS / f"{name}.log").read_text())
    assert [frame.function for frame in report.stack if not frame.reliable] == guesses


@pytest.mark.parametrize(
    ("name", "traces"),
    [
        ("kasan", [("Allocated by task 309:", "tlv_alloc")]),
        ("kfence", [
            ("allocated by task 88 on cpu 2 at 30.900000s:", "sess_new"),
            ("freed by task 89 on cpu 0 at 30.990000s:", "sess_drop"),
        ]),
        ("soft-lockup", [("Call Trace:", "xfsaild_push")]),
    ],
)  # fmt: skip
def test_traces_of_others_are_kept_with_their_headings(
    name: str, traces: list[tuple[str, str]], reports: Reports
) -> None:
    (report,) = reports((LOGS / f"{name}.log").read_text())
    assert [(title, frames[-1].function) for title, frames in report.traces] == traces


@pytest.mark.parametrize(
    ("name", "register", "value"),
    [("x86-of-6.12", "RAX", 0xFFFFC90000A41018), ("arm64", "x29", 0xFFFF80008A3BB9D0)],
)
def test_registers_are_those_of_the_report_itself(
    name: str, register: str, value: int, reports: Reports
) -> None:
    (report,) = reports((LOGS / f"{name}.log").read_text())
    assert report.registers[register] == value


STOPPING = ("Kernel panic", "Trigger a crash", "event severity: fatal")


@pytest.mark.parametrize(("mechanism", "line"), WORDINGS)
def test_every_wording_begins_a_report(line: str, mechanism: str, reports: Reports) -> None:
    for log in (line, f"[   12.345678] {line}\n", f"Mar  9 08:00:26 web-04 kernel: {line}\n"):
        (report,) = reports(log)
        assert report.mechanism == mechanism
        assert report.fatal == any(words in line for words in STOPPING)


def test_no_heading_is_there_in_vain() -> None:
    """Each is the first that matches some wording."""
    matching = (
        [n for n, known in enumerate(HEADINGS) if known.literal in line and known.pattern.search(line)]
        for _, line in WORDINGS
    )
    reached = {places[0] for places in matching if places}
    assert [HEADINGS[n].pattern.pattern for n in range(len(HEADINGS)) if n not in reached] == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("CPU: 3 PID: 77 Comm: mount Kdump: loaded Not tainted 5.16.14-arch1-1 #1", ("mount", 77, 3, None)),
        (
            "CPU: 3 PID: 77 Comm: a b Kdump: loaded Tainted: G   OE    --------- -  - 4.18.0-348.el8 #1",
            ("a b", 77, 3, "OE"),
        ),
        ("CPU: 3 PID: 77 Comm: x Tainted: P     W  O ------------ 3.10.0-1160.el7 #1", ("x", 77, 3, "PWO")),
        ("CPU: 3 UID: 1000 PID: 77 Comm: kworker/u8:1 Not tainted 6.12.9 #1", ("kworker/u8:1", 77, 3, None)),
        ("Pid: 77, comm: x Tainted: G        W  2.6.32-754.el6.x86_64 #1 HP ProLiant", ("x", 77, None, "W")),
        ("CPU: 3    Not tainted  (3.4.39 #1)", (None, None, 3, None)),
    ],
)  # fmt: skip
def test_headers_of_all_times_say_who_ran_where(
    header: str, expected: tuple[str | None, int | None, int | None, str | None], reports: Reports
) -> None:
    heading = "BUG: unable to handle kernel paging request at ffffc90000a41018"
    (report,) = reports(f"{heading}\n{header}\nCall Trace:\n qd_put+0x1/0x9\n")
    assert (report.process, report.pid, report.cpu, report.tainted) == expected
    assert report.release is not None


def _from(name: str, words: str) -> str:
    """Give a log from the line on that begins a part of it."""
    lines = (LOGS / f"{name}.log").read_text().splitlines()
    return "\n".join(lines[next(n for n, line in enumerate(lines) if words in line) :])


DIVIDE = """\
[   11.000010]  schedule+0x5b/0xc0
[   11.000020]  pstore_dump+0x1b3/0x2f0
[   11.000030]  oops_end+0x61/0xd0
[   11.000040]  do_error_trap+0x64/0xa0
[   11.000050]  exc_divide_error+0x36/0x50
[   11.000060]  asm_exc_divide_error+0x12/0x20
[   11.000070] RIP: 0010:ring_space+0xb0/0xc0 [ring]
[   11.000080]  ring_push+0x14/0x40 [ring]
"""


@pytest.mark.parametrize(
    ("log", "mechanism", "culprit"),
    [
        (DIVIDE, "divide_error", "ring_space"),
        (_from("arm64-brk", "Call trace:") + "\nCode: f9401000 d287d801 (d4210000)", "bug", "mring_push"),
        (_from("x86-of-6.12", "Call Trace:"), "panic_other", "vnic_unmap_work"),
        (
            _from("kasan-tags", "Call trace:") + "\n---[ end trace 0000000000000000 ]---",
            "panic_other", "sdma_desc_done",
        ),
        ("[ 1.0] rcu: Stack dump where RCU GP kthread last ran:\n"
         + _from("rcu-stall-told-twice", "NMI backtrace").split("[ 3000.4")[0], "rcu_stall", "tx_pump_write"),
    ],
)  # fmt: skip
def test_a_report_without_its_first_lines_is_told_by_the_rest(
    log: str, mechanism: str, culprit: str, reports: Reports
) -> None:
    (report,) = reports(log)
    assert (report.mechanism, report.culprit) == (mechanism, culprit)


@pytest.mark.parametrize(
    "log",
    [
        "[    1.000000] ---[ end trace 0000000000000000 ]---\n",
        "[    1.000000] Code: 00 00 <0f> 0b 00\n",
        "[    1.0] sysrq: Show Blocked State\n[    1.1] task:dd  state:D pid:9\n[    1.2]  foo+0x1/0x2\n",
    ],
)
def test_what_tells_nothing_is_no_report(log: str, reports: Reports) -> None:
    assert reports(log) == ()


WAITS = """\
[  904.000001]  [<ffffffff814f18c9>] schedule+0x29/0x70
[  904.000002]  [<ffffffff814f1a3d>] io_schedule+0x9d/0x140
[  904.000003]  [<ffffffff811ee00e>] sleep_on_buffer+0xe/0x20
[  904.000004]  [<ffffffff8128867c>] jbd2_journal_commit_transaction+0x181c/0x1a70
"""


@pytest.mark.parametrize(
    "log",
    [
        WAITS,
        "[  904.000000] Call Trace:\n" + WAITS,
        '[  903.999999] "echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.\n'
        "[  904.000000] jbd2/sdb1-8     D ffff88107fd94440     0 22455      2 0x00000000\n" + WAITS,
    ],
)
def test_a_task_that_waits_is_told_though_its_first_lines_are_lost(log: str, reports: Reports) -> None:
    (report,) = reports(log)
    assert report.mechanism == "hung_task"
    assert not report.fatal


@pytest.mark.parametrize(
    "before",
    [
        "[  903.000000] sysrq: Show Blocked State\n",
        "[  903.000000] mysqld invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0\n",
        "[  903.999999]  [<ffffffff8128867c>] io_probe+0x181c/0x1a70\n",
    ],
)
def test_a_trace_that_was_asked_for_is_no_task_that_waits(before: str, reports: Reports) -> None:
    assert reports(before + WAITS) == ()


@pytest.mark.parametrize(
    ("log", "mechanism"),
    [
        (
            "[   17.548785] [<c0212e0c>] (unwind_backtrace) from [<c020d5e8>] (show_stack+0x20/0x24)\n"
            "[   17.554337] [<c09c2568>] (dump_stack) from [<c0222540>] (__warn+0x104/0x11c)\n"
            "[   17.559907] [<c0222690>] (warn_slowpath_null) from [<bf140c0c>] (vif+0x3c0/0x410 [vnic])\n",
            "warn",
        ),
        (
            "[   17.548785] Modules linked in: vnic(O) ext4\n"
            "[   17.548790] CR2: 0000000000000018\n"
            "[   17.548795] ---[ end trace 0000000000000000 ]---\n",
            "null_deref",
        ),
        (
            "[   17.548780]  vnic_up+0x1d/0x40 [vnic]\n"
            "[   17.548790] CR2: ffffc90000a41018\n"
            "[   17.548795] ---[ end trace 0000000000000000 ]---\n",
            "bad_page_fault",
        ),
        (
            "[   17.548780] WARNING: at kernel/watchdog.c:352\n"
            "[   17.548790] PC is at watchdog_timer_fn+0x190/0x2e8\n",
            "soft_lockup",
        ),
    ],
)
def test_what_is_left_of_a_report_tells_its_kind(log: str, mechanism: str, reports: Reports) -> None:
    (report,) = reports(log)
    assert report.mechanism == mechanism

"""Panics that no report comes before: no root, init's death, machine checks, NMIs, memory exhausted.

kernel/panic.c, init/do_mounts.c, init/main.c, kernel/exit.c, arch/x86/kernel/{nmi,cpu/mce}, mm/oom_kill.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import Heading, heading

_PANIC: Final = r"Kernel panic - not syncing: "


def _panic(pattern: str, mechanism: str, title: str) -> Heading:
    return heading("Kernel panic", _PANIC + pattern, mechanism, title, fatal=True, use="fault")


HEADINGS: Final = (
    _panic(r"VFS: Unable to mount root fs", "no_root", "Unable to mount root fs"),
    _panic(r"(?:No (?:working )?init found|Requested init .* failed)", "no_root", "No working init found"),
    _panic(r"Attempted to kill (?:init|the idle task)!", "init_killed", "Attempted to kill init"),
    _panic(r"Attempted to kill", "init_killed", "Attempted to kill init"),
    _panic(
        r"(?:Out of memory|out of memory|System is deadlocked on memory|.*panic_on_oom|Out of memory and no killable)",
        "oom",
        "panic: out of memory",
    ),
    _panic(r"(?:Fatal (?:local )?[Mm]achine check|.*[Mm]achine check)", "mce", "Fatal machine check"),
    _panic(r"Fatal hardware error", "mce", "Fatal hardware error"),
    _panic(
        r"Timeout: Not all CPUs entered broadcast exception handler",
        "mce",
        "machine check broadcast timed out",
    ),
    _panic(r"Uncorrected hardware memory error", "mce", "Uncorrected hardware memory error"),
    _panic(r"(?:NMI: Not continuing|NMI IOCK error|NMI SERR|An NMI occurred|NMI)", "nmi", "NMI panic"),
    _panic(r"sysrq triggered crash", "sysrq", "sysrq triggered crash"),
    _panic(r"AER: (?:uncorrectable|unrecoverable)", "aer", "fatal PCIe error"),
    _panic(r"(?:Watchdog detected hard LOCKUP|Hard LOCKUP|hard lockup)", "hard_lockup", "hard lockup"),
    _panic(r"softlockup: hung tasks", "soft_lockup", "BUG: soft lockup"),
    _panic(r"hung_task: blocked tasks", "hung_task", "INFO: task hung"),
    _panic(r"RCU Stall", "rcu_stall", "INFO: rcu detected stall"),
    _panic(r"panic_on_warn set", "warn", "WARNING"),
    _panic(r"panic_on_unrecovered_nmi", "nmi", "NMI panic"),
    _panic(r"EXT4-fs \(device (?P<device>\S+?)\): panic forced after error", "fs_error", "EXT4-fs error"),
    _panic(r"(?:BTRFS|XFS|JBD2|EXT[234]-fs)\b", "fs_error", "panic by a file system"),
    _panic(
        r"(?:stack-protector: )?Kernel stack is corrupted", "memory_corruption", "kernel stack is corrupted"
    ),
    _panic(r"corrupted stack end", "stack_overflow", "corrupted stack end"),
    _panic(r"(?:kernel stack overflow|Kernel stack overflow)", "stack_overflow", "kernel stack overflow"),
    _panic(r"(?:Asynchronous SError|Synchronous External)", "mce", "SError interrupt"),
    _panic(r"Fatal exception", "panic_other", "Fatal exception"),
    _panic(r"(?P<what>.{0,80}?)\s*(?:$|0x|\d{4,})", "panic_other", "kernel panic: {what}"),
    heading(
        "Kernel panic",
        r"Kernel panic - not syncing(?:\s|$)",
        "panic_other",
        "kernel panic",
        fatal=True,
        use="fault",
    ),
    heading(
        "sysrq: Trigger a crash",
        r"sysrq: (?:SysRq : )?Trigger a crash",
        "sysrq",
        "sysrq triggered crash",
        use="none",
        fatal=True,
    ),
    heading(
        "SysRq : Trigger a crash",
        r"SysRq : Trigger a crash",
        "sysrq",
        "sysrq triggered crash",
        use="none",
        fatal=True,
    ),
    heading(
        "Machine Check Exception:",
        r"CPU (?P<cpu>\d+): Machine Check Exception: +\w+ Bank \d+: [0-9a-f]{16}",
        "mce",
        "machine check",
        use="none",
    ),
    heading(
        "Machine Check Exception:",
        r"CPU (?P<cpu>\d+)[: ]+Machine Check Exception",
        "mce",
        "machine check",
        use="none",
    ),
    heading(
        "event severity: fatal",
        r"\[Hardware Error\]: event severity: fatal",
        "mce",
        "fatal hardware error",
        use="none",
        fatal=True,
    ),
    heading(
        "NMI received for unknown reason",
        r"NMI received for unknown reason [0-9a-f]+ on CPU (?P<cpu>\d+)",
        "nmi",
        "NMI for an unknown reason",
        use="none",
    ),
    heading(
        "NMI: ",
        r"NMI: (?:PCI system error \(SERR\)|IOCK error|system error)",
        "nmi",
        "NMI: system error",
        use="none",
    ),
)

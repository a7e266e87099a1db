"""Panics that no report comes before: no root, init's death, machine checks, NMIs, memory exhausted.

kernel/panic.c, init/do_mounts.c, init/main.c, kernel/exit.c, arch/x86/kernel/{nmi,cpu/mce}, mm/oom_kill.c,
drivers/acpi/apei/ghes.c, drivers/tty/sysrq.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import Heading, heading

_SAID: Final = "not syncing"
_PANIC: Final = r"[Kk]ernel [Pp]anic ?[-:]? ?not syncing ?[:-] ?"
"""As the kernel prints it, and as people copy it from a screen by hand."""


def _panic(pattern: str, mechanism: str, title: str, use: str = "fault") -> Heading:
    return heading(_SAID, _PANIC + pattern, mechanism, title, fatal=True, use=use)


HEADINGS: Final = (
    _panic(r"VFS ?: ?[Uu]nable to mount root", "no_root", "Unable to mount root fs", "none"),
    _panic(r"No (?:working )?init found", "no_root", "No working init found", "none"),
    _panic(r"Requested init \S", "panic_other", "Requested init failed", "none"),
    _panic(r"[Aa]ttempt(?:ed|ing) to kill", "init_killed", "Attempted to kill init", "none"),
    _panic(
        r"(?:[Oo]ut of memory|System is deadlocked on memory|.{0,120}panic_on_oom)",
        "oom",
        "panic: out of memory",
        "none",
    ),
    _panic(
        r"Timeout: Not all CPUs entered broadcast exception handler",
        "mce",
        "machine check broadcast timed out",
        "none",
    ),
    _panic(r".{0,80}[Mm]achine check", "mce", "Fatal machine check", "none"),
    _panic(r"Fatal hardware error", "mce", "Fatal hardware error", "none"),
    _panic(r"Uncorrected hardware memory error", "mce", "Uncorrected hardware memory error", "none"),
    _panic(
        r"(?:Asynchronous SError|Synchronous External|synchronous external abort)", "mce", "SError interrupt"
    ),
    _panic(r"(?:.{0,40}hard LOCKUP|Hard LOCKUP|hard lockup)", "hard_lockup", "hard lockup"),
    _panic(
        r"(?:NMI|(?:[0-9a-f]{1,2}: )?An NMI occurred|panic_on_unrecovered_nmi)", "nmi", "NMI panic", "none"
    ),
    heading(
        _SAID,
        _PANIC + r"sysrq triggered crash",
        "sysrq",
        "sysrq triggered crash",
        blame="named",
        fatal=True,
        use="none",
        detail=r"\b(?P<function>sysrq_handle_crash)\+0x",
    ),
    _panic(r"AER: (?:uncorrectable|unrecoverable)", "aer", "fatal PCIe error", "none"),
    _panic(r"softlockup: hung tasks", "soft_lockup", "BUG: soft lockup", "stall"),
    _panic(r"hung_task: blocked tasks", "hung_task", "INFO: task hung", "none"),
    _panic(r"RCU Stall", "rcu_stall", "INFO: rcu detected stall", "stall"),
    _panic(r".{0,40}panic_on_warn set", "warn", "WARNING"),
    _panic(
        r"(?P<filesystem>EXT[234]|BTRFS|XFS|F2FS)(?:-fs)? ?\((?:device )?(?P<device>[\w-]{1,64})\)",
        "fs_error",
        "{filesystem}: panic forced after error",
        "none",
    ),
    _panic(r"(?:BTRFS|XFS|JBD2|EXT[234]-fs)\b", "fs_error", "panic by a file system", "none"),
    heading(
        _SAID,
        _PANIC + r"(?:stack-protector: )?Kernel stack is corrupted in: "
        r"(?:\[?<?[0-9a-f]{8,16}>?\]?|(?P<function>\w{1,128}))",
        "memory_corruption",
        "kernel stack is corrupted",
        blame="named",
        use="fault",
        fatal=True,
    ),
    _panic(r"corrupted stack end", "stack_overflow", "corrupted stack end", "wait"),
    _panic(r"[Kk]ernel stack overflow", "stack_overflow", "kernel stack overflow"),
    _panic(r"Fatal exception", "panic_other", "Fatal exception"),
    _panic(r"(?P<what>\S.{0,80}?)\s{0,8}(?:$|0x|\d{4})", "panic_other", "kernel panic: {what}"),
    heading(
        _SAID,
        r"[Kk]ernel [Pp]anic ?[-:]? ?not syncing",
        "panic_other",
        "kernel panic",
        fatal=True,
        use="fault",
    ),
    heading(
        "Trigger a crash",
        r"(?:sysrq: |SysRq : )Trigger a crash",
        "sysrq",
        "sysrq triggered crash",
        blame="named",
        use="none",
        fatal=True,
        detail=r"\b(?P<function>sysrq_handle_crash)\+0x",
    ),
    heading(
        "Machine Check Exception:",
        r"CPU (?P<cpu>\d{1,5})[: ]{1,3}Machine Check Exception:",
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
        r"NMI received for unknown reason [0-9a-f]{2} on CPU (?P<cpu>\d{1,5})",
        "nmi",
        "NMI for an unknown reason",
        use="none",
    ),
    heading(
        "NMI: ",
        r"NMI: (?:PCI system error \(SERR\)|IOCK error)",
        "nmi",
        "NMI: system error",
        use="none",
    ),
)

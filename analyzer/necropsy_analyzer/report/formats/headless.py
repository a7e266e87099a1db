"""Reports whose first lines are lost: what the rest tells of them. Asked only where a log has no heading.

The trap's entry stands in the trace (arch/x86/entry/entry_64.S, arch/x86/kernel/traps.c), the instruction of
BUG() in the code dump (arch/x86/include/asm/bug.h, arch/arm64/include/asm/brk-imm.h), an end mark ends an
oops or a WARN (kernel/panic.c), and a task whose trace begins in the scheduler waits (kernel/sched/core.c).
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import Blame, Heading, heading


def _frame(name: str, mechanism: str, title: str, *, blame: Blame = "pointer", use: str = "fault") -> Heading:
    return heading(
        f"{name}+0x",
        r"(?:^[^+\w]{0,8}(?:[0-9a-f<>\[\]]{8,24} )?(?:RIP: 0010:)?|\) from \[<[0-9a-f]{8}>\] \()"
        rf"{name}\+0x",
        mechanism,
        title,
        blame=blame,
        use=use,
    )


FROM_HERE: Final = (
    _frame("sysrq_handle_crash", "sysrq", "sysrq triggered crash", blame="stack"),
    _frame("__warn", "warn", "WARNING", blame="stack"),
    _frame("warn_slowpath_common", "warn", "WARNING", blame="stack"),
    _frame("divide_error", "divide_error", "divide error"),
    _frame("exc_divide_error", "divide_error", "divide error"),
    _frame("do_divide_error", "divide_error", "divide error"),
    _frame("exc_double_fault", "double_fault", "double fault"),
    _frame("do_double_fault", "double_fault", "double fault"),
    _frame("page_fault_oops", "bad_page_fault", "bad page fault"),
    _frame("no_context", "bad_page_fault", "bad page fault"),
    _frame("__fortify_panic", "bug", "detected buffer overflow"),
    _frame("fortify_panic", "bug", "detected buffer overflow"),
    _frame("exc_general_protection", "gpf", "general protection fault"),
    _frame("do_general_protection", "gpf", "general protection fault"),
    _frame("watchdog_overflow_callback", "hard_lockup", "hard lockup", use="stall"),
    _frame("mce_panic", "mce", "machine check", blame="stack", use="none"),
    heading(
        "Stack dump where RCU GP kthread last ran",
        r"Stack dump where RCU GP kthread last ran",
        "rcu_stall",
        "INFO: rcu detected stall",
        use="stall",
    ),
    _frame("rcu_dump_cpu_stacks", "rcu_stall", "INFO: rcu detected stall", use="stall"),
    _frame("panic", "panic_other", "kernel panic", blame="stack"),
)
"""Lines within a trace: what follows them is what was interrupted."""

UP_TO_HERE: Final = (
    heading("(d4210000)", r"^Code: .{0,200}\(d4210000\)", "bug", "kernel BUG", use="fault"),
    heading("<0f> 0b", r"^Code: .{0,200}<0f> 0b", "bug", "kernel BUG", blame="pointer", use="fault"),
    # arch/x86/kernel/dumpstack.c, before 5.x in no_context(): an oops over an address ends with it alone.
    heading(
        "CR2: ",
        r"^CR2: 0000000000000[0-9a-f]{3}\s{0,8}$",
        "null_deref",
        "kernel NULL pointer dereference",
        blame="pointer",
        use="fault",
    ),
    heading(
        "CR2: ",
        r"^CR2: [0-9a-f]{16}\s{0,8}$",
        "bad_page_fault",
        "bad page fault",
        blame="pointer",
        use="fault",
    ),
    heading(
        "---[ end trace",
        r"---\[ end trace",
        "panic_other",
        "report without its first lines",
        blame="pointer",
        use="fault",
    ),
)
"""Lines near a report's end: what came before them belongs to it."""


def _waiter(name: str) -> Heading:
    return heading(
        f"{name}+0x",
        rf"^[^?+]{{0,48}}\b{name}\+0x",
        "hung_task",
        "INFO: task hung",
        blame="stack",
        use="wait",
    )


WAITING: Final = (
    heading(
        "/hung_task_timeout_secs",
        r"^.{0,2}echo 0 > /proc/sys/kernel/hung_task_timeout_secs",
        "hung_task",
        "INFO: task hung",
        use="wait",
    ),
    _waiter("schedule"),
    _waiter("schedule_timeout"),
    _waiter("io_schedule_timeout"),
    _waiter("schedule_preempt_disabled"),
)
"""Lines of a task that sleeps: no trap shows them, khungtaskd does (kernel/hung_task.c)."""

"""Lockups, stalls and hangs: something did not go on.

kernel/watchdog.c, kernel/watchdog_hld.c, arch/powerpc/kernel/watchdog.c, kernel/rcu/tree_stall.h,
kernel/rcu/tree_exp.h, kernel/rcu/tasks.h, kernel/hung_task.c, kernel/workqueue.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import Heading, heading

_TASK: Final = r"(?:INFO: )?(?:task )?(?P<process>\S.{0,63}?):(?P<pid>\d{1,9}) "


def _soft(pattern: str) -> Heading:
    return heading("soft lockup", pattern, "soft_lockup", "BUG: soft lockup", blame="pointer", use="stall")


def _hard(literal: str, pattern: str) -> Heading:
    return heading(literal, pattern, "hard_lockup", "hard lockup", blame="pointer", use="stall")


def _rcu(literal: str, pattern: str, *, weak: bool = False) -> Heading:
    return heading(literal, pattern, "rcu_stall", "INFO: rcu detected stall", use="stall", weak=weak)


HEADINGS: Final = (
    _soft(
        r"BUG: soft lockup - CPU#(?P<cpu>\d{1,5}) stuck for \d{1,9}s! "
        r"\[(?P<process>.{1,64}):(?P<pid>\d{1,9})\]"
    ),
    _soft(r"BUG: soft lockup"),
    _hard("hard LOCKUP on cpu", r"detected hard LOCKUP on cpu ?(?P<cpu>\d{1,5})"),
    _hard("hard LOCKUP on other", r"CPU \d{1,5} detected hard LOCKUP on other CPUs (?P<cpu>\d{1,5})"),
    _hard("self-detected hard LOCKUP", r"CPU (?P<cpu>\d{1,5}) self-detected hard LOCKUP"),
    _hard("Watchdog detected LOCKUP", r"NMI Watchdog detected LOCKUP on CPU(?P<cpu>\d{1,5})?"),
    _rcu("detected stall", r"\S{1,64} detected stalls? on CPUs?"),
    _rcu("detected expedited stall", r"\S{1,64} detected expedited stalls on CPUs?"),
    _rcu("detected stalls on tasks", r"rcu_tasks\w{0,32} detected stalls on tasks"),
    _rcu("self-detected stall", r"self-detected stall on CPU"),
    _rcu("kthread starved for", r"rcu.{0,80}kthread starved for \d{1,12} jiffies", weak=True),
    heading(
        "blocked for more than",
        _TASK + r"blocked for more than \d{1,9} seconds",
        "hung_task",
        "INFO: task hung",
        use="wait",
    ),
    heading(
        "blocked in I/O wait",
        _TASK + r"blocked in I/O wait for more than \d{1,9} seconds",
        "hung_task",
        "INFO: task hung",
        use="wait",
    ),
    heading(
        "can't die for more",
        _TASK + r"can't die for more than \d{1,9} seconds",
        "hung_task",
        "INFO: task can't die",
        use="wait",
    ),
    heading(
        "workqueue lockup",
        r"BUG: workqueue lockup - pool",
        "hung_task",
        "BUG: workqueue lockup",
        use="wait",
        detail=r"in-flight: \d{1,9}(?:\(RESCUER\))?:(?P<function>\w{1,128})",
    ),
)

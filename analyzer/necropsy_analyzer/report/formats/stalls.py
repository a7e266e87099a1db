"""Lockups, stalls and hangs: something did not go on.

kernel/watchdog.c, kernel/watchdog_hld.c, kernel/rcu/tree_stall.h, kernel/rcu/tree_exp.h, kernel/hung_task.c,
kernel/workqueue.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import heading

HEADINGS: Final = (
    heading(
        "soft lockup",
        r"BUG: soft lockup - CPU#(?P<cpu>\d+) stuck for \d+s! \[(?P<process>.+?):(?P<pid>\d+)\]",
        "soft_lockup",
        "BUG: soft lockup",
        blame="pointer",
        use="stall",
    ),
    heading(
        "soft lockup", r"BUG: soft lockup", "soft_lockup", "BUG: soft lockup", blame="pointer", use="stall"
    ),
    heading(
        "LOCKUP on cpu",
        r"(?:Watchdog )?detected hard LOCKUP on cpu ?(?P<cpu>\d+)",
        "hard_lockup",
        "hard lockup",
        blame="pointer",
        use="stall",
    ),
    heading(
        "detected LOCKUP",
        r"NMI Watchdog detected LOCKUP|BUG: NMI Watchdog detected LOCKUP",
        "hard_lockup",
        "hard lockup",
        blame="pointer",
        use="stall",
    ),
    heading(
        "Hard LOCKUP",
        r"CPU \d+ self-detected hard LOCKUP|detected Hard LOCKUP",
        "hard_lockup",
        "hard lockup",
        blame="pointer",
        use="stall",
    ),
    heading(
        "detected stall",
        r"(?:INFO: )?\S+ detected (?:expedited )?stalls? on CPUs?",
        "rcu_stall",
        "INFO: rcu detected stall",
        use="stall",
    ),
    heading(
        "detected expedited stall",
        r"\S+ detected expedited stalls on CPUs?",
        "rcu_stall",
        "INFO: rcu detected stall",
        use="stall",
    ),
    heading(
        "self-detected stall",
        r"self-detected stall on CPU",
        "rcu_stall",
        "INFO: rcu detected stall",
        use="stall",
    ),
    heading(
        "tasks detected stall",
        r"rcu_tasks(?:_\w+)? detected stalls on tasks",
        "rcu_stall",
        "INFO: rcu detected stall",
        use="stall",
    ),
    heading(
        "kthread starved for",
        r"rcu\w*: ?.*kthread starved for \d+ jiffies",
        "rcu_stall",
        "INFO: rcu detected stall",
        use="stall",
        weak=True,
    ),
    heading(
        "blocked for more than",
        r"(?:(?:INFO: )?task )?(?P<process>\S.*?):(?P<pid>\d+) (?:<.*> )?blocked (?:on .* )?for more than \d+ seconds",
        "hung_task",
        "INFO: task hung",
        use="wait",
    ),
    heading(
        "blocked in I/O wait",
        r"INFO: task (?P<process>.+?):(?P<pid>\d+) blocked in I/O wait for more than \d+ seconds",
        "hung_task",
        "INFO: task hung",
        use="wait",
    ),
    heading(
        "can't die for more",
        r"INFO: task (?P<process>.+?):(?P<pid>\d+) can't die for more than \d+ seconds",
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
    ),
)

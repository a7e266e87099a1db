"""WARN() and what stands behind it: refcounts, debug objects, kobjects, allocation sizes.

kernel/panic.c (__warn), lib/refcount.c, lib/debugobjects.c, lib/kobject.c, mm/page_alloc.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import heading

_AT: Final = r"WARNING: (?:CPU: \d+ PID: \d+ )?(?:at )?"

HEADINGS: Final = (
    heading(
        "refcount_t",
        r"^refcount_t: (?P<what>[\w ;,-]+)",
        "memory_corruption",
        "WARNING: refcount bug",
        use="fault",
    ),
    heading(
        "lib/refcount.c",
        _AT + r"\S*lib/refcount\.c:\d+",
        "memory_corruption",
        "WARNING: refcount bug",
        use="fault",
    ),
    heading(
        "ODEBUG:",
        r"ODEBUG: \w+ [\w ]+\(active state",
        "warn",
        "WARNING: ODEBUG bug",
    ),
    heading(
        "lib/debugobjects.c",
        _AT + r"\S*lib/debugobjects\.c:\d+",
        "warn",
        "WARNING: ODEBUG bug",
    ),
    heading(
        "kernel/locking/lockdep",
        _AT + r"\S*kernel/(?:locking/)?lockdep\.c:\d+",
        "deadlock",
        "WARNING: locking bug",
        use="fault",
    ),
    heading(
        "kernel/locking/",
        _AT + r"\S*kernel/locking/\S+\.c:\d+",
        "deadlock",
        "WARNING: locking bug",
        use="fault",
    ),
    heading(
        "kernel/lockdep.c",
        _AT + r"\S*kernel/lockdep\.c:\d+",
        "deadlock",
        "WARNING: locking bug",
        use="fault",
    ),
    heading(
        "lib/list_debug.c",
        _AT + r"\S*lib/list_debug\.c:\d+",
        "memory_corruption",
        "list corruption",
        use="fault",
    ),
    heading(
        "kobject",
        r"kobject: '.*' \(\S+\): (?:is not initialized|tried to init|does not have)"
        r"|kobject \(\S+\): tried to init an initialized object|kobject_add_internal failed",
        "warn",
        "WARNING: kobject bug",
        use="fault",
        weak=True,
    ),
    heading(
        "NETDEV WATCHDOG",
        r"NETDEV WATCHDOG: (?:CPU: \d+: )?(?P<device>\S+) \((?P<module>\S*)\): transmit queue \d+ timed out",
        "tx_timeout",
        "NETDEV WATCHDOG: transmit queue timed out",
        use="fault",
    ),
    heading(
        "WARNING: ",
        _AT + r"\S+?:\d+ (?:\[?<?[0-9a-f]{8,16}>?\]? )?(?P<function>[A-Za-z_]\w*)(?:\.[\w.]+)?\+0x",
        "warn",
        "WARNING",
        blame="named",
        use="fault",
    ),
    heading("WARNING: ", _AT + r"\S+?:\d+", "warn", "WARNING", use="fault"),
    heading(
        "WARNING: kernel stack",
        r"WARNING: kernel stack (?P<what>frame pointer|regs) at",
        "warn",
        "WARNING: kernel stack {what} has bad value",
        use="none",
    ),
    heading("Badness at", r"Badness at \S+:\d+", "warn", "WARNING", use="fault"),
    heading(
        "RTNL: assertion failed",
        r"RTNL: assertion failed at (?P<file>\S+)",
        "warn",
        "RTNL: assertion failed",
        use="fault",
    ),
    heading(
        "nobody cared",
        r"irq (?P<irq>\d+): nobody cared",
        "warn",
        "irq: nobody cared",
        use="fault",
    ),
    heading(
        "page allocation failure",
        r"page allocation failure: order:\d+",
        "oom",
        "page allocation failure",
        use="leak",
        weak=True,
    ),
    heading(
        "BUG: Dentry",
        r"BUG: Dentry \S+ ?\{.*\} still in use",
        "memory_corruption",
        "BUG: Dentry still in use",
        use="fault",
    ),
    heading(
        "unregister_netdevice: waiting",
        r"unregister_netdevice: waiting for (?P<device>\S+) to become free",
        "warn",
        "unregister_netdevice: waiting for a device to become free",
        use="none",
        weak=True,
    ),
)

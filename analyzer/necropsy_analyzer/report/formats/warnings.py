"""WARN() and what stands behind it: refcounts, debug objects, kobjects, allocation sizes.

kernel/panic.c (__warn), lib/refcount.c, lib/debugobjects.c, lib/kobject.c, net/sched/sch_generic.c,
mm/page_alloc.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import Heading, heading

_AT: Final = r"WARNING: (?:CPU: \d{1,5} PID: \d{1,9} )?(?:at )?"


def _at(
    file: str,
    mechanism: str,
    title: str,
    *,
    use: str = "fault",
    weak: bool = False,
    pattern: str | None = None,
) -> Heading:
    return heading(
        file,
        _AT + r"\S{0,120}?" + (pattern or file.replace(".", r"\.")) + r":\d",
        mechanism,
        title,
        use=use,
        weak=weak,
    )


HEADINGS: Final = (
    heading(
        "refcount_t",
        r"^refcount_t: \w",
        "memory_corruption",
        "WARNING: refcount bug",
        use="fault",
    ),
    _at("lib/refcount.c", "memory_corruption", "WARNING: refcount bug"),
    heading("ODEBUG:", r"ODEBUG: \w{1,32} [\w ]{1,64}\(active state", "warn", "WARNING: ODEBUG bug"),
    heading("lib/debugobjects.c", _AT + r"\S{0,80}?lib/debugobjects\.c:\d", "warn", "WARNING: ODEBUG bug"),
    _at(
        "kernel/locking/",
        "deadlock",
        "WARNING: locking bug",
        use="lockdep",
        pattern=r"kernel/locking/\w{1,32}\.c",
    ),
    _at("kernel/lockdep.c", "deadlock", "WARNING: locking bug", use="lockdep"),
    _at("lib/list_debug.c", "memory_corruption", "list corruption"),
    heading(
        "kernel/watchdog.c",  # of vendors whose soft lockup detector warns
        _AT + r"\S{0,120}?kernel/watchdog\.c:\d{1,6} watchdog_timer_fn\+0x",
        "soft_lockup",
        "BUG: soft lockup",
        blame="pointer",
        use="stall",
        weak=True,
    ),
    _at("kernel/watchdog.c", "hard_lockup", "hard lockup", weak=True),
    heading(
        "unchecked MSR access",
        r"unchecked MSR access error: (?:RDMSR|WRMSR)",
        "warn",
        "unchecked MSR access",
        use="fault",
    ),
    # Since 6.10 the fortified string functions warn before they stop.
    _at("lib/string_helpers.c", "out_of_bounds", "detected buffer overflow", weak=True),
    # Since 6.12 the allocator's own reports end in a WARN.
    _at("mm/slub.c", "memory_corruption", "slab corruption", weak=True),
    heading(
        "kobject",
        r"kobject: '.{0,120}' \(\S{1,80}\): (?:is not initialized|tried to init|does not have)"
        r"|kobject \(\S{1,80}\): tried to init an initialized object|kobject_add_internal failed",
        "warn",
        "WARNING: kobject bug",
        use="fault",
        weak=True,
    ),
    heading(
        "NETDEV WATCHDOG",
        r"NETDEV WATCHDOG: (?:CPU: \d{1,5}: )?(?P<device>\S{1,64}) \((?P<module>[\w-]{0,64})\): "
        r"transmit queue",
        "tx_timeout",
        "NETDEV WATCHDOG: transmit queue timed out",
        use="fault",
    ),
    heading(
        "NETDEV WATCHDOG",  # netdev_crit() since 6.7
        r"(?P<module>[\w-]{1,64}) \S{1,64} (?P<device>[\w.@-]{1,32}): NETDEV WATCHDOG: CPU: \d{1,5}: "
        r"transmit queue",
        "tx_timeout",
        "NETDEV WATCHDOG: transmit queue timed out",
        use="fault",
    ),
    _at("net/sched/sch_generic.c", "tx_timeout", "NETDEV WATCHDOG: transmit queue timed out", weak=True),
    heading(
        "detected field-spanning",
        r"detected field-spanning (?:read|write)",
        "out_of_bounds",
        "detected field-spanning copy",
        use="fault",
    ),
    heading(
        "WARNING: ",
        _AT + r"\S{1,120}?:\d{1,6} (?:at )?(?:\[?<?[0-9a-f]{8,16}>?\]? )?"
        r"(?P<function>[A-Za-z_]\w{0,127})(?:\.[\w.]{1,64})?\+0x",
        "warn",
        "WARNING",
        blame="named",
        use="fault",
    ),
    heading("WARNING: ", _AT + r"\S{1,120}?:\d{1,6}(?:\s|$)", "warn", "WARNING", use="fault"),
    heading(
        "WARNING: kernel stack",
        r"WARNING: kernel stack (?P<what>frame pointer|regs) at",
        "warn",
        "WARNING: kernel stack {what} has bad value",
        use="none",
    ),
    heading("Badness at", r"Badness at \S{1,120}:\d", "warn", "WARNING", use="fault"),
    heading(
        "RTNL: assertion failed",
        r"RTNL: assertion failed at \S",
        "warn",
        "RTNL: assertion failed",
        use="fault",
    ),
    heading(
        "nobody cared",
        r"irq \d{1,6}: nobody cared",
        "warn",
        "irq: nobody cared",
        use="fault",
    ),
    heading(
        "page allocation failure",
        r"page allocation failure: order:\d",
        "oom",
        "page allocation failure",
        use="leak",
        weak=True,
    ),
    heading(
        "BUG: Dentry",
        r"BUG: Dentry .{1,200} still in use",
        "memory_corruption",
        "BUG: Dentry still in use",
        use="fault",
    ),
    heading(
        "unregister_netdevice: waiting",
        r"unregister_netdevice: waiting for (?P<device>\S{1,64}) to become free",
        "warn",
        "unregister_netdevice: waiting for a device to become free",
        use="none",
        weak=True,
    ),
)

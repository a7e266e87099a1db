"""Broken locking rules: lockdep, sleeping or scheduling in atomic context, RCU and spinlock misuse.

kernel/locking/lockdep.c, kernel/sched/core.c, kernel/locking/spinlock_debug.c, kernel/rcu/update.c,
lib/smp_processor_id.c, kernel/workqueue.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import FUNCTION, Heading, heading

_AT: Final = r"at: " + FUNCTION


def _lockdep(
    literal: str,
    pattern: str,
    title: str,
    detail: str | None = None,
    *,
    use: str = "lockdep",
    trace: str | None = None,
) -> Heading:
    return heading(literal, pattern, "deadlock", title, detail=detail, use=use, trace=trace)


HEADINGS: Final = (
    _lockdep(
        "possible circular locking",
        r"possible circular locking dependency detected",
        "possible deadlock",
        _AT,
        use="lock_order",
    ),
    _lockdep(
        "possible recursive locking",
        r"possible recursive locking detected",
        "possible deadlock",
        _AT,
        use="lock_order",
    ),
    _lockdep(
        "lock inversion dependency",
        r"possible irq lock inversion dependency detected",
        "possible deadlock",
        r"just changed the state of lock:|" + _AT,
        use="lock_order",
    ),
    _lockdep(
        "-safe -> ",
        r"[A-Z]{1,16}-safe -> [A-Z]{1,16}-unsafe lock order detected",
        "possible deadlock",
        _AT,
        use="lock_order",
        trace=r"which became \S{1,32}-irq-safe at:",
    ),
    _lockdep(
        "inconsistent lock state",
        r"inconsistent lock state",
        "inconsistent lock state",
        _AT,
        use="lock_order",
    ),
    _lockdep("bad unlock balance", r"bad unlock balance detected", "bad unlock balance", r"at:$|" + _AT),
    _lockdep("bad contention", r"bad contention detected", "bad contention"),
    _lockdep("held lock freed", r"held lock freed!", "held lock freed", _AT),
    _lockdep("Invalid wait context", r"\[ BUG: Invalid wait context \]", "invalid wait context", _AT),
    _lockdep("Nested lock was not", r"Nested lock was not taken", "nested lock was not taken", _AT),
    _lockdep(
        "returning to user space",
        r"lock held when returning to user space",
        "lock held when returning to user space",
        _AT,
    ),
    _lockdep(
        "leaving the kernel with locks",
        r"leaving the kernel with locks still held",
        "lock held when returning to user space",
        _AT,
    ),
    _lockdep("still has locks held", r"still has locks held", "still has locks held", _AT),
    _lockdep("lock held at task exit", r"lock held at task exit time", "lock held at task exit", _AT),
    _lockdep("uspicious RCU usage", r"[Ss]uspicious RCU usage", "suspicious RCU usage"),
    _lockdep(
        "suspicious rcu_",
        r"suspicious rcu_(?:dereference|read_lock)\S{0,32} usage",
        "suspicious RCU usage",
    ),
    _lockdep(
        "trying to register non-static key",
        r"trying to register non-static key",
        "trying to register non-static key",
    ),
    _lockdep(" too low", r"BUG: MAX_(?:LOCK|STACK_TRACE)\w{0,32} too low", "lockdep's tables are too small"),
    _lockdep("DEBUG_LOCKS_WARN_ON", r"^\s{0,8}DEBUG_LOCKS_WARN_ON\(", "locking bug"),
    _lockdep(
        "scheduling while atomic",
        r"BUG: scheduling while atomic",
        "scheduling while atomic",
    ),
    _lockdep(
        "scheduling from the idle", r"bad: scheduling from the idle thread", "scheduling from the idle thread"
    ),
    _lockdep(
        "sleeping function called",
        r"BUG: sleeping function called from invalid context",
        "sleeping function called from invalid context",
        use="atomic",
    ),
    _lockdep(
        "in preemptible",
        r"BUG: using (?P<what>\w{1,64})\(\) in preemptible",
        "using {what}() in preemptible code",
        r"caller is " + FUNCTION,
    ),
    _lockdep(
        "workqueue leaked",
        r"BUG: workqueue leaked (?:lock or atomic|atomic, lock or RCU)",
        "workqueue leaked lock or atomic",
        r"last function: (?P<function>\w{1,128})",
    ),
    _lockdep("spinlock", r"BUG: spinlock (?P<what>[\w ]{1,40}?) on CPU", "spinlock {what}"),
    _lockdep("rwlock", r"BUG: rwlock (?P<what>[\w -]{1,40}?) on CPU", "rwlock {what}"),
    _lockdep("-lock lockup", r"BUG: (?:write|read)-lock lockup", "rwlock lockup"),
    _lockdep("oluntary context switch", r"Voluntary context switch within RCU", "context switch within RCU"),
)

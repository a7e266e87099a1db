"""The values that reading a kernel log gives: lines, frames, reports. No parsing here."""

from typing import Literal

import msgspec

Section = Literal["task", "irq", "softirq", "nmi", "exception"]


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One kernel message.

    `number` is the 1-based line in the input where it stands; `text` is the message alone, without time
    stamp, level, caller id, host name or `kernel:`. `time_s` is seconds since boot, `wall_s` seconds since
    the epoch where the input has it, `level` 0 (emergency) to 7 (debug), `caller` printk's caller id (`T123`
    a task, `C1` a CPU in interrupt context; CONFIG_PRINTK_CALLER). `kernel` is False for a line between
    the kernel's own ones (console noise, userspace).
    """

    number: int
    text: str
    time_s: float | None = None
    wall_s: float | None = None
    level: int | None = None
    caller: str | None = None
    kernel: bool = True


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel log in reading order, and what was wrong with the bytes it came from (one line each)."""

    lines: tuple[LogLine, ...]
    damage: tuple[str, ...] = ()


class Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of a stack trace, innermost first.

    `function` has its compiler suffix removed (`.isra.0`, `.constprop.1`, `.cold`, `.part.2`; `raw` keeps
    it); `offset` and `size` are bytes where given; `reliable` is False for a `?` entry.
    """

    function: str
    raw: str
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    reliable: bool = True
    section: Section = "task"
    line: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One crash report out of a log.

    `first_line` and `last_line` are `LogLine.number`s. `mechanism` is a name of the mechanisms' list, `title`
    what an engineer would call the defect, with addresses and numbers left out. `culprit` is the function
    blamed; None where the report names none. `stack` holds the reporting CPU's own trace; `traces` are those
    of other CPUs, of lock holders, of allocation and freeing, by the heading the kernel gave them. `fatal`:
    the kernel said that it stops here. `aftershock`: an earlier report of the same boot comes first and
    explains it. `corrupted`: cut or interleaved, so that fields may be missing. `boot` counts the boots that
    the log holds, from 0; `device` is what the heading names.
    """

    mechanism: str
    title: str
    first_line: int
    last_line: int
    boot: int = 0
    culprit: str | None = None
    culprit_module: str | None = None
    process: str | None = None
    pid: int | None = None
    cpu: int | None = None
    context: Section | None = None
    device: str | None = None
    workqueue: str | None = None
    release: str | None = None
    tainted: str | None = None
    hardware: str | None = None
    ip: Frame | None = None
    address: int | None = None
    registers: dict[str, int] = {}
    modules: dict[str, str] = {}
    stack: tuple[Frame, ...] = ()
    traces: tuple[tuple[str, tuple[Frame, ...]], ...] = ()
    fatal: bool = False
    aftershock: bool = False
    corrupted: bool = False

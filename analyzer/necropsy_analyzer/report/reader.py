"""One report's lines → a `Report`. In: drafts in reading order, the frame model. Out: the values.

What the heading names outranks what headers say: these may be those of the task that only reports.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from necropsy_analyzer.report.body import Body, read_body
from necropsy_analyzer.report.culprit import Blamed, blame
from necropsy_analyzer.report.draft import Draft
from necropsy_analyzer.report.formats import HEADINGS
from necropsy_analyzer.report.formats.heading import HEADING_CHARACTERS, Heading
from necropsy_analyzer.report.frames import FrameModel
from necropsy_analyzer.report.report import LogLine, Report

_TITLE_CHARACTERS: Final = 200
_DEVICE_ERROR_LINES: Final = 100
_STALLING: Final = frozenset({"soft_lockup", "hard_lockup", "rcu_stall", "hung_task"})
_DAMAGING: Final = frozenset({"use_after_free", "out_of_bounds", "memory_corruption"})
_COUNTER: Final = re.compile(r"\[#(\d{1,9})\]")
# block/blk-core.c, fs/buffer.c: the device failed before the file system on it gave up.
_DEVICE_ERROR: Final = re.compile(r"(?:error, dev |Buffer I/O error on (?:dev|device) )([\w-]{1,64})")
# Before 5.0 (commit 8341f2f222d7) sysrq-c wrote through NULL.
_SYSRQ: Final = next(heading for heading in HEADINGS if heading.mechanism == "sysrq")
# Both detectors warn from the same file (kernel/watchdog.c); of some kernels only the function tells which.
_SOFT: Final = next(heading for heading in HEADINGS if heading.mechanism == "soft_lockup")


class ReportReader:
    """Reads the drafts of a log one after the other, in their order.

    `external` are the out-of-tree modules that the log names elsewhere.
    """

    def __init__(self, frames: FrameModel, lines: Sequence[LogLine], external: frozenset[str]) -> None:
        self._frames = frames
        self._lines = lines
        self._external = external
        self._past = _Past()

    def report(self, known: Draft) -> Report:
        """Read one draft."""
        body = read_body(known.lines)
        body.external |= self._external
        heading = known.heading
        if _in(body, "sysrq_handle_crash"):
            heading = _SYSRQ
        elif heading.mechanism == "hard_lockup" and _in(body, "watchdog_timer_fn"):
            heading = _SOFT
        blamed = blame(heading, known.found, known.lines, body, self._frames)
        groups = {name: value for name, value in known.found.groupdict().items() if value}
        who = _who(groups, blamed, body)
        return Report(
            mechanism="io_error" if self._device_failed(known, groups) else heading.mechanism,
            title=_title(heading, groups, blamed.function),
            first_line=known.lines[0].number,
            last_line=known.lines[-1].number,
            boot=known.boot,
            culprit=blamed.function,
            culprit_module=blamed.module or groups.get("module"),
            process=who.process,
            pid=who.pid,
            cpu=who.cpu,
            context=blamed.frame.section if blamed.frame is not None else None,
            device=groups.get("device"),
            workqueue=body.workqueue,
            release=body.release,
            tainted=body.tainted,
            hardware=body.hardware,
            ip=body.ip,
            address=body.address,
            registers=body.registers,
            modules=body.modules,
            stack=blamed.stack,
            traces=tuple(
                (other.title, tuple(other.frames)) for other in body.traces if other is not blamed.trace
            ),
            fatal=known.fatal or (known.died and _irreplaceable(who, blamed)),
            aftershock=self._past.explains(known, body),
            corrupted=heading.use != "none" and not blamed.stack,
        )

    def _device_failed(self, known: Draft, groups: dict[str, str]) -> bool:
        """Say whether a file system gave up because its device failed: then it did what it was told to."""
        device = groups.get("device")
        if known.heading.mechanism != "fs_error" or device is None:
            return False
        for line in self._lines[max(0, known.index - _DEVICE_ERROR_LINES) : known.index]:
            failed = _DEVICE_ERROR.search(line.text, 0, HEADING_CHARACTERS)
            if failed is not None and device.startswith(failed[1]):
                return True
        return False


class _Past:
    """What the reports before told, within one boot, in their order."""

    def __init__(self) -> None:
        self._boot = 0
        self._ended: set[str] = set()
        self._stalled: set[str] = set()
        self._damaged = False

    def explains(self, known: Draft, body: Body) -> bool:
        """Say whether an earlier report explains this one, and remember this one.

        After an oops locks stay held and memory stays damaged; after a panic nothing tells anything new.
        Memory written wrongly lets whoever owns it fault later.
        """
        if known.boot != self._boot:
            self._boot, self._ended, self._stalled, self._damaged = known.boot, set(), set(), False
        mechanism = known.heading.mechanism
        same = {mechanism} if mechanism in _STALLING else set()
        explained = bool(self._ended - same) or (mechanism in _STALLING and bool(self._stalled - same))
        explained = explained or (self._damaged and known.died)
        self._damaged = self._damaged or mechanism in _DAMAGING
        if known.fatal or known.died:
            self._ended.add(mechanism)
        if mechanism in _STALLING:
            self._stalled.add(mechanism)
        counters = (_COUNTER.search(line.text, 0, HEADING_CHARACTERS) for line in known.lines[:12])
        if any(counter is not None and int(counter[1]) > 1 for counter in counters):
            return True
        return explained or (body.tainted is not None and "D" in body.tainted)


def _in(body: Body, function: str) -> bool:
    return body.ip is not None and body.ip.function == function


def _title(heading: Heading, groups: dict[str, str], culprit: str | None) -> str:
    title = re.sub(r"\{(\w+)\}", lambda found: groups.get(found[1], "").strip(), heading.title).strip()
    return title[:_TITLE_CHARACTERS] if culprit is None else f"{title[:_TITLE_CHARACTERS]} in {culprit}"


class _Who(NamedTuple):
    process: str | None
    pid: int | None
    cpu: int | None


def _who(groups: dict[str, str], blamed: Blamed, body: Body) -> _Who:
    """Say who ran where: what the heading names, and the first header that agrees with it."""
    process, pid, cpu = groups.get("process"), _number(groups.get("pid")), _number(groups.get("cpu"))
    headers = [*([blamed.trace] if blamed.trace is not None else []), *body.headers, *body.traces]
    for header in headers:
        if header.cpu is None and header.pid is None and header.process is None:
            continue
        if _differs(pid, header.pid) or _differs(cpu, header.cpu) or _differs(process, header.process):
            continue
        return _Who(
            process if process is not None else header.process,
            pid if pid is not None else header.pid,
            cpu if cpu is not None else header.cpu,
        )
    return _Who(process, pid, cpu)


def _irreplaceable(who: _Who, blamed: Blamed) -> bool:
    """Say whether what an oops stopped cannot be done without: an interrupt, an idle task, or init.

    oops_end() panics in an interrupt, do_exit() for PID 0 and 1, whatever panic_on_oops says.
    """
    return who.pid in (0, 1) or (blamed.stack != () and blamed.stack[0].section in ("irq", "softirq", "nmi"))


def _differs(told: str | int | None, header: str | int | None) -> bool:
    return told is not None and header is not None and told != header


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None

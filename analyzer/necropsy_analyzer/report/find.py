"""Kernel messages → crash reports, in the order in which they began. In: a `Log`. Out: `Report`s.

A report begins at a heading (formats/) and takes the lines that follow it from the same printk caller, up to its
end mark, the next report, or a silence. A panic that only carries out what a report before it asked for belongs to
that report and makes it fatal.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from necropsy_analyzer.report.body import Body, read_body
from necropsy_analyzer.report.culprit import Blamed, blame
from necropsy_analyzer.report.formats import HEADINGS
from necropsy_analyzer.report.formats.heading import Heading
from necropsy_analyzer.report.frames import FrameModel
from necropsy_analyzer.report.lines import line_starts
from necropsy_analyzer.report.report import Log, LogLine, Report

REPORTS: Final = 2000
"""So many reports of one log are read; a storm of the same says no more."""

_LINES: Final = 1500
_FOREIGN_LINES: Final = 150
_SILENCE_S: Final = 4.0
_STALL_SILENCE_S: Final = 25.0
_POLICY_S: Final = 30.0
_DYING: Final = frozenset(
    "null_deref bad_page_fault gpf double_fault stack_overflow divide_error invalid_opcode bug".split()
)
_STALLING: Final = frozenset("soft_lockup hard_lockup rcu_stall hung_task".split())
_ANY: Final = frozenset(heading.mechanism for heading in HEADINGS)
_POLICY: Final[tuple[tuple[re.Pattern[str], frozenset[str]], ...]] = (
    (re.compile(r"panic_on_warn set|kasan\.fault=panic"), _ANY),
    (re.compile(r"softlockup: hung tasks"), frozenset({"soft_lockup", "rcu_stall"})),
    (re.compile(r"hung_task: blocked tasks"), frozenset({"hung_task"})),
    (re.compile(r"RCU Stall"), frozenset({"rcu_stall"})),
    (re.compile(r"[Hh]ard (?:LOCKUP|lockup)|NMI watchdog"), frozenset({"hard_lockup"})),
    (re.compile(r"Fatal exception|Attempted to kill|Aiee, killing|Machine halted"), _DYING),
)
_PANIC: Final = "Kernel panic - not syncing"
_END: Final = re.compile(r"---\[ end (?:trace|Kernel panic)")
_BANNER: Final = re.compile(r"Linux version \d+\.\d+")
_COUNTER: Final = re.compile(r"\[#(\d+)\]")
_LITERALS: Final[tuple[tuple[str, tuple[Heading, ...]], ...]] = tuple(
    (literal, tuple(heading for heading in HEADINGS if heading.literal == literal))
    for literal in dict.fromkeys(heading.literal for heading in HEADINGS)
)
_ORDER: Final = {id(heading): place for place, heading in enumerate(HEADINGS)}


@dataclass(slots=True)
class _Draft:
    """A report that is being read."""

    heading: Heading
    found: re.Match[str]
    line: LogLine
    boot: int
    lines: list[LogLine] = field(default_factory=list)
    fatal: bool = False
    ended: bool = False
    foreign: int = 0
    last_s: float | None = None

    @property
    def stalls(self) -> bool:
        return self.heading.use == "stall"


def find(log: Log, frames: FrameModel) -> tuple[Report, ...]:
    """Find all crash reports of a log. Never raises on content."""
    lines = [line for line in log.lines if line.kernel]
    drafts = _drafts(lines, _hits(lines))
    reports: list[Report] = []
    for draft in drafts:
        reports.append(_report(draft, frames, reports))
    return tuple(reports)


def _hits(lines: Sequence[LogLine]) -> dict[int, tuple[Heading, re.Match[str]]]:
    """Find the lines that begin with a heading; of several that match a line the first in their order."""
    text, starts = line_starts(line.text for line in lines)
    hits: dict[int, tuple[Heading, re.Match[str]]] = {}
    for literal, headings in _LITERALS:
        position = text.find(literal)
        while position >= 0:
            index = bisect_right(starts, position) - 1
            for heading in headings:
                before = hits.get(index)
                if before is not None and _ORDER[id(before[0])] <= _ORDER[id(heading)]:
                    break
                found = heading.pattern.search(lines[index].text)
                if found is not None:
                    hits[index] = (heading, found)
                    break
            following = starts[index + 1] if index + 1 < len(starts) else len(text)
            position = text.find(literal, following)
    return hits


def _drafts(lines: Sequence[LogLine], hits: dict[int, tuple[Heading, re.Match[str]]]) -> list[_Draft]:
    """Hand each line to the report it belongs to."""
    drafts: list[_Draft] = []
    active: list[_Draft] = []
    boot = 0
    last_s = 0.0
    for index, line in enumerate(lines):
        if line.time_s is not None:
            if line.time_s + 5.0 < last_s and line.time_s < 60.0:
                boot += 1
                active.clear()
            last_s = line.time_s
        if active:
            active = [draft for draft in active if not _over(draft, line)]
        hit = hits.get(index)
        if hit is None:
            if active:
                _continue(active, line)
            elif not drafts and _BANNER.match(line.text) and last_s > 5.0:
                boot += 1
            continue
        heading, found = hit
        owner = _owner(heading, found, line, active, drafts, boot)
        if owner is not None:
            _absorb(owner, heading, found, line)
            if owner not in active and not owner.ended:
                active.append(owner)
            continue
        if len(drafts) >= REPORTS:
            continue
        for other in active:
            if _same_stream(other, line):
                other.ended = True
        active = [other for other in active if not other.ended]
        draft = _Draft(heading, found, line, boot, lines=[line], fatal=heading.fatal, last_s=line.time_s)
        drafts.append(draft)
        active.append(draft)
    return drafts


def _same_stream(draft: _Draft, line: LogLine) -> bool:
    """Say whether a line comes from the CPU or task that reports; of logs without caller ids all do."""
    return draft.line.caller is None or line.caller is None or draft.line.caller == line.caller


def _over(draft: _Draft, line: LogLine) -> bool:
    if draft.ended or len(draft.lines) > _LINES or draft.foreign > _FOREIGN_LINES:
        return True
    if line.time_s is None or draft.last_s is None:
        return False
    return line.time_s - draft.last_s > (_STALL_SILENCE_S if draft.stalls else _SILENCE_S)


def _continue(active: list[_Draft], line: LogLine) -> None:
    """Add a line to the newest report of its stream; other CPUs' backtraces belong to the stall that asked."""
    for draft in reversed(active):
        if not _same_stream(draft, line) and not draft.stalls:
            continue
        if line.time_s is None and draft.line.time_s is not None:
            return  # another program's, on the same console
        draft.lines.append(line)
        draft.foreign = 0 if _belongs(line.text) else draft.foreign + 1
        if line.time_s is not None and draft.foreign == 0:
            draft.last_s = line.time_s
        if _END.match(line.text):
            draft.ended = not draft.stalls or "Kernel panic" in line.text
        return


def _belongs(text: str) -> bool:
    """Say whether a line looks like a part of a report: a frame, registers, an indented list."""
    return "+0x" in text or text[:1] in " \t<[-=" or text[3:4] == ":" or ": 0" in text or not text


def _owner(
    heading: Heading,
    found: re.Match[str],
    line: LogLine,
    active: list[_Draft],
    drafts: list[_Draft],
    boot: int,
) -> _Draft | None:
    """Tell which report a heading is only a part or a consequence of; None where it begins its own."""
    if heading.literal == _PANIC or _PANIC in line.text:
        return _policy(heading, found.string[found.start() :], line, drafts, boot)
    for draft in reversed(active):
        if not _same_stream(draft, line) and not (draft.stalls and heading.use == "stall"):
            continue
        if heading.weak or _goes_on(draft, heading, line):
            return draft
    if heading.weak:
        last = drafts[-1] if drafts else None
        near = last is not None and last.boot == boot and _within(last, line, _SILENCE_S)
        return last if near else None
    return None


def _goes_on(draft: _Draft, heading: Heading, line: LogLine) -> bool:
    """Say whether a strong heading still speaks of the report that is open.

    The same stall told by two CPUs, and the second line in which a trap is named (`kernel BUG at` and then
    `invalid opcode`, `Unable to handle` and then `Internal error`), come without a new stack in between.
    """
    if draft.stalls and heading.use == "stall":
        return heading.mechanism == draft.heading.mechanism and _within(draft, line, _SILENCE_S)
    if draft.heading.mechanism == heading.mechanism and len(draft.lines) < 4 and heading.use != "wait":
        return True
    has_stack = any("+0x" in known.text for known in draft.lines[1:])
    if has_stack or len(draft.lines) > 12:
        return False
    return heading.mechanism in _DYING and (
        draft.heading.mechanism in _DYING or draft.heading.mechanism in ("memory_corruption", "out_of_bounds")
    )


def _within(draft: _Draft, line: LogLine, seconds: float) -> bool:
    if line.time_s is None or draft.last_s is None:
        return draft.lines[-1].number + 400 > line.number
    return line.time_s - draft.last_s <= seconds


def _policy(heading: Heading, text: str, line: LogLine, drafts: list[_Draft], boot: int) -> _Draft | None:
    """Find the report that a panic carries out a policy over; a panic that says its own reason has none."""
    mechanisms: frozenset[str] | None = None
    for pattern, triggers in _POLICY:
        if pattern.search(text) is not None:
            mechanisms = triggers
            break
    else:
        if heading.mechanism != "panic_other":
            return None
    for draft in reversed(drafts[-8:]):
        if draft.boot != boot or not _within(draft, line, _POLICY_S):
            continue
        if mechanisms is None and not _same_stream(draft, line):
            continue
        if mechanisms is None or draft.heading.mechanism in mechanisms:
            return draft
    return None


def _absorb(owner: _Draft, heading: Heading, found: re.Match[str], line: LogLine) -> None:
    owner.lines.append(line)
    owner.last_s = line.time_s if line.time_s is not None else owner.last_s
    if heading.fatal or _PANIC in line.text:
        owner.fatal = True
        return
    if owner.heading.weak and not heading.weak:
        owner.heading, owner.found = heading, found


def _report(draft: _Draft, frames: FrameModel, before: Sequence[Report]) -> Report:
    body = read_body(draft.lines)
    heading = draft.heading
    blamed = blame(heading, draft.found, draft.lines, body, frames)
    groups = {name: value for name, value in draft.found.groupdict().items() if value}
    trace = blamed.trace
    main = trace.frames if trace is not None else []
    return Report(
        mechanism=heading.mechanism,
        title=_title(heading, groups, blamed.function),
        first_line=draft.lines[0].number,
        last_line=max(line.number for line in draft.lines),
        boot=draft.boot,
        culprit=blamed.function,
        culprit_module=blamed.module or groups.get("module"),
        process=_process(groups, blamed, body),
        pid=_number(groups.get("pid")) or (trace.pid if trace is not None else None) or body.pid,
        cpu=_cpu(groups, blamed, body),
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
        traces=tuple((other.title, tuple(other.frames)) for other in body.traces if other.frames is not main),
        fatal=draft.fatal,
        aftershock=_aftershock(draft, body, before),
        corrupted=heading.use not in ("none",) and not blamed.stack,
    )


def _title(heading: Heading, groups: dict[str, str], culprit: str | None) -> str:
    title = re.sub(r"\{(\w+)\}", lambda found: groups.get(found[1], "").strip(), heading.title).strip()
    return title if culprit is None else f"{title} in {culprit}"


def _process(groups: dict[str, str], blamed: Blamed, body: Body) -> str | None:
    named = groups.get("process")
    if named:
        return named
    return (blamed.trace.process if blamed.trace is not None else None) or body.process


def _cpu(groups: dict[str, str], blamed: Blamed, body: Body) -> int | None:
    named = _number(groups.get("cpu"))
    if named is not None:
        return named
    return blamed.trace.cpu if blamed.trace is not None and blamed.trace.cpu is not None else body.cpu


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None


def _aftershock(draft: _Draft, body: Body, before: Sequence[Report]) -> bool:
    """Say whether an earlier report explains this one: after an oops locks stay held and memory stays damaged."""
    counters = (_COUNTER.search(line.text) for line in draft.lines[:12])
    if any(counter is not None and int(counter[1]) > 1 for counter in counters):
        return True
    if body.tainted is not None and "D" in body.tainted:
        return True
    mechanism = draft.heading.mechanism
    for report in before:
        if report.boot != draft.boot:
            continue
        if report.fatal or report.mechanism in _DYING:
            return True
        if mechanism in _STALLING and report.mechanism in _STALLING and mechanism != report.mechanism:
            return True
    return False


def headings(lines: Sequence[LogLine]) -> Iterator[tuple[LogLine, Heading]]:
    """Give the lines at which reports begin or go on, for those who write formats."""
    for index, (heading, _) in sorted(_hits(lines).items()):
        yield lines[index], heading

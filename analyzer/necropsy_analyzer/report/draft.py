"""Which report a line or a heading belongs to. In: headings in reading order. Out: `Draft`s with their lines.

A report takes the lines that follow its heading from the same printk caller, up to its end mark, the next
report, or a silence. A heading that names the same fault again goes on with it, and a panic that only carries
out what a report asked for (panic_on_oops, softlockup_panic, hung_task_panic, a machine check) belongs to
that report and makes it fatal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from necropsy_analyzer.report.formats import HEADINGS
from necropsy_analyzer.report.formats.heading import Heading
from necropsy_analyzer.report.report import LogLine

DYING: Final = frozenset(
    {
        "null_deref", "bad_page_fault", "gpf", "double_fault", "stack_overflow", "divide_error",
        "invalid_opcode", "bug",
    }
)  # fmt: skip
"""Mechanisms of an oops: the running task is killed, and what it held stays held."""

LINES: Final = 1500
"""So many lines of one report are read."""

_FOREIGN_LINES: Final = 150
_NEAR_LINES: Final = 400
_SILENCE_S: Final = 4.0
_STALL_SILENCE_S: Final = 25.0
_POLICY_S: Final = 30.0
_PANIC: Final = "Kernel panic - not syncing"
_END: Final = re.compile(r"---\[ end (?:trace|Kernel panic)")
_ANY: Final = frozenset(heading.mechanism for heading in HEADINGS)
# What a panic says, and the mechanisms of the reports that it is the consequence of.
_POLICY: Final[tuple[tuple[re.Pattern[str], frozenset[str]], ...]] = (
    (re.compile(r"panic_on_\w{1,20} set|kasan\.fault=panic"), _ANY),
    (re.compile(r"softlockup: hung tasks"), frozenset({"soft_lockup", "rcu_stall"})),
    (re.compile(r"hung_task: blocked tasks"), frozenset({"hung_task"})),
    (re.compile(r"RCU Stall"), frozenset({"rcu_stall"})),
    (re.compile(r"[Hh]ard (?:LOCKUP|lockup)|NMI [Ww]atchdog"), frozenset({"hard_lockup"})),
    (re.compile(r"[Mm]achine check|Fatal hardware error|SError"), frozenset({"mce"})),
    (re.compile(r"NMI"), frozenset({"nmi"})),
    (re.compile(r"sysrq triggered crash"), frozenset({"sysrq"})),
    (re.compile(r"kernel stack overflow"), frozenset({"stack_overflow"})),
    (re.compile(r"Fatal exception|Attempted to kill|Aiee, killing|Machine halted"), DYING),
)


@dataclass(slots=True)
class Draft:
    """A report that is being read.

    `index` is its heading's place among the messages; `died` says that the CPU trapped: an oops, or a BUG
    after a checker's words.
    """

    heading: Heading
    found: re.Match[str]
    line: LogLine
    index: int
    boot: int
    lines: list[LogLine] = field(default_factory=list)
    fatal: bool = False
    died: bool = False
    ended: bool = False
    foreign: int = 0
    last_s: float | None = None

    @property
    def stalls(self) -> bool:
        """Whether it tells of a CPU that does not go on: other CPUs speak in it too."""
        return self.heading.use == "stall"

    def speaks(self, line: LogLine) -> bool:
        """Say whether a line comes from the CPU or task that reports; of logs without caller ids all do."""
        return self.line.caller is None or line.caller is None or self.line.caller == line.caller

    def over(self, line: LogLine) -> bool:
        """Say whether a line comes too late to be a part of the report."""
        if self.ended or len(self.lines) > LINES or self.foreign > _FOREIGN_LINES:
            return True
        if line.time_s is None or self.last_s is None:
            return False
        return line.time_s - self.last_s > (_STALL_SILENCE_S if self.stalls else _SILENCE_S)

    def near(self, line: LogLine, seconds: float) -> bool:
        """Say whether a line comes at most so many seconds after the report's last one."""
        if line.time_s is None or self.last_s is None:
            return line.number < self.lines[-1].number + _NEAR_LINES
        return line.time_s - self.last_s <= seconds

    def absorb(self, heading: Heading, found: re.Match[str], line: LogLine) -> None:
        """Take a heading as a part of this report."""
        self.lines.append(line)
        self.ended = self.ended or _END.match(line.text) is not None
        self.last_s = line.time_s if line.time_s is not None else self.last_s
        if heading.fatal or _PANIC in line.text:
            self.fatal = True
            return
        self.died = self.died or _dies(heading)
        if self.heading.weak and not heading.weak:
            self.heading, self.found = heading, found


def _dies(heading: Heading) -> bool:
    return heading.mechanism in DYING and heading.blame == "pointer"


def draft(heading: Heading, found: re.Match[str], line: LogLine, index: int, boot: int) -> Draft:
    """Begin a report at its heading."""
    return Draft(
        heading=heading,
        found=found,
        line=line,
        index=index,
        boot=boot,
        lines=[line],
        fatal=heading.fatal or _PANIC in line.text,
        died=_dies(heading),
        last_s=line.time_s,
    )


def go_on(active: Sequence[Draft], line: LogLine) -> None:
    """Add a line to the newest report of its stream; other CPUs' traces belong to the stall that asked."""
    known = next((known for known in reversed(active) if known.speaks(line)), None)
    if known is None:
        known = next((known for known in reversed(active) if known.stalls), None)
    if known is None or (line.time_s is None and known.line.time_s is not None):
        return  # nobody's, or another program's on the same console
    known.lines.append(line)
    known.foreign = 0 if _belongs(line.text) else known.foreign + 1
    if line.time_s is not None and known.foreign == 0:
        known.last_s = line.time_s
    if _END.match(line.text):
        known.ended = not known.stalls or "Kernel panic" in line.text


def _belongs(text: str) -> bool:
    """Say whether a line looks like a part of a report: a frame, registers, an indented list."""
    return "+0x" in text or text[:1] in " \t<[-=" or text[3:4] == ":" or ": 0" in text or not text


def owner(
    heading: Heading, found: re.Match[str], line: LogLine, active: Sequence[Draft], earlier: Sequence[Draft]
) -> Draft | None:
    """Tell which report a heading is only a part or a consequence of; None where it begins its own.

    `active` are the reports still open, `earlier` all of this boot.
    """
    if _END.match(line.text) is not None:
        # `---[ end Kernel panic - not syncing: … ]---` says it again.
        return next((known for known in reversed(earlier) if known.fatal), None)
    if _PANIC in line.text:
        text = found.string[found.start() :]
        return _policy(heading, text, line, earlier) or _last_words(heading, line, active)
    for known in reversed(active):
        if not known.speaks(line) and not (known.stalls and heading.use == "stall"):
            continue
        if heading.weak or _goes_on(known, heading, line):
            return known
    return None


def _goes_on(known: Draft, heading: Heading, line: LogLine) -> bool:
    """Say whether a strong heading still speaks of the report that is open.

    The same stall told by two CPUs, the banks of one machine check, and the second line in which a trap is
    named (`kernel BUG at` and then `invalid opcode`, `Unable to handle` and then `Internal error`) come
    without a new stack in between.
    """
    before = known.heading.mechanism
    if known.stalls and heading.use == "stall":
        return heading.mechanism == before and known.near(line, _SILENCE_S)
    if before == heading.mechanism and (before == "mce" or (len(known.lines) < 4 and heading.use != "wait")):
        return True
    if len(known.lines) > 12 or any("+0x" in told.text for told in known.lines[1:]):
        return False
    return heading.mechanism in DYING and before in {*DYING, "memory_corruption", "out_of_bounds", "sysrq"}


def _policy(heading: Heading, text: str, line: LogLine, earlier: Sequence[Draft]) -> Draft | None:
    """Find the report that a panic carries out a policy over; a panic that says its own reason has none."""
    triggers = next((told for pattern, told in _POLICY if pattern.search(text, 0, 200)), None)
    if triggers is None:
        if heading.mechanism != "panic_other":
            return None
        triggers = DYING
    for place in range(len(earlier) - 1, max(-1, len(earlier) - 9), -1):
        known = earlier[place]
        if not known.near(line, _POLICY_S):
            continue
        if known.heading.mechanism in triggers or (triggers is DYING and known.died):
            if known.heading.mechanism == "hung_task":
                _one_round(earlier[: place + 1])
            return known
    return None


def _last_words(heading: Heading, line: LogLine, active: Sequence[Draft]) -> Draft | None:
    """Find the report in the middle of which a panic with words of its own comes: it had no trace yet."""
    if heading.mechanism != "panic_other":
        return None
    for known in reversed(active):
        if known.speaks(line):
            told = any("+0x" in other.text and other.text[:1] == " " for other in known.lines[1:])
            return known if not told and len(known.lines) < 12 else None
    return None


def _one_round(told: Sequence[Draft]) -> None:
    """Make all hung tasks fatal that khungtaskd told in the round after which it panicked."""
    after = told[-1]
    for known in reversed(told):
        if known.heading.mechanism != "hung_task" or not known.near(after.line, _POLICY_S):
            return
        known.fatal = True
        after = known

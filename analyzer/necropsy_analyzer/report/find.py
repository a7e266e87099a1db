"""Kernel messages → crash reports, in the order in which they began. In: a `Log`. Out: `Report`s.

A report begins at a heading (formats/) and takes the lines that draft.py hands to it; body.py reads them,
culprit.py tells whom to blame.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from necropsy_analyzer.report.draft import LINES, Draft, draft, go_on, owner
from necropsy_analyzer.report.formats import HEADINGS
from necropsy_analyzer.report.formats.heading import HEADING_CHARACTERS, Heading
from necropsy_analyzer.report.formats.headless import FROM_HERE, UP_TO_HERE, WAITING
from necropsy_analyzer.report.frames import FrameModel
from necropsy_analyzer.report.reader import ReportReader
from necropsy_analyzer.report.report import Log, LogLine, Report

REPORTS: Final = 2000
"""So many reports of one log are read; a storm of the same says no more."""

_EARLIER: Final = 64
_BACK_LINES: Final = 200
_MOMENT_S: Final = 4.0
_PREAMBLE_LINES: Final = 100
_INNER_LINES: Final = 3
_ASKED_FOR: Final = ("sysrq: ", "SysRq : ", "invoked oom-killer", "Show Blocked State", "Show State")
_BANNER: Final = "Linux version "
# kernel/module/main.c, check_modinfo() and set_license()
_TAINTS: Final = re.compile(
    r"^([\w-]{1,64}): (?:loading out-of-tree module taints kernel|module license '.{1,40}' taints kernel)",
    re.MULTILINE,
)
_LITERALS: Final[tuple[tuple[str, tuple[Heading, ...]], ...]] = tuple(
    (literal, tuple(heading for heading in HEADINGS if heading.literal == literal))
    for literal in dict.fromkeys(heading.literal for heading in HEADINGS)
)
_ORDER: Final = {id(heading): place for place, heading in enumerate(HEADINGS)}


def find(log: Log, frames: FrameModel) -> tuple[Report, ...]:
    """Find all crash reports of a log. Never raises on content."""
    lines = [line for line in log.lines if line.kernel]
    text, starts = _joined(lines)
    reader = ReportReader(frames, lines, _out_of_tree(text))
    drafts = _drafts(lines, _hits(lines, text, starts)) or _headless(lines, text, starts)
    return tuple(reader.report(known) for known in drafts)


def _hits(
    lines: Sequence[LogLine], text: str, starts: Sequence[int]
) -> dict[int, tuple[Heading, re.Match[str]]]:
    """Find the lines that begin with a heading; of several that match a line the first in their order."""
    hits: dict[int, tuple[Heading, re.Match[str]]] = {}
    for literal, headings in _LITERALS:
        position = text.find(literal)
        while position >= 0:
            index = bisect_right(starts, position) - 1
            for heading in headings:
                before = hits.get(index)
                if before is not None and _ORDER[id(before[0])] <= _ORDER[id(heading)]:
                    break
                found = heading.pattern.search(lines[index].text, 0, HEADING_CHARACTERS)
                if found is not None:
                    hits[index] = (heading, found)
                    break
            following = starts[index + 1] if index + 1 < len(starts) else len(text)
            position = text.find(literal, following)
    return hits


def _out_of_tree(text: str) -> frozenset[str]:
    """Give the modules of which the log says that they are out-of-tree or proprietary."""
    return frozenset(found[1] for found in _TAINTS.finditer(text)) if "taints kernel" in text else frozenset()


def _joined(lines: Sequence[LogLine]) -> tuple[str, list[int]]:
    """Join messages with newlines; give the joined text and where each of them begins in it."""
    starts: list[int] = []
    position = 0
    for line in lines:
        starts.append(position)
        position += len(line.text) + 1
    return "\n".join(line.text for line in lines), starts


def _drafts(lines: Sequence[LogLine], hits: dict[int, tuple[Heading, re.Match[str]]]) -> list[Draft]:
    """Hand each line to the report it belongs to."""
    drafts: list[Draft] = []
    active: list[Draft] = []
    boots = _Boots()
    first = 0
    for index, line in enumerate(lines):
        if boots.begins(line, reported=len(drafts) > first):
            active = []
            first = len(drafts)
        if active:
            active = [known for known in active if not known.over(line)]
        hit = hits.get(index)
        if hit is None:
            if active:
                go_on(active, line)
            continue
        heading, found = hit
        belongs_to = owner(heading, found, line, active, drafts[max(first, len(drafts) - _EARLIER) :])
        if belongs_to is not None:
            belongs_to.absorb(heading, found, line)
            if belongs_to not in active and not belongs_to.ended:
                active.append(belongs_to)
            continue
        if len(drafts) >= REPORTS:
            continue
        active = [known for known in active if not known.speaks(line)]
        drafts.append(draft(heading, found, line, index, boots.boot))
        active.append(drafts[-1])
    return drafts


def _headless(lines: Sequence[LogLine], text: str, starts: Sequence[int]) -> list[Draft]:
    """Find the report within which a log begins: its heading is lost, what tells it is not."""
    for telling, here in ((FROM_HERE, True), (UP_TO_HERE, False)):
        for heading in telling:
            index, found = _first_match(heading, lines, text, starts)
            if found is None:
                continue
            first, end = (index, index + LINES) if here else (max(0, index - _BACK_LINES), index + 1)
            known = draft(heading, found, lines[index], index, 0)
            known.lines = [line for line in lines[first:end] if _same_moment(line, lines[index])]
            while here and len(known.lines) > 1 and "+0x" not in known.lines[-1].text:
                known.lines.pop()
            if any("+0x" in line.text or line.text.startswith("CR2: ") for line in known.lines):
                return [known]
    return _waiting(lines, text, starts)


def _waiting(lines: Sequence[LogLine], text: str, starts: Sequence[int]) -> list[Draft]:
    """Find the trace of a task that waits, unless somebody asked for traces of tasks, or memory was short."""
    if any(asked in text for asked in _ASKED_FOR):
        return []
    firsts = (_first_match(heading, lines, text, starts) for heading in WAITING)
    found = [(place[0], heading, place[1]) for heading, place in zip(WAITING, firsts, strict=True)]
    index, heading, match = min(
        (hit for hit in found if hit[2] is not None),
        key=lambda hit: hit[0],
        default=(-1, WAITING[0], None),
    )
    before = lines[max(0, index - _INNER_LINES) : max(0, index)]
    if match is None or any("+0x" in line.text and "?" not in line.text for line in before):
        return []
    known = draft(heading, match, lines[index], index, 0)
    known.lines = [line for line in lines[index : index + LINES] if _same_moment(line, lines[index])]
    return [known] if any("+0x" in line.text for line in known.lines) else []


def _first_match(
    heading: Heading, lines: Sequence[LogLine], text: str, starts: Sequence[int]
) -> tuple[int, re.Match[str] | None]:
    place = text.find(heading.literal)
    while place >= 0:
        index = bisect_right(starts, place) - 1
        found = heading.pattern.search(lines[index].text, 0, HEADING_CHARACTERS)
        if found is not None:
            return index, found
        place = text.find(heading.literal, starts[index + 1]) if index + 1 < len(starts) else -1
    return -1, None


def _same_moment(line: LogLine, other: LogLine) -> bool:
    return line.time_s is None or other.time_s is None or abs(line.time_s - other.time_s) < _MOMENT_S


class _Boots:
    """Counts the boots of a log: each begins with the kernel's banner, and its clock at zero."""

    def __init__(self) -> None:
        self.boot = 0
        self._since = 0
        self._last_s = 0.0

    def begins(self, line: LogLine, *, reported: bool) -> bool:
        """Say whether a line is the first of another boot than the line before it; `reported`: that one
        has told of a crash.
        """
        time_s = line.time_s
        back = time_s is not None and time_s + 5.0 < self._last_s and time_s < 60.0
        banner = line.text.startswith(_BANNER) and (reported or self._since > _PREAMBLE_LINES)
        self._since += 1
        if time_s is not None:
            self._last_s = time_s
        if not (back or banner):
            return False
        self.boot += 1
        self._since = 0
        return True

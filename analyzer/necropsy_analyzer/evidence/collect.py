"""A log and its reports → evidence. In: messages, reports, knowledge. Out: `Evidence`, in order of lines.

Three witnesses: rules that match messages, rules that look at parsed reports, and features (features.py),
which are computed. How much a hit counts depends on where it stands and how often it was seen; both are
said in its weight.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache
from math import log10
from typing import Final

import msgspec

from necropsy_agent import wire
from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.feature import Fusion
from necropsy_analyzer.evidence.features import SOFTWARE, features
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.evidence.quoted import quoted
from necropsy_analyzer.evidence.rule import ReportTest, Rule
from necropsy_analyzer.evidence.scene import Place, Scene
from necropsy_analyzer.report.report import Frame, Log, Report

_EXTERNAL: Final = "driver.external"


def collect(
    log: Log,
    reports: Sequence[Report],
    knowledge: Knowledge,
    boot: wire.Boot | None = None,
    hardware: Sequence[wire.HardwareEvent] = (),
) -> list[Evidence]:
    """Collect all that counts for or against a cause. Never raises on content."""
    scene = Scene(log, reports)
    found = [*_from_lines(scene, knowledge), *_from_reports(scene, knowledge)]
    found.sort(key=lambda item: item.line)
    found.extend(features(scene, found, knowledge, boot, hardware))
    found.extend(quoted(scene, found, knowledge))
    return owned(found, knowledge)


def owned(evidence: Sequence[Evidence], knowledge: Knowledge) -> list[Evidence]:
    """Hand what speaks for a defect of software to whose code it is.

    A rule sees that software failed, not whose. Where the trace blames an external module, that share of the
    weight which the finding takes speaks for the module.
    """
    findings = knowledge.features.findings
    share = max((findings[item.rule].takes for item in evidence if item.rule in findings), default=0.0)
    return [_handed(item, share) for item in evidence] if share else list(evidence)


def _handed(item: Evidence, share: float) -> Evidence:
    own = max((item.supports.get(cause, 0.0) for cause in SOFTWARE), default=0.0)
    if own <= 0:
        return item
    supports = {
        cause: round(weight * (1 - share), 3) if cause in SOFTWARE and weight > 0 else weight
        for cause, weight in item.supports.items()
    }
    supports[_EXTERNAL] = max(supports.get(_EXTERNAL, 0.0), round(own * share, 3))
    return msgspec.structs.replace(item, supports=supports)


def matches(rule: Rule, report: Report) -> Frame | bool:
    """Say whether a report is as a rule's `report:` asks; the frame that made it so, where one did."""
    test = rule.report
    if test is None:
        return False
    if test.mechanism and report.mechanism not in test.mechanism:
        return False
    if test.context and report.context not in test.context:
        return False
    if not set(test.taint) <= set(report.tainted or ""):
        return False
    if test.process and not _any(test.process)(report.process or ""):
        return False
    if test.culprit and not _any(test.culprit)(report.culprit or ""):
        return False
    return _frames(test, report)


def _frames(test: ReportTest, report: Report) -> Frame | bool:
    frames = [frame for frame in report.stack if frame.reliable]
    if report.ip is not None and (not frames or frames[0].function != report.ip.function):
        frames.insert(0, report.ip)
    near = frames[: test.depth] if test.depth else frames
    if test.not_frames and any(_any(test.not_frames)(frame.function) for frame in near):
        return False
    if test.module:
        listed = _any(test.module)
        if not listed(report.culprit_module or "") and not any(listed(frame.module or "") for frame in near):
            return False
    if not test.frames:
        return True
    return next((frame for frame in near if _any(test.frames)(frame.function)), False)


@lru_cache(maxsize=4096)
def _any(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(map(translate, patterns))).match


def _from_lines(scene: Scene, knowledge: Knowledge) -> Iterator[Evidence]:
    matcher = knowledge.matcher
    for hit in matcher.scan(scene.text):
        rule = knowledge.rules[hit.rule]
        lines = heard(rule, hit.lines, scene)
        if not lines:
            continue
        places = [scene.place(line) for line in lines]
        best = max(places, key=lambda place: share_of(place, knowledge.fusion))
        line = scene.spoken[lines[places.index(best)]]
        # Of hits beyond those kept it is not known where they stand: they are like those that are.
        total = hit.count - (len(hit.lines) - len(lines))
        count = total if len(set(places)) == 1 else places.count(best)
        captures = matcher.captures(hit.rule, line.text) if rule.culprit else {}
        yield Evidence(
            rule=rule.id,
            title=rule.title,
            family=rule.family,
            line=line.number,
            text=line.text.strip(),
            supports=_weighed(rule, best, count, knowledge.fusion),
            count=total,
            fault=rule.state == "live" and rule.severity != "info",
            fatal=rule.state == "live" and rule.severity == "fatal",
            mechanism=rule.mechanism if rule.state == "live" else None,
            culprit=_culprit(rule, captures) if rule.state == "live" else {},
            time_s=line.time_s,
        )


def _from_reports(scene: Scene, knowledge: Knowledge) -> Iterator[Evidence]:
    for rule in knowledge.reporting:
        seen: list[tuple[Report, Frame | None]] = []
        for report in scene.reports:
            answer = matches(rule, report)
            if answer is not False:
                seen.append((report, answer if isinstance(answer, Frame) else None))
        if not seen:
            continue
        places: list[Place] = ["aftershock" if report.aftershock else "here" for report, _ in seen]
        best = max(places, key=lambda place: share_of(place, knowledge.fusion))
        report, frame = seen[places.index(best)]
        number = frame.line if frame is not None and frame.line else report.first_line
        index = scene.index(number)
        line = None if index is None else scene.spoken[index]
        live = rule.state == "live"
        yield Evidence(
            rule=rule.id,
            title=rule.title,
            family=rule.family,
            line=number,
            text=report.title if line is None else line.text.strip(),
            supports=_weighed(rule, best, places.count(best), knowledge.fusion),
            count=len(seen),
            fault=live,
            fatal=live and rule.severity == "fatal",
            mechanism=rule.mechanism if live else None,
            culprit=_culprit(rule, {}) if live else {},
            time_s=None if line is None else line.time_s,
        )


def heard(rule: Rule, lines: Sequence[int], scene: Scene) -> Sequence[int]:
    """Leave out lines of programs, which quote what they like, unless the rule is about a program's own."""
    if rule.speaker == "any":
        return lines
    return [line for line in lines if scene.spoken[line].kernel]


def share_of(place: Place, fusion: Fusion) -> float:
    """Give how much of its weight evidence keeps at a place."""
    if place == "here":
        return 1.0
    if place == "aftershock":
        return fusion.aftershock_share
    return fusion.afterwards_share if place == "afterwards" else fusion.other_boot_share


def repeated(count: int, fusion: Fusion) -> float:
    """Give how much more than once seen evidence weighs that was seen so often."""
    return min(fusion.repeat_limit, 1.0 + fusion.repeat_gain * log10(max(count, 1)))


def _weighed(rule: Rule, place: Place, count: int, fusion: Fusion) -> dict[str, float]:
    if rule.state != "live":
        return {}
    share = share_of(place, fusion) * repeated(count, fusion)
    return {cause: round(weight * share, 3) for cause, weight in rule.supports.items()}


def _culprit(rule: Rule, captures: dict[str, str]) -> dict[str, str]:
    named = {}
    for field, source in rule.culprit.items():
        value = source[1:] if source.startswith("=") else captures.get(source, "")
        if value:
            named[field] = value
    return named

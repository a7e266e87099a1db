"""The one path from inputs to verdict; triage, incidents and re-analysis all come through here.

In: a `Case`, the texts and events that speak of one host's death. Out: a `Verdict`. No I/O.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from necropsy_agent import wire
from necropsy_analyzer.evidence.collect import collect
from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.evidence.rule import Action
from necropsy_analyzer.group.fingerprint import fingerprint
from necropsy_analyzer.report.find import find
from necropsy_analyzer.report.lines import read
from necropsy_analyzer.report.principal import principal_report
from necropsy_analyzer.report.report import Log, LogLine, Report
from necropsy_analyzer.report.unwrap import unwrap
from necropsy_analyzer.verdict.fuse import fuse
from necropsy_analyzer.verdict.verdict import Culprit, Kernel, Proof, Ranked, Verdict

_DUMPED: Final = "a kernel died and left a vmcore"
_SHOWN_PROBABILITY: Final = 0.005
_SHOWN_PROOFS: Final = 20
_BOOT_LINES: Final = 200


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One text that a dying host left: its name, and its bytes in reading order."""

    name: str
    data: bytes


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one death. `input` names it in the verdict; `boot` tells how the boot ended;
    `vmcores` are the heads of its memory images.
    """

    input: str
    artifacts: tuple[Artifact, ...] = ()
    vmcores: tuple[wire.VmcoreReport, ...] = ()
    boot: wire.Boot | None = None
    hardware: tuple[wire.HardwareEvent, ...] = ()
    damage: tuple[str, ...] = ()


def artifact_of(record: wire.CrashRecord) -> Artifact:
    """Join a crash record's parts, which are in reading order, to one text."""
    texts = [part.blob.content() for part in record.parts]
    joined = b"".join(text if text.endswith(b"\n") else text + b"\n" for text in texts)
    return Artifact(name=record.path, data=joined)


def diagnose(case: Case, knowledge: Knowledge) -> Verdict:
    """Say why a host died. Never raises on content; what was wrong with it stands in `damage`."""
    log, starts = _read(case.artifacts)
    reports = find(log, knowledge.frames)
    evidence = collect(log, reports, knowledge, case.boot, case.hardware)
    ranking = fuse(evidence, knowledge)
    cause = ranking[0].cause
    principal = principal_report(reports)
    unclean = case.boot is not None and case.boot.end == "unclean"
    # CRASHTIME is noted by a kernel that hands over to its capture kernel, and by no other.
    dumped = any(vmcore.crash_wall_ns is not None for vmcore in case.vmcores)
    mechanism = _mechanism(principal, evidence, cause)
    if mechanism is None and unclean and not reports:
        mechanism = "reset_no_log"
    return Verdict(
        input=case.input,
        crashed=bool(reports) or any(item.fault or item.fatal for item in evidence),
        fatal=unclean
        or dumped
        or any(report.fatal for report in reports)
        or any(item.fatal for item in evidence),
        title=_title(principal, evidence, cause, unclean) or (_DUMPED if dumped else None),
        mechanism=mechanism,
        cause=cause,
        confidence=round(ranking[0].probability, 4),
        ranking=tuple(
            Ranked(item.cause, round(item.probability, 4))
            for item in ranking
            if item.probability >= _SHOWN_PROBABILITY
        ),
        culprit=_culprit(principal, evidence, cause),
        fingerprint=None if principal is None else fingerprint(principal),
        stack=() if principal is None else tuple(f.function for f in principal.stack if f.reliable),
        kernel=_kernel(reports, principal, case.vmcores, log),
        evidence=_proofs(evidence, cause, case.artifacts, starts),
        action=_action(evidence, cause, knowledge),
        model=knowledge.model.version,
        damage=(*case.damage, *log.damage),
    )


def failed(name: str, why: str) -> Verdict:
    """Give the object for an input that could not be read at all."""
    return Verdict(input=name, error=why)


def _read(artifacts: tuple[Artifact, ...]) -> tuple[Log, tuple[int, ...]]:
    """Read every artifact into one log; lines of the n-th are numbered from `starts[n]` + 1 on."""
    logs: list[Log] = []
    starts: list[int] = []
    start = 0
    for artifact in artifacts:
        data, damage = unwrap(artifact.data)
        log = read(data)
        if len(artifacts) > 1:
            lines = tuple(msgspec.structs.replace(line, number=line.number + start) for line in log.lines)
            damage = tuple(f"{artifact.name}: {item}" for item in (*damage, *log.damage))
            log = Log(lines=lines, damage=damage)
        elif damage:
            log = Log(lines=log.lines, damage=(*damage, *log.damage))
        logs.append(log)
        starts.append(start)
        start = max((line.number for line in log.lines), default=start)
    if len(logs) == 1:
        return logs[0], tuple(starts)
    return Log(
        lines=tuple(_merged(log.lines for log in logs)), damage=tuple(d for log in logs for d in log.damage)
    ), tuple(starts)


def _merged(logs: Iterable[tuple[LogLine, ...]]) -> list[LogLine]:
    """Merge logs of one boot: a message that two of them hold counts once; kernel time orders the rest."""
    seen: set[tuple[float, str]] = set()
    timed: list[tuple[float, int, LogLine]] = []
    for log in logs:
        now = 0.0
        fresh: list[tuple[float, str]] = []
        for line in log:
            if line.time_s is not None:
                now = line.time_s
                if (now, line.text) in seen:
                    continue
                fresh.append((now, line.text))
            timed.append((now, len(timed), line))
        seen.update(fresh)
    timed.sort(key=lambda item: item[:2])
    return [line for _, _, line in timed]


def _strongest(evidence: Iterable[Evidence], cause: str) -> list[Evidence]:
    return sorted(evidence, key=lambda item: -item.supports.get(cause, 0.0))


def _mechanism(principal: Report | None, evidence: Sequence[Evidence], cause: str) -> str | None:
    """Name what the kernel saw: the report's, unless what came before it explains it."""
    telling = [item for item in evidence if item.mechanism is not None]
    for item in telling:
        if item.rule == item.family and item.supports.get(cause, 0.0) > 0:
            return item.mechanism
    if principal is not None:
        return principal.mechanism
    # Of equals the later one, nearer to the end.
    closest = max(telling, key=lambda item: (item.supports.get(cause, 0.0), item.line), default=None)
    return None if closest is None else closest.mechanism


def _title(principal: Report | None, evidence: Sequence[Evidence], cause: str, unclean: bool) -> str | None:
    if principal is not None:
        return principal.title
    telling = [item for item in _strongest(evidence, cause) if item.supports.get(cause, 0.0) > 0]
    if telling:
        return next((item for item in telling if item.text), telling[0]).title
    return "host went down and left no trace" if unclean else None


def _culprit(principal: Report | None, evidence: Sequence[Evidence], cause: str) -> Culprit:
    found: dict[str, str | int] = {}
    if principal is not None:
        known = {
            "frame": principal.culprit,
            "module": principal.culprit_module,
            "process": principal.process,
            "cpu": principal.cpu,
        }
        found.update({field: value for field, value in known.items() if value is not None})
    for item in _strongest(evidence, cause):
        if item.supports.get(cause, 0.0) > 0 or not item.supports:
            for field, value in item.culprit.items():
                if field == "cpu" and not value.isdecimal():
                    continue
                found.setdefault(field, int(value) if field == "cpu" else value)
    return msgspec.convert(found, Culprit)


def _kernel(
    reports: Sequence[Report], principal: Report | None, vmcores: Sequence[wire.VmcoreReport], log: Log
) -> Kernel:
    """Name kernel and hardware as the report does, else as a vmcore or the boot's first messages do."""
    ordered = ([principal] if principal is not None else []) + list(reports)

    def first(field: str) -> str | None:
        return next((value for report in ordered if (value := getattr(report, field)) is not None), None)

    release = first("release") or next((vmcore.release for vmcore in vmcores if vmcore.release), None)
    hardware = first("hardware")
    for line in log.lines[:_BOOT_LINES]:
        if release is None and line.text.startswith("Linux version "):
            release = line.text.split(" ", 3)[2]
        elif hardware is None and line.text.startswith("DMI: "):
            hardware = line.text[5:]
    return Kernel(release=release, tainted=first("tainted"), hardware=hardware)


def _proofs(
    evidence: Sequence[Evidence], cause: str, artifacts: tuple[Artifact, ...], starts: tuple[int, ...]
) -> tuple[Proof, ...]:
    """Publish the evidence: what speaks for the cause first, then what speaks most for others."""
    weighty = sorted(
        evidence,
        key=lambda item: (-item.supports.get(cause, 0.0), -max(map(abs, item.supports.values()), default=0)),
    )
    proofs = []
    for item in weighty[:_SHOWN_PROOFS]:
        line, source = item.line, None
        if len(artifacts) > 1 and line:
            place = max(n for n, start in enumerate(starts) if start < line)
            line, source = line - starts[place], artifacts[place].name
        proofs.append(
            Proof(
                rule=item.rule,
                title=item.title,
                line=line,
                source=source,
                text=item.text,
                supports=item.supports,
                count=item.count,
            )
        )
    return tuple(proofs)


def _action(evidence: Sequence[Evidence], cause: str, knowledge: Knowledge) -> Action:
    """Take the action of the strongest rule that has one of its own, else the cause's."""
    for item in _strongest(evidence, cause):
        if item.supports.get(cause, 0.0) < 1.0:
            break
        action = knowledge.action_of(item.rule)
        if action is not None:
            return action
    return knowledge.causes[cause].action

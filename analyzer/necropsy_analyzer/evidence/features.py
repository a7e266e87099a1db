"""Evidence that is computed rather than matched. In: the scene, what rules saw, boot, hardware events.

Each finding's words and weights stand in rules/necropsy_rules/features.yaml; here is how it is found. What
a report of some kind says by itself stands in mechanisms.yaml.
"""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final

import msgspec

from necropsy_agent import wire
from necropsy_analyzer.evidence.address import finding
from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.external import cut_off, modules
from necropsy_analyzer.evidence.feature import Component, Features, Succession
from necropsy_analyzer.evidence.finding import made
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.evidence.scene import Scene
from necropsy_analyzer.report.report import Report

SOFTWARE: Final = ("kernel.bug", "kernel.lockup")
"""Causes that are defects of the kernel's own code, which the kernel itself reports."""

_STALLS: Final = frozenset({"soft_lockup", "hard_lockup", "rcu_stall", "hung_task"})
_ADDRESSED: Final = frozenset({"gpf", "bad_page_fault", "null_deref", "double_fault"})

_IDLE: Final = (
    "default_idle*",
    "cpuidle_*",
    "acpi_idle_*",
    "intel_idle*",
    "native_safe_halt",
    "pv_native_safe_halt",
    "arch_cpu_idle",
    "do_idle",
    "mwait_idle*",
    "cpu_do_idle",
    "acpi_safe_halt",
    "poll_idle",
)
_AWAKENED: Final = (
    "__do_softirq",
    "handle_softirqs",
    "finish_task_switch",
    "_raw_spin_unlock_irq*",
    "xen_hypercall_*",
)
_SELF_REPORTED: Final = 2.0
_DECODED: Final = 1.0
"""So much a machine check weighs that says what was corrected."""
_CLUE: Final = 0.7
_SIGNATURES: Final = 3
_DEVICES: Final = 20
# drivers/block/virtio_blk.c, xen-blkfront.c: names of disks; other drivers by what begins their messages
_VIRTUAL_DEVICE: Final = re.compile(
    rb"^(?:blkfront|hv_(?:balloon|netvsc|storvsc|utils|vmbus)|kvm-clock|virtio_(?:balloon|blk|net|scsi)|vmw_pvscsi"
    rb"|vmxnet3|xen:balloon)[: ]|[ (]x?vd[a-z]\d{0,3}[),:]",
    re.MULTILINE,
)
_ROOT: Final = re.compile(r"\sroot=(?:/dev/)?(\S+)")


def features(
    scene: Scene,
    seen: Sequence[Evidence],
    knowledge: Knowledge,
    boot: wire.Boot | None,
    hardware: Sequence[wire.HardwareEvent],
) -> list[Evidence]:
    """Give what is computed from everything else; `seen` is what the rules saw."""
    events = list(_events(hardware, knowledge))
    everything = [*seen, *events]
    found = list(events)
    if scene.principal is not None:
        found.append(_kind(scene, scene.principal, seen, knowledge))
        found.extend(modules(scene, scene.principal, knowledge))
        found.extend(_address(scene, scene.principal, knowledge))
        found.extend(_signatures(scene, knowledge))
    else:
        found.extend(cut_off(scene, knowledge))
    found.extend(_root(scene, everything, knowledge))
    found.extend(_alone(scene, everything, knowledge))
    found.extend(_machine(scene, everything, knowledge))
    found.extend(_sequences(scene, everything, knowledge))
    found.extend(_end(scene, everything, knowledge, boot))
    return found


def _end(
    scene: Scene, seen: Sequence[Evidence], knowledge: Knowledge, boot: wire.Boot | None
) -> Iterator[Evidence]:
    """Tell a silent end from one that left something to go by."""
    if not scene.reports and not any(
        item.supports.get(cause, 0.0) > 0 for item in seen for cause in SOFTWARE
    ):
        yield made("no-report", knowledge, family="no-report")
    if scene.reports or any(item.fault for item in seen):
        yield made("spoke", knowledge, family="end")
        return
    if any(weight >= _CLUE for item in seen for weight in item.supports.values()):
        yield made("clue", knowledge, family="clue")
    if boot is not None and boot.end == "unclean":
        yield made("ended-unclean", knowledge, text="; ".join(boot.proof), family="end")


def _kind(scene: Scene, report: Report, seen: Sequence[Evidence], knowledge: Knowledge) -> Evidence:
    """Let the report itself be evidence: of its kind, most have this or that cause.

    A rule that hits the report's heading says the same more closely, so it is damped together with that one.
    """
    known = knowledge.mechanisms[report.mechanism]
    headings = [item for item in seen if item.line == report.first_line and item.supports]
    closest = max(headings, key=lambda item: max(item.supports.values()), default=None)
    index = scene.index(report.first_line)
    line = None if index is None else scene.spoken[index]
    return Evidence(
        rule=f"mechanism-{report.mechanism.replace('_', '-')}",
        title=known.is_,
        family="mechanism" if closest is None else closest.family,
        line=0 if line is None else line.number,
        text="" if line is None else line.text.strip(),
        supports=known.supports,
        fault=True,
        fatal=report.fatal,
        mechanism=report.mechanism,
        time_s=None if line is None else line.time_s,
    )


def _address(scene: Scene, report: Report, knowledge: Knowledge) -> Iterator[Evidence]:
    if report.mechanism not in _ADDRESSED:
        return
    name = finding(report.address, report.registers, noncanonical=report.mechanism == "gpf")
    if name is not None:
        yield made(name, knowledge, (scene, report.first_line), family="address")


def _root(scene: Scene, seen: Sequence[Evidence], knowledge: Knowledge) -> Iterator[Evidence]:
    """Name the root device that was asked for, where none was found: the kernel may not say it again."""
    report = scene.principal
    if (report is None or report.mechanism != "no_root") and not any(
        item.mechanism == "no_root" for item in seen
    ):
        return
    place = scene.find(b"Command line: ")
    asked = None if place is None else _ROOT.search(scene.spoken[place].text)
    if place is None or asked is None:
        return
    found = made("root-asked-for", knowledge, (scene, scene.spoken[place].number), family="root")
    yield msgspec.structs.replace(found, text=asked[0].strip(), culprit={"device": asked[1]})


def _alone(scene: Scene, seen: Sequence[Evidence], knowledge: Knowledge) -> Iterator[Evidence]:
    """Tell a file system that failed by itself from one whose device failed: that one would have said so."""
    if scene.principal is not None and scene.principal.mechanism != "fs_error":
        return
    errors = [item for item in seen if item.fault and item.mechanism == "fs_error" and item.line]
    if not errors or any(item.mechanism == "io_error" and item.fault for item in seen):
        return
    first = min(item.line for item in errors)
    if any(_structural(item) for item in errors if item.line == first):
        yield made("file-system-alone", knowledge, (scene, first), family="alone")


def _structural(item: Evidence) -> bool:
    return item.supports.get("filesystem.corruption", 0.0) > item.supports.get("hardware.storage", 0.0)


def _signatures(scene: Scene, knowledge: Knowledge) -> Iterator[Evidence]:
    """Count faults of one boot that have neither kind nor place in common."""
    own = [
        report
        for report in scene.reports
        if not report.aftershock and report.mechanism in _ADDRESSED | {"bug"}
    ]
    places = {(report.mechanism, report.culprit, report.process) for report in own}
    if len(places) >= _SIGNATURES and len({culprit for _, culprit, _ in places}) >= _SIGNATURES:
        yield made("many-signatures", knowledge, (scene, own[-1].first_line), family="signatures")


def _machine(scene: Scene, seen: Sequence[Evidence], knowledge: Knowledge) -> Iterator[Evidence]:
    """Tell guests from real machines: the hardware of a guest does not fail, unless it says so itself."""
    report = scene.principal
    guest = is_guest(scene, knowledge.features)
    if report is not None and report.mechanism in _STALLS and _idles(report):
        yield made("stalled-in-idle", knowledge, (scene, report.first_line), family="machine")
    if report is not None and report.mechanism == "soft_lockup" and _in_user_space(scene, report):
        yield made("lockup-in-user-space", knowledge, (scene, report.first_line), family="machine")
    if guest is None:
        return
    if not guest:
        yield made("bare-metal", knowledge, family="machine")
        return
    if not any(_self_reported(item) for item in seen):
        yield made("guest", knowledge, family="machine")
    if report is not None and report.mechanism in _STALLS - {"hung_task"}:
        yield made("guest-stalls", knowledge, family="machine")
    if report is not None and report.mechanism == "nmi":
        yield made("guest-nmi", knowledge, family="machine")


def is_guest(scene: Scene, known: Features) -> bool | None:
    """Say whether the host is a virtual machine; None where nothing tells."""
    hardware = next((report.hardware for report in scene.reports if report.hardware), None)
    if hardware is None:
        hardware = scene.said(b"DMI: ")
    if hardware is not None:
        if any(name in hardware for name in known.real):
            return False
        if any(name in hardware for name in known.guests):
            return True
    if scene.said(b"Hypervisor detected: ") is not None:
        return True
    if hardware is not None:
        return False
    told = any(_virtual(report, known) for report in scene.reports) or _virtual_devices(scene)
    return True if told else None


def _virtual(report: Report, known: Features) -> bool:
    """Tell a guest by the kernel that is made for guests, or by the drivers of virtual devices."""
    return (
        report.release is not None and any(part in report.release for part in known.guest_releases)
    ) or any(module in report.modules for module in known.guest_modules)


def _virtual_devices(scene: Scene) -> bool:
    """Tell a guest by the devices that its kernel names."""
    return any(
        scene.spoken[scene.text.count(b"\n", 0, found.start())].kernel
        for found in islice(_VIRTUAL_DEVICE.finditer(scene.text), _DEVICES)
    )


def _idles(report: Report) -> bool:
    if report.process is not None and not report.process.startswith("swapper"):
        return False
    inner = [frame.function for frame in report.stack if frame.reliable]
    inner += [report.ip.function] if report.ip is not None else []
    # What an idle CPU does first when it is let run again.
    patterns = _IDLE if report.process is None else (*_IDLE, *_AWAKENED)
    return any(fnmatchcase(function, pattern) for function in inner for pattern in patterns)


def _in_user_space(scene: Scene, report: Report) -> bool:
    """Say whether the CPU called stuck was in user space (arch/x86/kernel/process_64.c, __show_regs)."""
    first, last = scene.index(report.first_line), scene.index(report.last_line)
    for line in () if first is None or last is None else scene.spoken[first : last + 1]:
        if "RIP: 00" in line.text:
            return "RIP: 0033:" in line.text or "RIP: 0023:" in line.text
    return False


def _self_reported(item: Evidence) -> bool:
    least = _SELF_REPORTED if item.fault else _DECODED
    return (item.fault or item.mechanism in ("mce", "edac")) and any(
        cause.startswith("hardware.") and weight >= least for cause, weight in item.supports.items()
    )


def _sequences(scene: Scene, seen: Sequence[Evidence], knowledge: Knowledge) -> Iterator[Evidence]:
    """Find what came before the fault and explains it."""
    begin = None if scene.principal is None else scene.principal.first_line
    for known in knowledge.features.sequences:
        earlier = [
            item
            for item in seen
            if item.supports.get(known.first, 0.0) > 0
            and (not known.of or item.mechanism in known.of)
            and item.line
        ]
        if not earlier:
            continue
        first = min(earlier, key=lambda item: item.line)
        if _comes_after(known, first, begin, scene, seen):
            yield Evidence(
                rule=known.id,
                title=known.title,
                family=known.id,
                line=first.line,
                text=first.text,
                supports=known.supports,
                mechanism=known.mechanism,
                time_s=first.time_s,
            )


def _comes_after(
    known: Succession, first: Evidence, begin: int | None, scene: Scene, seen: Sequence[Evidence]
) -> bool:
    report = scene.principal
    if report is not None and begin is not None:
        return report.mechanism in known.then and first.line < begin
    return any(item.mechanism in known.then and item.line > first.line for item in seen)


def _events(hardware: Sequence[wire.HardwareEvent], knowledge: Knowledge) -> Iterator[Evidence]:
    """Take what the hardware reported past the kernel's log; of each device's events of one severity, one."""
    groups: dict[tuple[str, str, str], list[wire.HardwareEvent]] = {}
    for event in hardware:
        groups.setdefault((event.component.lower(), event.device or "", event.severity), []).append(event)
    for (component, device, severity), events in groups.items():
        known = _component(component, knowledge.features)
        weight = knowledge.features.severities.get(severity)
        if known is None or weight is None:
            continue
        yield Evidence(
            rule=f"hardware-event-{severity}",
            title=f"{events[0].source} reports a {severity} error of {component}{device and f' {device}'}",
            family=known.cause,
            text=events[0].message,
            supports={known.cause: weight},
            count=sum(event.count for event in events),
            fault=severity in ("recoverable", "fatal"),
            mechanism=known.mechanism,
            culprit={known.culprit: device} if device else {},
        )


def _component(name: str, known: Features) -> Component | None:
    return next((item for item in known.components if name.startswith(item.begins)), None)

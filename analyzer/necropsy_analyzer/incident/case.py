"""A death's evidence as a `Case`. In: events with their bodies. Out: what `diagnose()` takes."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from necropsy_agent.wire import Boot, CrashRecord, Event, HardwareEvent, KernelLog, VmcoreReport, unpack
from necropsy_analyzer.diagnose import Artifact, Case, artifact_of
from necropsy_analyzer.incident.kernel_text import kernel_text

HARDWARE_EVENTS: Final = 1000
"""Of a storm of hardware events the last so many before the death are looked at."""

ARTIFACT_BYTES: Final = 64 << 20
"""Of a longer text the end is read, where the crash is."""


def case_of(host: str, boot: str, events: Iterable[Event]) -> Case:
    """Make a case of the events that speak of one death, in the order they were made.

    What cannot be read is named in the case's damage. Never raises on content.
    """
    records: list[CrashRecord] = []
    vmcores: list[VmcoreReport] = []
    logs: list[KernelLog] = []
    hardware: list[HardwareEvent] = []
    damage: list[str] = []
    next_boot: Boot | None = None
    for event in events:
        try:
            body = unpack(event)
        except (msgspec.DecodeError, RecursionError) as error:
            damage.append(f"event {event.id}, a {event.kind}, could not be read: {error}")
            continue
        if isinstance(body, CrashRecord):
            records.append(body)
        elif isinstance(body, VmcoreReport):
            vmcores.append(body)
        elif isinstance(body, KernelLog):
            logs.append(body)
        elif isinstance(body, HardwareEvent):
            hardware.append(body)
        elif isinstance(body, Boot):
            next_boot = body
    artifacts = [artifact_of(record) for record in records if record.parts]
    artifacts += [
        Artifact(name=report.path, data=report.log.content()) for report in vmcores if report.log is not None
    ]
    damage += [item for record in records for item in record.damage]
    damage += [item for report in vmcores for item in report.damage]
    if logs:
        text, lost = kernel_text(logs)
        damage += lost
        if text:
            artifacts.append(Artifact(name="/dev/kmsg", data=text))
    hardware.sort(key=lambda event: event.last_wall_ns)
    return Case(
        input=name_of(host, boot),
        artifacts=tuple(_bounded(artifact, damage) for artifact in artifacts),
        vmcores=tuple(vmcores),
        boot=next_boot,
        hardware=tuple(hardware[-HARDWARE_EVENTS:]),
        damage=tuple(damage),
    )


def name_of(host: str, boot: str) -> str:
    """Name a death for people: `node1, boot 66057c38`."""
    how, found, what = boot.partition(":")
    if not found:
        return f"{host}, boot {boot[:8]}"
    if how == "died" and what.isdecimal():
        died = datetime.fromtimestamp(min(int(what), 253402300799), UTC)
        return f"{host}, died {died:%Y-%m-%d %H:%M:%S} UTC"
    return f"{host}, {how} boot {what[:8]}"


def _bounded(artifact: Artifact, damage: list[str]) -> Artifact:
    if len(artifact.data) <= ARTIFACT_BYTES:
        return artifact
    damage.append(f"{artifact.name}: only the last {ARTIFACT_BYTES >> 20} MiB were read")
    return Artifact(name=artifact.name, data=artifact.data[-ARTIFACT_BYTES:])

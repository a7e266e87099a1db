"""A handful of lines that somebody chose to show is taken for what it tells; a whole log's hints are not."""

import pytest

from necropsy_analyzer.diagnose import Artifact, Case, diagnose
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.verdict.verdict import Verdict

HINT = "[    0.449031] ACPI BIOS Error (bug): Could not resolve symbol [\\_SB.PCI0.XHC.HS11], AE_NOT_FOUND\n"
REST = "".join(
    f"[    1.{second:06d}] usb 1-{second}: New USB device strings: Mfr=1, Product=2\n" for second in range(60)
)
LOADED = (
    "[    4.882310] vendorfs: loading out-of-tree module taints kernel.\n"
    "[    4.882402] vendorfs: module license 'Proprietary' taints kernel.\n"
    "[    5.100231] EXT4-fs (sda2): mounted filesystem with ordered data mode. Opts: (null)\n"
)
NEXT_BOOT = "-- Reboot --\nMay 03 10:00:07 node9 kernel: Linux version 6.1.0-18-amd64 (gcc-12) #1 SMP\n"


def _verdict(text: str, known: Knowledge) -> Verdict:
    return diagnose(Case(input="x", artifacts=(Artifact(name="x", data=text.encode()),)), known)


def test_a_lone_hint_that_is_all_there_is_names_the_cause_but_not_loudly(shipped: Knowledge) -> None:
    verdict = _verdict(HINT, shipped)
    assert verdict.cause == "firmware.platform"
    assert verdict.confidence < 0.6
    assert not verdict.crashed


@pytest.mark.parametrize(
    "text",
    [HINT + REST, REST[:400], LOADED, HINT + NEXT_BOOT],
    ids=["a whole log", "no hint", "what every boot says", "another boot"],
)
def test_a_hint_among_much_else_or_before_a_restart_does_not(text: str, shipped: Knowledge) -> None:
    assert _verdict(text, shipped).cause == "unknown.silent"


def test_a_device_that_reports_its_own_trouble_is_blamed_before_its_driver(shipped: Knowledge) -> None:
    text = "[  812.104410] iwlwifi 0000:04:00.0: Error sending REPLY_ADD_STA: time out after 2000ms.\n"
    assert _verdict(text, shipped).cause == "hardware.network"


def test_a_defect_that_was_reported_is_weighed_as_before(shipped: Knowledge) -> None:
    text = "[  812.104410] BUG: kernel NULL pointer dereference, address: 0000000000000010\n"
    rules = {item.rule for item in _verdict(text, shipped).evidence}
    assert not rules & {"quoted", "device-spoke"}

"""A scenario file says all that the lab needs; what it says wrongly is refused before anything is booted."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from crashlab.scenario import LAB, LabError, Scenario, chosen, kernels, load, names, read

GOOD: dict[str, Any] = {
    "title": "an operator crashes the machine",
    "guest": "echo c > /proc/sysrq-trigger",
    "end": "panic",
    "evidence": ["Kernel panic"],
    "truth": {
        "crash": True,
        "fatal": True,
        "cause": "operator.induced",
        "mechanism": "sysrq",
        "culprit": {"frame": "sysrq_handle_crash"},
    },
}


def _written(folder: Path, document: object) -> Path:
    path = folder / "case.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("name", names())
def test_every_scenario_is_whole(name: str) -> None:
    scenario = load(name)
    assert scenario.name == name
    assert scenario.kernels
    assert set(scenario.kernels) <= set(kernels())
    assert re.fullmatch(r"[0-9a-f]{32}", scenario.machine_id)
    if scenario.end == "panic":
        assert any("Kernel panic" in line for line in scenario.evidence)
    if scenario.healthy:
        assert (scenario.truth["crash"], scenario.truth["cause"]) == (False, None)
        assert {"Kernel panic", "BUG:", "Oops"} <= set(scenario.absent)
    else:
        assert scenario.truth["cause"]
        assert scenario.truth["mechanism"]


def test_no_two_machines_are_one() -> None:
    machines = [load(name).machine_id for name in names()]
    assert len(set(machines)) == len(machines)


def test_a_scenario_is_read_as_written(tmp_path: Path) -> None:
    disk = {"id": "data", "device": "virtio-blk-pci", "debugfs": ["mkdir srv"]}
    scenario = read(_written(tmp_path, {**GOOD, "disks": [disk], "memory_mb": 512}))
    assert isinstance(scenario, Scenario)
    assert scenario.memory_mb == 512
    assert scenario.disks[0].debugfs == ("mkdir srv",)
    assert not scenario.own_modules
    assert scenario.reaches_userspace


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"cmdlien": "panic=1"}, "cmdlien"),
        ({"disks": [{"id": "data", "device": "virtio-blk-pci", "size": 3}]}, "size"),
        ({"host": [{"when": "ready", "hpm": "mce"}]}, "hpm"),
        ({"host": [{"when": "ready"}]}, "one of hmp, qmp, freeze_s, flip and cut"),
        ({"host": [{"hmp": "quit", "cut": True}]}, "one of hmp, qmp, freeze_s, flip and cut"),
        ({"end": "explode"}, "end must be one of"),
        ({"evidence": []}, "evidence is empty"),
        ({"kernels": ["2.4"]}, "kernel 2.4"),
        ({"evidence": [{"6.1": "Kernel panic"}]}, "nothing of kernel 6.12"),
        ({"initramfs": "torn"}, "initramfs must be"),
        ({"truth": {"crash": True}}, "truth lacks fatal, cause, mechanism, culprit"),
        ({"truth": {**GOOD["truth"], "reason": "?"}}, "unknown reason"),
    ],
)
def test_a_wrong_scenario_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    path = _written(tmp_path, {**GOOD, **change})
    with pytest.raises(LabError) as refused:
        read(path)
    assert complaint in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_line_of_evidence_can_differ_between_kernels(tmp_path: Path) -> None:
    line = {"6.1": "Oops: 0002", "6.12": "Oops: Oops: 0002"}
    scenario = read(_written(tmp_path, {**GOOD, "evidence": ["Kernel panic", line]}))
    assert scenario.evidence_on("6.1") == ["Kernel panic", "Oops: 0002"]
    assert scenario.evidence_on("6.12") == ["Kernel panic", "Oops: Oops: 0002"]


@pytest.mark.parametrize(
    ("request_", "runs"),
    [
        ("sysrq-c", ["sysrq-c@6.1", "sysrq-c@6.12"]),
        ("sysrq-c@6.12", ["sysrq-c@6.12"]),
        ("kfence-use-after-free", ["kfence-use-after-free@6.12"]),
    ],
)
def test_a_scenario_is_run_on_its_kernels(request_: str, runs: list[str]) -> None:
    assert [f"{scenario.name}@{kernel.name}" for scenario, kernel in chosen([request_])] == runs


def test_a_kernel_that_a_scenario_does_not_know_is_refused() -> None:
    with pytest.raises(LabError, match=r"not run on 6\.1: its kernels are 6\.12"):
        chosen(["kfence-use-after-free@6.1"])


@pytest.mark.parametrize("text", ["- a list\n", "words\n", "a: [\n", ""])
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "case.yaml"
    path.write_text(text)
    with pytest.raises(LabError, match=re.escape(str(path))):
        read(path)


def test_the_command_lists_them_all_and_refuses_the_unknown() -> None:
    command = [sys.executable, str(LAB / "lab.py")]
    listed = subprocess.run([*command, "--list"], capture_output=True, text=True, timeout=60, check=True)
    assert [line.partition(":")[0] for line in listed.stdout.splitlines()] == names()
    refused = subprocess.run(
        [*command, "no-such-crash"], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        "failed: no scenario no-such-crash: `lab.py --list` names them all"
    ]

"""A scenario file says all that the lab needs; what it says wrongly is refused before anything is booted."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from crashlab.scenario import LAB, LabError, Scenario, kernels, load, names, read

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
    assert scenario.kernel in kernels()
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
    assert not scenario.uses_necrolab
    assert scenario.reaches_userspace


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"cmdlien": "panic=1"}, "cmdlien"),
        ({"disks": [{"id": "data", "device": "virtio-blk-pci", "size": 3}]}, "size"),
        ({"host": [{"when": "ready", "hpm": "mce"}]}, "hpm"),
        ({"host": [{"when": "ready"}]}, "one of hmp, qmp and cut"),
        ({"host": [{"hmp": "quit", "cut": True}]}, "one of hmp, qmp and cut"),
        ({"end": "explode"}, "end must be one of"),
        ({"evidence": []}, "evidence is empty"),
        ({"kernel": "2.4"}, "kernel 2.4"),
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

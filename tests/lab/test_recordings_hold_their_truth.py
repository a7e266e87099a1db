"""Every recording has all its parts, says how to make it again, and holds the lines its truth rests on."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

from crashlab.recording import FIXTURES, MAX_VMCORE_BYTES
from crashlab.scenario import LAB, TRUTH, Scenario, kernels, load, names

RECORDINGS = sorted(FIXTURES.glob("crashes/*@*")) + sorted(FIXTURES.glob("healthy/*@*"))
CULPRIT = {"frame", "module", "device", "dimm", "cpu", "process", "filesystem"}
BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Documentation/ABI/testing/dev-kmsg: prefix, sequence, microseconds, flags; then the text
KMSG_RECORD = re.compile(rb"\d+,\d+,\d+,[-c+][^;]*;")
ALL_BYTES_MAX = 40_000_000

each_recording = pytest.mark.parametrize("folder", RECORDINGS, ids=lambda folder: folder.name)


def _truth(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((folder / "truth.yaml").read_text())
    return document


def _scenario(folder: Path) -> Scenario:
    return load(folder.name.partition("@")[0])


def _unpacked(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=10_000_000)


def test_every_scenario_is_recorded_on_each_of_its_kernels() -> None:
    wanted = {f"{name}@{kernel}" for name in names() for kernel in load(name).kernels}
    assert {folder.name for folder in RECORDINGS} == wanted


@each_recording
def test_the_truth_is_the_scenario_s_and_whole(folder: Path) -> None:
    truth, scenario = _truth(folder), _scenario(folder)
    assert folder.parent.name == ("healthy" if scenario.healthy else "crashes")
    assert {field: truth[field] for field in TRUTH} == {field: scenario.truth[field] for field in TRUTH}
    assert truth["title"] == scenario.title
    assert set(truth["culprit"]) <= CULPRIT
    origin = truth["origin"]
    assert origin["again"] == f"python fixtures/lab/lab.py {folder.name}"
    assert "QEMU" in origin["machine"]
    assert kernels()[folder.name.partition("@")[2]].image in origin["kernel"]
    assert BOOT_ID.fullmatch(origin["boot_id"]["after"])
    if scenario.reaches_userspace:
        assert BOOT_ID.fullmatch(origin["boot_id"]["recorded"])
        assert origin["boot_id"]["recorded"] != origin["boot_id"]["after"]


@each_recording
def test_the_evidence_is_in_the_log(folder: Path) -> None:
    console = _unpacked(folder / "console.log.zst").decode("utf-8", "replace")
    scenario = _scenario(folder)
    evidence = scenario.evidence_on(folder.name.partition("@")[2])
    assert [line for line in evidence if line not in console] == []
    assert [line for line in scenario.absent if line in console] == []
    assert _truth(folder)["evidence"] == evidence


@each_recording
def test_the_kmsg_records_are_those_of_the_same_boot(folder: Path) -> None:
    if not _scenario(folder).reaches_userspace:
        assert not (folder / "kmsg.zst").exists()
        return
    lines = _unpacked(folder / "kmsg.zst").splitlines()
    # a port may be cut in the middle of its last record, and a record's dictionary starts with a blank
    assert [line for line in lines[:-1] if not KMSG_RECORD.match(line) and not line.startswith(b" ")] == []
    assert b"Linux version " in lines[0]
    sequence = [int(line.split(b",")[1]) for line in lines[:-1] if not line.startswith(b" ")]
    assert sequence == list(range(len(sequence)))


@each_recording
def test_the_next_boot_is_a_host_that_an_agent_can_look_at(folder: Path) -> None:
    host, truth = folder / "host", _truth(folder)
    assert (host / "etc/machine-id").read_text() == _scenario(folder).machine_id + "\n"
    after = (host / "proc/sys/kernel/random/boot_id").read_text().strip()
    assert after == truth["origin"]["boot_id"]["after"]
    assert (host / "proc/sys/kernel/osrelease").read_text().strip() in truth["origin"]["kernel"]
    records = {path.name for path in (host / "sys/fs/pstore").glob("*")}  # no folder where git kept none
    assert records == set(truth["origin"]["pstore_mtime_s"])
    if _scenario(folder).end == "panic":
        assert any(name.startswith("dmesg-erst-") for name in records)


@each_recording
def test_pstore_has_the_end_of_the_log(folder: Path) -> None:
    parts = [path.read_bytes() for path in sorted((folder / "host/sys/fs/pstore").glob("dmesg-*"))]
    assert [
        part.splitlines()[0] for part in parts if not re.match(rb"(Panic|Oops)#\d+ Part\d+\n", part)
    ] == []
    if _scenario(folder).end == "panic":
        assert any(b"Kernel panic - not syncing" in part for part in parts)


@pytest.mark.parametrize("folder", sorted(FIXTURES.glob("vmcores/*@*")), ids=lambda folder: folder.name)
def test_a_vmcore_is_one_of_a_recorded_crash(folder: Path) -> None:
    (packed,) = folder.iterdir()
    assert packed.stat().st_size < MAX_VMCORE_BYTES
    with packed.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as plain:
        head = plain.read(12)
    # elf(5); makedumpfile's diskdump_mod.h, KDUMP_SIGNATURE, and print_info.h, MAKEDUMPFILE_SIGNATURE
    assert head.startswith((b"\x7fELF", b"KDUMP   ", b"makedumpfile"))
    assert (FIXTURES / "crashes" / folder.name / "console.log.zst").is_file()


def test_recordings_stay_small() -> None:
    files = [path for path in FIXTURES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < ALL_BYTES_MAX


def test_every_failure_that_a_scenario_asks_for_is_in_the_module() -> None:
    sources = "".join(path.read_text() for path in (LAB / "module").glob("*.c"))
    known = set(re.findall(r'^\t\{ "(\w+)", necrolab_\w+ \},$', sources, re.MULTILINE))
    asked: set[str] = set()
    for name in names():
        guest = load(name).guest
        asked |= set(re.findall(r"necrolab\.ko failure=(\w+)", guest))
        asked |= set(re.findall(r"echo \"?(\w+)[^>]*> /sys/module/necrolab/parameters/fire", guest))
    assert asked - {"nonsense"} == known

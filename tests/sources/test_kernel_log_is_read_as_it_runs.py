"""Of the running kernel's log every record that matters is kept, and a storm stays bounded."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from tests.sources.conftest import FIXTURES
from tests.sources.kernel_log import line, logs, recorded, seqs, shipped, texts

from necropsy_agent import prefilter
from necropsy_agent.sources.kmsg_window import BEFORE_RECORDS, QUIET_US, WINDOW_RECORDS


def test_record_is_given_as_the_kernel_gave_it_with_its_dictionary() -> None:
    record = (
        b"3,814,12345678,-,caller=T112;sd 2:0:0:0: [sdb] tag#4 Medium \\xe2\\x82\\xac error\n"
        b" SUBSYSTEM=scsi\n DEVICE=+scsi:2:0:0:0"
    )
    found = shipped([record + b"\n"])
    assert texts(found) == [record.decode()]
    assert found[0].keep == "routine"


@pytest.mark.parametrize(
    ("records", "kept"),
    [
        ([line(0, "a"), line(1, "b", 5), line(2, "c", 7)], []),
        ([line(0, "a", 4), line(1, "b", 3), line(2, "c", 0), line(3, "d", 6)], [0, 1, 2]),
        # a journal that is replayed after every unclean end is no fault of the boot that replays it
        ([line(0, "EXT4-fs (sda1): INFO: recovery required on readonly filesystem"), line(1, "a")], []),
        (
            [line(0, "a"), line(1, "INFO: task cp:7 blocked for more than 120 seconds."), line(2, "b")],
            [0, 1, 2],
        ),
        # what userspace writes (facility 1) is read by its level alone: its words open no window
        ([line(0, "a"), b"14,1,1000,-;BUG: says a daemon", b"12,2,2000,-;BUG: warns a daemon"], [2]),
    ],
)
def test_warnings_and_worse_are_kept(records: list[bytes], kept: list[int]) -> None:
    assert seqs(shipped(records)) == kept


def test_line_that_a_rule_wants_is_kept_at_any_level() -> None:
    def hits(text: bytes) -> Iterable[int]:
        return (match.end() - 1 for match in re.finditer(b"wanted|SUBSYSTEM=pci", text))

    records = [
        *(line(0, "nothing"), line(1, "it is wanted"), line(2, "nothing")),
        *(line(3, "new device\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0"), line(4, "nothing")),
    ]
    assert seqs(shipped(records, hits)) == [1, 3]


def test_whole_window_around_a_fault_is_kept() -> None:
    fault_us = 500_000_000
    before = [line(n, f"before {n}", time_us=fault_us - (400 - n) * 1000) for n in range(400)]
    report = [
        line(400, "BUG: kernel NULL pointer dereference, address: 0000000000000078", 1, fault_us),
        *(line(401 + n, f" frame+0x{n:x}/0x100", 6, fault_us + n) for n in range(50)),
        line(451, "---[ end trace 0000000000000000 ]---", 4, fault_us + 60),
        line(452, "still within the quiet time", 6, fault_us + 60 + QUIET_US),
        line(453, "long after", 6, fault_us + 61 + QUIET_US),
    ]
    found = shipped(before + report)
    assert seqs(found) == list(range(400 - BEFORE_RECORDS, 453))
    assert {(item.keep, log.fault) for item, log in zip(found, logs(found), strict=True)} == {("crash", True)}


def test_lines_long_before_a_fault_are_not_its_window() -> None:
    records = [line(0, "long before", time_us=0), line(1, "BUG: soft lockup", 0, 61_000_000)]
    assert seqs(shipped(records)) == [1]


@pytest.mark.parametrize(
    "crash", sorted(FIXTURES.glob("crashes/*/kmsg.zst")), ids=lambda path: path.parent.name
)
def test_recorded_crash_keeps_every_warning_and_every_line_of_its_report(crash: Path) -> None:
    records = recorded(crash)
    got = texts(shipped(records))
    assert len(set(got)) == len(got)
    assert set(got) >= {record.decode() for record in records if int(record.split(b",")[0]) & 7 <= 4}
    first = next(
        (
            n
            for n, record in enumerate(records)
            if re.match(rb"[0-7],.*;.*(BUG:|Oops|cut here|blocked for)", record)
        ),
        None,
    )
    if first is not None:
        assert got[-(len(records) - first) :] == [record.decode() for record in records[first:]]


@pytest.mark.parametrize(
    "boot", sorted(FIXTURES.glob("healthy/*/kmsg.zst")), ids=lambda path: path.parent.name
)
def test_healthy_boot_ships_no_crash_and_little_chatter(boot: Path) -> None:
    records = recorded(boot)
    found = shipped(records)
    assert "crash" not in {item.keep for item in found}
    asked = any(b";sysrq:" in record for record in records)  # what an operator asked for is a window too
    assert asked or len(texts(found)) < 0.1 * len(records)


def test_storm_ships_a_bounded_share_of_its_chatter_and_stays_small() -> None:
    storm: list[bytes] = []
    for n in range(0, 200_000, 10):
        storm.append(line(n, "BUG: again", 1, n))
        storm += [line(n + k, "chatter " + "x" * 100, 6, n + k) for k in range(1, 10)]
    found = shipped(storm)
    chatter = [text for text in texts(found) if ";chatter" in text]
    assert len([text for text in texts(found) if ";BUG" in text]) == 20_000
    assert len(chatter) <= WINDOW_RECORDS + BEFORE_RECORDS
    assert max(len(log.records) for log in logs(found)) <= 1000 + BEFORE_RECORDS


def rule_examples() -> list[str]:
    """Each example of the shipped rules that is one line, as the kernel puts it into its log."""
    texts = []
    for file in sorted(prefilter.rule_files(())):
        loaded = yaml.safe_load(file.read_text())
        for rule in loaded if isinstance(loaded, list) else loaded.get("rules", ()):
            texts += [example["text"] for example in rule.get("examples", ())]
    lines = [re.sub(r"^(<\d+>)?\[ *\d+\.\d+\] ", "", text.rstrip()) for text in texts]
    return [line for line in lines if line.isascii() and line.isprintable()]


def test_burst_loses_no_line_that_a_rule_wants(tmp_path: Path) -> None:
    complaints: list[str] = []
    hits = prefilter.load((), tmp_path, complaints.append)
    examples = rule_examples()
    assert len(examples) > 300
    wanted = {n: examples[n // 37 % len(examples)] for n in range(0, 100_000, 37)}
    burst = [
        line(n, wanted.get(n, "br0: port 3(veth7) entered forwarding state"), 6, n * 10)
        for n in range(100_000)
    ]
    found = shipped(burst, hits)
    assert set(seqs(found)) >= set(wanted)
    assert len(set(seqs(found))) == len(seqs(found))
    assert sum(log.lost for log in logs(found)) == 0
    assert complaints == []

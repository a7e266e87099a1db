"""Whatever bytes come, reading gives a bounded answer, and a whole report is found by its own lines alone."""

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from necropsy_analyzer.report.draft import LINES
from necropsy_analyzer.report.find import REPORTS, find
from necropsy_analyzer.report.formats import HEADINGS
from necropsy_analyzer.report.frames import FrameModel
from necropsy_analyzer.report.lines import LINE_CHARACTERS, read
from necropsy_analyzer.report.report import Report
from necropsy_analyzer.report.unwrap import unwrap
from necropsy_analyzer.report.windows import WHOLE_BYTES

Reports = Callable[[str | bytes], tuple[Report, ...]]
HERE = Path(__file__).parent
LOGS = {path.stem: path.read_text() for path in sorted((HERE / "logs").glob("*.log"))}
NOISE = (HERE / "noise.txt").read_text().splitlines()
LINES_OF_ALL = [line for log in LOGS.values() for line in log.splitlines()] + NOISE
BYTES_OF_ALL = "\n".join(LINES_OF_ALL).encode()

logs = st.sampled_from(sorted(LOGS)).map(LOGS.__getitem__)
quick = settings(deadline=None, max_examples=150)


def _checked(log: str | bytes, frames: FrameModel) -> tuple[Report, ...]:
    """Read a log, and see to it that the answer keeps its bounds and speaks of lines that exist."""
    data, _ = unwrap(log.encode("utf-8", "surrogatepass") if isinstance(log, str) else log)
    read_log = read(data)
    count = data.count(b"\n") + 1
    assert all(1 <= line.number <= count for line in read_log.lines)
    assert all(len(line.text) <= LINE_CHARACTERS and "\n" not in line.text for line in read_log.lines)
    found = find(read_log, frames)
    assert len(found) <= REPORTS
    for report in found:
        assert 1 <= report.first_line <= count
        assert 1 <= report.last_line <= count
        assert 0 < len(report.title) <= 800
        assert len(report.stack) <= LINES + 2
        assert sum(len(frames_told) for _, frames_told in report.traces) <= LINES + 2
        assert all(len(text or "") <= 130 for text in (report.process, report.device, report.release))
        assert all(len(text or "") <= 130 for text in (report.hardware, report.workqueue, report.tainted))
        assert all(len(title) <= 300 for title, _ in report.traces)
        assert len(report.modules) <= 1000
    return found


@pytest.mark.parametrize("name", LOGS)
def test_from_its_first_line_on_a_report_is_found_again(name: str, reports: Reports) -> None:
    (report,) = reports(LOGS[name])
    lines = LOGS[name].splitlines()
    (again,) = reports("\n".join(lines[report.first_line - 1 :]))
    assert (again.title, again.process, again.fatal) == (report.title, report.process, report.fatal)
    assert [frame.raw for frame in again.stack] == [frame.raw for frame in report.stack]


@pytest.mark.parametrize("name", LOGS)
def test_after_its_last_line_it_is_not_found(name: str, reports: Reports) -> None:
    (report,) = reports(LOGS[name])
    assert reports("\n".join(LOGS[name].splitlines()[report.last_line :])) == ()


@pytest.mark.parametrize("name", LOGS)
def test_noise_around_a_report_changes_nothing(name: str, reports: Reports) -> None:
    (report,) = reports(LOGS[name])
    quiet = "usb 1-1: new device\n" * 5
    (again,) = reports(f"{quiet}{LOGS[name]}{quiet}")
    assert (again.title, again.process, again.cpu) == (report.title, report.process, report.cpu)
    assert again.first_line == report.first_line + 5


@quick
@given(log=logs, start=st.floats(0, 1), end=st.floats(0, 1))
def test_no_cut_is_too_much(log: str, start: float, end: float, frames: FrameModel) -> None:
    data = log.encode()
    _checked(data[int(start * len(data)) : int(end * len(data))], frames)


@quick
@given(one=logs, other=logs, seed=st.integers(0, 2**32))
def test_no_interleaving_is_too_much(one: str, other: str, seed: int, frames: FrameModel) -> None:
    chance = random.Random(seed)
    parts = [one.splitlines(), other.splitlines()]
    mixed = []
    while parts[0] or parts[1]:
        some = chance.choice([part for part in parts if part])
        mixed.append(some.pop(0))
    _checked("\n".join(mixed), frames)


@quick
@given(log=logs, seed=st.integers(0, 2**32))
def test_no_order_of_lines_is_too_much(log: str, seed: int, frames: FrameModel) -> None:
    lines = log.splitlines()
    random.Random(seed).shuffle(lines)
    _checked("\n".join(lines), frames)


@quick
@given(
    lines=st.lists(st.sampled_from(LINES_OF_ALL), max_size=60),
    joint=st.sampled_from(["\n", "", "\r", "\0", " "]),
)
def test_no_choice_of_lines_is_too_much(lines: list[str], joint: str, frames: FrameModel) -> None:
    _checked(joint.join(lines), frames)


@quick
@given(
    log=logs, at=st.floats(0, 1), what=st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode))
)
def test_no_bytes_within_are_too_much(log: str, at: float, what: bytes, frames: FrameModel) -> None:
    data = log.encode()
    place = int(at * len(data))
    _checked(data[:place] + what + data[place:], frames)


@quick
@given(data=st.binary(max_size=2000))
def test_no_bytes_alone_are_too_much(data: bytes, frames: FrameModel) -> None:
    _checked(data, frames)


@quick
@given(
    text=st.lists(
        st.one_of(
            st.sampled_from(re.findall(r"[\w']+|[^\w\s]+|\s", "\n".join(LINES_OF_ALL))),
            st.sampled_from([known.literal for known in HEADINGS]),
            st.text(max_size=4),
        ),
        max_size=200,
    ).map("".join)
)
def test_no_text_of_the_kernels_words_is_too_much(text: str, frames: FrameModel) -> None:
    _checked(text.encode("utf-8", "replace"), frames)


def test_no_heading_repeats_without_a_bound() -> None:
    """What a pattern does with a message is bounded by the pattern and the message's first characters."""
    unbounded = re.compile(r"(?<!\\)(?:\)|\]|\w|\.)[*+]|\{\d*,\}")
    assert [known.pattern.pattern for known in HEADINGS if unbounded.search(known.pattern.pattern)] == []


SLOW = """
import sys
from pathlib import Path
from necropsy_analyzer.report.find import find
from necropsy_analyzer.report.frames import FrameModel
from necropsy_analyzer.report.lines import read
units = sys.stdin.read().split("\\0")
for unit in units:
    line = unit * (4096 // len(unit) + 1)
    find(read(("[   12.345678] " + line[:4000] + "\\n").encode() * 64), FrameModel())
    find(read((unit * ((1 << 20) // len(unit))).encode()), FrameModel())
"""
UNITS = (
    "BUG: ",
    "BUG: KASAN: a in ",
    "WARNING: ",
    "WARNING: at a:1 ",
    "UBSAN: a a ",
    " ",
    "a+0x1/0x2 ",
    "<IRQ> ",
    "[<0123abcd",
    "a.isra.0",
    "RIP: 0010:",
    "Modules linked in: ",
    "CPU: 1 PID: 1 Comm: a ",
    "task:a state:D ",
    "D 0123456789abcdef ",
    "at: a",
    "Allocated by task ",
    "[    1.000000] ",
    "[#1] ",
    "Oops: ",
    "Kernel panic - not syncing: ",
    "a: a: ",
    "Panic#1 Part1\n",
    "6,1,1,-;\\x0a",
    '{"MESSAGE":"',
    "general protection fault, ",
    "detected buffer overflow ",
)


def test_work_grows_with_the_input_and_no_faster() -> None:
    """A megabyte of any of these takes less than a second; if work grew with its square, it took hours."""
    subprocess.run([sys.executable, "-c", SLOW], input="\0".join(UNITS), text=True, check=True, timeout=240)


@pytest.mark.parametrize("mebibytes", [30, 100])
def test_a_crash_amid_a_very_long_log_is_found(mebibytes: int, reports: Reports) -> None:
    lines = (f"[{n / 7 + 1:12.6f}] usb 1-{n}: new high-speed USB device number {n}\n" for n in range(400))
    block = "".join(lines).encode()
    half = block * ((mebibytes << 19) // len(block))
    crash = LOGS["x86-of-6.12"].encode()
    log = half + crash + half
    (report,) = reports(log)
    assert report.culprit == "vnic_unmap"
    assert report.first_line == half.count(b"\n") + 1
    if len(log) > WHOLE_BYTES:
        (said,) = read(log).damage
        assert "were passed over" in said


def test_a_storm_of_reports_is_bounded(reports: Reports) -> None:
    found = reports(LOGS["warning-of-6.18"] * (REPORTS + 50))
    assert len(found) == REPORTS

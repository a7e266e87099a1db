"""What looks like a crash and is none: boot messages, settings, quotations, corrected errors."""

from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from necropsy_analyzer.report.report import Report

Reports = Callable[[str | bytes], tuple[Report, ...]]
HEALTHY = Path(__file__).parents[2] / "fixtures" / "healthy"

NOISE = (Path(__file__).parent / "noise.txt").read_text()


@pytest.mark.parametrize("line", NOISE.splitlines())
def test_a_harmless_line_is_no_report(line: str, reports: Reports) -> None:
    for log in (f"[   12.345678] {line}\n", f"{line}\n", f"Mar  9 08:00:27 web-04 kernel: {line}\n"):
        assert reports(log) == ()


def test_all_of_them_together_are_none_either(reports: Reports) -> None:
    lines = NOISE.splitlines()
    assert reports("".join(f"[{n / 7 + 1:12.6f}] {line}\n" for n, line in enumerate(lines))) == ()


@pytest.mark.parametrize(
    "quoting",
    [
        "Mar  9 08:00:27 web-04 {0}[811]: {1}",
        "2026-03-09T08:00:27.123456+00:00 web-04 {0}[811]: {1}",
        "<30>1 2026-03-09T08:00:27Z web-04 {0} 811 - - {1}",
        "[   12.345678] {0}[811]: {1}",
        '{{"_TRANSPORT":"stdout","SYSLOG_IDENTIFIER":"{0}","MESSAGE":"{1}"}}',
    ],
)
@pytest.mark.parametrize("program", ["kubelet", "systemd", "dockerd"])
@pytest.mark.parametrize(
    "said",
    [
        "Kernel panic - not syncing: Fatal exception",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [x:1]",
        "[   11.000000] BUG: kernel NULL pointer dereference, address: 0000000000000010",
        "INFO: task dd:120 blocked for more than 120 seconds.",
    ],
)
def test_a_program_that_quotes_the_kernel_is_not_the_kernel(
    quoting: str, program: str, said: str, reports: Reports
) -> None:
    assert reports(quoting.format(program, said) + "\n") == ()


@pytest.mark.parametrize("folder", sorted(HEALTHY.iterdir()), ids=lambda folder: folder.name)
def test_healthy_machines_have_no_report(folder: Path, reports: Reports) -> None:
    for name in ("console.log.zst", "kmsg.zst"):
        data = zstandard.ZstdDecompressor().decompressobj().decompress((folder / name).read_bytes())
        assert [report.title for report in reports(data)] == []

"""Reading reports as the diagnosis does it: bytes, the shipped frame model, reports."""

from collections.abc import Callable
from importlib.resources import files

import pytest

from necropsy_analyzer.report.find import find
from necropsy_analyzer.report.frames import FrameModel, load_frames
from necropsy_analyzer.report.lines import read
from necropsy_analyzer.report.report import Report
from necropsy_analyzer.report.unwrap import unwrap

Reports = Callable[[str | bytes], tuple[Report, ...]]


@pytest.fixture(scope="session")
def frames() -> FrameModel:
    """The shipped model of kernel functions."""
    folder = files("necropsy_rules") / "frames"
    return load_frames({item.name: item.read_text("utf-8") for item in folder.iterdir()})


@pytest.fixture(scope="session")
def reports(frames: FrameModel) -> Reports:
    """Find the reports of a log."""

    def found(log: str | bytes) -> tuple[Report, ...]:
        data, _ = unwrap(log.encode() if isinstance(log, str) else log)
        return find(read(data), frames)

    return found

"""Which of a log's reports a verdict is about. In: reports in order of time. Out: one of them, or None."""

from collections.abc import Sequence
from typing import Final

from necropsy_analyzer.report.report import Report

_SYMPTOMS: Final = frozenset({"warn", "undefined_behavior", "data_race", "memory_leak"})
"""Reports that say of themselves that nothing has broken yet."""


def principal_report(reports: Sequence[Report]) -> Report | None:
    """Choose the report that the verdict is about.

    What the host went down with is the subject, unless it is the aftershock of something before it; then
    that is. Of faults that were survived the first in time counts, and a warning only where there is
    nothing else.
    """
    if not reports:
        return None
    own = [report for report in reports if not report.aftershock] or list(reports[:1])
    fatal = next((report for report in own if report.fatal), None)
    if fatal is not None and (fatal.mechanism != "panic_other" or fatal.stack):
        return fatal
    return next((report for report in own if report.mechanism not in _SYMPTOMS), fatal or own[0])

"""Where in a log things stand: the principal report, aftershocks, boots, the host's last words.

In: a log and its reports. Out: a `Scene`, which says how much a message at some place counts.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Final, Literal

from necropsy_analyzer.report.principal import principal_report
from necropsy_analyzer.report.report import Log, LogLine, Report

Place = Literal["here", "aftershock", "afterwards", "other boot"]

_BANNER: Final = "Linux version "
_FROM_BEFORE: Final = ("[Hardware Error]", "BERT:", "mce: ", "pstore: ")
"""What a boot says of the death before it."""


class Scene:
    """A log's messages, and what happened where.

    `spoken` are the messages in order; places are indexes into it.
    """

    def __init__(self, log: Log, reports: Sequence[Report]) -> None:
        """Survey a log."""
        self.spoken: Sequence[LogLine] = log.lines
        self.reports = reports
        self.principal = principal_report(reports)
        self._aftershocks = [self._span(report) for report in reports if report.aftershock]
        own = None if self.principal is None else self._span(self.principal)
        self.begin = None if own is None else own[0]
        self.end = own[1] if own is not None and self.principal is not None and self.principal.fatal else None

    @cached_property
    def text(self) -> bytes:
        """Give all messages joined with newlines: the n-th line is the n-th message."""
        texts = [line.text for line in self.spoken]
        joined = "\n".join(texts)
        if joined.count("\n") != max(len(texts) - 1, 0):
            joined = "\n".join(text.replace("\n", " ") for text in texts)
        return joined.encode("utf-8", "replace")

    def find(self, beginning: bytes) -> int | None:
        """Give the place of the first message that begins so, if it is the kernel's."""
        at = 0 if self.text.startswith(beginning) else self.text.find(b"\n" + beginning) + 1
        if not at and not self.text.startswith(beginning):
            return None
        place = self.text.count(b"\n", 0, at)
        return place if self.spoken[place].kernel else None

    def said(self, beginning: bytes) -> str | None:
        """Give the rest of the first message that begins so."""
        place = self.find(beginning)
        return None if place is None else self.spoken[place].text[len(beginning) :]

    def index(self, number: int) -> int | None:
        """Give the place of the message that stands at a line of the input."""
        return self._indexes.get(number)

    def place(self, index: int) -> Place:
        """Say where a message stands, seen from the principal report."""
        first, last = self._boot
        if not first <= index < last and not self.spoken[index].text.startswith(_FROM_BEFORE):
            return "other boot"
        if any(start <= index <= end for start, end in self._aftershocks):
            return "aftershock"
        if self.end is not None and index > self.end:
            return "afterwards"
        return "here"

    @cached_property
    def _indexes(self) -> dict[int, int]:
        """Map lines of the input to their first message, the kernel's before what stands beside it."""
        indexes: dict[int, int] = {}
        for index, line in enumerate(self.spoken):
            known = indexes.setdefault(line.number, index)
            if line.kernel and not self.spoken[known].kernel:
                indexes[line.number] = index
        return indexes

    @cached_property
    def _boot(self) -> tuple[int, int]:
        """Give the boot of the principal report, else the log's last one, as a range of places."""
        banners = [index for index, line in enumerate(self.spoken) if line.text.startswith(_BANNER)]
        at = len(self.spoken) if self.begin is None else self.begin
        first = max((index for index in banners if index <= at), default=0)
        # What stands before the only banner is the boot loader's, or a log that was put before it.
        first = first if len(banners) > 1 else 0
        return first, min((index for index in banners if index > at), default=len(self.spoken))

    def _span(self, report: Report) -> tuple[int, int]:
        first = self.index(report.first_line)
        last = self.index(report.last_line)
        first = 0 if first is None else first
        return first, first if last is None else max(first, last)

"""Where in a log things stand: the principal report, aftershocks, boots, the host's last words.

In: a log and its reports. Out: a `Scene`, which says how much a message at some place counts.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Final, Literal

from necropsy_analyzer.report.principal import principal_report
from necropsy_analyzer.report.report import Log, LogLine, Report

Place = Literal["here", "aftershock", "afterwards", "other boot"]

_BANNER: Final = "Linux version "
_FROM_BEFORE: Final = ("[Hardware Error]", "BERT:", "mce: ", "pstore: ")
"""What a boot says of the death before it."""
_STARTING: Final = re.compile(
    r"(?:systemd|systemd-(?:fsck|cryptsetup|shutdown)|dracut[\w-]*|init)\[\d{1,7}\]: "
)


def _is_starting(line: LogLine) -> bool:
    """Say whether init or an initramfs wrote a line into the kernel's own ring, as only root can.

    Before the root file system is there, the kernel's log is the only one they have. Lines of other
    programs, and lines of a syslog, may quote what they like, and are not heard.
    """
    return line.time_s is not None and line.wall_s is None and _STARTING.match(line.text) is not None


class Scene:
    """A log's messages that the kernel itself said, or that started its user space, and what happened where.

    `spoken` are those messages in order; places are indexes into it.
    """

    def __init__(self, log: Log, reports: Sequence[Report]) -> None:
        """Survey a log."""
        self.spoken: Sequence[LogLine] = log.lines
        if not all(line.kernel for line in log.lines):
            self.spoken = [line for line in log.lines if line.kernel or _is_starting(line)]
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
        """Give the place of the first message that begins so."""
        if self.text.startswith(beginning):
            return 0
        at = self.text.find(b"\n" + beginning)
        return None if at < 0 else self.text.count(b"\n", 0, at + 1)

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
        indexes: dict[int, int] = {}
        for index, line in enumerate(self.spoken):
            indexes.setdefault(line.number, index)
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

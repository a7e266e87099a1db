"""What a kernel log says of itself. In: the log's bytes. Out: the kernel's release, the last line's time."""

import re
from typing import Final

_VERSION: Final = re.compile(rb"Linux version (\S{1,128}) ")
# show_regs_print_info(), dump_stack_print_info(): "Tainted: G           OE      6.1.0-56-amd64 #1 Debian …"
_TAINTED: Final = re.compile(rb"(?:Not tainted|Tainted: [A-Z ]{1,40}?)(?:, )? (\d+\.\S{1,120}) #\d")
_TIME: Final = re.compile(rb"^(?:<\d{1,4}>)?\[ {0,11}(\d{1,10})\.(\d{6})\]", re.MULTILINE)
_TAIL_BYTES: Final = 16 << 10


def release_of(text: bytes) -> str | None:
    """Give the release of the kernel that wrote `text`: from its banner, else from a report's second line."""
    found = _VERSION.search(text) or _TAINTED.search(text)
    return found.group(1).decode("ascii", "backslashreplace") if found else None


def last_time_us(text: bytes) -> int | None:
    """Give the time stamp of the last line that has one, in microseconds since the kernel's start."""
    times = _TIME.findall(text, max(0, len(text) - _TAIL_BYTES))
    return int(times[-1][0]) * 1_000_000 + int(times[-1][1]) if times else None

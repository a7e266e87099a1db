"""When to kill a process that writes to SQLite: in the midst of its writing."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def written(log: Path, count: int) -> Callable[[], bool]:
    """Make the test whether a write-ahead log was written to more than `count` times from now on: the writer
    is in a transaction then, or between its end and what follows from it.
    """
    seen = [-1, 0]

    def due() -> bool:
        with suppress(OSError):
            written_ns = log.stat().st_mtime_ns
            if written_ns != seen[0]:
                seen[:] = written_ns, seen[1] + 1
        return seen[1] > count

    return due

"""What every source is to the daemon. In: a host tree and what was done before. Out: `Found` values."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from necropsy_agent.wire import Body, Keep


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that is looked at: `root` stands before every path, so that a recorded tree is a host too.

    `boot` is the running boot's id (32 hexadecimal digits), `previous` the one before it where known.
    """

    root: Path
    boot: str
    previous: str | None = None

    def path(self, absolute: str) -> Path:
        """Place an absolute path of the host below `root`."""
        return self.root / absolute.lstrip("/")


@dataclass(frozen=True, slots=True)
class Found:
    """One body to ship.

    `key` names a thing that must be shipped once for ever (None: no such memory is needed); after the
    analyzer has acknowledged it, the source's `acknowledged(key)` is called, also after a restart of the
    agent. `of_boot` is the boot it speaks of where that is not the running one. `cursor` is stored with it,
    in one transaction, and given to `open()` at the next start.
    """

    body: Body
    keep: Keep
    key: str | None = None
    of_boot: str | None = None
    cursor: str | None = None


class Source(Protocol):
    """One interface of the host.

    A source with a file descriptor is a stream: the loop polls `fileno()` and calls `read()` when it is
    readable. One without is looked at when the daemon starts and every `interval_s` seconds.
    """

    name: str
    interval_s: float | None

    def open(self, host: Host, cursor: str | None) -> str | None:
        """Make ready, from the cursor that was last stored. None, or why the source is off on this host."""
        ...

    def fileno(self) -> int | None:
        """The descriptor to poll, None for a source that is looked at in intervals."""
        ...

    def read(self, known: Callable[[str], bool]) -> Iterable[Found]:
        """Give what is new; `known(key)` says whether a key was shipped or waits in the outbox.

        Raises OSError where the interface itself fails (counted as failed; the source is asked again).
        """
        ...

    def acknowledged(self, key: str) -> None:
        """The analyzer has the record of that key: mark it as done where the interface has such a mark."""
        ...

    def close(self) -> None:
        """Let go of descriptors and children."""
        ...

"""The running boot, and how the last one ended. In: a host tree. Out: one `Boot` body a boot."""

from collections.abc import Callable, Iterable
from contextlib import suppress

from necropsy_agent.sources.last_boot import LastBoot
from necropsy_agent.sources.source import Found, Host
from necropsy_agent.wire import Boot


class Boots:
    """Tells of each boot once, and marks every minute that it is still alive."""

    name = "boots"
    interval_s: float | None = 60.0

    def __init__(self, last: LastBoot) -> None:
        self._last = last
        self._host: Host | None = None

    def open(self, host: Host, cursor: str | None) -> str | None:
        """Make ready; this source is on everywhere."""
        self._host = host
        return None

    def fileno(self) -> int | None:
        """Nothing to poll."""
        return None

    def read(self, known: Callable[[str], bool]) -> Iterable[Found]:
        """Give the boot if it was not shipped before. Raises OSError where the mark cannot be written."""
        host = self._host
        if host is None:
            return
        key = f"boot:{host.boot}"
        if not known(key):
            ending = self._last.of(host)
            release = ""
            with suppress(OSError):
                release = host.path("/proc/sys/kernel/osrelease").read_text("ascii", "replace").strip()
            body = Boot(
                release=release,
                started_wall_ns=ending.started_ns,
                previous=ending.previous,
                previous_seen_wall_ns=ending.seen_ns,
                end=ending.end,
                proof=ending.proof,
            )
            yield Found(
                body=body, keep="crash" if ending.end == "unclean" else "fault", key=key, cursor=host.boot
            )
        self._last.seen(host)

    def acknowledged(self, key: str) -> None:
        """Nothing on the host needs a mark."""

    def close(self) -> None:
        """Nothing is held open."""
        self._host = None

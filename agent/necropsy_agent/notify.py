"""What the agent says to the service manager and to people. In: the environment. Out: datagrams, lines.

The protocol is sd_notify(3): newline-separated assignments in one datagram to $NOTIFY_SOCKET, a path or, with
a leading `@`, an abstract name (unix(7)). Lines on standard error carry sd-daemon(3)'s level where the
journal reads them.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import Final

ERROR: Final = 3
WARNING: Final = 4
INFO: Final = 6


def say(text: str, level: int = INFO) -> None:
    """Write one line for people to standard error."""
    head = f"<{level}>" if "JOURNAL_STREAM" in os.environ else "necropsy-agent: "
    print(head + " ".join(text.splitlines()), file=sys.stderr, flush=True)


class Notifier:
    """Tells the service manager how the agent is; silent where there is none.

    `watchdog_s` is how often it wants to hear (half of $WATCHDOG_USEC), None where it does not watch.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._address = "\0" + address[1:] if address.startswith("@") else address
        if address.startswith(("@", "/")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self.watchdog_s = _watchdog_s(environ) if self._socket is not None else None
        self._alive_s = 0.0

    def send(self, *assignments: str) -> None:
        """Send assignments such as `READY=1`. A manager that does not listen holds nothing up."""
        if self._socket is not None:
            try:
                self._socket.sendto("\n".join(assignments).encode(), self._address)
            except OSError as error:
                say(f"{self._address!r}: the service manager cannot be told: {error.strerror}", WARNING)

    def reloading(self) -> None:
        """Say that the configuration is read anew, until `READY=1`. The time is for systemd 253 and later."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def alive(self, now_s: float) -> float:
        """Feed the watchdog if it is time; give when it is time again (`now_s` is time.monotonic())."""
        if self.watchdog_s is None:
            return float("inf")
        if now_s >= self._alive_s:
            self.send("WATCHDOG=1")
            self._alive_s = now_s + self.watchdog_s
        return self._alive_s

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Read sd_watchdog_enabled(3)'s variables."""
    pid, usec = environ.get("WATCHDOG_PID"), environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid is not None and pid != str(os.getpid())):
        return None
    return int(usec) / 2e6

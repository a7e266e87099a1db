"""How the agent is. In: sources, outbox, delivery. Out: an `AgentHealth` event, and a file for `status`."""

import os
import resource
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from necropsy_agent import __version__
from necropsy_agent.outbox import Fill
from necropsy_agent.wire import AgentHealth, SourceState

NAME: Final = "status.json"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a running agent leaves for `necropsy-agent status`. Times are CLOCK_REALTIME.

    `sources` counts since the start; `outbox` and `shipper` stand at its end in the same form.
    """

    version: str
    pid: int
    started_wall_ns: int
    written_wall_ns: int
    sources: tuple[SourceState, ...]


class StatusError(Exception):
    """There is no status to be read, in one line that says what to do."""


def health_of(started_s: float, fill: Fill, sources: Iterable[SourceState]) -> AgentHealth:
    """Make the event; `started_s` is the time.monotonic() of the agent's start."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return AgentHealth(
        version=__version__,
        uptime_ns=int((time.monotonic() - started_s) * 1e9),
        resident_bytes=_resident_bytes(),
        cpu_ns=int(cpu_s * 1e9),
        outbox_events=fill.events,
        outbox_bytes=fill.bytes,
        dropped=fill.dropped,
        sources=tuple(sources),
    )


def write_status(state: Path, started_wall_ns: int, sources: Iterable[SourceState]) -> None:
    """Leave the status in the state folder. Raises OSError."""
    status = Status(
        version=__version__,
        pid=os.getpid(),
        started_wall_ns=started_wall_ns,
        written_wall_ns=time.time_ns(),
        sources=tuple(sources),
    )
    draft = state / f"{NAME}.new"
    draft.write_bytes(msgspec.json.encode(status))
    draft.replace(state / NAME)


def read_status(state: Path) -> Status:
    """Read what an agent left. Raises StatusError."""
    try:
        return msgspec.json.decode((state / NAME).read_bytes(), type=Status)
    except FileNotFoundError as error:
        raise StatusError(
            f"{state}: no agent has run there yet: start it, or name its configuration by --config"
        ) from error
    except OSError as error:
        raise StatusError(f"{state / NAME}: {error.strerror}: ask as root") from error
    except msgspec.MsgspecError as error:
        raise StatusError(f"{state / NAME}: damaged; a running agent writes it anew: {error}") from error


def _resident_bytes() -> int:
    with suppress(OSError, ValueError, IndexError), open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
    return 0

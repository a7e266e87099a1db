"""The host's interfaces, one file each. In: a host tree. Out: `Found` values, never an exception on content.

`SOURCES` lists them all in the order in which they are looked at after a start: what tells how the last boot
ended stands first, crash evidence next, live streams last. Each factory takes the `Settings` and the one
`LastBoot` that they share; `make` calls them all.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from necropsy_agent.sources.boots import Boots
from necropsy_agent.sources.inventory import Inventory
from necropsy_agent.sources.journal import Journal
from necropsy_agent.sources.kdump import QUIET_S, Kdump
from necropsy_agent.sources.kmsg import Kmsg, nothing
from necropsy_agent.sources.kmsg_window import Hits
from necropsy_agent.sources.last_boot import LastBoot
from necropsy_agent.sources.pstore import Pstore
from necropsy_agent.sources.source import Found, Host, Source

__all__ = ["SOURCES", "Found", "Hits", "Host", "LastBoot", "Settings", "Source", "make"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the sources can be told.

    `state` is the agent's own folder (None: nothing is remembered there), `hits` the rules' prefilter,
    `kmsg_path` where the kernel log is read, `pstore_clear` whether acknowledged live pstore records are
    unlinked, `crash_roots` further folders with crash folders in them, `crash_quiet_s` how long such a folder
    must have stood unchanged.
    """

    state: Path | None = None
    hits: Hits = nothing
    kmsg_path: str = "/dev/kmsg"
    pstore_clear: bool = False
    crash_roots: tuple[str, ...] = ()
    crash_quiet_s: float = QUIET_S


SOURCES: Final[tuple[tuple[str, Callable[[Settings, LastBoot], Source]], ...]] = (
    ("boots", lambda settings, last: Boots(last)),
    ("inventory", lambda settings, last: Inventory()),
    ("pstore", lambda settings, last: Pstore(last, clear=settings.pstore_clear)),
    ("kdump", lambda settings, last: Kdump(last, settings.crash_roots, settings.crash_quiet_s)),
    ("journal", lambda settings, last: Journal(last)),
    ("kmsg", lambda settings, last: Kmsg(settings.hits, settings.kmsg_path)),
)
"""Every source: its name and what makes it."""


def make(settings: Settings, off: Collection[str] = ()) -> tuple[Source, ...]:
    """Make all sources but those named in `off`, in the order of `SOURCES`; none is opened yet."""
    last = LastBoot(settings.state)
    return tuple(factory(settings, last) for name, factory in SOURCES if name not in off)

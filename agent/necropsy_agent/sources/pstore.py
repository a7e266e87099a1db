"""pstore as a source. In: /sys/fs/pstore and systemd-pstore's archive. Out: `CrashRecord`s, once each.

Both folders are read as one (records/pstore.py), since systemd-pstore.service may be moving files from one to
the other at that very moment.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from necropsy_agent.records import pstore
from necropsy_agent.sources.last_boot import Ending, LastBoot
from necropsy_agent.sources.source import Found, Host
from necropsy_agent.wire import CrashRecord, Keep

_LIVE: Final = "/sys/fs/pstore"
_ARCHIVE: Final = "/var/lib/systemd/pstore"
_ORDERLY: Final = ("Restart", "Halt", "Poweroff", "Shutdown")  # dumped only with printk.always_kmsg_dump
_DEPTH: Final = 2


class Pstore:
    """Looks for records at the start and every minute, and reads only where something has changed.

    Live records are left where they are, unless `clear` says otherwise: systemd-pstore empties the store on
    most hosts and keeps an archive, and a store that an administrator wants kept must not lose its only copy
    to a program that ships one. With `clear` a live record is unlinked, which erases it in the backend, once
    the analyzer has it; that is for hosts without systemd-pstore, whose store would fill up and then take no
    further crash.
    """

    name = "pstore"
    interval_s: float | None = 60.0

    def __init__(self, last: LastBoot, *, clear: bool = False) -> None:
        self._last = last
        self._clear = clear
        self._host: Host | None = None
        self._seen: tuple[tuple[str, int, int], ...] | None = None

    def open(self, host: Host, cursor: str | None) -> str | None:
        """Make ready; off where the kernel has no pstore and nothing was archived."""
        self._host = host
        if not any(os.path.isdir(host.path(folder)) for folder in (_LIVE, _ARCHIVE)):
            return f"there is no {_LIVE}: the kernel has no pstore"
        return None

    def fileno(self) -> int | None:
        """Nothing to poll."""
        return None

    def read(self, known: Callable[[str], bool]) -> Iterable[Found]:
        """Give records that were not shipped before.

        Raises OSError where a folder or a record's file cannot be read, after giving all the others.
        """
        if self._host is None:
            return
        folders, failure = self._folders(self._host)
        seen = tuple(entry for folder, _ in folders for entry in _status(folder, _DEPTH))
        if seen == self._seen and failure is None:
            return
        ending = self._last.of(self._host)
        for record in pstore.read_all(folders):
            if not record.parts:
                failure = failure or OSError("; ".join(record.damage))
            elif not known(record.key):
                found = _found(record, ending, self._host)
                if found is not None:
                    yield found
        if failure is not None:
            raise failure
        self._seen = seen

    def acknowledged(self, key: str) -> None:
        """Unlink the live files of the record, where that is wanted. Raises OSError where that fails."""
        if not self._clear or self._host is None:
            return
        live = self._host.path(_LIVE)
        if not live.is_dir():
            return
        for record in pstore.read(live, live=True):
            if record.key == key:
                for part in record.parts:
                    with suppress(FileNotFoundError):
                        os.unlink(live / part.name)

    def close(self) -> None:
        """Nothing is held open."""
        self._host = None
        self._seen = None

    def _folders(self, host: Host) -> tuple[list[tuple[Path, bool | None]], OSError | None]:
        """Name the folders that can be read, and the first failure of one that is there and cannot."""
        folders: list[tuple[Path, bool | None]] = []
        failure: OSError | None = None
        for absolute, live in ((_LIVE, True), (_ARCHIVE, False)):
            path = host.path(absolute)
            try:
                os.listdir(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                failure = failure or error
                continue
            folders.append((path, live))
        return folders, failure


def _status(folder: Path, depth: int) -> Iterable[tuple[str, int, int]]:
    """Give name, size and time of every file, from which a change can be seen."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                if depth:
                    yield from _status(folder / entry.name, depth - 1)
                continue
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                yield entry.path, status.st_size, status.st_mtime_ns


def _found(record: CrashRecord, ending: Ending, host: Host) -> Found | None:
    """Weigh a record: a console record is there after every reboot and tells of a crash only after one."""
    keep: Keep = "crash"
    kind = record.parts[0].name.split("-")[0]
    if record.reason in _ORDERLY:
        keep = "routine"
    elif kind != "dmesg":
        if ending.end == "clean":
            return None
        keep = "crash" if kind in ("console", "mce") else "fault"
    boot = ending.boot_of(record.died_wall_ns, host.boot)
    return Found(body=record, keep=keep, key=record.key, of_boot=boot if boot != host.boot else None)

"""Crash folders as a source. In: /var/crash and where else kdump is set up to write. Out: records, once each.

A folder is read when nothing in it has changed for a while: kdump's tools write it before this boot, but a
copy may still be on its way. Folders and files that anyone but root may have made are refused, as apport does
(CVE-2015-1338: in Ubuntu's /var/crash everyone may create folders).
"""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from necropsy_agent.records import apport, kdump
from necropsy_agent.records.folder import Folder
from necropsy_agent.sources.last_boot import LastBoot
from necropsy_agent.sources.source import Found, Host
from necropsy_agent.wire import CrashRecord

LOG_BYTES: Final = 4 << 20
"""Of a longer kernel log the end is shipped."""
QUIET_S: Final = 60.0
"""How long nothing may have changed in a folder before it is read."""


class Kdump:
    """Looks for crash folders at the start and every minute.

    `roots` are absolute paths of the host to look in besides those of kdump's own configuration.
    """

    name = "kdump"
    interval_s: float | None = 60.0

    def __init__(self, last: LastBoot, roots: tuple[str, ...] = (), quiet_s: float = QUIET_S) -> None:
        self._last = last
        self._roots = roots
        self._quiet_s = quiet_s
        self._host: Host | None = None
        self._changing: dict[str, tuple[object, float]] = {}
        self._complained: set[str] = set()

    def open(self, host: Host, cursor: str | None) -> str | None:
        """Make ready; on everywhere, since kdump may be set up at any time."""
        self._host = host
        return None

    def fileno(self) -> int | None:
        """Nothing to poll."""
        return None

    def read(self, known: Callable[[str], bool]) -> Iterable[Found]:
        """Give crashes that were not shipped before, and what can be told of their vmcores.

        Raises OSError, after giving all the others, for each folder or file that could not be read or was
        refused, once.
        """
        host = self._host
        if host is None:
            return
        complaints: list[str] = []
        extra = tuple(host.path(path) for path in self._roots)
        for path in dict.fromkeys((*kdump.crash_roots(host.root), *extra)):
            try:
                root = Folder(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                complaints.append(f"{path}: {error.strerror or error}")
                continue
            with root:
                yield from self._folders(root, host, known, complaints)
                yield from self._reports(root, host, known, complaints)
                complaints += [f"{path}: {line}" for line in root.damage]
        fresh = [line for line in complaints if line not in self._complained]
        self._complained = set(complaints)
        if fresh:
            raise OSError("; ".join(fresh))

    def acknowledged(self, key: str) -> None:
        """Crash folders are the administrator's; kdump's own settings say when old ones go."""

    def close(self) -> None:
        """Nothing is held open."""
        self._host = None

    def _folders(
        self, root: Folder, host: Host, known: Callable[[str], bool], complaints: list[str]
    ) -> Iterator[Found]:
        for name, folder in kdump.folders(root):
            with folder:
                if known(f"kdump:{name}"):
                    continue
                if not _trusted(folder.status()):
                    complaints.append(f"{folder.path}: refused, not root's alone")
                    continue
                files = list(folder.files())
                newest_ns = max((status.st_mtime_ns for _, status in files), default=0)
                state = tuple((file, status.st_size, status.st_mtime_ns) for file, status in files)
                if not self._quiet(str(folder.path), state, newest_ns):
                    continue
                folder.damage = []  # what is wrong in it belongs to its record
                crash = kdump.examine_open(folder, LOG_BYTES)
            if crash is None:
                continue
            boot = self._boot_of(crash.record, host)
            for report in crash.vmcores:
                key = f"vmcore:{name}/{os.path.basename(report.path)}"
                if not known(key):
                    yield Found(body=report, keep="crash", key=key, of_boot=boot)
            # Last, as it is by the record's key that a folder is passed over.
            yield Found(body=crash.record, keep="crash", key=crash.record.key, of_boot=boot)

    def _reports(
        self, root: Folder, host: Host, known: Callable[[str], bool], complaints: list[str]
    ) -> Iterator[Found]:
        """Give apport's reports, save those of crashes whose folder is there."""
        stamps = {name for name, status in root.entries() if stat.S_ISDIR(status.st_mode)}
        for name, status in root.files():
            if not apport.NAME.fullmatch(name) or known(f"apport:{name}"):
                continue
            if any(stamp in name for stamp in stamps if stamp.isdigit()):
                continue
            if status.st_uid not in (0, os.geteuid()):
                complaints.append(f"{root.path / name}: refused, not root's")
                continue
            if not self._quiet(name, (status.st_size, status.st_mtime_ns), status.st_mtime_ns):
                continue
            record = apport.read(root, name)
            if record is not None:
                boot = self._boot_of(record, host)
                yield Found(body=record, keep="crash", key=record.key, of_boot=boot)

    def _quiet(self, name: str, state: object, newest_ns: int) -> bool:
        """Say whether something has stood unchanged long enough, by its own time or by what was seen."""
        age_ns = time.time_ns() - newest_ns
        if age_ns >= self._quiet_s * 1e9:
            return True
        now = time.monotonic()
        before, since = self._changing.get(name, (None, now))
        if before != state:
            self._changing[name] = (state, now)
            return self._quiet_s <= 0
        return now - since >= self._quiet_s

    def _boot_of(self, record: CrashRecord, host: Host) -> str | None:
        boot = self._last.of(host).boot_of(record.died_wall_ns, host.boot)
        return boot if boot != host.boot else None


def _trusted(status: os.stat_result) -> bool:
    """Say whether only root, or who the agent runs as, can have written into a folder."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & stat.S_IWOTH

"""Files below a folder that others may write to. In: a folder. Out: bounded bytes, and what was wrong.

Crash folders are often writable for more than the one who reads them (Ubuntu's /var/crash has mode 3777), so
each name below the folder is opened relative to its parent's descriptor, without following a symbolic link
(openat2(2)'s RESOLVE_BENEATH, done with O_NOFOLLOW step by step, since Linux 2.6.16), only regular files are
opened, and opening never waits for a FIFO's other end.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

ENTRY_LIMIT: Final = 4096
"""How many names of one folder are looked at."""

_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK_BYTES: Final = 1 << 20


class NotRegularError(OSError):
    """The name is a symbolic link, a FIFO, a device or anything else that is not a file of bytes."""


class Folder:
    """An open folder: names are looked up in it and nowhere else.

    The folder's own path may lead through symbolic links, since whoever named it meant it. Raises OSError
    where it cannot be opened. `damage` collects what was wrong below it, one line each.
    """

    def __init__(self, path: Path, *, _fd: int | None = None, _damage: list[str] | None = None) -> None:
        self.path = path
        self.damage: list[str] = [] if _damage is None else _damage
        self._fd = os.open(path, _FOLDER_FLAGS & ~os.O_NOFOLLOW) if _fd is None else _fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def status(self) -> os.stat_result:
        """Give the open folder's own status."""
        return os.fstat(self._fd)

    def entries(self) -> list[tuple[str, os.stat_result]]:
        """List names in order with their status (of a symbolic link its own), at most `ENTRY_LIMIT`."""
        names = sorted(os.listdir(self._fd))
        if len(names) > ENTRY_LIMIT:
            self.damage.append(
                f"{self.path}: {len(names)} entries, only the last {ENTRY_LIMIT} were looked at"
            )
            names = names[-ENTRY_LIMIT:]
        found = []
        for name in names:
            try:
                found.append((name, os.stat(name, dir_fd=self._fd, follow_symlinks=False)))
            except FileNotFoundError:
                continue  # removed since it was listed: systemd-pstore moves files while we look
        return found

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Give the regular files among the entries."""
        return ((name, status) for name, status in self.entries() if stat.S_ISREG(status.st_mode))

    def below(self, name: str) -> "Folder":
        """Open a folder in this one; it reports to the same `damage`. Raises OSError, also for a link."""
        fd = os.open(name, _FOLDER_FLAGS, dir_fd=self._fd)
        return Folder(self.path / name, _fd=fd, _damage=self.damage)

    def open(self, name: str) -> int:
        """Open a regular file and give its descriptor. Raises OSError, `NotRegularError` for others."""
        # The look before opening spares devices an open(), the look after it is the one that counts.
        if not stat.S_ISREG(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode):
            raise NotRegularError(f"{self.path / name} is not a regular file")
        fd = os.open(name, _FILE_FLAGS, dir_fd=self._fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotRegularError(f"{self.path / name} is not a regular file")
        return fd

    def read(self, name: str, limit_bytes: int, *, from_end: bool = True) -> bytes | None:
        """Read a file, of a longer one the last `limit_bytes`, where the crash is, or the first.

        None, and a line of damage, where it cannot be read. A file that grows while it is read gives at most
        the limit, one that fails in between what came.
        """
        try:
            fd = self.open(name)
        except OSError as error:
            why = (
                "not a regular file" if isinstance(error, NotRegularError) else (error.strerror or str(error))
            )
            self.damage.append(f"{name}: {why}")
            return None
        chunks: list[bytes] = []
        left = limit_bytes
        try:
            size = os.fstat(fd).st_size
            if size > limit_bytes:
                which = "last" if from_end else "first"
                self.damage.append(f"{name}: only the {which} {limit_bytes} of {size} bytes were read")
                if from_end:
                    os.lseek(fd, size - limit_bytes, os.SEEK_SET)
            while left > 0 and (chunk := os.read(fd, min(left, _CHUNK_BYTES))):
                chunks.append(chunk)
                left -= len(chunk)
        except OSError as error:
            self.damage.append(f"{name}: {error.strerror or error} after {limit_bytes - left} bytes")
        finally:
            os.close(fd)
        return b"".join(chunks)

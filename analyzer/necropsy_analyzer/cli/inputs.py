"""What `necropsy triage` is pointed at. In: a path or `-`. Out: a `Case`, or `InputError` in one line."""

import errno
import os
import select
import stat
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from necropsy_agent.records import kdump, pstore, vmcore_head
from necropsy_agent.records.folder import Folder
from necropsy_agent.wire import CrashRecord, VmcoreReport
from necropsy_analyzer.diagnose import Artifact, Case, artifact_of

LIMIT_BYTES: Final = 256 << 20
"""How much of one file is read; of a longer one the end, where the crash is."""

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class InputError(Exception):
    """Why a path could not be read, and what to do."""


def case_of(path: str, *, writer_wait_s: float = 5.0) -> Case:
    """Read what stands at `path`: a log file, a vmcore, a crash folder or a folder of pstore records.

    A FIFO has `writer_wait_s` to get a writer. Raises InputError where there is nothing to be read.
    """
    try:
        if path == "-":
            if sys.stdin is None:
                raise InputError("standard input is closed: give a path")
            return _stream(path, sys.stdin.buffer)
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return _folder(Path(path))
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or os.path.samefile(path, os.devnull)):
            raise InputError("neither a file nor a folder: give a file with the log, or - for standard input")
        with open(path, "rb", buffering=0, opener=lambda name, _: os.open(name, _FLAGS)) as file:
            if stat.S_ISFIFO(mode):
                return _stream(path, file, _first(file.fileno(), writer_wait_s))
            return _file(path, file)
    except ValueError as error:
        raise InputError(f"no path at all: {error}") from error
    except OSError as error:
        why = "a symbolic link to itself" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise InputError(f"{why}: check the path and its permissions") from error


def _first(fifo: int, wait_s: float) -> bytes:
    """Wait for somebody to write into a FIFO; give the first byte where it is there already.

    Raises InputError where nobody does. A non-blocking read tells whether there is a writer, a poll whether
    there has been one (fifo(7)).
    """
    waiting = select.poll()
    waiting.register(fifo, select.POLLIN)
    try:
        first = os.read(fifo, 1)
        if not first and not waiting.poll(0) and not waiting.poll(wait_s * 1000):
            raise InputError(f"nobody writes into this FIFO (waited {wait_s:g} s): give a file")
    except BlockingIOError:
        return b""
    finally:
        os.set_blocking(fifo, True)
    return first


def _stream(path: str, file: BinaryIO, first: bytes = b"") -> Case:
    """Read a pipe to its end."""
    chunks = [first]
    size = len(first)
    while size <= LIMIT_BYTES and (chunk := file.read(min(1 << 20, LIMIT_BYTES + 1 - size))):
        chunks.append(chunk)
        size += len(chunk)
    data = b"".join(chunks)
    if vmcore_head.vmcore_format(data[: vmcore_head.HEAD_BYTES]) is not None:
        raise InputError("a vmcore cannot be read from a pipe: give its path")
    damage: tuple[str, ...] = ()
    if size > LIMIT_BYTES:
        data = data[:LIMIT_BYTES]
        damage = (f"only the first {LIMIT_BYTES >> 20} MiB of the stream were read",)
    return Case(input=path, artifacts=(Artifact(name=path, data=data),), damage=damage)


def _file(path: str, file: BinaryIO) -> Case:
    """Read a file, of a longer one the end, without the hole that may be before what was written."""
    fd = file.fileno()
    size = os.fstat(fd).st_size
    if vmcore_head.vmcore_format(os.pread(fd, vmcore_head.HEAD_BYTES, 0) if size else b"") is not None:
        return _vmcore(path, fd)
    damage: tuple[str, ...] = ()
    start = max(0, size - LIMIT_BYTES)
    if start:
        damage = (f"only the last {LIMIT_BYTES >> 20} MiB of {size >> 20} MiB were read",)
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # that says: nothing but a hole
                raise
            start = size
    os.lseek(fd, start, os.SEEK_SET)
    data = bytearray()
    while len(data) < LIMIT_BYTES and (chunk := file.read(LIMIT_BYTES - len(data))):
        data += chunk
    return Case(input=path, artifacts=(Artifact(name=path, data=bytes(data)),), damage=damage)


def _vmcore(path: str, fd: int) -> Case:
    """Take a vmcore for what its head tells, and the kernel log that kdump left beside it."""
    report = vmcore_head.inspect(fd, path)
    crash = kdump.examine(Path(path).parent)
    record = None if crash is None or not _same_death(crash.record, report) else crash.record
    if record is None:
        return _without_log(path, (report,))
    return Case(
        input=path,
        artifacts=(artifact_of(record),),
        vmcores=(report,),
        damage=(
            f"the log was read from {record.parts[0].name} beside the vmcore, not from the vmcore itself",
            *record.damage,
            *report.damage,
        ),
    )


def _same_death(record: CrashRecord, report: VmcoreReport) -> bool:
    releases = {release for release in (record.release, report.release) if release}
    return bool(record.parts) and len(releases) < 2


def _without_log(path: str, vmcores: tuple[VmcoreReport, ...], damage: tuple[str, ...] = ()) -> Case:
    return Case(
        input=path,
        vmcores=vmcores,
        damage=(
            *damage,
            *(_told(report) for report in vmcores),
            *(item for report in vmcores for item in report.damage),
        ),
    )


def _told(report: VmcoreReport) -> str:
    """Say what a vmcore is and how to get at its log."""
    words = [f"{Path(report.path).name} is a vmcore ({report.format})"]
    if report.release:
        words.append(f"of kernel {report.release}")
    if report.crash_wall_ns:
        died = datetime.fromtimestamp(report.crash_wall_ns // 10**9, UTC)
        words.append(f"that died {died:%Y-%m-%dT%H:%M:%SZ}")
    return (
        f"{' '.join(words)}; its log is not read from it: "
        "'makedumpfile --dump-dmesg VMCORE dmesg.txt' writes one, diagnose that"
    )


def _folder(path: Path) -> Case:
    crash = kdump.examine(path)
    if crash is not None:
        if not crash.record.parts:
            return _without_log(str(path), crash.vmcores, crash.record.damage)
        return Case(
            input=str(path),
            artifacts=(artifact_of(crash.record),),
            vmcores=crash.vmcores,
            damage=(*crash.record.damage, *(item for report in crash.vmcores for item in report.damage)),
        )
    records = pstore.read(path)
    if not records:
        raise InputError(_nothing_in(path))
    return Case(
        input=str(path),
        artifacts=tuple(artifact_of(record) for record in records if record.parts),
        damage=tuple(item for record in records for item in record.damage),
    )


def _nothing_in(path: Path) -> str:
    """Say that a folder holds no crash, or in which of its folders they are."""
    with closing(Folder(path)) as folder:
        inner = []
        for name, found in kdump.folders(folder):
            found.close()
            inner.append(name)
    if inner:
        return f"{len(inner)} crash folders are in this folder: give one, as {str(path / inner[-1])!a}"
    return "no crash record in this folder: give a kdump folder, a pstore folder or a log file"

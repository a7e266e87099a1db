"""What `necropsy triage` is pointed at. In: a path or `-`. Out: a `Case`, or `InputError` in one line."""

import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO, Final

from necropsy_agent.records import kdump, pstore
from necropsy_agent.wire import CrashRecord
from necropsy_analyzer.diagnose import Artifact, Case, artifact_of

LIMIT_BYTES: Final = 512 << 20
"""How much of one file is read; of a longer one the end, where the crash is."""


class InputError(Exception):
    """Why a path could not be read, and what to do."""


def case_of(path: str) -> Case:
    """Read what stands at `path`: a log file, a crash folder or a folder of pstore records.

    Raises InputError where there is nothing to be read.
    """
    if path == "-":
        return _text(path, sys.stdin.buffer, None)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return _folder(Path(path))
        with open(path, "rb") as file:
            return _text(path, file, os.fstat(file.fileno()).st_size if stat.S_ISREG(mode) else None)
    except OSError as error:
        raise InputError(f"{error.strerror or error}: check the path and its permissions") from error


def _text(path: str, file: BinaryIO, size: int | None) -> Case:
    damage: tuple[str, ...] = ()
    if size is not None and size > LIMIT_BYTES:
        file.seek(size - LIMIT_BYTES)
        damage = (f"only the last {LIMIT_BYTES >> 20} MiB of {size >> 20} MiB were read",)
    data = file.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        data = data[:LIMIT_BYTES]
        damage = (f"only the first {LIMIT_BYTES >> 20} MiB of the stream were read",)
    if kdump.vmcore_format(data[:64]) is not None:
        raise InputError("a vmcore has no text log of its own: give the vmcore-dmesg.txt or dmesg beside it")
    return Case(input=path, artifacts=(Artifact(name=path, data=data),), damage=damage)


def _folder(folder: Path) -> Case:
    record = kdump.read(folder)
    records: tuple[CrashRecord, ...] = (record,) if record is not None else pstore.read(folder)
    if not records:
        raise InputError("no crash record in this folder: give a kdump folder, a pstore folder or a log file")
    return Case(
        input=str(folder),
        artifacts=tuple(artifact_of(record) for record in records if record.parts),
        damage=tuple(item for record in records for item in record.damage),
    )

"""Crash folders as kdump's tools lay them out. In: a folder. Out: a `CrashRecord`, the vmcores' metadata.

Layouts: Debian's and Ubuntu's kdump-tools (`/var/crash/YYYYMMDDHHMM/dmesg.STAMP`, `dump.STAMP`,
`dump-incomplete`; kdump-config(8)), kdump-utils of Fedora, RHEL and kin (`/var/crash/127.0.0.1-DATE-TIME/`
with `vmcore`, `vmcore.flat`, `vmcore-dmesg.txt` and their `-incomplete` forms; kdump.conf(5)), SUSE's kdump
(`/var/crash/YYYY-MM-DD-HH-MM/` with `README.txt`, `dmesg.txt` or `dmesg`, `vmcore`; kdump(5)), kdumpst of
SteamOS (`dmesg.txt`, `vmcore.compressed`).
"""

import os
import re
import stat
from calendar import timegm
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from necropsy_agent.records import vmcore_head
from necropsy_agent.records.folder import Folder
from necropsy_agent.records.kernel_text import release_of
from necropsy_agent.records.vmcore_head import vmcore_format
from necropsy_agent.wire import Blob, CrashPart, CrashRecord, VmcoreReport

__all__ = [
    "LOG_LIMIT_BYTES",
    "Crash",
    "crash_roots",
    "examine",
    "examine_open",
    "folders",
    "read",
    "vmcore_format",
]

LOG_LIMIT_BYTES: Final = 32 << 20
"""Of a longer kernel log the end is read."""

_README_LIMIT_BYTES: Final = 64 << 10
_CONF_LIMIT_BYTES: Final = 256 << 10
# In the order of preference; the second of a pair says whether the log is whole.
_LOGS: Final = (
    (re.compile(r"vmcore-dmesg\.txt"), True),
    (re.compile(r"dmesg\.\d{8,14}"), True),
    (re.compile(r"dmesg(?:\.txt)?"), True),
    (re.compile(r"vmcore-dmesg-incomplete\.txt"), False),
    (re.compile(r"dmesg-incomplete|dmesg\.\d{8,14}-incomplete"), False),
)
_VMCORE: Final = re.compile(r"vmcore(?:\.flat|\.compressed)?|dump\.\d{8,14}")
_HALF_VMCORE: Final = re.compile(r"vmcore(?:\.flat)?-incomplete|vmcore-incomplete\.flat|dump-incomplete")
_PSTORE: Final = re.compile(r"(?:dmesg|console|pmsg|ftrace|mce)-[A-Za-z_]+-\d+(?:\.enc\.z)?")
_PSTORE_TEXT: Final = re.compile(rb"(?:dmesg-[!-9;-~]+:\n)?[A-Z][A-Za-z]{2,15}#\d+ Part\d+\n")
_SELFTEST: Final = "kdump-test-"
_STAMPS: Final = (
    re.compile(r"(\d{4})-(\d\d)-(\d\d)-(\d\d)[:-](\d\d)(?:[:-](\d\d))?$"),
    re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)()$"),
)
_ZONES_NS: Final = 16 * 3600 * 10**9  # farther from UTC is no local time
_README_FACT: Final = re.compile(rb"^([A-Za-z][A-Za-z ]{0,30}?) *: *(.{1,200}?)\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Crash:
    """All that a crash folder holds."""

    record: CrashRecord
    vmcores: tuple[VmcoreReport, ...]


def read(folder: Path) -> CrashRecord | None:
    """Read the crash in `folder`; None where it holds none, or only kdump's own test.

    The parts are the dead kernel's log and, after it, SUSE's README.txt; the capture kernel's own log
    (kexec-dmesg.log) is another boot's and left out. Content never raises; OSError where the folder itself
    cannot be read.
    """
    crash = examine(folder)
    return None if crash is None else crash.record


def examine(folder: Path, log_bytes: int = LOG_LIMIT_BYTES) -> Crash | None:
    """Read the crash in `folder` and the heads of its vmcores; see `read`."""
    with Folder(folder) as opened:
        return examine_open(opened, log_bytes)


def folders(root: Folder) -> Iterator[tuple[str, Folder]]:
    """Open every folder below `root` that holds a crash, to be closed by the caller, in the order of names.

    Symbolic links are passed over; what cannot be opened is said in `root.damage`.
    """
    for name, status in root.entries():
        if not stat.S_ISDIR(status.st_mode) or name.startswith(_SELFTEST):
            continue
        try:
            inner = root.below(name)
        except OSError as error:
            root.damage.append(f"{name}: {error.strerror or error}")
            continue
        if _holds_crash({name for name, _ in inner.files()}):
            yield name, inner
        else:
            inner.close()


def crash_roots(root: Path) -> tuple[Path, ...]:
    """Name the folders below `root` (`/` of a running host) in which its kdump is set up to leave crashes.

    /var/crash comes first, as it is the default everywhere. Remote targets have no folder here; of a local
    file system that kdump mounts for itself only what is mounted in /proc/mounts can be named.
    """
    found = ["/var/crash"]
    with_mount: str | None = None
    path: str | None = None
    for line in _config_lines(root / "etc/kdump.conf"):
        words = line.split()
        if len(words) == 2 and words[0] == "path":
            path = words[1]
        elif len(words) == 2 and words[0] in ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "minix"):
            with_mount = _mounted(root, words[1])
        elif len(words) == 2 and words[0] in ("nfs", "ssh", "raw"):
            with_mount = None if words[0] == "raw" else _mounted(root, words[1])
    if path is not None or with_mount is not None:
        found.append(f"{with_mount or ''}/{(path or '/var/crash').lstrip('/')}")
    for file, key in (("etc/default/kdump-tools", "KDUMP_COREDIR"), ("etc/sysconfig/kdump", "KDUMP_SAVEDIR")):
        for line in _config_lines(root / file):
            name, equals, value = line.partition("=")
            value = value.strip().strip("\"'").removeprefix("file://").removeprefix("local://")
            if equals and name.strip() == key and value.startswith("/"):
                found.append(value)
    clean = dict.fromkeys(os.path.normpath(path) for path in found)
    return tuple(root / path.lstrip("/") for path in clean if ".." not in Path(path).parts)


def _config_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(_CONF_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return [line for raw in text.splitlines() if (line := raw.split("#")[0].strip())]


def _mounted(root: Path, device: str) -> str | None:
    """Find where a device, given as kdump.conf(5) allows, is mounted."""
    kind, equals, value = device.partition("=")
    if equals:
        folder = {"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid"}.get(kind)
        if folder is None:
            return None
        device = os.path.realpath(root / "dev/disk" / folder / value.strip("\"'"))
    for line in _config_lines(root / "proc/mounts"):
        words = line.split()
        if len(words) > 1 and (words[0] == device or os.path.realpath(words[0]) == device):
            return words[1].replace("\\040", " ")
    return None


def _holds_crash(names: set[str]) -> bool:
    if any(_PSTORE.fullmatch(name) for name in names) or "vmcore-creation.status" in names:
        return False
    if any(_VMCORE.fullmatch(name) or _HALF_VMCORE.fullmatch(name) for name in names):
        return True
    return any(pattern.fullmatch(name) for name in names for pattern, _ in _LOGS)


def examine_open(folder: Folder, log_bytes: int = LOG_LIMIT_BYTES) -> Crash | None:
    """Read the crash in an open folder; of a kernel log longer than `log_bytes` the end."""
    files = dict(folder.files())
    if folder.path.name.startswith(_SELFTEST) or not _holds_crash(set(files)):
        return None
    log_name, whole, text = _log(folder, files, log_bytes)
    vmcores = tuple(_vmcores(folder, files))
    if log_name is None and not vmcores:
        return None  # a dmesg.txt of systemd-pstore's, or names without anything behind them
    damage: list[str] = []
    parts: list[CrashPart] = []
    if log_name is None:
        damage.append("no kernel log beside the vmcore")
    else:
        parts.append(CrashPart(name=log_name, blob=Blob.of(text)))
        if not whole:
            damage.append(f"{log_name}: the capture kernel did not finish writing it")
        elif not text.strip(b"\0\n"):
            damage.append(f"{log_name}: empty")
    half = sorted(name for name in files if _HALF_VMCORE.fullmatch(name))
    damage += [f"{name}: the capture kernel did not finish writing it" for name in half]
    facts: dict[bytes, bytes] = {}
    if "README.txt" in files:
        readme = folder.read("README.txt", _README_LIMIT_BYTES, from_end=False) or b""
        facts = {key.lower(): value for key, value in _README_FACT.findall(readme)}
        parts.append(CrashPart(name="README.txt", blob=Blob.of(readme)))
        for what in (b"dmesg", b"vmcore"):
            status = facts.get(what + b" status", b"saved successfully")
            if not status.startswith(b"saved"):
                damage.append(f"README.txt: {what.decode()} status: {status.decode('utf-8', 'replace')}")
    damage += folder.damage
    named = facts.get(b"kernel version")
    release = release_of(text) or next((report.release for report in vmcores if report.release), None)
    record = CrashRecord(
        origin="kdump",
        path=str(folder.path),
        key=f"kdump:{folder.path.name}",
        died_wall_ns=_died_ns(folder.path.name, files.get(log_name or ""), vmcores),
        release=release or (named.decode("ascii", "backslashreplace").strip() if named else None),
        complete=log_name is not None and whole and bool(text.strip(b"\0\n")) and not folder.damage,
        damage=tuple(damage),
        parts=tuple(parts),
    )
    return Crash(record, vmcores)


def _log(folder: Folder, files: dict[str, os.stat_result], log_bytes: int) -> tuple[str | None, bool, bytes]:
    """Read the best kernel log of the folder: its name, whether it was finished, its text."""
    for pattern, whole in _LOGS:
        for name in files:
            if pattern.fullmatch(name):
                text = folder.read(name, log_bytes)
                if text is not None and not _PSTORE_TEXT.match(text):
                    return name, whole, text
    return None, False, b""


def _vmcores(folder: Folder, files: dict[str, os.stat_result]) -> Iterator[VmcoreReport]:
    """Read the heads of all vmcores, finished or not."""
    for name, status in files.items():
        half = _HALF_VMCORE.fullmatch(name)
        if not half and not _VMCORE.fullmatch(name):
            continue
        path = str(folder.path / name)
        try:
            fd = folder.open(name)
            try:
                report = vmcore_head.inspect(fd, path)
            finally:
                os.close(fd)
        except OSError as error:
            why = error.strerror or str(error)
            report = VmcoreReport(
                path=path, format="unknown", size_bytes=status.st_size, damage=(f"not readable: {why}",)
            )
        if half:
            damage = (*report.damage, "the capture kernel did not finish writing it")
            report = msgspec.structs.replace(report, damage=damage)
        yield report


def _died_ns(name: str, log: os.stat_result | None, vmcores: tuple[VmcoreReport, ...]) -> int | None:
    """Tell the time of death: the vmcore's own, else the log's if the folder's name does not contradict.

    The name is in the capture kernel's local time, which nobody noted; the log was written within seconds
    of the crash, but a copy of it may be as young as you like.
    """
    told = next((report.crash_wall_ns for report in vmcores if report.crash_wall_ns), None)
    if told is not None:
        return told
    stamp_ns = None
    for pattern in _STAMPS:
        if (match := pattern.search(name)) is not None:
            year, month, day, hour, minute, second = (int(text or 0) for text in match.groups())
            if year > 2000 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60:
                stamp_ns = timegm((year, month, day, hour, minute, second)) * 10**9
            break
    if log is not None and (stamp_ns is None or abs(log.st_mtime_ns - stamp_ns) <= _ZONES_NS):
        return log.st_mtime_ns
    return stamp_ns

"""What the head of a vmcore says. In: the first bytes, or an open file. Out: its format, a `VmcoreReport`.

Formats: ELF core with a VMCOREINFO note (Documentation/admin-guide/kdump/vmcoreinfo.rst, elf(5)), the
kdump-compressed format (makedumpfile's IMPLEMENTATION and diskdump_mod.h) and its flattened form of either,
LKCD by name only. A few small reads at bounded offsets; the memory image itself is not touched.
"""

import os
import struct
from typing import Final

from necropsy_agent.wire import VmcoreReport

HEAD_BYTES: Final = 64
"""How much of a file `vmcore_format` needs."""

_NOTE_LIMIT_BYTES: Final = 4 << 20
_INFO_LIMIT_BYTES: Final = 256 << 10
_PROGRAM_HEADERS: Final = 256
_FLAT_CHUNKS: Final = 4096
_FLAT_WINDOW_BYTES: Final = 1 << 20
_FLAT_HEADER_BYTES: Final = 4096  # MAX_SIZE_MDF_HEADER
_PLACES_END: Final = 1 << 62  # no file is so long, and pread(2) takes no place beyond 1 << 63
_ET_CORE: Final = 4
_PT_NOTE: Final = 4
_BLOCK_BYTES_MAX: Final = 1 << 20


def vmcore_format(head: bytes) -> str | None:
    """Name a vmcore's format from its first bytes: elf, kdump, flattened, diskdump, lkcd; None for others."""
    if head.startswith(b"\x7fELF") and len(head) >= 18:
        order = ">" if head[5] == 2 else "<"
        return "elf" if struct.unpack_from(order + "H", head, 16)[0] == _ET_CORE else None
    if head.startswith(b"KDUMP   "):
        return "kdump"
    if head.startswith(b"makedumpfile\0\0\0\0"):
        return "flattened"
    if head.startswith(b"DISKDUMP"):
        return "diskdump"
    if head[:8] in (b"\xed\x23\x8f\x61\x73\x01\x19\xa8", b"\xa8\x19\x01\x73\x61\x8f\x23\xed"):
        return "lkcd"
    return None


class _Reader:
    """Reads at offsets of a file, or of the file that a flattened one describes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def at(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at `offset`, fewer where the file ends."""
        if not 0 <= offset < _PLACES_END or size <= 0:
            return b""
        return os.pread(self._fd, size, offset)


class _Flattened(_Reader):
    """The first megabyte of the file inside makedumpfile's flattened form, as far as its chunks say.

    Chunks stand in the order of writing, each with its offset and size (struct makedumpfile_data_header,
    big-endian); later ones overwrite earlier ones.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._window = bytearray()
        place = _FLAT_HEADER_BYTES
        for _ in range(_FLAT_CHUNKS):
            header = os.pread(fd, 16, place)
            if len(header) < 16:
                break
            offset, size = struct.unpack(">qq", header)
            if offset < 0 or size <= 0:  # both -1 mark the end
                break
            if offset < _FLAT_WINDOW_BYTES:
                data = os.pread(fd, min(size, _FLAT_WINDOW_BYTES - offset), place + 16)
                if len(self._window) < offset:
                    self._window.extend(bytes(offset - len(self._window)))
                self._window[offset : offset + len(data)] = data
            place += 16 + size
            if place >= _PLACES_END:
                break

    def at(self, offset: int, size: int) -> bytes:
        return bytes(self._window[offset : offset + size]) if offset >= 0 else b""


def inspect(fd: int, path: str) -> VmcoreReport:
    """Read the metadata of the vmcore open at `fd`. Content never raises; what is wrong is in `damage`.

    `crash_wall_ns` has a resolution of one second. Raises OSError where the file cannot be read.
    """
    size = os.fstat(fd).st_size
    head = os.pread(fd, HEAD_BYTES, 0)
    name = vmcore_format(head)
    if name is None:
        damage = "empty file" if size == 0 else "no vmcore format that is known here"
        return VmcoreReport(path=path, format="unknown", size_bytes=size, damage=(damage,))
    source, kind = (_Flattened(fd), "flattened") if name == "flattened" else (_Reader(fd), name)
    if kind == "flattened":
        inner = vmcore_format(source.at(0, HEAD_BYTES))
        name = f"flattened-{inner}" if inner else name
        kind = inner or kind
    damages: list[str] = []
    release: str | None = None
    info = b""
    try:
        if kind == "elf":
            info = _elf_info(source, damages)
        elif kind == "kdump":
            release, info = _kdump_info(source, damages)
        else:
            damages.append(f"metadata of {kind} dumps is not read")
    except struct.error:
        damages.append("the header is cut")
    facts = _facts(info)
    crashed = facts.get("CRASHTIME", "")
    return VmcoreReport(
        path=path,
        format=name,
        size_bytes=size,
        release=facts.get("OSRELEASE") or release,
        build_id=facts.get("BUILD-ID"),
        crash_wall_ns=int(crashed) * 10**9
        if crashed.isascii() and crashed.isdigit() and len(crashed) <= 10
        else None,
        damage=tuple(damages),
    )


def _facts(info: bytes) -> dict[str, str]:
    """Take VMCOREINFO's lines `KEY=value` that tell about kernel and crash."""
    facts: dict[str, str] = {}
    for line in info.split(b"\n"):
        key, equals, value = line.partition(b"=")
        if equals and key in (b"OSRELEASE", b"BUILD-ID", b"CRASHTIME"):
            facts.setdefault(key.decode(), value[:200].decode("ascii", "backslashreplace"))
    return facts


def _elf_info(source: _Reader, damage: list[str]) -> bytes:
    """Find the VMCOREINFO note of an ELF core."""
    head = source.at(0, 64)
    order = ">" if head[5:6] == b"\x02" else "<"
    if head[4:5] == b"\x02":
        offset, entry, count = (
            *struct.unpack_from(order + "Q", head, 32),
            *struct.unpack_from(order + "HH", head, 54),
        )
    else:
        offset, entry, count = (
            *struct.unpack_from(order + "L", head, 28),
            *struct.unpack_from(order + "HH", head, 42),
        )
    wide = head[4:5] == b"\x02"
    if entry < (56 if wide else 32):
        damage.append(f"program headers of {entry} bytes")
        return b""
    for n in range(min(count, _PROGRAM_HEADERS)):
        header = source.at(offset + n * entry, 56 if wide else 32)
        if wide:
            kind, _, place, _, _, size = struct.unpack_from(order + "LLQQQQ", header)
        else:
            kind, place, _, _, size = struct.unpack_from(order + "LLLLL", header)
        if kind == _PT_NOTE:
            info = _vmcoreinfo(source.at(place, min(size, _NOTE_LIMIT_BYTES)), order)
            if info:
                return info
    damage.append("no VMCOREINFO note")
    return b""


def _vmcoreinfo(notes: bytes, order: str) -> bytes:
    """Walk the notes of a segment to the one named VMCOREINFO."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, _ = struct.unpack_from(order + "LLL", notes, at)
        at += 12
        name = notes[at : at + name_size].rstrip(b"\0")
        at += name_size + 3 & ~3
        if name == b"VMCOREINFO":
            return notes[at : at + min(size, _INFO_LIMIT_BYTES)]
        at += size + 3 & ~3
    return b""


def _kdump_info(source: _Reader, damage: list[str]) -> tuple[str | None, bytes]:
    """Read release (struct disk_dump_header) and VMCOREINFO (kdump_sub_header) of a compressed dump.

    The headers are in the dumped machine's own layout: 64 bit where timeval is aligned to 8 bytes, either
    byte order.
    """
    head = source.at(0, 512)
    version = struct.unpack_from("<l", head, 8)[0]
    order = "<" if 0 < version < 0x10000 else ">"
    version = struct.unpack_from(order + "l", head, 8)[0]
    utsname = head[12 : 12 + 6 * 65]
    release = utsname[130:195].split(b"\0")[0].decode("ascii", "backslashreplace") or None
    if version < 3:
        return release, b""
    # status, block_size, sub_hdr_size follow the utsname and a struct timeval: at 424 on 64 bit, 412 on 32.
    blocks = {at: struct.unpack_from(order + "l", head, at + 4)[0] for at in (424, 412)}
    sound = [at for at, size in blocks.items() if 1024 <= size <= _BLOCK_BYTES_MAX and size & size - 1 == 0]
    if not sound:
        damage.append("no sensible block size in the header")
        return release, b""
    wide, block_bytes = sound[0] == 424, blocks[sound[0]]
    sub = source.at(block_bytes, 64)
    if wide:
        offset, size = struct.unpack_from(order + "QQ", sub, 32)
    else:  # unsigned long has 4 bytes there, off_t 8, aligned to 4 on i386
        offset, size = struct.unpack_from(order + "QL", sub, 20)
    info = source.at(offset, min(size, _INFO_LIMIT_BYTES))
    if not info:
        damage.append("no VMCOREINFO in the dump")
    return release, info

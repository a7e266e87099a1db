"""Heads of vmcores, made as makedumpfile and the kernel's /proc/vmcore lay them out. No memory follows."""

import struct
from collections.abc import Iterable
from itertools import pairwise

INFO = (
    b"OSRELEASE=6.1.0-56-amd64\nBUILD-ID=8a4e6ac221f54d4f9a3c0c0b6f3f2f5d01020304\n"
    b"PAGESIZE=4096\nCRASHTIME={}\n"
)


def vmcoreinfo(crash_s: int | None = 1_795_000_000) -> bytes:
    """The text of a VMCOREINFO note."""
    lines = INFO.replace(b"{}", str(crash_s).encode())
    return lines if crash_s is not None else lines[: lines.index(b"CRASHTIME")]


def note(name: bytes, content: bytes, order: str) -> bytes:
    """An ELF note, padded as elf(5) says."""

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    head = struct.pack(order + "LLL", len(name) + 1, len(content), 0)
    return head + padded(name + b"\0") + padded(content)


def elf(info: bytes | None, *, wide: bool = True, order: str = "<") -> bytes:
    """An ELF core with one PT_NOTE segment: a CPU's registers, then VMCOREINFO."""
    notes = note(b"CORE", bytes(336), order)
    if info is not None:
        notes += note(b"VMCOREINFO", info, order)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    if wide:
        head = struct.pack(order + "HHLQQQLHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        segment = struct.pack(order + "LLQQQQQQ", 4, 0, 64 + 56, 0, 0, len(notes), len(notes), 0)
    else:
        head = struct.pack(order + "HHLLLLLHHHHHH", 4, 3, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        segment = struct.pack(order + "LLLLLLLL", 4, 52 + 32, 0, 0, len(notes), len(notes), 0, 0)
    return ident + head + segment + notes + bytes(4096)


def kdump(info: bytes | None, *, wide: bool = True, order: str = "<", version: int = 6) -> bytes:
    """A kdump-compressed dump (makedumpfile's diskdump_mod.h): main header, sub header, VMCOREINFO."""
    uts = b"".join(
        part.ljust(65, b"\0")
        for part in (b"Linux", b"web-7", b"6.1.0-55-amd64", b"#1 SMP", b"x86_64", b"(none)")
    )
    head = b"KDUMP   " + struct.pack(order + "l", version) + uts
    head = head.ljust(424 if wide else 412, b"\0") + struct.pack(order + "lll", 0, 4096, 1)
    sub = struct.pack(order + ("QllQQQ" if wide else "LllQ"), 0, 31, 0, *((0, 0, 0) if wide else (0,)))
    place = struct.pack(order + ("QQ" if wide else "QL"), 8192, len(info or b""))
    sub = (sub[:32] if wide else sub[:20]) + place
    return head.ljust(4096, b"\0") + sub.ljust(4096, b"\0") + (info or b"") + bytes(4096)


def flattened(content: bytes, cuts: Iterable[int] = (100, 5000), *, backwards: bool = False) -> bytes:
    """makedumpfile -F: chunks with their offset and size, in the order in which they were written."""
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(content)), len(content)]
    chunks = [struct.pack(">qq", start, end - start) + content[start:end] for start, end in pairwise(edges)]
    head = b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)
    return (
        head.ljust(4096, b"\0") + b"".join(chunks[::-1] if backwards else chunks) + struct.pack(">qq", -1, -1)
    )

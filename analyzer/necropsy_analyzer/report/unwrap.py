"""Compressed bytes → plain bytes. In: a file's content. Out: its text's bytes and what was wrong with it.

gzip (RFC 1952), zlib (RFC 1950), bzip2, xz (and lzma), zstd (RFC 8878), one inside the other at most twice.
What is given back is bounded, so that a decompression bomb ends as a partial answer.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Final, Protocol

LIMIT_BYTES: Final = 256 << 20
"""How much is given back at most."""

_DEPTH: Final = 2
_CHUNK_BYTES: Final = 1 << 16
_ZSTD_WINDOW_BYTES: Final = 128 << 20


class _Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


def unwrap(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Decompress `data` where it is compressed; give the bytes and the damage found (one line each)."""
    damage: list[str] = []
    for _ in range(_DEPTH):
        name = _format(data)
        if name is None:
            break
        data, wrong = _opened(name, data)
        damage += wrong
    return data, tuple(damage)


def _format(data: bytes) -> str | None:
    if data.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if data.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if data.startswith(b"BZh") and data[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bzip2"
    if data.startswith(b"\x5d\x00\x00") and len(data) > 13 and data[5:13] == b"\xff" * 8:
        return "lzma"
    return None


def _starter(name: str) -> Callable[[], _Decompressor]:
    if name == "gzip":
        return lambda: zlib.decompressobj(wbits=31)
    if name == "bzip2":
        return bz2.BZ2Decompressor
    if name in ("xz", "lzma"):
        return lambda: lzma.LZMADecompressor(memlimit=LIMIT_BYTES)
    import zstandard

    return lambda: zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()


def _opened(name: str, data: bytes) -> tuple[bytes, list[str]]:
    """Decompress all members of one stream; stop at the first damage or at the limit."""
    start = _starter(name)
    member = start()
    out: list[bytes] = []
    size = position = 0
    while position < len(data):
        chunk = data[position : position + _CHUNK_BYTES]
        position += len(chunk)
        try:
            piece = member.decompress(chunk)
        except Exception as error:  # noqa: BLE001, RUF100 - each library has errors of its own
            return b"".join(out), [f"{name}: damaged after {size} bytes: {error}"]
        out.append(piece)
        size += len(piece)
        if size > LIMIT_BYTES:
            return b"".join(out)[:LIMIT_BYTES], [f"{name}: cut at {LIMIT_BYTES >> 20} MiB"]
        if getattr(member, "eof", False):
            position -= len(getattr(member, "unused_data", b""))
            rest = data[position:]
            if not rest.strip(b"\0"):
                return b"".join(out), []
            if _format(rest) != name:
                return b"".join(out), [f"{name}: {len(rest)} bytes after its end were not read"]
            member = start()
    if getattr(member, "eof", False):
        return b"".join(out), []
    if name == "gzip":
        out.append(getattr(member, "flush", bytes)())
    return b"".join(out), [f"{name}: ends too early, {size} bytes were read"]

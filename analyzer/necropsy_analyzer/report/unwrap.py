"""Compressed bytes → plain bytes. In: a file's content. Out: its text's bytes and what was wrong with it.

gzip (RFC 1952), zlib (RFC 1950), bzip2, xz (and lzma), zstd (RFC 8878), one inside the other at most twice.
What is given back is bounded, so that a decompression bomb ends as a partial answer.
"""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Any, Final

LIMIT_BYTES: Final = 256 << 20
"""How much is given back at most."""

_DEPTH: Final = 2
# A chunk of zstd expands to 16 MiB at most (128 KiB for four bytes); the others give bounded pieces.
_CHUNK_BYTES: Final = 512
_HEAD_BYTES: Final = 32
_MEMBERS: Final = 65_536
_PIECE_BYTES: Final = 1 << 20
_ZSTD_WINDOW_BYTES: Final = 128 << 20


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


def _member(name: str) -> Any:
    if name == "gzip":
        return zlib.decompressobj(wbits=31)
    if name == "bzip2":
        return bz2.BZ2Decompressor()
    if name in ("xz", "lzma"):
        return lzma.LZMADecompressor(memlimit=LIMIT_BYTES)
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()


def _pieces(name: str, member: Any, chunk: bytes) -> Iterator[bytes]:
    """Give what a chunk decompresses to, in pieces of bounded size."""
    if name == "zstd":
        yield member.decompress(chunk)
        return
    yield member.decompress(chunk, _PIECE_BYTES)
    if name == "gzip":
        while member.unconsumed_tail and not member.eof:
            yield member.decompress(member.unconsumed_tail, _PIECE_BYTES)
        return
    while not member.eof and not member.needs_input:
        yield member.decompress(b"", _PIECE_BYTES)


def _opened(name: str, data: bytes) -> tuple[bytes, list[str]]:
    """Decompress all members of one stream; stop at the first damage or at the limit."""
    member = _member(name)
    out: list[bytes] = []
    size = position = members = 0
    while position < len(data):
        chunk = data[position : position + _CHUNK_BYTES]
        position += len(chunk)
        try:
            for piece in _pieces(name, member, chunk):
                out.append(piece)
                size += len(piece)
                if size > LIMIT_BYTES:
                    return b"".join(out)[:LIMIT_BYTES], [f"{name}: cut at {LIMIT_BYTES >> 20} MiB"]
        except Exception as error:  # noqa: BLE001, RUF100 - each library has errors of its own
            return b"".join(out), [f"{name}: damaged after {size} bytes: {error}"]
        if member.eof:
            position -= len(member.unused_data)
            members += 1
            following = data[position : position + _HEAD_BYTES]
            if not following.strip(b"\0") and not data[position:].strip(b"\0"):
                return b"".join(out), []
            if _format(following) != name or members == _MEMBERS:
                unread = len(data) - position
                return b"".join(out), [f"{name}: {unread} bytes after its end were not read"]
            member = _member(name)
    return b"".join(out), [f"{name}: ends too early, {size} bytes were read"]

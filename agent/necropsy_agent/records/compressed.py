"""Compressed pstore content that the kernel could not open itself. In: bytes. Out: text and its algorithm.

The kernel names such a file `….enc.z` (fs/pstore/inode.c, pstore_mkfile) and says nothing about how it was
compressed: zlib (before 4.6 the only one, window of 12 bits), raw deflate (crypto/deflate.c, and
fs/pstore/platform.c since 6.6), LZO1X (lib/lzo/lzo1x_decompress_safe.c, Documentation/staging/lzo.rst), LZ4
blocks (lib/lz4/lz4_decompress.c), zstd or 842. What was compressed begins with the header that pstore_dump()
writes, so the right algorithm is the one that brings that header to light.
"""

import re
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

import zstandard

LIMIT_BYTES: Final = 8 << 20
"""No record is as long as this when opened; what goes on longer is cut."""

_HEADER: Final = re.compile(rb"[A-Z][A-Za-z]{2,15}#\d{1,10} Part\d{1,10}\n")
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_PRINTABLE: Final = bytes(range(0x20, 0x7F)) + b"\t\n\r\x1b"


class Opened(NamedTuple):
    """Decompressed text, whether the stream came to its own end, and the name of the algorithm."""

    text: bytes
    whole: bool
    algorithm: str


def decompress(data: bytes) -> Opened | None:
    """Find out how `data` was compressed and open it; None where no known algorithm gives a kernel's text.

    Of a stream that is cut or damaged the text up to there is given. Never raises, never gives more than
    `LIMIT_BYTES`.
    """
    opened = [Opened(*decode(data), name) for name, decode in _ALGORITHMS]
    # LZ4 and LZO begin alike, with a run of literals: the one that stops first was the wrong one.
    # A record whose first line is damaged still reads as text, which a wrong algorithm does not give.
    best = max(opened, key=lambda attempt: (_has_header(attempt), _is_text(attempt), len(attempt.text)))
    return best if _has_header(best) or _is_text(best) else None


def _has_header(attempt: Opened) -> bool:
    return _HEADER.match(attempt.text) is not None


def _is_text(attempt: Opened) -> bool:
    strange = len(attempt.text.translate(None, _PRINTABLE))
    return attempt.whole and len(attempt.text) >= 64 and strange <= 0.03 * len(attempt.text)


def _inflate(data: bytes, window_bits: int) -> tuple[bytes, bool]:
    """Inflate step by step, so that a damaged stream still gives what stands before the damage."""
    stream = zlib.decompressobj(wbits=window_bits)
    out = bytearray()
    for start in range(0, len(data), 256):
        try:
            out += stream.decompress(data[start : start + 256], LIMIT_BYTES + 1 - len(out))
        except zlib.error:
            return bytes(out), False
        if stream.eof or len(out) > LIMIT_BYTES:
            break
    return bytes(out[:LIMIT_BYTES]), stream.eof


def _zlib(data: bytes) -> tuple[bytes, bool]:
    return _inflate(data, zlib.MAX_WBITS)


def _deflate(data: bytes) -> tuple[bytes, bool]:
    return _inflate(data, -zlib.MAX_WBITS)


def _zstd(data: bytes) -> tuple[bytes, bool]:
    if not data.startswith(_ZSTD_MAGIC):
        return b"", False
    try:
        stream = zstandard.ZstdDecompressor(max_window_size=LIMIT_BYTES).decompressobj(write_size=LIMIT_BYTES)
    except (zstandard.ZstdError, ValueError):
        return b"", False
    out = bytearray()
    for start in range(0, len(data), 256):
        try:
            out += stream.decompress(data[start : start + 256])
        except zstandard.ZstdError:
            return bytes(out[:LIMIT_BYTES]), bool(stream.eof)
        if stream.eof or len(out) > LIMIT_BYTES:
            break
    return bytes(out[:LIMIT_BYTES]), bool(stream.eof)


def _repeat(out: bytearray, distance: int, length: int) -> bool:
    """Append `length` bytes that stand `distance` bytes before the end; False where there are none."""
    if distance > len(out) or distance <= 0:
        return False
    length = min(length, LIMIT_BYTES + 1 - len(out))
    start = len(out) - distance
    if distance >= length:
        out += out[start : start + length]
    else:
        out += (bytes(out[start:]) * (length // distance + 1))[:length]
    return True


def _lzo(data: bytes) -> tuple[bytes, bool]:
    """Open LZO1X as Documentation/staging/lzo.rst describes it, bit stream version 0."""
    out = bytearray()
    try:
        whole = _lzo_into(out, data)
    except IndexError:  # the stream ends within an instruction
        whole = False
    return bytes(out[:LIMIT_BYTES]), whole


def _lzo_into(out: bytearray, data: bytes) -> bool:
    at = 0
    state = 0  # literals that the last instruction copied, 4 for "four or more"

    def long_length(base: int) -> int:
        nonlocal at
        length = base
        while data[at] == 0:
            length += 255
            at += 1
        length += data[at]
        at += 1
        return length

    def literals(count: int) -> bool:
        nonlocal at
        out.extend(data[at : at + count])
        at += count
        return at <= len(data)

    if data[0] > 17:
        at = 1
        state = min(data[0] - 17, 4)
        if not literals(data[0] - 17):
            return False
    while len(out) <= LIMIT_BYTES:
        code = data[at]
        at += 1
        if code < 16 and state == 0:
            if not literals(3 + (code or long_length(15))):
                return False
            state = 4
            continue
        if code < 16:
            after = code & 3
            distance = (code >> 2) + (data[at] << 2) + (1 if state < 4 else 0x801)
            length = 2 if state < 4 else 3
            at += 1
        elif code >= 64:
            after = code & 3
            distance = 1 + (code >> 2 & 7) + (data[at] << 3)
            length = (code >> 5) + 1
            at += 1
        else:
            mask = 31 if code >= 32 else 7
            length = 2 + (code & mask or long_length(mask))
            low = data[at] | data[at + 1] << 8
            at += 2
            after = low & 3
            if code >= 32:
                distance = 1 + (low >> 2)
            else:
                distance = ((code & 8) << 11) + (low >> 2)
                if distance == 0:
                    return True
                distance += 0x4000
        if not _repeat(out, distance, length) or not literals(after):
            return False
        state = after
    return False


def _lz4(data: bytes) -> tuple[bytes, bool]:
    """Open an LZ4 block (lz4_Block_format.md). It has no end mark: a cut between sequences is not seen."""
    out = bytearray()
    try:
        whole = _lz4_into(out, data)
    except IndexError:
        whole = False
    return bytes(out[:LIMIT_BYTES]), whole


def _lz4_into(out: bytearray, data: bytes) -> bool:
    at = 0

    def length(nibble: int) -> int:
        nonlocal at
        if nibble < 15:
            return nibble
        while True:
            nibble += data[at]
            at += 1
            if data[at - 1] != 255:
                return nibble

    while len(out) <= LIMIT_BYTES:
        token = data[at]
        at += 1
        count = length(token >> 4)
        out += data[at : at + count]
        at += count
        if at >= len(data):
            return at == len(data) and count >= 5  # "the last 5 bytes are always literals"
        distance = data[at] | data[at + 1] << 8
        at += 2
        if not _repeat(out, distance, 4 + length(token & 15)):
            return False
    return False


_ALGORITHMS: Final[tuple[tuple[str, Callable[[bytes], tuple[bytes, bool]]], ...]] = (
    ("zstd", _zstd),
    ("zlib", _zlib),
    ("deflate", _deflate),
    ("lzo", _lzo),
    ("lz4", _lz4),
)

"""A batch's body, opened. In: bytes as sent, their content coding. Out: NDJSON, or why not.

Codings are those of RFC 9110 section 8.4.1: `zstd` (RFC 8878), `gzip` (RFC 1952), `identity`. What comes out
is bounded while it is made, so that a few kilobytes that claim to be gigabytes cost no memory.
"""

import zlib
from collections.abc import Iterator
from typing import Final

import msgspec
import zstandard

ENCODINGS: Final = ("zstd", "gzip", "identity")

_WINDOW_BYTES: Final = 128 << 20
_ZSTD_SLICE: Final = 1 << 10  # a block of 4 bytes can say 128 KiB: one slice makes 32 MiB at most
_GZIP_PIECE: Final = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How large a batch may be: as sent, opened, and by how much it may grow past the first 8 MiB."""

    body_bytes: int = 32 << 20
    plain_bytes: int = 128 << 20
    ratio: int = 400
    ratio_from_bytes: int = 8 << 20


class BodyError(Exception):
    """The body is not what its coding says."""


class BodyTooLargeError(BodyError):
    """The body is larger than the limits allow, as sent or opened."""


def plain(body: bytes, encoding: str, limits: Limits) -> bytes:
    """Open a body. Raises BodyTooLargeError past the limits, BodyError where it is damaged or cut."""
    if len(body) > limits.body_bytes:
        raise BodyTooLargeError(f"the body is larger than {limits.body_bytes} bytes")
    if encoding == "identity":
        if len(body) > limits.plain_bytes:
            raise BodyTooLargeError(f"the batch is larger than {limits.plain_bytes} bytes")
        return body
    pieces: list[bytes] = []
    size = 0
    allowed = min(limits.plain_bytes, max(limits.ratio_from_bytes, limits.ratio * len(body)))
    for piece in _zstd(body) if encoding == "zstd" else _gzip(body):
        size += len(piece)
        if size > allowed:
            raise BodyTooLargeError(
                f"the {encoding} body of {len(body)} bytes opens to more than {allowed} bytes"
            )
        pieces.append(piece)
    return b"".join(pieces)


def _zstd(body: bytes) -> Iterator[bytes]:
    try:
        rest = body
        while rest:
            opened = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
            for at in range(0, len(rest), _ZSTD_SLICE):
                yield opened.decompress(rest[at : at + _ZSTD_SLICE])
                if opened.eof:
                    rest = opened.unused_data + rest[at + _ZSTD_SLICE :]
                    break
            else:
                raise BodyError("the zstd body is cut off")
    except zstandard.ZstdError as error:
        raise BodyError(f"the body is not zstd: {error}") from error


def _gzip(body: bytes) -> Iterator[bytes]:
    try:
        rest = body
        while rest:
            opened = zlib.decompressobj(wbits=31)
            while not opened.eof:
                piece = opened.decompress(rest, _GZIP_PIECE)
                if not piece and not opened.unconsumed_tail and not opened.eof:
                    raise BodyError("the gzip body is cut off")
                yield piece
                rest = opened.unconsumed_tail
            rest = opened.unused_data
    except zlib.error as error:
        raise BodyError(f"the body is not gzip: {error}") from error

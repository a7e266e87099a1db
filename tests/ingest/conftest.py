"""What is no batch: each kind of it with the status and the word of the answer that it gets."""

import gzip
import io
import os
from collections.abc import Callable
from typing import Any

import zstandard


def _bomb(encoding: str, size: int = 1 << 28) -> bytes:
    """A small body of a quarter of a gigabyte of zeros."""
    zeros = bytes(1 << 20)
    out = io.BytesIO()
    if encoding == "zstd":
        with zstandard.ZstdCompressor(level=3).stream_writer(out, closefd=False) as writer:
            for _ in range(size >> 20):
                writer.write(zeros)
    else:
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed:
            for _ in range(size >> 20):
                packed.write(zeros)
    return out.getvalue()


BAD: dict[str, tuple[int, str, Callable[[Any], tuple[bytes, str]]]] = {
    "nothing": (400, "first line", lambda s: (b"", "identity")),
    "noise": (400, "first line", lambda s: (os.urandom(1 << 20), "identity")),
    "not zstd": (400, "zstd", lambda s: (b"certainly not", "zstd")),
    "not gzip": (400, "gzip", lambda s: (b"certainly not", "gzip")),
    "zstd cut off": (400, "cut", lambda s: (s.body(s.crash())[:-5], "zstd")),
    "gzip cut off": (400, "cut", lambda s: (gzip.compress(s.lines(s.crash()))[:-9], "gzip")),
    "a page": (400, "first line", lambda s: (b"<html>\n</html>\n", "identity")),
    "a JSON list": (400, "first line", lambda s: (b"[1,2]\n", "identity")),
    "an event missing its id": (400, "event", lambda s: (s.lines(s.crash()).replace(b'"id":', b'"ix":', 2)
                                                         .replace(b'"ix":', b'"id":', 1), "identity")),
    "the last line cut": (400, "event", lambda s: (s.lines(s.crash())[:-20], "identity")),
    "truncated UTF-8": (400, "UTF-8", lambda s: (s.lines(s.crash("caf\u00e9")).replace(b"\xc3\xa9", b"\xc3"),
                                                 "identity")),
    "a NUL byte": (400, "event", lambda s: (s.lines(s.crash("x_x")).replace(b"x_x", b"x\0x"), "identity")),
    "NULs after it": (400, "event", lambda s: (s.lines(s.crash()) + bytes(100), "identity")),
    "nested a million deep": (400, "deep", lambda s: (
        s.lines(s.crash()).replace(b'"body":{', b'"body":' + b"[" * 10**6 + b"]" * 10**6 + b',"x":{'),
        "identity")),
    "too few events": (422, "says 2 events and has 1", lambda s: (s.lines(s.crash(), count=2), "identity")),
    "too many events": (422, "says 1", lambda s: (s.lines(s.crash(), s.crash(), count=1), "identity")),
    "no events": (422, "no events", lambda s: (s.lines(), "identity")),
    "an id twice": (422, "twice", lambda s: (s.lines(s.crash(id="same"), s.crash(id="same")), "identity")),
    "a NUL in a name": (422, "boot", lambda s: (s.lines(s.crash(boot="a\0b")), "identity")),
    "a name like a path": (422, "id", lambda s: (s.lines(s.crash(), id="../../etc"), "identity")),
    "a number past 64 bits": (422, "seq", lambda s: (s.lines(s.crash(seq=1 << 63)), "identity")),
    "a negative number": (422, "wall_ns", lambda s: (s.lines(s.crash(wall_ns=-1)), "identity")),
    "an event of another host": (403, "event 1", lambda s: (s.lines(s.crash(host="f" * 32)), "identity")),
    "a future wire version": (415, "wire version 2", lambda s: (b'{"wire":2,"frames":[]}\n\x00', "identity")),
    "an unknown coding": (415, "encoding", lambda s: (s.lines(s.crash()), "br")),
    "a zstd bomb": (413, "opens to more", lambda s: (_bomb("zstd"), "zstd")),
    "a gzip bomb": (413, "opens to more", lambda s: (_bomb("gzip"), "gzip")),
}  # fmt: skip

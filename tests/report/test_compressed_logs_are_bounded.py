"""Compressed bytes are opened as far as they go, and never further than the limit."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from necropsy_analyzer.report.unwrap import LIMIT_BYTES, unwrap

TEXT = b"".join(b"[%12.6f] nvme nvme%d: controller is down\n" % (n / 7, n * n % 977) for n in range(4000))
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "bzip2": lambda data: bz2.compress(data, 1),
}
of_each = pytest.mark.parametrize("name", PACKERS)


@of_each
def test_whole_streams_are_opened_without_complaint(name: str) -> None:
    assert unwrap(PACKERS[name](TEXT)) == (TEXT, ())


@of_each
def test_what_came_before_a_cut_is_kept(name: str) -> None:
    packed = PACKERS[name](TEXT)
    data, damage = unwrap(packed[: len(packed) * 3 // 4])
    assert TEXT.startswith(data)
    assert len(data) > len(TEXT) // 3
    assert len(damage) == 1
    assert damage[0].startswith(f"{name}: ends too early")


@of_each
def test_what_came_before_damage_is_kept(name: str) -> None:
    packed = bytearray(PACKERS[name](TEXT))
    middle = len(packed) * 3 // 4
    packed[middle : middle + 64] = bytes(64)
    data, damage = unwrap(bytes(packed))
    assert len(damage) == 1
    assert data[: len(TEXT) // 4] == TEXT[: len(TEXT) // 4] or name in {"gzip", "xz", "lzma", "bzip2"}
    assert len(data) <= len(TEXT) * 2


@of_each
def test_streams_one_after_the_other_are_all_opened(name: str) -> None:
    pack = PACKERS[name]
    assert unwrap(pack(TEXT[:1000]) + pack(TEXT[1000:])) == (TEXT, ())


@of_each
def test_padding_after_the_end_is_no_damage(name: str) -> None:
    assert unwrap(PACKERS[name](TEXT) + bytes(512)) == (TEXT, ())


def test_very_many_members_end() -> None:
    data, damage = unwrap(gzip.compress(b"x") * 70_000)
    assert len(data) == 65_536
    assert "were not read" in damage[0]


def test_foreign_bytes_after_the_end_are_said() -> None:
    data, damage = unwrap(gzip.compress(TEXT) + b"something else")
    assert data == TEXT
    assert damage == ("gzip: 14 bytes after its end were not read",)


@pytest.mark.parametrize("outer", PACKERS)
@pytest.mark.parametrize("inner", PACKERS)
def test_one_inside_the_other_is_opened(outer: str, inner: str) -> None:
    assert unwrap(PACKERS[outer](PACKERS[inner](TEXT))) == (TEXT, ())


def test_nesting_ends() -> None:
    packed = TEXT
    for _ in range(3):
        packed = gzip.compress(packed)
    data, _ = unwrap(packed)
    assert gzip.decompress(data) == TEXT


ZEROS = bytes(16 << 20)
TIMES = LIMIT_BYTES // len(ZEROS) + 2


def _bomb(name: str) -> bytes:
    """Pack more zeros than the limit, piece by piece."""
    packers: dict[str, Any] = {
        "gzip": lambda: zlib.compressobj(wbits=31),
        "zstd": zstandard.ZstdCompressor().compressobj,
        "bzip2": bz2.BZ2Compressor,
    }
    packer = packers[name]()
    pieces: list[bytes] = [packer.compress(ZEROS) for _ in range(TIMES)]
    return b"".join([*pieces, packer.flush()])


@pytest.mark.parametrize("name", ["gzip", "zstd", "bzip2"])
def test_a_bomb_ends_at_the_limit(name: str) -> None:
    data, damage = unwrap(_bomb(name))
    assert len(data) == LIMIT_BYTES
    assert damage == (f"{name}: cut at {LIMIT_BYTES >> 20} MiB",)


@pytest.mark.parametrize(
    "data", [b"", b"\x1f", b"\x1f\x8b", b"BZh", b"plain text\n", b"\xfd7zXZ", b"PK\x03\x04"]
)
def test_what_is_not_compressed_is_left_alone(data: bytes) -> None:
    assert unwrap(data) == (data, ())


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from(sorted(PACKERS)),
    at=st.floats(0, 1),
    what=st.binary(max_size=20),
    cut=st.floats(0, 1),
)
def test_no_damage_is_too_much(name: str, at: float, what: bytes, cut: float) -> None:
    packed = PACKERS[name](TEXT[:2000])
    place = int(at * len(packed))
    data, damage = unwrap((packed[:place] + what + packed[place + len(what) :])[: int(cut * len(packed)) + 1])
    assert len(data) <= LIMIT_BYTES
    assert all("\n" not in item for item in damage)

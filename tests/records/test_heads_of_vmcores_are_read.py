"""A vmcore's head tells kernel, build and time of death, in every format; its memory is not touched."""

import os
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.records.vmcores import elf, flattened, kdump, vmcoreinfo

from necropsy_agent.records.vmcore_head import inspect, vmcore_format
from necropsy_agent.wire import VmcoreReport, pack

INFO = vmcoreinfo()


def look(content: bytes) -> VmcoreReport:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        report = inspect(file.fileno(), "/var/crash/x/vmcore")
    pack(report)
    return report


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("form", ["elf", "kdump"])
@pytest.mark.parametrize("flat", [False, True])
def test_every_format_tells_kernel_build_and_time(form: str, wide: bool, order: str, flat: bool) -> None:
    content = (elf if form == "elf" else kdump)(INFO, wide=wide, order=order)
    report = look(flattened(content) if flat else content)
    assert report.format == ("flattened-" if flat else "") + form
    assert report.release == "6.1.0-56-amd64"
    assert report.build_id == "8a4e6ac221f54d4f9a3c0c0b6f3f2f5d01020304"
    assert report.crash_wall_ns == 1_795_000_000 * 10**9
    assert report.damage == ()


def test_chunks_of_a_flattened_dump_may_come_in_any_order() -> None:
    assert look(flattened(kdump(INFO), range(64, 12000, 777), backwards=True)).release == "6.1.0-56-amd64"


def test_kernel_before_5_9_tells_no_build_and_no_time_is_none() -> None:
    report = look(elf(b"OSRELEASE=4.18.0-553.el8.x86_64\n"))
    assert (report.release, report.build_id, report.crash_wall_ns) == ("4.18.0-553.el8.x86_64", None, None)
    assert report.damage == ()


def test_dump_without_vmcoreinfo_still_names_its_kernel_where_the_header_does() -> None:
    assert look(kdump(None)).release == "6.1.0-55-amd64"
    assert look(kdump(INFO, version=2)).release == "6.1.0-55-amd64"
    report = look(elf(None))
    assert (report.release, report.damage) == (None, ("no VMCOREINFO note",))


@pytest.mark.parametrize(
    ("content", "form", "damage"),
    [
        (b"", "unknown", "empty file"),
        (b"not a vmcore", "unknown", "no vmcore format"),
        (b"\x7fELF" + bytes(12) + b"\x02\0", "unknown", "no vmcore format"),  # a program
        (b"DISKDUMP" + bytes(600), "diskdump", "not read"),
        (b"\xed\x23\x8f\x61\x73\x01\x19\xa8" + bytes(600), "lkcd", "not read"),
        (elf(INFO)[:40], "elf", "cut"),
        (elf(INFO)[:100], "elf", ""),
        (kdump(INFO)[:60], "kdump", ""),
        (kdump(INFO)[:5000], "kdump", ""),
        (flattened(b"x" * 100), "flattened", "not read"),
        (flattened(elf(INFO))[:4100], "flattened", "not read"),
    ],
)
def test_damage_is_said_and_nothing_raised(content: bytes, form: str, damage: str) -> None:
    report = look(content)
    assert report.format == form
    assert report.size_bytes == len(content)
    assert damage in report.damage[0]


def test_wild_sizes_in_headers_read_no_more_than_their_limits() -> None:
    huge = bytearray(elf(INFO))
    huge[64 + 32 : 64 + 40] = b"\xff" * 7 + b"\x7f"  # p_filesz
    assert look(bytes(huge)).release == "6.1.0-56-amd64"
    wild = bytearray(flattened(kdump(INFO)))
    wild[4096 + 8 : 4096 + 16] = b"\x7f" + b"\xff" * 7  # a chunk of 9 exabytes
    assert look(bytes(wild)).format.startswith("flattened")


def test_file_that_is_no_core_has_no_format() -> None:
    assert vmcore_format(b"") is None
    assert vmcore_format(b"\x7fELF") is None


SAMPLES = [
    elf(INFO),
    elf(INFO, wide=False, order=">"),
    kdump(INFO),
    kdump(INFO, wide=False),
    flattened(kdump(INFO)),
]


@settings(max_examples=300, deadline=None)
@given(
    sample=st.sampled_from(SAMPLES),
    patches=st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=8)), max_size=4),
    cut=st.integers(0, 20_000),
)
def test_no_damage_makes_it_fail(sample: bytes, patches: list[tuple[int, bytes]], cut: int) -> None:
    content = bytearray(sample)
    for at, patch in patches:
        content[at : at + len(patch)] = patch
    look(bytes(content[:cut]))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([b"", b"\x7fELF\x02\x01", b"KDUMP   ", b"makedumpfile\0\0\0\0"]), st.binary(max_size=6000)
)
def test_no_bytes_make_it_fail(magic: bytes, rest: bytes) -> None:
    look(magic + rest)


def test_descriptor_that_cannot_be_read_raises() -> None:
    fd = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            inspect(fd, "/")
    finally:
        os.close(fd)

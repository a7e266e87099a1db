"""Kernel crash reports of apport are read for the log in them; others and damaged ones do no harm."""

import base64
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from necropsy_agent.records import apport
from necropsy_agent.records.folder import Folder
from necropsy_agent.wire import CrashRecord, pack

NAME = "linux-image-6.8.0-41-generic-202611241200.crash"
LOG = (
    b"[    0.000000] Linux version 6.8.0-41-generic (buildd@x) (gcc 13) #41 SMP\n[    9.1] Oops: 0002 [#1]\n"
)


def report(
    *, kind: str = "KernelCrash", log: str = "VmCoreDmesg", binary: bool = False, more: str = ""
) -> bytes:
    """A report as apport writes it."""
    head = (
        f"ProblemType: {kind}\nDate: Tue Nov 24 12:00:09 2026\nUname: Linux 6.8.0-40-generic x86_64\n{more}"
    )
    if not binary:
        return head.encode() + log.encode() + b":\n" + b"".join(b" " + line for line in LOG.splitlines(True))
    packed = gzip.compress(LOG)
    chunks = [packed[:10], packed[10:]]  # problem_report.py: gzip's header is a chunk of its own
    return (
        head.encode()
        + f"{log}: base64\n".encode()
        + b"".join(b" " + base64.b64encode(c) + b"\n" for c in chunks)
    )


def read(content: bytes, folder: Path, name: str = NAME) -> CrashRecord | None:
    (folder / name).write_bytes(content)
    with Folder(folder) as opened:
        found = apport.read(opened, name)
    if found is not None:
        pack(found)
    return found


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("log", ["VmCoreDmesg", "OopsText", "CurrentDmesg", "Dmesg"])
@pytest.mark.parametrize("kind", ["KernelCrash", "KernelOops"])
def test_log_is_found_under_each_of_its_names(kind: str, log: str, binary: bool, tmp_path: Path) -> None:
    found = read(report(kind=kind, log=log, binary=binary), tmp_path)
    assert found is not None
    assert found.complete
    assert [part.blob.content().splitlines() for part in found.parts] == [LOG.splitlines()]
    assert found.release == "6.8.0-41-generic"
    assert found.died_wall_ns == 1_795_521_609 * 10**9
    assert found.key == f"apport:{NAME}"


def test_report_with_a_vmcore_behind_the_log_is_not_read_into_it(tmp_path: Path) -> None:
    found = read(report(binary=True) + b"\nVmCore: base64\n" + b" AAAA\n" * 1000, tmp_path)
    assert found is not None
    assert len(found.parts) == 1


def test_report_without_a_log_says_so_and_names_its_kernel(tmp_path: Path) -> None:
    found = read(report(log="Something"), tmp_path)
    assert found is not None
    assert (found.complete, found.parts, found.release) == (False, (), "6.8.0-40-generic")
    assert "no kernel log" in found.damage[0]


@pytest.mark.parametrize("content", [b"", b"ProblemType: Crash\nDmesg:\n x\n", b"\0" * 100, b"Dmesg:\n x\n"])
def test_what_does_not_speak_of_a_kernel_is_none(content: bytes, tmp_path: Path) -> None:
    assert read(content, tmp_path) is None


def test_cut_report_gives_the_beginning_of_its_log(tmp_path: Path) -> None:
    found = read(report(binary=True)[:-20], tmp_path)
    assert found is not None
    assert not found.complete
    assert "damaged" in found.damage[0]


def test_bomb_in_a_report_is_cut(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(100 << 20))
    lines = b"".join(
        b" " + base64.b64encode(packed[at : at + 1024]) + b"\n" for at in range(0, len(packed), 1024)
    )
    found = read(b"ProblemType: KernelCrash\nVmCoreDmesg: base64\n" + lines, tmp_path)
    assert found is not None
    assert sum(len(part.blob.content()) for part in found.parts) <= 8 << 20
    assert not found.complete


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        (NAME, True),
        ("linux-image-5.15.0-1-amd64-202611241200.crash", True),
        ("_usr_bin_vim.1000.crash", False),
        ("linux-image-6.8.0.upload", False),
        ("vmcore", False),
    ],
)
def test_only_kernel_reports_are_taken(name: str, taken: bool) -> None:
    assert (apport.NAME.fullmatch(name) is not None) is taken


@settings(max_examples=150, deadline=None)
@given(raw=st.binary(max_size=300), at=st.integers(0, 400), binary=st.booleans())
def test_no_bytes_make_it_fail(
    raw: bytes, at: int, binary: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sound = report(binary=binary)
    read(sound[:at] + raw + sound[at:], tmp_path_factory.mktemp("crash"))
    read(raw, tmp_path_factory.mktemp("crash"))

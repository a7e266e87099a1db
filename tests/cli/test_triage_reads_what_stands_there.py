"""A path may lead to anything: each gets a verdict of what could be read, or one line on what to do."""

import gzip
import json
import lzma
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.conftest import BIN

from necropsy_analyzer.cli.inputs import LIMIT_BYTES, InputError, case_of
from necropsy_analyzer.diagnose import Case

CRASH = Path(__file__).parents[2] / "fixtures" / "crashes" / "null-deref@6.1"
RELEASE = "6.1.0-56-amd64"
LOG = (
    f"[    0.000000] Linux version {RELEASE} (debian-kernel@lists.debian.org)\n"
    "[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000018\n"
    f"[   12.345710] CPU: 3 PID: 771 Comm: umount Not tainted {RELEASE} #1  Debian 6.1.76-1\n"
    "[   12.345720] RIP: 0010:ext4_put_super+0x1c/0x40 [ext4]\n"
    "[   12.345790] Kernel panic - not syncing: Fatal exception\n"
)
DIED_S = 1_795_530_729


def _elf(release: str = RELEASE, died_s: int | None = DIED_S) -> bytes:
    """Make the head of an ELF core as /proc/vmcore has it: one PT_NOTE with a VMCOREINFO note."""
    info = f"OSRELEASE={release}\nPAGESIZE=4096\n" + (f"CRASHTIME={died_s}\n" if died_s else "")
    name = b"VMCOREINFO\0\0"
    note = struct.pack("<III", 11, len(info), 0) + name + info.encode() + bytes(-len(info) % 4)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(note), len(note), 4)
    return head + program + note


def _text(case: Case) -> bytes:
    return b"".join(artifact.data for artifact in case.artifacts)


def _refused(path: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        case_of(str(path), **options)
    why = str(refused.value)
    assert "\n" not in why
    assert why.isprintable()
    return why


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, zstandard.compress])
def test_a_log_is_read_however_it_is_packed(
    tmp_path: Path, necropsy: Callable[..., Any], pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "log").write_bytes(pack(LOG.encode()))
    done = necropsy("triage", "--format", "jsonl", tmp_path / "log")
    verdict = json.loads(done.stdout)
    assert (verdict["mechanism"], verdict["kernel"]["release"]) == ("null_deref", RELEASE)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(LOG.encode() * 5000,))
    writer.start()
    case = case_of(str(fifo), writer_wait_s=60)
    writer.join()
    assert _text(case) == LOG.encode() * 5000
    assert case.damage == ()


def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "FIFO" in _refused(fifo, writer_wait_s=0.05)


@pytest.mark.parametrize("content", ["", LOG])
def test_a_shells_process_substitution_is_a_pipe(tmp_path: Path, content: str) -> None:
    ours, its = os.pipe()
    os.write(its, content.encode())
    os.close(its)
    done = subprocess.run(
        [BIN / "necropsy", "triage", "--format", "jsonl", f"/dev/fd/{ours}"], pass_fds=[ours],
        stdout=subprocess.PIPE, check=False, timeout=60, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )  # fmt: skip
    os.close(ours)
    assert done.returncode == 0
    assert json.loads(done.stdout)["crashed"] == bool(content)


def test_nothing_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", Path(os.devnull)):
        assert _text(case_of(str(path))) == b""


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        assert "neither a file nor a folder" in _refused(tmp_path / "socket")
    assert "neither a file nor a folder" in _refused("/dev/zero")
    assert "link to itself" in _refused(tmp_path / "loop")
    for path in (tmp_path / "dangling", tmp_path / "absent", "", "x\0y", "x" * 5000):
        _refused(path)


def test_what_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(LOG)
    (tmp_path / "folder").mkdir()
    for name in ("log", "folder"):
        (tmp_path / name).chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        for name in ("log", "folder"):
            assert "ermission" in _refused(tmp_path / name)
    finally:
        os.seteuid(user)
        (tmp_path / "folder").chmod(0o700)


def test_of_a_huge_file_the_end_is_read_without_its_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        case = case_of(str(tmp_path / "sparse"))
        assert (_text(case), len(case.damage)) == (b"", 1)
        file.seek((1 << 40) - (1 << 20))
        file.write(LOG.encode())
    case = case_of(str(tmp_path / "sparse"))
    assert len(_text(case)) < (2 << 20)
    assert LOG.encode() in _text(case)
    assert str(LIMIT_BYTES >> 20) in case.damage[0]


def test_a_vmcore_tells_what_its_head_says(tmp_path: Path, necropsy: Callable[..., Any]) -> None:
    vmcore = tmp_path / "vmcore"
    vmcore.write_bytes(_elf())
    done = necropsy("triage", "--format", "jsonl", vmcore)
    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["error"]) == (0, None)
    assert verdict["fatal"]
    assert verdict["kernel"]["release"] == RELEASE
    assert "2026-11-24T14:32:09Z" in verdict["damage"][0]
    assert "makedumpfile --dump-dmesg" in verdict["damage"][0]
    text = necropsy("triage", vmcore).stdout
    assert "left a vmcore" in text
    assert RELEASE in text


def test_the_log_beside_a_vmcore_is_diagnosed_and_named(tmp_path: Path, necropsy: Callable[..., Any]) -> None:
    (tmp_path / "vmcore").write_bytes(_elf())
    (tmp_path / "vmcore-dmesg.txt").write_text(LOG)
    (verdict, folder) = map(
        json.loads,
        necropsy("triage", "--format", "jsonl", tmp_path / "vmcore", tmp_path).stdout.splitlines(),
    )
    assert (verdict["mechanism"], verdict["fatal"]) == ("null_deref", True)
    assert "vmcore-dmesg.txt beside the vmcore" in verdict["damage"][0]
    assert (folder["mechanism"], folder["fingerprint"]) == (verdict["mechanism"], verdict["fingerprint"])
    assert folder["damage"] == []


def test_a_log_of_another_kernel_beside_a_vmcore_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "vmcore").write_bytes(_elf(release="5.14.0-9.el9"))
    (tmp_path / "vmcore-dmesg.txt").write_text(LOG)
    case = case_of(str(tmp_path / "vmcore"))
    assert case.artifacts == ()
    assert "5.14.0-9.el9" in case.damage[0]


@pytest.mark.parametrize(
    "content",
    [
        _elf()[:40], _elf()[:130], _elf(died_s=None), b"KDUMP   " + bytes(500),
        b"makedumpfile\0\0\0\0" + bytes(50), b"DISKDUMP" + b"\xff" * 100,
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x04\0" + b"\xff" * 100,
    ],
    ids=["head cut", "note cut", "no time of death", "kdump", "flattened", "diskdump", "noise"],
)  # fmt: skip
def test_a_damaged_vmcore_is_a_verdict_with_its_damage(
    tmp_path: Path, necropsy: Callable[..., Any], content: bytes
) -> None:
    (tmp_path / "vmcore").write_bytes(content)
    done = necropsy("triage", "--format", "jsonl", tmp_path / "vmcore")
    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["error"], verdict["crashed"]) == (0, None, False)
    assert "is a vmcore" in verdict["damage"][0]
    assert verdict["cause"] == "unknown.silent"


def test_a_vmcore_cannot_come_through_a_pipe(necropsy: Callable[..., Any], tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "necropsy", "triage", "--format", "jsonl", "-"], input=_elf(), stdout=subprocess.PIPE,
        check=False, timeout=60, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "give its path" in json.loads(done.stdout)["error"]


def test_folders_are_what_kdump_and_pstore_leave(tmp_path: Path) -> None:
    kdump = tmp_path / "crash" / "127.0.0.1-2026-11-24-14:32:09"
    kdump.mkdir(parents=True)
    (kdump / "vmcore").write_bytes(_elf())
    silent = case_of(str(kdump))
    assert (silent.artifacts, silent.vmcores[0].release) == ((), RELEASE)
    (kdump / "vmcore-dmesg.txt").write_text(LOG)
    assert LOG.encode() in _text(case_of(str(kdump)))
    assert kdump.name in _refused(tmp_path / "crash")
    pstore = CRASH / "host/sys/fs/pstore"
    live = case_of(str(pstore))
    assert b"Panic#" in _text(live)
    archive = tmp_path / "systemd" / "pstore" / "7711745760018038785"
    shutil.copytree(pstore, archive)
    assert b"Panic#" in _text(case_of(str(archive)))
    assert len(_text(case_of(str(archive.parent)))) == len(_text(live))
    (tmp_path / "neither").mkdir()
    (tmp_path / "neither" / "notes.txt").write_text("x")
    assert "kdump folder" in _refused(tmp_path / "neither")

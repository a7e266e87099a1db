"""The archive that a guest boots from is one that cpio unpacks, byte for byte."""

import lzma
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashlab import debian, initramfs
from crashlab.scenario import Kernel, LabError

KERNEL = Kernel(name="6.1", image="linux-image-6.1.0-0-test", headers=())


def _cpio(archive: bytes, *options: str, folder: Path) -> str:
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    done = subprocess.run(
        ["cpio", "--quiet", *options], input=archive, cwd=folder, capture_output=True, timeout=30, check=True
    )
    return done.stdout.decode()


def _files(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_modules_stand_in_load_order_and_every_byte_arrives(tmp_path: Path) -> None:
    busybox, necrolab, jbd2, ext4 = _files(
        tmp_path, {"busybox": b"\x7fELF" * 5, "necrolab.ko": b"n", "jbd2.ko": b"jj\0", "ext4.ko": b""}
    )
    files = {"bin/busybox": busybox, "lib/necrolab.ko": necrolab}
    archive = initramfs.build(b"#!/bin/busybox sh\n", files, [(jbd2, ""), (ext4, "debug=1")])
    target = tmp_path / "unpacked"
    target.mkdir()
    listed = _cpio(archive, "-t", folder=target).splitlines()
    assert listed == [
        *("bin", "dev", "lab", "lab/modules", "lib", "dev/console", "lab/load", "bin/busybox"),
        *("lib/necrolab.ko", "lab/modules/00-jbd2.ko", "lab/modules/01-ext4.ko", "init"),
    ]
    _cpio(archive, "-i", "--make-directories", "-f", "dev/console", folder=target)
    assert (target / "bin/busybox").read_bytes() == busybox.read_bytes()
    assert (target / "lab/modules/00-jbd2.ko").read_bytes() == b"jj\0"
    assert (target / "lab/modules/01-ext4.ko").read_bytes() == b""
    load = (target / "lab/load").read_text()
    assert load == "insmod /lab/modules/00-jbd2.ko\ninsmod /lab/modules/01-ext4.ko debug=1\n"
    assert (target / "init").stat().st_mode & 0o777 == 0o755


@given(init=st.binary(max_size=64), module=st.binary(max_size=64))
def test_every_entry_begins_on_a_boundary_of_four_bytes(
    tmp_path_factory: pytest.TempPathFactory, init: bytes, module: bytes
) -> None:
    (file,) = _files(tmp_path_factory.mktemp("initramfs"), {"a.ko": module})
    archive = initramfs.build(init, {"bin/a": file}, [(file, "")])
    position, names = 0, []
    while position < len(archive):  # buffer-format.rst: 6 bytes of magic, 13 fields of 8 hexadecimal digits
        head = archive[position : position + 110]
        assert re.fullmatch(rb"070701[0-9a-f]{104}", head)
        file_bytes, name_bytes = int(head[54:62], 16), int(head[94:102], 16)
        start = position + 110
        names.append(archive[start : start + name_bytes - 1].decode())
        content = -(-(start + name_bytes) // 4) * 4
        if names[-1] == "init":
            assert archive[content : content + file_bytes] == init
        position = -(-(content + file_bytes) // 4) * 4
    assert names[-1] == "TRAILER!!!"
    assert names[-2] == "init"


@pytest.mark.parametrize("end", ["panic", "reboot", "reset", "cut"])
def test_the_shell_can_parse_what_a_guest_runs(tmp_path: Path, end: str) -> None:
    shell = shutil.which("busybox") or shutil.which("sh")
    if shell is None:
        pytest.skip("no shell")
    script = tmp_path / "init"
    for text in (
        initramfs.crash_init("echo c > /proc/sysrq-trigger", end, "node1"),
        initramfs.collect_init("", "node1"),
    ):
        script.write_bytes(text)
        command = [shell, *(["sh"] if shell.endswith("busybox") else []), "-n", str(script)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.stderr == ""


def test_modules_come_after_what_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tree = tmp_path / "necropsy-lab/kernels" / KERNEL.image
    modules = tree / "lib/modules" / KERNEL.release / "kernel/fs"
    modules.mkdir(parents=True)
    (tree / "boot").mkdir()
    for name, needs in {"ext4": "mbcache,jbd2,crc16", "jbd2": "", "mbcache": "", "crc16": ""}.items():
        content = b"\x7fELF\0license=GPL\0depends=%s\0name=x\0" % needs.encode()
        if name == "mbcache":
            (modules / f"{name}.ko.xz").write_bytes(lzma.compress(content))
        else:
            (modules / f"{name}.ko").write_bytes(content)
    (modules.parent.parent / "modules.builtin").write_text("kernel/fs/fuse/fuse.ko\n")
    paths = debian.modules_in_load_order(KERNEL, ["jbd2", "ext4", "fuse"])
    assert all(path.read_bytes().startswith(b"\x7fELF") for path in paths)
    order = [path.stem for path in paths]
    assert order == ["jbd2", "mbcache", "crc16", "ext4"]
    with pytest.raises(LabError, match="has no module xfs"):
        debian.modules_in_load_order(KERNEL, ["xfs"])

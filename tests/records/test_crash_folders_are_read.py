"""Crash folders of every kdump are read for the log, the vmcores' heads and what was not finished."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.records.vmcores import elf, flattened, vmcoreinfo
from tests.records.vmcores import kdump as kdump_file

from necropsy_agent.records import kdump
from necropsy_agent.records.folder import Folder
from necropsy_agent.records.kdump import Crash
from necropsy_agent.wire import CrashRecord, pack

CRASHED_S = 1_795_521_600  # 2026-11-24 12:00:00 UTC
LOG = b"[    0.000000] Linux version 6.1.0-56-amd64 (x@y) (gcc-12) #1 SMP\n[    9.1] Kernel panic: x\n"
CORE = elf(vmcoreinfo(CRASHED_S))
README = (
    b"Kernel crashdump\n----------------\n\nCrash time     : 2026-11-24 12:00 (+0000)\n"
    b"Kernel version : 5.14.21-150500.55.19-default\nHost           : web-7\nDump level     : 31\n"
    b"Dump format    : compressed\n\nvmcore status: %s\ndmesg status: %s\n"
)


class Layout(NamedTuple):
    """A folder as one tool leaves it, and what is to be told of it."""

    folder: str
    files: Mapping[str, bytes]
    parts: tuple[str, ...]
    vmcores: tuple[str, ...] = ()
    complete: bool = True
    damage: str = ""
    release: str | None = "6.1.0-56-amd64"


LAYOUTS = {
    "Debian and Ubuntu": Layout(
        "202611241200",
        {"dmesg.202611241200": LOG, "dump.202611241200": kdump_file(vmcoreinfo(CRASHED_S))},
        ("dmesg.202611241200",),
        ("kdump",),
    ),
    "Ubuntu, dump was deleted": Layout("202611241200", {"dmesg.202611241200": LOG}, ("dmesg.202611241200",)),
    "Ubuntu over SSH, with the host's name": Layout(
        "web-7-202611241200", {"dmesg.202611241200": LOG}, ("dmesg.202611241200",)
    ),
    "Debian, the dump was broken off": Layout(
        "202611241200",
        {"dmesg.202611241200": LOG, "dump-incomplete": CORE[:3000]},
        ("dmesg.202611241200",),
        ("elf",),
        damage="dump-incomplete: the capture kernel did not finish",
    ),
    "RHEL and Fedora": Layout(
        "127.0.0.1-2026-11-24-12:00:00",
        {"vmcore": CORE, "vmcore-dmesg.txt": LOG, "kexec-dmesg.log": b"[    0.0] Linux version 9.9 \n"},
        ("vmcore-dmesg.txt",),
        ("elf",),
    ),
    "RHEL over SSH": Layout(
        "10.0.0.7-2026-11-24-12:00:00",
        {"vmcore.flat": flattened(kdump_file(vmcoreinfo(CRASHED_S))), "vmcore-dmesg.txt": LOG},
        ("vmcore-dmesg.txt",),
        ("flattened-kdump",),
    ),
    "RHEL, no log was saved": Layout(
        "127.0.0.1-2026-11-24-12:00:00",
        {"vmcore": CORE},
        (),
        ("elf",),
        False,
        "no kernel log beside the vmcore",
    ),
    "RHEL, broken off in the log": Layout(
        "127.0.0.1-2026-11-24-12:00:00",
        {"vmcore-dmesg-incomplete.txt": LOG[:90]},
        ("vmcore-dmesg-incomplete.txt",),
        (),
        False,
        "vmcore-dmesg-incomplete.txt: the capture kernel did not finish",
    ),
    "RHEL, broken off in the vmcore": Layout(
        "127.0.0.1-2026-11-24-12:00:00",
        {"vmcore-dmesg.txt": LOG, "vmcore-incomplete": CORE[:3000]},
        ("vmcore-dmesg.txt",),
        ("elf",),
        damage="vmcore-incomplete: the capture kernel did not finish",
    ),
    "RHEL, the disk was full": Layout(
        "127.0.0.1-2026-11-24-12:00:00",
        {"vmcore-dmesg.txt": b"", "vmcore-incomplete": b""},
        ("vmcore-dmesg.txt",),
        ("unknown",),
        False,
        "vmcore-dmesg.txt: empty",
        None,
    ),
    "SUSE": Layout(
        "2026-11-24-12-00",
        {"README.txt": README % (b"saved", b"saved successfully"), "dmesg": LOG, "vmcore": flattened(CORE)},
        ("dmesg", "README.txt"),
        ("flattened-elf",),
    ),
    "SUSE before 2023": Layout(
        "2026-11-24-12:00",
        {"README.txt": README % (b"saved", b"saved"), "dmesg.txt": LOG, "vmcore": CORE},
        ("dmesg.txt", "README.txt"),
        ("elf",),
    ),
    "SUSE, dump failed": Layout(
        "2026-11-24-12-00",
        {"README.txt": README % (b"failed (no space)", b"saved successfully"), "dmesg": LOG},
        ("dmesg", "README.txt"),
        damage="vmcore status: failed (no space)",
    ),
    "SUSE, only the vmcore, its kernel by README": Layout(
        "2026-11-24-12-00",
        {"README.txt": README[:200], "vmcore": b"\0" * 8192},
        ("README.txt",),
        ("unknown",),
        False,
        "no kernel log",
        "5.14.21-150500.55.19-default",
    ),
    "SteamOS": Layout(
        "202611241200",
        {"dmesg.txt": LOG, "vmcore.compressed": kdump_file(vmcoreinfo())},
        ("dmesg.txt",),
        ("kdump",),
    ),
}


def make(root: Path, name: str, files: Mapping[str, bytes]) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
        os.utime(folder / file, (CRASHED_S, CRASHED_S))
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(layout: str, tmp_path: Path) -> None:
    told = LAYOUTS[layout]
    crash = kdump.examine(make(tmp_path, told.folder, told.files))
    assert crash is not None
    record = crash.record
    assert tuple(part.name for part in record.parts) == told.parts
    assert all(part.blob.content() == told.files[part.name] for part in record.parts)
    assert tuple(report.format for report in crash.vmcores) == told.vmcores
    assert (record.complete, record.release) == (told.complete, told.release)
    assert told.damage in " ".join(record.damage)
    assert bool(told.damage) == bool(record.damage)
    assert record.key == f"kdump:{told.folder}"
    assert record.died_wall_ns is not None
    assert record.died_wall_ns // 10**9 in (CRASHED_S, 1_795_000_000)


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("kdump-test-1700000000", {"vmcore": CORE, "vmcore-dmesg.txt": LOG}),
        ("127.0.0.1-2026-11-24-12:00:00", {"vmcore": CORE, "vmcore-creation.status": b"success 1700000000"}),
        ("notes", {"README.txt": b"our crash policy\n", "todo": b""}),
        ("empty", {}),
        (
            "7711745760018038785",
            {"dmesg-erst-7711745760018038785": b"Panic#1 Part1\n", "dmesg.txt": b"Panic#1 Part1\n"},
        ),
        ("7711745760018", {"dmesg.txt": b"dmesg-erst-7711745760018038785:\nPanic#1 Part1\n<1>[ 1.0] x\n"}),
    ],
)
def test_what_is_no_crash_of_kdumps_is_none(folder: str, files: Mapping[str, bytes], tmp_path: Path) -> None:
    assert kdump.examine(make(tmp_path, folder, files)) is None


def test_link_and_fifo_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"root's own\n")
    folder = make(tmp_path, "127.0.0.1-2026-11-24-12:00:00", {"vmcore": CORE})
    (folder / "vmcore-dmesg.txt").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "dmesg.202611241200")
    crash = kdump.examine(folder)
    assert crash is not None
    assert crash.record.parts == ()
    assert b"root's own" not in pack(crash.record)


def test_of_a_long_log_the_end_is_read_and_that_is_said(tmp_path: Path) -> None:
    folder = make(tmp_path, "202611241200", {"dmesg.202611241200": LOG * 1000 + b"the very end\n"})
    crash = kdump.examine(folder, log_bytes=5000)
    assert crash is not None
    assert len(crash.record.parts[0].blob.content()) == 5000
    assert crash.record.parts[0].blob.content().endswith(b"the very end\n")
    assert not crash.record.complete
    assert "only the last 5000" in crash.record.damage[0]


def died_s(name: str, log_s: int, core: bytes | None, root: Path) -> int | None:
    files = {"vmcore-dmesg.txt": LOG} | ({"vmcore": core} if core else {})
    folder = make(root, name, files)
    os.utime(folder / "vmcore-dmesg.txt", (log_s, log_s))
    record = kdump.read(folder)
    assert record is not None
    return None if record.died_wall_ns is None else record.died_wall_ns // 10**9


@pytest.mark.parametrize(
    ("name", "log_s", "core", "died"),
    [
        # the vmcore's own time goes before all others
        ("127.0.0.1-2026-11-24-12:00:00", CRASHED_S + 9, elf(vmcoreinfo(CRASHED_S - 5)), CRASHED_S - 5),
        # the name is in a time zone that nobody noted, so the log's time says more
        ("127.0.0.1-2026-11-24-12:00:00", CRASHED_S + 7 * 3600, None, CRASHED_S + 7 * 3600),
        # but not that of a copy made days later
        ("127.0.0.1-2026-11-24-12:00:00", CRASHED_S + 7 * 86_400, None, CRASHED_S),
        ("202611241200", CRASHED_S + 7 * 86_400, None, CRASHED_S),
        ("2026-11-24-12:00", CRASHED_S + 7 * 86_400, None, CRASHED_S),
        ("some-name", CRASHED_S + 3, None, CRASHED_S + 3),
        ("9999-99-99-99-99", CRASHED_S + 3, None, CRASHED_S + 3),
    ],
)
def test_time_of_death(name: str, log_s: int, core: bytes | None, died: int, tmp_path: Path) -> None:
    assert died_s(name, log_s, core, tmp_path) == died


@pytest.mark.parametrize(
    ("files", "roots"),
    [
        ({}, ["/var/crash"]),
        ({"etc/kdump.conf": "path /srv/crash # here\nreboot\n"}, ["/var/crash", "/srv/crash"]),
        ({"etc/kdump.conf": "# path /srv/crash\n"}, ["/var/crash"]),
        (
            {
                "etc/kdump.conf": "ext4 /dev/vdb1\npath dumps\n",
                "proc/mounts": "/dev/vdb1 /mnt/my\\040disk ext4 rw 0 0\n",
            },
            ["/var/crash", "/mnt/my disk/dumps"],
        ),
        (
            {
                "etc/kdump.conf": "nfs nas:/export\npath dumps\n",
                "proc/mounts": "nas:/export /nas nfs rw 0 0\n",
            },
            ["/var/crash", "/nas/dumps"],
        ),
        ({"etc/kdump.conf": "raw /dev/vdb1\n"}, ["/var/crash"]),
        ({"etc/default/kdump-tools": 'KDUMP_COREDIR="/data/crash"\n'}, ["/var/crash", "/data/crash"]),
        ({"etc/sysconfig/kdump": 'KDUMP_SAVEDIR="file:///data/dump"\n'}, ["/var/crash", "/data/dump"]),
        ({"etc/sysconfig/kdump": 'KDUMP_SAVEDIR="ssh://host/dump"\n'}, ["/var/crash"]),
        ({"etc/kdump.conf": "path /../../etc\n"}, ["/var/crash", "/etc"]),
        ({"etc/kdump.conf": "\xff\x00path\n"}, ["/var/crash"]),
    ],
)
def test_places_are_those_of_kdumps_own_settings(
    files: Mapping[str, str], roots: list[str], tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "latin-1")
    assert [f"/{path.relative_to(tmp_path)}" for path in kdump.crash_roots(tmp_path)] == roots


def test_folders_of_a_root_are_given_in_order_and_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    make(tmp_path, "202611241300", {"dmesg.202611241300": LOG})
    make(tmp_path, "202611241200", {"dmesg.202611241200": LOG})
    make(tmp_path, "kdump-test-1", {"vmcore": CORE})
    (tmp_path / "202611241400").symlink_to(tmp_path / "202611241200")
    with Folder(tmp_path) as root:
        names = []
        for name, folder in kdump.folders(root):
            with folder:
                names.append(name)
        assert names == ["202611241200", "202611241300"]
        assert root.damage == []


NAMES = st.sampled_from(
    [
        "vmcore",
        "vmcore.flat",
        "vmcore-incomplete",
        "vmcore-dmesg.txt",
        "dmesg",
        "dmesg.txt",
        "dmesg.202611241200",
        "dump.202611241200",
        "README.txt",
        "vmcore-dmesg-incomplete.txt",
        "kexec-dmesg.log",
    ]
)
CONTENT = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([LOG, README, CORE, kdump_file(vmcoreinfo()), flattened(CORE), b"Panic#1 Part1\n"]),
    st.builds(lambda sample, cut: sample[:cut], st.sampled_from([CORE, README, LOG]), st.integers(0, 5000)),
)


@settings(max_examples=200, deadline=None)
@given(
    files=st.dictionaries(NAMES, CONTENT, max_size=6), name=st.text("0123456789-:.", min_size=3, max_size=30)
)
def test_no_content_makes_it_fail(
    files: dict[str, bytes], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    crash: Crash | None = kdump.examine(make(tmp_path_factory.mktemp("crash"), f"x{name}", files))
    if crash is not None:
        assert isinstance(crash.record, CrashRecord)
        for body in (crash.record, *crash.vmcores):
            pack(body)

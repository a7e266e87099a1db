"""Crash folders are shipped once, when they have stood still, and only if root alone can have made them."""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from tests.records.vmcores import elf, vmcoreinfo
from tests.sources.conftest import DEAD, STARTED_S, Tree, modes_count, never, until_failure

from necropsy_agent.sources import Found, Host, LastBoot
from necropsy_agent.sources.kdump import Kdump
from necropsy_agent.wire import CrashRecord, VmcoreReport

CRASHED_S = STARTED_S - 100
LOG = "[    0.000000] Linux version 6.1.0-56-amd64 (x@y) (gcc-12) #1 SMP\n[    9.1] Kernel panic: x\n"
RHEL = "127.0.0.1-2026-09-21-13:00:00"


def crash(
    tree: Tree, name: str, files: Mapping[str, str | bytes], *, root: str = "var/crash", old: bool = True
) -> Path:
    """Lay out a crash folder, whose files were last changed at the crash, or just now."""
    tree.write({f"{root}/{name}/{file}": content for file, content in files.items()})
    folder = tree.root / root / name
    for path in folder.iterdir():
        if old:
            os.utime(path, (CRASHED_S, CRASHED_S))
    return folder


@pytest.fixture
def source(tree: Tree) -> Iterable[Kdump]:
    """The source on a host whose last boot's end nobody knows."""
    kdump = Kdump(LastBoot(None, "no-such-journalctl"))
    assert kdump.open(tree.host(previous=DEAD), None) is None
    yield kdump
    kdump.close()


def keys(found: Iterable[Found]) -> list[str | None]:
    return [item.key for item in found]


def test_every_layout_below_every_place_is_shipped(tree: Tree) -> None:
    tree.write({"etc/default/kdump-tools": "KDUMP_COREDIR=/data/crash\n"})
    crash(tree, RHEL, {"vmcore-dmesg.txt": LOG, "vmcore": elf(vmcoreinfo(CRASHED_S))})
    crash(tree, "202609211300", {"dmesg.202609211300": LOG}, root="data/crash")
    crash(tree, "2026-09-21-13-00", {"README.txt": "x", "dmesg": LOG}, root="mnt/dumps")
    kdump = Kdump(LastBoot(None, "no-such-journalctl"), ("/mnt/dumps",))
    kdump.open(tree.host(previous=DEAD), None)
    found = list(kdump.read(never))
    assert keys(found) == [
        *(f"vmcore:{RHEL}/vmcore", f"kdump:{RHEL}"),
        *("kdump:202609211300", "kdump:2026-09-21-13-00"),
    ]
    assert {(item.keep, item.of_boot) for item in found} == {("crash", DEAD)}
    report, record = found[0].body, found[1].body
    assert isinstance(report, VmcoreReport)
    assert isinstance(record, CrashRecord)
    assert record.parts[0].blob.content() == LOG.encode()
    assert record.died_wall_ns == report.crash_wall_ns == CRASHED_S * 10**9


def test_folder_is_shipped_once_and_a_kill_between_its_events_repeats_none(source: Kdump, tree: Tree) -> None:
    crash(tree, RHEL, {"vmcore-dmesg.txt": LOG, "vmcore": elf(vmcoreinfo())})
    first = next(iter(source.read(never)))
    stored = {first.key}
    rest = list(source.read(lambda key: key in stored))
    assert keys([first, *rest]) == [f"vmcore:{RHEL}/vmcore", f"kdump:{RHEL}"]
    stored |= set(keys(rest))
    assert list(source.read(lambda key: key in stored)) == []


def test_folder_that_is_being_written_waits(source: Kdump, tree: Tree) -> None:
    folder = crash(tree, RHEL, {"vmcore-dmesg.txt": LOG}, old=False)
    assert list(source.read(never)) == []
    (folder / "vmcore").write_bytes(elf(vmcoreinfo()))
    assert list(source.read(never)) == []
    for path in folder.iterdir():
        os.utime(path, (time.time() - 61, time.time() - 61))
    assert len(list(source.read(never))) == 2


def test_clock_that_was_wrong_at_the_crash_makes_nobody_wait_for_years(tree: Tree) -> None:
    kdump = Kdump(LastBoot(None, "no-such-journalctl"), quiet_s=0)
    kdump.open(tree.host(), None)
    folder = crash(tree, RHEL, {"vmcore-dmesg.txt": LOG})
    os.utime(folder / "vmcore-dmesg.txt", (4_000_000_000, 4_000_000_000))
    assert keys(kdump.read(never)) == [f"kdump:{RHEL}"]


def test_self_test_of_kdump_is_never_a_crash(source: Kdump, tree: Tree) -> None:
    crash(tree, "kdump-test-1790000000", {"vmcore-dmesg.txt": LOG, "vmcore-creation.status": "success"})
    assert list(source.read(never)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folder_of_another_user_is_refused_and_the_others_are_shipped(source: Kdump, tree: Tree) -> None:
    os.chown(crash(tree, RHEL, {"vmcore-dmesg.txt": LOG}), 65534, 65534)
    crash(tree, "202609211300", {"dmesg.202609211300": LOG})
    found, why = until_failure(source.read(never))
    assert keys(found) == ["kdump:202609211300"]
    assert f"{RHEL}: refused, not root's alone" in why
    assert keys(source.read(never)) == ["kdump:202609211300"]  # it complains once


def test_folder_in_which_anyone_may_write_is_refused(source: Kdump, tree: Tree) -> None:
    crash(tree, RHEL, {"vmcore-dmesg.txt": LOG}).chmod(0o777)
    found, why = until_failure(source.read(never))
    assert found == []
    assert "refused" in why


def test_links_are_not_followed(source: Kdump, tree: Tree) -> None:
    elsewhere = crash(tree, "x", {"vmcore-dmesg.txt": "secret"}, root="root")
    (tree.root / "var/crash").mkdir(parents=True)
    (tree.root / "var/crash" / RHEL).symlink_to(elsewhere)
    folder = crash(tree, "202609211300", {"vmcore": elf(vmcoreinfo())})
    (folder / "dmesg.202609211300").symlink_to(elsewhere / "vmcore-dmesg.txt")
    os.mkfifo(folder / "vmcore-dmesg.txt")
    found = list(source.read(never))
    assert keys(found) == ["vmcore:202609211300/vmcore", "kdump:202609211300"]
    assert "secret" not in repr(found)


def test_folder_that_may_not_be_read_is_a_failure_told_once(source: Kdump, tree: Tree) -> None:
    crash(tree, "202609211300", {"dmesg.202609211300": LOG})
    crash(tree, RHEL, {"vmcore-dmesg.txt": LOG}).chmod(0)
    with modes_count():
        found, why = until_failure(source.read(never))
        assert keys(found) == ["kdump:202609211300"]
        assert f"{RHEL}: Permission denied" in why
        assert len(list(source.read(never))) == 1
    (tree.root / "var/crash" / RHEL).chmod(0o700)
    assert len(list(source.read(never))) == 2


def test_log_that_may_not_be_read_is_said_in_the_record(source: Kdump, tree: Tree) -> None:
    folder = crash(tree, RHEL, {"vmcore-dmesg.txt": LOG, "vmcore": elf(vmcoreinfo())})
    (folder / "vmcore-dmesg.txt").chmod(0)
    with modes_count():
        record = list(source.read(never))[-1].body
    assert isinstance(record, CrashRecord)
    assert not record.complete
    assert "vmcore-dmesg.txt: Permission denied" in " ".join(record.damage)


# apport

REPORT = "ProblemType: KernelCrash\nDate: Mon Sep 21 13:11:40 2026\nVmCoreDmesg:\n" + "".join(
    f" {line}" for line in LOG.splitlines(True)
)


def apport(tree: Tree, name: str, text: str = REPORT) -> Path:
    tree.write({f"var/crash/{name}": text})
    path = tree.root / "var/crash" / name
    os.utime(path, (CRASHED_S, CRASHED_S))
    return path


def test_apports_report_is_shipped_unless_the_folder_of_its_crash_is_there(source: Kdump, tree: Tree) -> None:
    apport(tree, "linux-image-6.8.0-41-generic-202609211300.crash")
    apport(tree, "linux-image-6.8.0-41-generic-202609201200.crash")
    apport(tree, "_usr_bin_vim.1000.crash", "ProblemType: Crash\n")
    crash(tree, "202609211300", {"dmesg.202609211300": LOG})
    found = list(source.read(never))
    assert keys(found) == ["kdump:202609211300", "apport:linux-image-6.8.0-41-generic-202609201200.crash"]
    assert list(source.read(lambda key: key in keys(found))) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_apports_report_of_another_user_is_refused(source: Kdump, tree: Tree) -> None:
    os.chown(apport(tree, "linux-image-6.8.0-41-generic-202609211300.crash"), 65534, 65534)
    found, why = until_failure(source.read(never))
    assert found == []
    assert "refused, not root's" in why


def test_host_without_a_crash_folder_has_nothing_there(source: Kdump) -> None:
    assert list(source.read(never)) == []


def test_recorded_hosts_without_kdump_have_nothing_there(recorded_host: Host) -> None:
    kdump = Kdump(LastBoot(None, "no-such-journalctl"))
    assert kdump.open(recorded_host, None) is None
    assert list(kdump.read(never)) == []

"""How the last boot ended is told from what the host has, with its proof; unknown where nothing tells."""

import json
import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sources.conftest import BOOT, DEAD, STARTED_S, Tree, journal_tree, look, script

from necropsy_agent.sources import Host, LastBoot
from necropsy_agent.sources.boots import Boots
from necropsy_agent.wire import Boot, pack

NOWHERE = "no-such-journalctl"
CAPTURE = "c" * 32
RUN_LVL, BOOT_TIME, USER_PROCESS, DEAD_PROCESS = 1, 2, 7, 8


def utmp(kind: int, user: bytes, seconds: int, size: int = 384) -> bytes:
    """A record of utmp(5): x86's of 384 bytes, arm64's of 400."""
    head = struct.pack("<hxxi32s4s32s256s4x", kind, 0, b"~", b"~~", user, b"6.1.0-test")
    time = struct.pack("<iii", 0, seconds, 0) if size == 384 else struct.pack("<qqq", 0, seconds, 0)
    return (head + time).ljust(size, b"\0")


def day(size: int, *, orderly: bool, own_s: int = STARTED_S) -> bytes:
    """Two boots, a login in the first, then its end."""
    records = [
        utmp(BOOT_TIME, b"reboot", STARTED_S - 9000, size),
        utmp(RUN_LVL, b"runlevel", STARTED_S - 8990, size),
        utmp(USER_PROCESS, b"root", STARTED_S - 8000, size),
        *([utmp(RUN_LVL, b"shutdown", STARTED_S - 60, size)] if orderly else []),
        utmp(BOOT_TIME, b"reboot", own_s, size),
        utmp(RUN_LVL, b"runlevel", own_s + 9, size),
    ]
    return b"".join(records)


@pytest.mark.parametrize("size", [384, 400])
@pytest.mark.parametrize(("orderly", "end"), [(True, "clean"), (False, "unclean")])
@pytest.mark.parametrize("much", [0, 5000])
def test_shutdown_record_in_wtmp_tells(size: int, orderly: bool, end: str, much: int, tree: Tree) -> None:
    older = utmp(DEAD_PROCESS, b"", STARTED_S - 90_000, size) * much
    tree.write({"var/log/wtmp": older + day(size, orderly=orderly)})
    ending = LastBoot(None, NOWHERE).of(tree.host())
    assert ending.end == end
    assert "wtmp" in ending.proof[0]
    assert ending.seen_ns == ((STARTED_S - 60) * 10**9 if orderly else None)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"var/log/wtmp": b""},
        {"var/log/wtmp": os.urandom(4000)},
        # one boot only: there is nothing before it
        {"var/log/wtmp": utmp(BOOT_TIME, b"reboot", STARTED_S)},
        # this boot's record is not there yet, or the clock was set by an hour since it was written
        {"var/log/wtmp": utmp(BOOT_TIME, b"reboot", STARTED_S - 9000)},
        {"var/log/wtmp": day(384, orderly=True, own_s=STARTED_S - 3600)},
        {"var/log/wtmp": day(384, orderly=False, own_s=STARTED_S - 3600)},
    ],
)
def test_nothing_that_tells_is_unknown(files: Mapping[str, bytes], tree: Tree) -> None:
    ending = LastBoot(None, NOWHERE).of(tree.write(files).host())
    assert (ending.end, ending.proof) == ("unknown", ())
    assert ending.started_ns == STARTED_S * 10**9


KMSG = "6,100,1200000,-;{}\n"


@pytest.mark.parametrize(
    ("line", "end", "proof"),
    [
        ("EXT4-fs (vda1): recovery complete", "unclean", "not unmounted: EXT4-fs (vda1)"),
        ("XFS (dm-0): Starting recovery (logdev: internal)", "unclean", "XFS (dm-0)"),
        ("BTRFS info (device sda2): start tree-log replay", "unclean", "BTRFS"),
        ("BTRFS info (device sda2: state M): start tree-log replay", "unclean", "BTRFS"),
        ("FAT-fs (sda1): Volume was not properly unmounted. Some data may be corrupt.", "unclean", "FAT-fs"),
        ("EXT4-fs (vda1): mounted filesystem with ordered data mode", "unknown", None),
        (
            "x86/amd: Previous system reset reason [0x08000800]: an uncorrected error",
            "unknown",
            "firmware says",
        ),
    ],
)
def test_running_kernel_tells_what_it_had_to_recover(
    line: str, end: str, proof: str | None, tree: Tree
) -> None:
    (tree.root / "dev").mkdir()
    os.mkfifo(tree.root / "dev/kmsg")
    # A FIFO keeps what was written only while somebody has it open.
    with open(os.open(tree.root / "dev/kmsg", os.O_RDWR | os.O_NONBLOCK), "r+b", buffering=0) as log:
        log.write(KMSG.format(line).encode())
        ending = LastBoot(None, NOWHERE).of(tree.host())
    assert ending.end == end
    assert (proof is None and ending.proof == ()) or (proof or "") in ending.proof[0]


def test_what_a_file_system_says_hours_later_is_not_of_the_last_boot(tree: Tree) -> None:
    tree.write({"dev/kmsg": "6,100,9900000000,-;EXT4-fs (sdc1): recovery complete\n"})  # a stick plugged in
    assert LastBoot(None, NOWHERE).of(tree.host()).end == "unknown"


def marked(tree: Tree, state: Path, seen_s: int) -> LastBoot:
    """An agent that ran in the boot `DEAD` and was last alive at `seen_s`."""
    state.mkdir()
    before = tree.host(boot=DEAD)
    tree.write({"proc/stat": f"btime {STARTED_S - 9000}\n"})
    LastBoot(state, NOWHERE).seen(before)
    (mark,) = state.iterdir()
    os.utime(mark, (seen_s, seen_s))
    tree.write({"proc/stat": f"btime {STARTED_S}\n"})
    return LastBoot(state, NOWHERE)


def test_agents_own_mark_names_the_boot_before_over_restarts(tree: Tree, tmp_path: Path) -> None:
    last = marked(tree, tmp_path / "state", STARTED_S - 120)
    for _ in range(3):  # the agent starts again and again in this boot
        ending = last.of(tree.host())
        assert (ending.previous, ending.began_ns) == (DEAD, (STARTED_S - 9000) * 10**9)
        assert ending.seen_ns == (STARTED_S - 120) * 10**9
        last.seen(tree.host())
        last = LastBoot(tmp_path / "state", NOWHERE)


DAMAGED_MARKS = (
    *(b"", b"{", b"[1]", b"null", b"[" * 5000, b"\xff\xfe"),
    *(b'{"boot": 7, "started_ns": 1e400}', b'{"boot": null, "started_ns": 99999999999999999999999}'),
)


@pytest.mark.parametrize("damage", DAMAGED_MARKS, ids=range(len(DAMAGED_MARKS)))
def test_damaged_mark_is_none(damage: bytes, tree: Tree, tmp_path: Path) -> None:
    last = marked(tree, tmp_path / "state", STARTED_S - 120)
    (mark,) = (tmp_path / "state").iterdir()
    mark.write_bytes(damage)
    ending = last.of(tree.host())
    assert ending.previous is None
    assert ending.began_ns is None
    last.seen(tree.host())
    assert json.loads(mark.read_text())["boot"] == BOOT


def test_kdump_folder_of_the_time_between_is_proof(tree: Tree, tmp_path: Path) -> None:
    last = marked(tree, tmp_path / "state", STARTED_S - 120)
    for name, at_s in (
        ("202609210000", STARTED_S - 86_400),
        ("kdump-test-1", STARTED_S - 60),
        ("later", STARTED_S + 9),
    ):
        (tree.root / "var/crash" / name).mkdir(parents=True)
        os.utime(tree.root / "var/crash" / name, (at_s, at_s))
    assert last.of(tree.host()).end == "unknown"
    (tree.root / "var/crash/202609212358").mkdir()
    os.utime(tree.root / "var/crash/202609212358", (STARTED_S - 60, STARTED_S - 60))
    ending = LastBoot(tmp_path / "state", NOWHERE).of(tree.host())
    assert ending.end == "unclean"
    assert "202609212358" in ending.proof[0]


def test_pstore_record_of_the_time_between_is_proof(tree: Tree, tmp_path: Path) -> None:
    last = marked(tree, tmp_path / "state", STARTED_S - 120)
    tree.write({f"sys/fs/pstore/dmesg-erst-{(STARTED_S - 86_400 << 32) + 1}": "Panic#1 Part1\n"})
    assert last.of(tree.host()).end == "unknown"
    tree.write(
        {f"sys/fs/pstore/dmesg-efi_pstore-{((STARTED_S - 60) * 100 + 1) * 1000 + 1}": "Panic#1 Part1\n"}
    )
    assert LastBoot(tmp_path / "state", NOWHERE).of(tree.host()).end == "unclean"


# The journal, read by the real journalctl

JOURNALS = Path(__file__).parents[2] / "fixtures/journals"
needs_journalctl = pytest.mark.skipif(shutil.which("journalctl") is None, reason="there is no journalctl")


@needs_journalctl
@pytest.mark.parametrize(
    ("journal", "end", "proof"),
    [
        ("breaks-off", "unclean", "breaks off after: first line"),
        ("ends-in-a-report", "unclean", "breaks off after: first line"),
        ("ends-in-order", "clean", "ends with systemd-"),
    ],
)
def test_journal_tells(journal: str, end: str, proof: str, tree: Tree) -> None:
    host, dead = journal_tree(tree, journal)
    ending = LastBoot(None).of(host)
    assert (ending.end, ending.previous) == (end, dead)
    assert proof in ending.proof[0]
    assert ending.seen_ns is not None
    assert ending.seen_ns // 10**9 in range(1_795_530_000, 1_795_530_010)


@needs_journalctl
def test_crash_folder_outweighs_an_orderly_journal(tree: Tree) -> None:
    host, _ = journal_tree(tree, "ends-in-order")
    tree.write({"proc/stat": "btime 1795530600\n"})
    (tree.root / "var/crash/202611241425").mkdir(parents=True)
    os.utime(tree.root / "var/crash/202611241425", (1_795_530_300, 1_795_530_300))
    ending = LastBoot(None).of(host)
    assert ending.end == "unclean"
    assert len(ending.proof) == 2  # both are told


@pytest.mark.parametrize(
    ("first_lines", "previous"),
    [
        ("Command line: root=/dev/sda1 ro reset_devices elfcorehdr=785780K", DEAD),
        ("Kernel command line: BOOT_IMAGE=/vmlinuz elfcorehdr=0x6f000000 nr_cpus=1", DEAD),
        ("Reserving 1KB of memory at 0x6f000000 for elfcorehdr", DEAD),
        ("Command line: root=/dev/sda1 ro crashkernel=256M", CAPTURE),
    ],
)
def test_capture_kernel_is_not_the_boot_that_died(first_lines: str, previous: str, tree: Tree) -> None:
    # Debian's kdump-tools runs a whole systemd in the capture kernel, journal and all.
    program = tree.root / "journalctl"
    at = {CAPTURE: "1789999900000000", DEAD: "1789999800000000"}
    ends = {
        boot: json.dumps({"_BOOT_ID": boot, "MESSAGE": "a", "__REALTIME_TIMESTAMP": us})
        for boot, us in at.items()
    }
    tree.write(
        {
            "journalctl": f"""#!/bin/sh
            case "$*" in
            *--output=cat*--boot={CAPTURE}*) echo 'Linux version 6.1.0-test'; echo '{first_lines}';;
            *--output=cat*) echo 'Command line: root=/dev/sda1 ro crashkernel=256M';;
            *--boot=-1*) echo '{ends[CAPTURE]}';;
            *--boot=-2*) echo '{ends[DEAD]}';;
            esac
            """
        }
    )
    program.chmod(0o755)
    ending = LastBoot(None, str(program)).of(tree.host())
    assert (ending.end, ending.previous) == ("unclean", previous)
    assert ending.seen_ns == int(at[previous]) * 1000


@settings(max_examples=60, deadline=None)
@given(
    printed=st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.dictionaries(
                st.sampled_from(
                    ["_BOOT_ID", "MESSAGE", "MESSAGE_ID", "SYSLOG_IDENTIFIER", "__REALTIME_TIMESTAMP"]
                ),
                st.one_of(
                    st.sampled_from([DEAD, "9" * 30, "1795530000000000", "d93fb3c9c24d451a97cea615ce59c00b"]),
                    st.none(), st.text(max_size=5), st.lists(st.integers(0, 255), max_size=5), st.integers(),
                ),
            ).map(lambda entry: json.dumps(entry).encode()),
        ),
        max_size=6,
    ),
    wtmp=st.binary(max_size=1200),
    kmsg=st.one_of(st.binary(max_size=200), st.just(b"6,1," + b"9" * 5000 + b",-;x\n")),
    stat=st.one_of(st.binary(max_size=60), st.just(b"btime \n"), st.just(b"btime 99999999999999999999999\n")),
)  # fmt: skip
def test_no_content_of_any_witness_makes_it_fail(
    printed: list[bytes], wtmp: bytes, kmsg: bytes, stat: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = Tree(tmp_path_factory.mktemp("host"))
    tree.write({"var/log/wtmp": wtmp, "dev/kmsg": kmsg, "proc/stat": stat})
    program = script(tree.root / "journalctl", b"\n".join(printed) + b"\n")
    ending = LastBoot(tree.root, program).of(tree.host())
    boots = Boots(LastBoot(tree.root, program))
    (found,) = look(boots, tree.host())
    assert isinstance(found.body, Boot)
    assert found.body.end == ending.end
    pack(found.body)


# The sources that tell of it


def test_boot_is_told_once_and_the_agent_marks_that_it_lives(tree: Tree, tmp_path: Path) -> None:
    last = marked(tree, tmp_path / "state", STARTED_S - 120)
    tree.write({"var/log/wtmp": day(384, orderly=False)})
    boots = Boots(last)
    (found,) = look(boots, tree.host())
    assert found.body == Boot(
        release="6.1.0-test",
        started_wall_ns=STARTED_S * 10**9,
        previous=DEAD,
        previous_seen_wall_ns=(STARTED_S - 120) * 10**9,
        end="unclean",
        proof=("wtmp has no shutdown record between the last two boots",),
    )
    assert found.keep == "crash"
    assert boots.open(tree.host(), found.cursor) is None
    assert list(boots.read(lambda key: key == found.key)) == []


def test_mark_that_cannot_be_written_is_a_failure_after_the_boot_was_told(tree: Tree, tmp_path: Path) -> None:
    boots = Boots(LastBoot(tmp_path / "nowhere", NOWHERE))
    assert boots.open(tree.host(), None) is None
    given = iter(boots.read(lambda key: False))
    assert isinstance(next(iter(given)).body, Boot)
    with pytest.raises(FileNotFoundError):
        next(given, None)


def test_boot_of_a_recorded_host_is_told(recorded_host: Host) -> None:
    (boot,) = look(Boots(LastBoot(None, NOWHERE)), recorded_host)
    assert isinstance(boot.body, Boot)
    assert boot.body.release == recorded_host.path("/proc/sys/kernel/osrelease").read_text().strip()


def test_journals_of_the_fixtures_are_whole() -> None:
    for path in JOURNALS.glob("*.journal.zst"):
        head = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())[:8]
        assert head == b"LPKSHHRH"  # journal-def.h, HEADER_SIGNATURE

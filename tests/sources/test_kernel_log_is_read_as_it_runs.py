"""The running kernel's log: every record that matters is given once, over restarts, overruns and noise."""

import os
import re
import select
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sources.conftest import BOOT, Tree, modes_count, never

from necropsy_agent.sources import Found, Hits, Host
from necropsy_agent.sources.kmsg import Kmsg, nothing
from necropsy_agent.sources.kmsg_window import BEFORE_RECORDS, QUIET_US, WINDOW_RECORDS
from necropsy_agent.wire import KernelLog

FIXTURES = Path(__file__).parents[2] / "fixtures"
RECORDED = sorted([*FIXTURES.glob("crashes/*/kmsg.zst"), *FIXTURES.glob("healthy/*/kmsg.zst")])


def recorded(path: Path) -> list[bytes]:
    """The records of a recording, each with its continuation lines."""
    text = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    return re.findall(rb"^\S.*(?:\n .*)*", text, re.MULTILINE)


def line(seq: int, text: str, level: int = 6, time_us: int | None = None) -> bytes:
    """A record of the kernel (facility 0)."""
    return f"{level},{seq},{seq * 1000 if time_us is None else time_us},-;{text}".encode()


@contextmanager
def stream(hits: Hits = nothing, cursor: str | None = None) -> Iterator[tuple[Kmsg, socket.socket]]:
    """A kernel log that gives one record a read, as the device does, and the end that writes it."""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kmsg = Kmsg(hits, fd=ours.detach())
    with theirs:
        assert kmsg.open(Host(Path("/"), BOOT), cursor) is None
        try:
            yield kmsg, theirs
        finally:
            kmsg.close()


def feed(kmsg: Kmsg, writer: socket.socket, records: Iterable[bytes]) -> list[Found]:
    """Write records, read whenever the other end is full and once at the end."""
    found: list[Found] = []
    writer.setblocking(False)
    for record in records:
        while True:
            try:
                writer.send(record)
                break
            except BlockingIOError:
                found += kmsg.read(never)
    return found + list(kmsg.read(never))


def shipped(records: Sequence[bytes], hits: Hits = nothing) -> list[Found]:
    """All that is given of these records."""
    with stream(hits) as (kmsg, writer):
        return feed(kmsg, writer, records)


def logs(found: Iterable[Found]) -> list[KernelLog]:
    return [item.body for item in found if isinstance(item.body, KernelLog)]


def texts(found: Iterable[Found]) -> list[str]:
    """The records as they were given."""
    return [record for log in logs(found) for record in log.records]


def seqs(found: Iterable[Found]) -> list[int]:
    return [int(record.split(",")[1]) for record in texts(found)]


# What is kept


def test_record_is_given_as_the_kernel_gave_it_with_its_dictionary() -> None:
    record = (
        b"3,814,12345678,-,caller=T112;sd 2:0:0:0: [sdb] tag#4 Medium \\xe2\\x82\\xac error\n"
        b" SUBSYSTEM=scsi\n DEVICE=+scsi:2:0:0:0"
    )
    found = shipped([record + b"\n"])
    assert texts(found) == [record.decode()]
    assert found[0].keep == "routine"


@pytest.mark.parametrize(
    ("records", "kept"),
    [
        ([line(0, "a"), line(1, "b", 5), line(2, "c", 7)], []),
        ([line(0, "a", 4), line(1, "b", 3), line(2, "c", 0), line(3, "d", 6)], [0, 1, 2]),
        # what userspace writes (facility 1) is read by its level alone: its words open no window
        ([line(0, "a"), b"14,1,1000,-;BUG: says a daemon", b"12,2,2000,-;BUG: warns a daemon"], [2]),
    ],
)
def test_warnings_and_worse_are_kept(records: list[bytes], kept: list[int]) -> None:
    assert seqs(shipped(records)) == kept


def test_line_that_a_rule_wants_is_kept_at_any_level() -> None:
    def hits(text: bytes) -> Iterable[int]:
        return (match.end() - 1 for match in re.finditer(b"wanted|SUBSYSTEM=pci", text))

    records = [
        *(line(0, "nothing"), line(1, "it is wanted"), line(2, "nothing")),
        *(line(3, "new device\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0"), line(4, "nothing")),
    ]
    assert seqs(shipped(records, hits)) == [1, 3]


def test_whole_window_around_a_fault_is_kept() -> None:
    fault_us = 500_000_000
    before = [line(n, f"before {n}", time_us=fault_us - (400 - n) * 1000) for n in range(400)]
    report = [
        line(400, "BUG: kernel NULL pointer dereference, address: 0000000000000078", 1, fault_us),
        *(line(401 + n, f" frame+0x{n:x}/0x100", 6, fault_us + n) for n in range(50)),
        line(451, "---[ end trace 0000000000000000 ]---", 4, fault_us + 60),
        line(452, "still within the quiet time", 6, fault_us + 60 + QUIET_US),
        line(453, "long after", 6, fault_us + 61 + QUIET_US),
    ]
    found = shipped(before + report)
    assert seqs(found) == list(range(400 - BEFORE_RECORDS, 453))
    assert {(item.keep, log.fault) for item, log in zip(found, logs(found), strict=True)} == {("crash", True)}


def test_lines_long_before_a_fault_are_not_its_window() -> None:
    records = [line(0, "long before", time_us=0), line(1, "BUG: soft lockup", 0, 61_000_000)]
    assert seqs(shipped(records)) == [1]


@pytest.mark.parametrize(
    "crash", sorted(FIXTURES.glob("crashes/*/kmsg.zst")), ids=lambda path: path.parent.name
)
def test_recorded_crash_keeps_every_warning_and_every_line_of_its_report(crash: Path) -> None:
    records = recorded(crash)
    got = texts(shipped(records))
    assert len(set(got)) == len(got)
    assert set(got) >= {record.decode() for record in records if int(record.split(b",")[0]) & 7 <= 4}
    first = next(
        (
            n
            for n, record in enumerate(records)
            if re.match(rb"[0-7],.*;.*(BUG:|Oops|cut here|blocked for)", record)
        ),
        None,
    )
    if first is not None:
        assert got[-(len(records) - first) :] == [record.decode() for record in records[first:]]


@pytest.mark.parametrize(
    "boot", sorted(FIXTURES.glob("healthy/*/kmsg.zst")), ids=lambda path: path.parent.name
)
def test_healthy_boot_ships_no_crash_and_little_chatter(boot: Path) -> None:
    records = recorded(boot)
    found = shipped(records)
    assert "crash" not in {item.keep for item in found}
    asked = any(b";sysrq:" in record for record in records)  # what an operator asked for is a window too
    assert asked or len(texts(found)) < 0.1 * len(records)


def test_storm_ships_a_bounded_share_of_its_chatter_and_stays_small() -> None:
    storm: list[bytes] = []
    for n in range(0, 200_000, 10):
        storm.append(line(n, "BUG: again", 1, n))
        storm += [line(n + k, "chatter " + "x" * 100, 6, n + k) for k in range(1, 10)]
    found = shipped(storm)
    chatter = [text for text in texts(found) if ";chatter" in text]
    assert len([text for text in texts(found) if ";BUG" in text]) == 20_000
    assert len(chatter) <= WINDOW_RECORDS + BEFORE_RECORDS
    assert max(len(log.records) for log in logs(found)) <= 1000 + BEFORE_RECORDS


def test_burst_loses_no_line_that_a_rule_wants() -> None:
    def hits(text: bytes) -> Iterable[int]:
        return (match.start() for match in re.finditer(b"wanted", text))

    burst = [line(n, "wanted" if n % 37 == 0 else "chatter " * 8, time_us=n * 10) for n in range(100_000)]
    found = shipped(burst, hits)
    assert seqs(found) == list(range(0, 100_000, 37))
    assert sum(log.lost for log in logs(found)) == 0


# Restarts


def restarted(
    records: Sequence[bytes], at: int, stored: int, oldest: int, folder: Path, hits: Hits
) -> tuple[list[Found], list[Found]]:
    """Read the first `at` records, store `stored` of what was found, start again on all from `oldest` on."""
    log = folder / "kmsg"
    host = Host(folder, BOOT)
    log.write_bytes(b"".join(record + b"\n" for record in records[:at]))
    first = Kmsg(hits, "/kmsg")
    assert first.open(host, None) is None
    kept = list(first.read(never))[:stored]
    first.close()
    cursor = kept[-1].cursor if kept else None
    log.write_bytes(b"".join(record + b"\n" for record in records[oldest:]))
    second = Kmsg(hits, "/kmsg")
    assert second.open(host, cursor) is None
    rest = list(second.read(never))
    second.close()
    return kept, rest


def every_acpi(text: bytes) -> Iterable[int]:
    return (match.start() for match in re.finditer(b"ACPI|smpboot", text))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), path=st.sampled_from(RECORDED), hits=st.sampled_from([nothing, every_acpi]))
def test_restart_at_any_point_of_a_recorded_log_loses_and_repeats_nothing(
    data: st.DataObject, path: Path, hits: Hits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = recorded(path)
    at = data.draw(st.integers(0, len(records)), label="records before the restart")
    stored = data.draw(st.integers(0, 40), label="events stored before it")
    whole = texts(shipped(records, hits))
    kept, rest = restarted(records, at, stored, 0, tmp_path_factory.mktemp("log"), hits)
    assert sorted(texts(kept) + texts(rest)) == sorted(whole)
    assert sum(log.lost for log in logs([*kept, *rest])) == 0


RECORD = st.tuples(
    st.sampled_from([6, 6, 6, 4, 1, 14]),
    st.sampled_from(["chatter", "BUG: a fault", "wanted ACPI", "Call Trace:", "x\n DEVICE=+pci:0"]),
    st.sampled_from([0, 1000, 9_000_000, 11_000_000, 70_000_000]),
)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), made=st.lists(RECORD, max_size=40))
def test_restart_at_any_point_of_any_log_loses_and_repeats_nothing(
    data: st.DataObject, made: list[tuple[int, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = []
    time_us = 0
    for seq, (prefix, text, later_us) in enumerate(made):
        time_us += later_us
        records.append(
            f"{prefix},{seq},{time_us},-;{text} {seq}".replace("\n DEVICE=+pci:0", "\n DEVICE=+pci:").encode()
        )
    at = data.draw(st.integers(0, len(records)))
    stored = data.draw(st.integers(0, 10))
    whole = texts(shipped(records, every_acpi))
    folder = tmp_path_factory.mktemp("log")
    kept, rest = restarted(records, at, stored, 0, folder, every_acpi)
    assert sorted(texts(kept) + texts(rest)) == sorted(whole)
    # What the ring has overwritten meanwhile cannot be had; what is left is not given twice.
    oldest = data.draw(st.integers(0, len(records)))
    kept, rest = restarted(records, at, stored, oldest, folder, every_acpi)
    both = texts(kept) + texts(rest)
    assert len(set(both)) == len(both)
    assert set(both) <= {record.decode() for record in records}


def test_window_stays_open_over_a_restart_even_if_its_heading_was_overwritten(tmp_path: Path) -> None:
    records = [line(0, "BUG: a fault", 1), *(line(n, f" frame{n}+0x1/0x2") for n in range(1, 20))]
    kept, rest = restarted(records, 10, 1, 10, tmp_path, nothing)
    assert seqs(kept) == list(range(10))
    assert seqs(rest) == list(range(10, 20))
    assert {log.fault for log in logs(rest)} == {True}


def test_same_source_opened_again_reads_again_what_was_not_stored(tree: Tree) -> None:
    tree.write({"log": b"".join(line(n, "x", 4) + b"\n" for n in range(5))})
    kmsg = Kmsg(path="/log")
    for _ in range(2):  # the outbox had no room the first time
        assert kmsg.open(tree.host(), None) is None
        assert seqs(kmsg.read(never)) == [0, 1, 2, 3, 4]
        kmsg.close()
    assert kmsg.open(tree.host(), f"{BOOT}:2:-1") is None
    assert seqs(kmsg.read(never)) == [3, 4]
    kmsg.close()


def test_new_boot_starts_anew() -> None:
    with stream(cursor=f"{'a' * 32}:500:9999999") as (kmsg, writer):
        assert seqs(feed(kmsg, writer, [line(0, "x", 4), line(1, "y")])) == [0]


@pytest.mark.parametrize("cursor", ["", "nonsense", f"{BOOT}:x:1", f"{BOOT}:1", BOOT, f"{BOOT}:{'9' * 40}:1"])
def test_damaged_cursor_is_no_cursor(cursor: str) -> None:
    with stream(cursor=cursor) as (kmsg, writer):
        assert seqs(feed(kmsg, writer, [line(0, "x", 4)])) == [0]


# Overruns


def test_overwritten_records_are_counted_once_by_the_gap() -> None:
    found = shipped([line(10, "a", 4), line(11, "b", 4), line(50, "c", 4), line(51, "d"), line(60, "e")])
    assert sum(log.lost for log in logs(found)) == 10 + 38 + 8  # before the first, 12 to 49, 52 to 59
    assert seqs(found) == [10, 11, 50]


def test_loss_is_told_even_if_nothing_else_is_worth_shipping() -> None:
    found = shipped([line(0, "a"), line(8, "b")])
    assert [(log.lost, log.records) for log in logs(found)] == [(7, ())]
    with stream(cursor=found[-1].cursor) as (kmsg, writer):
        assert feed(kmsg, writer, [line(8, "b"), line(9, "c")]) == []


def test_records_passed_over_for_long_are_not_taken_for_lost_after_a_restart() -> None:
    records = [line(n, "chatter") for n in range(6000)]
    found = shipped(records)
    assert texts(found) == []
    cursor = found[-1].cursor or ""
    seen = int(cursor.split(":")[1])
    assert seen >= 4000
    with stream(cursor=cursor) as (kmsg, writer):
        again = feed(kmsg, writer, records[seen + 1 :])
    assert sum(log.lost for log in logs(again)) == 0


def test_command_line_that_names_lockups_is_no_fault() -> None:
    found = shipped(
        [line(0, "Command line: softlockup_panic=1 nosoftlockup nowatchdog rcupdate.rcu_cpu_stall_timeout=9")]
    )
    assert found == []


def _device() -> Iterator[bytes]:
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                yield os.read(fd, 16384)
            except BrokenPipeError:
                continue
            except BlockingIOError:
                return
    finally:
        os.close(fd)


def _live_log() -> str | None:
    try:
        return None if next(_device(), b"") else "the running kernel's log is empty"
    except OSError as error:
        return f"/dev/kmsg cannot be read here: {error.strerror}"


@pytest.mark.skipif(_live_log() is not None, reason=_live_log() or "")
def test_live_device_gives_what_a_plain_reader_sees() -> None:
    plain = list(_device())
    kmsg = Kmsg(lambda text: (match.start() for match in re.finditer(rb"(?m)^\d", text)))  # wants every line
    assert kmsg.open(Host(Path("/"), BOOT), None) is None
    fd = kmsg.fileno()
    assert fd is not None
    with select.epoll() as loop:
        loop.register(fd, select.EPOLLIN)
        assert loop.poll(0)
    found = list(kmsg.read(never))
    kmsg.close()
    got = texts(found)
    assert got[: len(plain)] == [record.rstrip(b"\n").decode() for record in plain]
    first = int(plain[0].split(b",")[1])
    assert sum(log.lost for log in logs(found)) == first


# Interfaces that are not as expected


def test_host_without_a_log_is_off_not_failed(tree: Tree) -> None:
    assert Kmsg().open(tree.host(), None) == "there is no /dev/kmsg on this host"


def test_device_with_nothing_behind_it_says_so(tree: Tree) -> None:
    tree.write({"dev/null": ""})
    with socket.socket(socket.AF_UNIX) as behind:
        behind.bind(str(tree.root / "dev/kmsg"))
        why = Kmsg().open(tree.host(), None)
    assert why == "/dev/kmsg: No such device or address"  # ENXIO; a driver that is gone gives ENODEV


def test_missing_permission_names_the_capability(tree: Tree) -> None:
    tree.write({"dev/kmsg": ""})
    (tree.root / "dev/kmsg").chmod(0)
    with modes_count():
        assert "CAP_SYSLOG" in (Kmsg().open(tree.host(), None) or "")


def test_writer_that_goes_away_leaves_a_quiet_descriptor() -> None:
    with stream() as (kmsg, writer):
        found = feed(kmsg, writer, [line(0, "last", 4)])
        writer.close()
        fd = kmsg.fileno()
        assert fd is not None
        with select.epoll() as loop:
            loop.register(fd, select.EPOLLIN)
            assert loop.poll(0)
            found += kmsg.read(never)
        with select.epoll() as loop:
            loop.register(fd, select.EPOLLIN)
            assert not loop.poll(0)
        assert list(kmsg.read(never)) == []
    assert seqs(found) == [0]


def test_regular_file_is_followed(tree: Tree) -> None:
    tree.write({"log": line(0, "one", 4) + b"\n" + line(1, "two", 4) + b"\n" + line(2, "half of a", 4)})
    kmsg = Kmsg(path="/log")
    assert kmsg.open(tree.host(), None) is None
    assert kmsg.fileno() is None  # epoll refuses regular files
    assert kmsg.interval_s is not None
    assert seqs(kmsg.read(never)) == [0, 1]
    with (tree.root / "log").open("ab") as file:
        file.write(b" record\n" + line(3, "four", 4))
    assert texts(kmsg.read(never)) == [line(2, "half of a record", 4).decode()]
    assert list(map(str, texts(kmsg.read(never)))) == [line(3, "four", 4).decode()]
    kmsg.close()


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_log_arrives_the_same_through_any_descriptor(kind: socket.SocketKind) -> None:
    records = recorded(RECORDED[0])
    theirs, ours = socket.socketpair(socket.AF_UNIX, kind)
    kmsg = Kmsg(fd=ours.detach())
    assert kmsg.open(Host(Path("/"), BOOT), None) is None
    found = feed(kmsg, theirs, [record + b"\n" for record in records])
    theirs.close()
    found += kmsg.read(never)
    kmsg.close()
    assert texts(found) == texts(shipped(records))


# Noise


@settings(max_examples=150, deadline=None)
@given(
    packets=st.lists(st.one_of(st.binary(min_size=1, max_size=300), st.just(line(7, "a", 4))), max_size=20)
)
def test_no_bytes_in_a_record_make_it_fail(packets: list[bytes]) -> None:
    found = shipped([*packets, line(10**18, "the end", 4, 1)])
    assert texts(found)[-1].endswith(";the end")


@settings(max_examples=150, deadline=None)
@given(noise=st.binary(max_size=400), at=st.integers(0, 500), cut=st.integers(1, 64))
def test_noise_in_a_byte_stream_costs_the_records_it_hits_and_no_others(
    noise: bytes, at: int, cut: int
) -> None:
    clean = b"".join(line(n, f"record {n}", 4) + b"\n" for n in range(20))
    end = b"".join(line(10**9 + n, "after the noise", 4) + b"\n" for n in range(3))
    data = clean[:at] + noise + b"\n" + end
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    kmsg = Kmsg(fd=ours.detach())
    assert kmsg.open(Host(Path("/"), BOOT), None) is None
    found = feed(kmsg, theirs, [data[n : n + cut] for n in range(0, len(data), cut)])
    theirs.close()
    found += kmsg.read(never)
    kmsg.close()
    got = texts(found)
    assert got[-2:] == [f"4,{10**9 + n},{(10**9 + n) * 1000},-;after the noise" for n in (1, 2)]
    whole = [record.decode() for record in clean[:at].split(b"\n")[:-1]]
    assert got[: len(whole)] == whole or not whole


def test_megabytes_without_a_record_are_not_hoarded() -> None:
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    kmsg = Kmsg(fd=ours.detach())
    assert kmsg.open(Host(Path("/"), BOOT), None) is None
    found = feed(
        kmsg, theirs, [b"x" * 4096] * 2000 + [b"\n" + line(0, "at last", 4) + b"\n" + line(1, "y") + b"\n"]
    )
    theirs.close()
    found += kmsg.read(never)
    kmsg.close()
    assert texts(found)[-1] == line(0, "at last", 4).decode()
    assert sum(map(len, texts(found))) < 1000

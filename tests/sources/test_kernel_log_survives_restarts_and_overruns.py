"""The kernel's log goes on after a restart without loss or repetition; what was overwritten is counted."""

import os
import re
import select
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sources.conftest import BOOT, Tree, never
from tests.sources.kernel_log import (
    RECORDED,
    feed,
    line,
    logs,
    recorded,
    seqs,
    shipped,
    stream,
    texts,
)

from necropsy_agent.sources import Found, Hits, Host
from necropsy_agent.sources.kmsg import Kmsg, nothing


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

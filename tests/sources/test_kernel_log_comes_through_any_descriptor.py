"""Devices, files, pipes and noise: a kernel log is read from whatever it comes through."""

import select
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sources.conftest import BOOT, Tree, modes_count, never
from tests.sources.kernel_log import RECORDED, feed, line, recorded, seqs, shipped, stream, texts

from necropsy_agent.sources import Host
from necropsy_agent.sources.kmsg import Kmsg


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

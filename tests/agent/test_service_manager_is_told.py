"""sd_notify(3) against a real datagram socket: ready, alive, reloading, stopping."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from necropsy_agent.notify import Notifier

from .conftest import Peer, Site


@contextmanager
def _manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:] if address.startswith("@") else address)
        manager.settimeout(20)
        yield manager


def _told(manager: socket.socket, wanted: str) -> str:
    """Read datagrams until one says what is wanted."""
    seen = []
    while True:
        seen.append(manager.recv(4096).decode())
        if wanted in seen[-1].splitlines():
            return seen[-1]


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_both_kinds_of_address_are_reached(kind: str, tmp_path: Path) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@necropsy-test-{os.getpid()}"
    with _manager(address) as manager:
        notifier = Notifier({"NOTIFY_SOCKET": address})
        notifier.send("READY=1", "STATUS=all is well")
        notifier.close()
        assert manager.recv(4096) == b"READY=1\nSTATUS=all is well"


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.send("READY=1")
    assert notifier.alive(5.0) == float("inf")
    notifier.close()


def test_a_manager_that_is_gone_holds_nothing_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.send("READY=1")
    notifier.close()
    assert "cannot be told" in capsys.readouterr().err


def test_the_watchdog_is_fed_at_half_its_time(tmp_path: Path) -> None:
    with _manager(str(tmp_path / "notify")) as manager:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000000"})
        assert notifier.alive(100.0) == 110.0
        assert notifier.alive(105.0) == 110.0
        assert notifier.alive(110.0) == 120.0
        notifier.send("END=1")
        notifier.close()
        assert [manager.recv(99) for _ in range(3)] == [b"WATCHDOG=1", b"WATCHDOG=1", b"END=1"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_a_watchdog_that_is_not_ours_is_left_alone(environ: dict[str, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": "@necropsy-nobody", **environ})
    assert notifier.watchdog_s is None
    notifier.close()


def test_an_agent_tells_its_whole_life(site: Site, peer: Peer, tmp_path: Path) -> None:
    site.configure(peer.url)
    with _manager(str(tmp_path / "notify")) as manager:
        with site.running(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000") as agent:
            _told(manager, "READY=1")
            _told(manager, "STATUS=all is well")
            _told(manager, "WATCHDOG=1")
            _told(manager, "WATCHDOG=1")
            agent.send_signal(signal.SIGHUP)
            reloading = _told(manager, "RELOADING=1").splitlines()
            assert any(line.startswith("MONOTONIC_USEC=") for line in reloading)
            _told(manager, "READY=1")
        _told(manager, "STOPPING=1")
    assert agent.returncode == 0

"""The running agent: what one source does to the others, failures asked again, a new configuration."""

import errno
import itertools
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from necropsy_agent.outbox import Outbox
from necropsy_agent.sources import Found, Host
from necropsy_agent.watched import Watched

from .conftest import BOOT_ID, Peer, Site, crash

HOST = Host(Path("/"), BOOT_ID.replace("-", ""))


class Scripted:
    """A source that gives what it is told to, look by look."""

    name = "scripted"
    interval_s: float | None = 60.0

    def __init__(self, *looks: list[Found]) -> None:
        self._looks = iter(looks)
        self.cursors: list[str | None] = []
        self.marked: list[str] = []
        self.failing_mark = False

    def open(self, host: Host, cursor: str | None) -> str | None:
        self.cursors.append(cursor)
        return None

    def fileno(self) -> int | None:
        return None

    def read(self, known: Callable[[str], bool]) -> Iterable[Found]:
        return next(self._looks, [])

    def acknowledged(self, key: str) -> None:
        if self.failing_mark:
            raise OSError(errno.EIO, "Input/output error")
        self.marked.append(key)

    def close(self) -> None:
        """Nothing is held."""


class Failing(Scripted):
    """Gives a record, then fails."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self._error = error
        self._left = times
        self._numbers = itertools.count()

    def read(self, known: Callable[[str], bool]) -> Iterator[Found]:
        number = next(self._numbers)
        yield crash(f"k{number}", cursor=str(number))
        if self._left:
            self._left -= 1
            raise self._error


@pytest.fixture
def kept(outbox: Callable[..., Outbox]) -> Outbox:
    return outbox()


@pytest.mark.parametrize(
    ("error", "words", "first_s"),
    [
        (
            OSError(errno.EIO, "Input/output error", "/sys/fs/pstore"),
            "/sys/fs/pstore: Input/output error",
            60,
        ),
        (TimeoutError("it took longer than 300 s"), "it took longer than 300 s", 60),
        (KeyError("no such field"), "an error of the agent's own: KeyError: 'no such field'", 60),
    ],
)
def test_a_failing_source_is_counted_and_asked_again(
    error: Exception, words: str, first_s: float, kept: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    import time

    watched = Watched(Failing(error, times=3))
    dues = []
    for _ in range(3):
        taken = watched.look(HOST, kept)
        assert taken.stored == {"crash": 1}, "what it gave before it failed is stored"
        dues.append(watched.due_s - time.monotonic())
    state = watched.state()
    assert (state.state, state.failed, state.found) == ("failed", 3, 3)
    assert state.why == words
    assert dues[0] == pytest.approx(first_s, abs=2)
    assert [round(due) for due in dues] == sorted(round(due) for due in dues), "no pause is shorter"
    assert capsys.readouterr().err.count(f"failed: {words}") == 1, "it is said once"
    watched.look(HOST, kept)
    assert watched.state().state == "on"
    assert "well again" in capsys.readouterr().err


def test_an_error_of_our_own_is_logged_with_its_place(
    kept: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Failing(ZeroDivisionError("division by zero"), times=1)
    watched = Watched(source)
    watched.look(HOST, kept)
    assert "test_daemon_goes_on.py" in capsys.readouterr().err
    watched.look(HOST, kept)
    assert source.cursors == [None, "0"], "it is opened again from its cursor"


def test_a_mark_that_fails_is_made_later(kept: Outbox, capsys: pytest.CaptureFixture[str]) -> None:
    source = Scripted([crash("k1")])
    watched = Watched(source)
    watched.look(HOST, kept)
    source.failing_mark = True
    watched.tell(kept, "k1")
    assert "k1 could not be marked as done" in capsys.readouterr().err
    source.failing_mark = False
    watched.tell(kept, "k1")
    assert source.marked == ["k1"]


def test_lines_of_the_kernel_log_arrive_while_it_runs(site: Site, peer: Peer) -> None:
    log = site.write("dev/kmsg", "6,0,100,-;Linux version 6.1.0\n")
    site.configure(peer.url, ship={"routine_wait_s": 0})
    with site.running():
        peer.wait_for(lambda: bool(peer.arrived))
        with log.open("a") as file:
            file.write("0,1,200000,-;Kernel panic - not syncing: Fatal exception\n")
        peer.wait_for(lambda: any(event.keep == "crash" for event in peer.arrived))
    bodies = [bytes(event.body) for event in peer.arrived if event.kind == "kernel.log"]
    assert any(b"Fatal exception" in body for body in bodies)


def test_an_analyzer_that_was_away_gets_everything(site: Site, peer: Peer) -> None:
    site.configure("http://127.0.0.1:9")
    for number in range(3):
        site.pstore(number)
        assert site.once().returncode == 1
    site.configure(peer.url)
    assert site.once().returncode == 0
    records = [event.id for event in peer.arrived if event.kind == "crash.record"]
    assert len(records) == len(set(records)) == 3


def test_acknowledged_records_are_erased_where_that_is_wanted(site: Site, peer: Peer) -> None:
    site.configure(peer.url, sources={"pstore_clear": True})
    name = site.pstore(1)
    peer.answers.append(lambda _: None)
    assert site.once().returncode == 0
    assert not (site.root / "sys/fs/pstore" / name).exists()


def test_a_new_configuration_is_taken_on_hangup_and_a_bad_one_is_not(site: Site, peer: Peer) -> None:
    site.configure(peer.url, sources={"off": ["journal", "pstore"], "look_every_s": 0.2})
    site.pstore(1)
    with site.running() as agent:
        peer.wait_for(lambda: bool(peer.arrived))
        site.config.write_text("nonsense = 1\n")
        agent.send_signal(signal.SIGHUP)
        _said(site, agent, "going on with the configuration as it was")
        site.configure(peer.url, sources={"look_every_s": 0.2})
        agent.send_signal(signal.SIGHUP)
        peer.wait_for(lambda: any(event.kind == "crash.record" for event in peer.arrived))
    assert agent.returncode == 0
    assert "read anew" in site.log


def test_health_is_reported_at_the_start_with_every_source(site: Site, peer: Peer) -> None:
    from necropsy_agent import wire

    site.configure(peer.url)
    site.once()
    [event] = [event for event in peer.arrived if event.kind == "agent.health"]
    health = wire.unpack(event)
    assert isinstance(health, wire.AgentHealth)
    assert health.resident_bytes > 1 << 20
    assert health.dropped == {}
    states = {source.name: source.state for source in health.sources}
    assert states["boots"] == "on"
    assert states["kmsg"] == "off"
    assert set(states) == {*("boots", "inventory", "pstore", "kdump", "journal", "kmsg", "outbox", "shipper")}


def _said(site: Site, agent: "subprocess.Popen[bytes]", words: str) -> None:
    """Wait until the agent's log has some words."""
    import time

    until_s = time.monotonic() + 20
    while words not in site.log:
        assert time.monotonic() < until_s, site.log
        with pytest.raises(subprocess.TimeoutExpired):
            agent.wait(0.05)

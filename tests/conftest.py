"""What tests of several stages need: a host that makes events and batches as an agent sends them, and an
analyzer in a process of its own.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from necropsy_agent import wire
from necropsy_agent.wire import BatchHead, Body, Event
from necropsy_analyzer.store import hosts, work
from necropsy_analyzer.store.store import Store, sqlite_url

NOW_NS = 1_795_000_000 * 10**9
BIN = Path(sys.executable).parent


class Sender:
    """A host as the analyzer sees it: its events are numbered, its batches have the wire's form."""

    def __init__(self, machine: str = "0123456789abcdef0123456789abcdef") -> None:
        self.machine = wire.host_id(machine)
        self._seq = itertools.count(1)

    def event(self, of: Body, boot: str = "b" * 32, **fields: Any) -> Event:
        """Make an event of a body, kept as a crash unless told otherwise."""
        given: dict[str, Any] = {
            "id": wire.event_id(),
            "kind": wire.kind_of(of),
            "host": self.machine,
            "boot": boot,
            "seq": next(self._seq),
            "wall_ns": NOW_NS,
            "mono_ns": 60 * 10**9,
            "keep": "crash",
            "body": msgspec.Raw(wire.pack(of)),
        }
        return Event(**{**given, **fields})

    def crash(self, text: str = "Kernel panic - not syncing: test\n", **fields: Any) -> Event:
        """Make the event of a pstore record of that text."""
        record = {name: fields.pop(name) for name in ("key", "died_wall_ns", "path") if name in fields}
        part = wire.CrashPart(name="dmesg-efi-1", blob=wire.Blob.of(text.encode()))
        body = wire.CrashRecord(
            origin="pstore", parts=(part,), **{"path": "/sys/fs/pstore", "key": wire.event_id(), **record}
        )
        return self.event(body, **fields)

    def lines(self, *events: Event, **head: Any) -> bytes:
        """Write a batch as NDJSON."""
        given: dict[str, Any] = {
            "wire": wire.WIRE_VERSION,
            "id": wire.event_id(),
            "host": self.machine,
            "agent": "0.1.0",
            "count": len(events),
            "sent_wall_ns": NOW_NS,
        }
        return msgspec.json.Encoder().encode_lines([BatchHead(**{**given, **head}), *events])

    def body(self, *events: Event, **head: Any) -> bytes:
        """Write a batch as NDJSON, zstd."""
        return zstandard.compress(self.lines(*events, **head))


class Analyzer:
    """`necropsy serve` in a process of its own, over a folder, on a free port of loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.url = ""
        self.options: list[str | Path] = []
        self._process: subprocess.Popen[str] | None = None
        self._port = "0"

    @property
    def pid(self) -> int:
        """The process that serves."""
        assert self._process is not None
        return self._process.pid

    @property
    def wal(self) -> Path:
        """Its store's write-ahead log."""
        return self.state / "necropsy.db-wal"

    @property
    def log(self) -> str:
        """What it wrote to standard error, over all its lives."""
        return (self.folder / "serve.log").read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it and wait until it listens; after the first time on the same port."""
        said = self.begin()
        assert said.startswith("listening on "), self.log
        self.url = said.split()[-1]
        self._port = self.url.rpartition(":")[2]

    def begin(self) -> str:
        """Start it and give what it says first, nothing if it ends before."""
        with (self.folder / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [BIN / "necropsy", "serve", "--listen", f"127.0.0.1:{self._port}",
                 "--state-dir", self.state, *self.options],
                stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment(),
            )  # fmt: skip
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def environment(self) -> dict[str, str]:
        """Give the environment in which its commands run: what is made once is kept in its folder."""
        return {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")}

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._ended("kill")

    def shown(self, number: int) -> dict[str, Any]:
        """Show one incident."""
        incident: dict[str, Any] = json.loads(self.run("show", str(number), "--format", "json").stdout)
        return incident

    @contextmanager
    def killed_when(self, due: Callable[[], bool], within_s: float) -> Iterator[None]:
        """Kill it as soon as `due`, wherever it is then, but after `within_s` in any case; the block may go
        on meanwhile, and ends when it is dead.
        """
        until_s = time.monotonic() + within_s

        def strike() -> None:
            while time.monotonic() < until_s and not due():
                time.sleep(0.0002)
            if self._process is not None:
                self._process.kill()

        killer = threading.Thread(target=strike)
        killer.start()
        yield
        killer.join()
        self.kill()

    def diagnosed(self, within_s: float = 60.0) -> list[dict[str, Any]]:
        """Wait until no host waits for its verdicts, and list the incidents."""
        store = Store.open(sqlite_url(self.state))
        until_s = time.monotonic() + within_s
        try:
            while True:
                with store.read() as connection:
                    if work.waiting(connection) == 0:
                        break
                assert time.monotonic() < until_s, f"no verdicts within {within_s:g} s:\n{self.log[-3000:]}"
                time.sleep(0.05)
        finally:
            store.close()
        return self.incidents()

    def stop(self) -> int:
        """End it as systemd does (SIGTERM); give its exit status."""
        return self._ended("terminate")

    def run(self, *arguments: str | Path, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command of `necropsy` over the same store."""
        return subprocess.run(
            [BIN / "necropsy", *map(str, arguments), "--state-dir", self.state],
            check=check, capture_output=True, text=True, timeout=120, env=self.environment(),
        )  # fmt: skip

    def enroll(self, name: str) -> str:
        """Enroll a host and give its token."""
        store = Store.open(sqlite_url(self.state))
        with store.write() as connection:
            token = hosts.enroll(connection, name, labels={}, now_ns=time.time_ns())
        store.close()
        return token

    def incidents(self, *options: str) -> list[dict[str, Any]]:
        """List its incidents."""
        found: list[dict[str, Any]] = json.loads(
            self.run("incidents", "--format", "json", "--limit", "9999", *options).stdout
        )
        return found

    def _ended(self, how: str) -> int:
        if self._process is None:
            return 0
        getattr(self._process, how)()
        status = self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return status


@pytest.fixture
def analyzer(tmp_path: Path) -> Iterator[Analyzer]:
    """An analyzer that is not running yet."""
    made = Analyzer(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def sender() -> Sender:
    """A host."""
    return Sender()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty embedded store."""
    opened = Store.open(sqlite_url(tmp_path / "state"))
    yield opened
    opened.close()

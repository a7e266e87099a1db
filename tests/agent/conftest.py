"""What the agent's tests need: a host tree, its configuration, the command, and a peer that answers HTTP."""

import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from necropsy_agent import wire
from necropsy_agent.outbox import Origin, Outbox
from necropsy_agent.sources import Found
from necropsy_agent.wire import Ack, Blob, CrashPart, CrashRecord, Event, KernelLog

BIN = Path(sys.executable).parent
MACHINE = "0123456789abcdef0123456789abcdef"
BOOT_ID = "11111111-2222-4333-8444-555555555555"
ORIGIN = Origin(host=wire.host_id(MACHINE), boot=BOOT_ID.replace("-", ""))
MIB = 1 << 20


@dataclass(frozen=True)
class Reply:
    """An HTTP answer of the peer's, as it is to be sent."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(status: int, detail: str = "as the test wants it", **headers: str) -> Reply:
    """Make the analyzer's own kind of refusal."""
    body = json.dumps({"status": status, "title": "", "detail": detail}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"content-type": "application/problem+json", **named})


@dataclass
class Sent:
    """A request as it arrived: headers, batch id, events."""

    path: str
    headers: dict[str, str]
    batch: str
    events: list[Event]


class Peer:
    """A small HTTP server on loopback; `answers` decide in turn, after them everything is acknowledged."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.sent: list[Sent] = []
        self._change = threading.Condition()
        self.answers: deque[Reply | Callable[[Sent], Reply | None]] = deque()
        self.always: Callable[[Sent], Reply | None] | None = None
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                reply = peer.reply(self.path, {name.lower(): v for name, v in self.headers.items()}, body)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"

    def reply(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Take a request, note it, answer it."""
        lines = zstandard.decompress(body, max_output_size=64 * MIB).splitlines()
        head = msgspec.json.decode(lines[0], type=wire.BatchHead)
        events = [msgspec.json.decode(line, type=Event) for line in lines[1:]]
        assert head.count == len(events)
        sent = Sent(path, headers, head.id, events)
        with self._change:
            self.sent.append(sent)
            self._change.notify_all()
        answer: Reply | Callable[[Sent], Reply | None] | None = self.always
        if self.answers:
            answer = self.answers.popleft()
        if callable(answer):
            answer = answer(sent)
        return answer or Reply(200, msgspec.json.encode(Ack(batch=sent.batch, accepted=len(events))))

    @property
    def arrived(self) -> list[Event]:
        """All events of all requests, in the order of their arrival."""
        return [event for sent in self.sent for event in sent.events]

    def wait_for(self, true: Callable[[], bool], within_s: float = 30.0) -> None:
        """Wait until what has arrived makes something true."""
        with self._change:
            assert self._change.wait_for(true, within_s), [event.kind for event in self.arrived]

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A server that acknowledges what it is sent, unless told otherwise."""
    opened = Peer()
    yield opened
    opened.close()


class Site:
    """A host tree, a state folder and the agent's configuration, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "host"
        self.state = folder / "agent"
        self.config = folder / "agent.toml"
        self.write("etc/machine-id", MACHINE + "\n")
        self.write("proc/sys/kernel/random/boot_id", BOOT_ID + "\n")
        self.write("proc/sys/kernel/osrelease", "6.1.0-test\n")
        self.write("proc/stat", "btime 1790000000\n")
        token = folder / "token"
        token.write_text("s3cret-token\n")
        token.chmod(0o600)

    def write(self, name: str, content: str | bytes) -> Path:
        """Put a file into the host tree."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def pstore(self, number: int, text: str = "Kernel panic - not syncing: test") -> str:
        """Leave the pstore record of one more crash in the host tree, of one part; give its file's name."""
        died_s = 1_700_000_000 + 1000 * number
        name = f"dmesg-efi-{(died_s * 100 + 1) * 1000 + 1}"  # drivers/firmware/efi/efi-pstore.c
        self.write(f"sys/fs/pstore/{name}", f"Panic#1 Part1\n<0>[    1.000000] {text}\n")
        return name

    def configure(self, url: str, **sections: Mapping[str, Any]) -> Path:
        """Write the configuration; sections are given by name."""
        lines = [f'root = "{self.root}"', f'state_dir = "{self.state}"']
        tables: dict[str, Mapping[str, Any]] = {
            "server": {"url": url, "token_file": "token"},
            "sources": {"off": ["journal"]},
        }
        for name, values in sections.items():
            tables[name] = {**tables.get(name, {}), **values}
        for name, values in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        self.config.write_text("\n".join(lines) + "\n")
        return self.config

    def agent(self, *arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run `necropsy-agent` to its end."""
        command = [BIN / "necropsy-agent", *arguments]
        return subprocess.run(
            list(map(str, command)),
            check=False, capture_output=True, text=True, timeout=60, env=environment(), **options,
        )  # fmt: skip

    @contextmanager
    def running(self, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run `necropsy-agent run` meanwhile, and end it by SIGTERM."""
        with (self.folder / "agent.log").open("ab") as log:
            agent = subprocess.Popen(
                [BIN / "necropsy-agent", "run", "--config", self.config], stderr=log, env=environment(**more)
            )
        try:
            yield agent
        finally:
            agent.terminate()
            agent.wait(30)

    @property
    def log(self) -> str:
        """What `running()` agents said."""
        return (self.folder / "agent.log").read_text()

    def once(self) -> "subprocess.CompletedProcess[str]":
        """Look once and ship."""
        return self.agent("once", "--config", self.config)


def environment(**more: str) -> dict[str, str]:
    """Give an environment without a service manager."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "JOURNAL_STREAM")
    }
    return {**kept, **more}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A host without anything on it."""
    return Site(tmp_path)


def crash(key: str | None, text: str = "Kernel panic", **fields: Any) -> Found:
    """Make what a source gives for a crash record."""
    part = CrashPart(name="dmesg", blob=Blob.of(text.encode()))
    body = CrashRecord(origin="pstore", path="/sys/fs/pstore", key=key or "", parts=(part,))
    return Found(body=body, keep="crash", key=key, **fields)


def routine(text: str = "4,1,1,-;a line", **fields: Any) -> Found:
    """Make what a source gives for a line of the kernel log."""
    return Found(**{"body": KernelLog(records=(text,)), "keep": "routine", **fields})


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    """Open the outbox of one state folder, as often as a test restarts its agent."""
    opened: list[Outbox] = []

    def again(limit_bytes: int = 16 * MIB, said: list[str] | None = None) -> Outbox:
        for before in opened:
            before.close()
        opened.clear()
        opened.append(
            Outbox.open(tmp_path / "state", limit_bytes, ORIGIN, (said if said is not None else []).append)
        )
        return opened[0]

    yield again
    for left in opened:
        left.close()


def lines_of(events: Iterable[bytes]) -> list[Event]:
    """Read the lines of a parcel."""
    return [msgspec.json.decode(line, type=Event) for line in events]

"""The resident agent: its size, its share of a core when idle, and a burst of the kernel log.

The baselines are an interpreter that does nothing, and splitting the same records into lines. The agent is
`necropsy-agent run` as it is installed. Idle it looks at this machine, its analyzer a server that takes
everything; the burst comes through a FIFO in the place of /dev/kmsg, with no analyzer, so that all it kept
can be counted in its outbox.
"""

import argparse
import http.server
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import yaml
import zstandard

from necropsy_agent import wire
from necropsy_agent.config import Config, load
from necropsy_agent.delivery import start
from necropsy_agent.outbox_file import OutboxError
from necropsy_agent.parcels import Parcels
from necropsy_agent.prefilter import rule_files
from necropsy_agent.shipper import Job

AGENT = Path(sys.executable).with_name("necropsy-agent")
RECORDS = 100_000
WANTED_EVERY = 20
SETTLED_S = 5.0
RESIDENT_MOST_MB = 34.0
IDLE_MOST_PERCENT = 0.3
HEALTH_EVERY_S = Config().health_every_s


class Analyzer(http.server.BaseHTTPRequestHandler):
    """Acknowledges every batch."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        head = zstandard.ZstdDecompressor().stream_reader(body).read(4096).split(b"\n")[0]
        batch = msgspec.json.decode(head, type=wire.BatchHead)
        ack = msgspec.json.encode(wire.Ack(batch=batch.id, accepted=batch.count))
        self.send_response(200)
        self.send_header("content-length", str(len(ack)))
        self.end_headers()
        self.wfile.write(ack)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its parent's name
        """Say nothing."""


def main() -> None:
    """Print the figures; status 1 where one misses what is aimed at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle-s", type=float, default=65.0, help="how long to watch (default: 65)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good = _idle(Path(folder), options.idle_s)
        good &= _burst(Path(folder))
    sys.exit(0 if good else 1)


def _configure(folder: Path, root: Path, url: str) -> Path:
    token = folder / "token"
    token.write_text("token")
    token.chmod(0o600)
    config = folder / "agent.toml"
    config.write_text(
        f'root = "{root}"\nstate_dir = "{folder / root.name}-state"\n'
        f'[server]\nurl = "{url}"\ntoken_file = "token"\n[sources]\noff = ["journal"]\n'
    )
    return config


def _start(config: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([AGENT, "run", "--config", config], stderr=subprocess.DEVNULL)


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def _cpu_s(pid: int) -> float:
    """Give the time that a process has run (Documentation/scheduler/sched-stats.rst)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _idle(folder: Path, idle_s: float) -> bool:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Analyzer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    config = _configure(folder, Path("/"), f"http://127.0.0.1:{server.server_port}")
    agent = _start(config)
    bare = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(9999)"])
    try:
        time.sleep(SETTLED_S)
        before_s, started = _cpu_s(agent.pid), time.monotonic()
        time.sleep(idle_s)
        percent = 100 * (_cpu_s(agent.pid) - before_s) / (time.monotonic() - started)
        resident, base = _resident_bytes(agent.pid), _resident_bytes(bare.pid)
    finally:
        for process in (agent, bare):
            process.send_signal(signal.SIGTERM)
            process.wait()
        server.shutdown()
        thread.join()
        server.server_close()
    ship_s = _shipper_cpu_s(config)
    whole_percent = percent + 100 * ship_s / HEALTH_EVERY_S
    resident_mb, base_mb = resident / 1e6, base / 1e6
    print(f"idle agent, watched for {idle_s:.0f} s:")
    print(
        f"  {resident_mb:.1f} MB resident, {resident / base:.2f} x a bare interpreter ({base_mb:.1f} MB);"
        f" aimed at: {RESIDENT_MOST_MB:.0f} MB"
    )
    print(
        f"  {percent:.3f} % of a core, {whole_percent:.3f} % with a shipper of {ship_s:.2f} s for its"
        f" health every {HEALTH_EVERY_S:.0f} s; aimed at: less than {IDLE_MOST_PERCENT} %"
    )
    return resident <= RESIDENT_MOST_MB * 1e6 and whole_percent < IDLE_MOST_PERCENT


def _shipper_cpu_s(config: Path) -> float:
    """Measure what one run of the shipper takes."""
    told = load(config)
    shipper = start(Job(state_dir=told.state_dir, host="h", server=told.server, ship=told.ship))
    _, status, usage = os.wait4(shipper.pid, 0)
    shipper.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _wanted() -> list[str]:
    """Give an example line of each rule that its own pattern matches and /dev/kmsg shows unescaped."""
    lines = []
    for file in rule_files(()):
        rules: list[dict[str, Any]] = yaml.safe_load(file.read_bytes()) or []
        for rule in rules:
            match = rule.get("match", []) if isinstance(rule, dict) else []
            patterns = match if isinstance(match, list) else [match]
            for example in rule.get("examples", ()) if patterns else ():
                line = example["text"].strip()
                plain = line.isascii() and line.isprintable() and "\\" not in line
                if plain and any(re.search(pattern, line) for pattern in patterns):
                    lines.append(line)
    return lines


def _records(wanted: list[str]) -> tuple[bytes, set[int]]:
    """Make records of level 6: noise that no rule wants, and among it lines that one does."""
    records, sequences = [], set()
    for n in range(RECORDS):
        text = f"usb 1-{n % 9}: new high-speed USB device number {n % 127} using ehci-pci"
        if n % WANTED_EVERY == WANTED_EVERY - 1:
            text = wanted[n // WANTED_EVERY % len(wanted)]
            sequences.add(n)
        records.append(f"6,{n},{n * 10},-;{text}\n".encode())
    # A stream's last record may go on in what has not come yet, so one more follows.
    return b"".join((*records, b"6,%d,%d,-;end\n" % (RECORDS, RECORDS * 10))), sequences


def _burst(folder: Path) -> bool:
    root = folder / "host"
    for name, content in (
        ("etc/machine-id", "0123456789abcdef0123456789abcdef"),
        ("proc/sys/kernel/random/boot_id", "11111111-2222-4333-8444-555555555555"),
        ("proc/sys/kernel/osrelease", "6.1.0"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "dev").mkdir()
    os.mkfifo(root / "dev/kmsg")
    wanted = _wanted()
    records, sequences = _records(wanted)
    pipe = os.open(root / "dev/kmsg", os.O_RDWR)  # held, so that the log has no end
    agent = _start(_configure(folder, root, "http://127.0.0.1:9"))
    state = folder / "host-state"
    while not (state / "status.json").exists():
        time.sleep(0.05)
    cpu_s, started = _cpu_s(agent.pid), time.perf_counter()
    view = memoryview(records)
    while view:
        view = view[os.write(pipe, view[: 64 << 10]) :]
    last = f"6,{max(sequences)},".encode()
    while not (lines := _kept(state)) or last not in lines:
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    cpu_s = _cpu_s(agent.pid) - cpu_s
    resident = _resident_bytes(agent.pid)
    agent.terminate()
    agent.wait()
    os.close(pipe)
    found = {int(n) for n in re.findall(rb"\b6,(\d+),\d+,-;", _kept(state))}
    started = time.perf_counter()
    records.split(b"\n")
    split_s = time.perf_counter() - started
    lost = sequences - found
    size_mb = len(records) / 1e6
    print(f"burst of {RECORDS:,} records ({size_mb:.1f} MB), one in {WANTED_EVERY} wanted by a rule:")
    print(
        f"  {seconds:.2f} s until the last is in the outbox, {RECORDS / seconds:,.0f} records/s,"
        f" {cpu_s:.2f} s of a core; {seconds / split_s:.0f} x a split of the same bytes"
    )
    print(f"  {len(lost)} of {len(sequences):,} wanted lines lost; {len(found - sequences):,} others shipped")
    print(f"  {resident / 1e6:.1f} MB resident after it")
    return not lost


def _kept(state: Path) -> bytes:
    """Give all kernel log that waits in the outbox, without taking it away."""
    with suppress(OutboxError):
        parcels = Parcels(state)
        try:
            rows = parcels._db.execute("SELECT line FROM events WHERE source = 'kmsg'").fetchall()
        finally:
            parcels.close()
        return b"\n".join(zstandard.decompress(line) if line[:1] != b"{" else line for (line,) in rows)
    return b""


if __name__ == "__main__":
    main()

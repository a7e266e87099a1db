"""`necropsy triage`: cold start over a 1 MB dmesg, and reports a second in one process.

The baseline of the cold start is an interpreter that does nothing; that of the throughput is splitting the
same logs into lines. Give a JSON Lines file of cases (field `log`) to measure those instead of the recorded
crashes.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import zstandard

from necropsy_analyzer.cli.knowledge import knowledge
from necropsy_analyzer.diagnose import Artifact, Case, diagnose

ROOT = Path(__file__).parents[2]
CONSOLES = sorted(ROOT.glob("fixtures/crashes/*/console.log.zst"))
ROUNDS = 7


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="?", type=Path, help="JSON Lines with a field `log`")
    options = parser.parse_args()
    _cold()
    if options.cases is None:
        logs = [_console(path) for path in CONSOLES]
    else:
        with options.cases.open(encoding="utf-8") as file:
            logs = [json.loads(line)["log"].encode() for line in file]
    _throughput(logs)


def _console(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())


def _cold() -> None:
    crash = _console(ROOT / "fixtures/crashes/null-deref@6.1/console.log.zst")
    benign = b"".join(
        b"[%5d.%06d] usb 1-%d: new high-speed USB device number %d using xhci_hcd\n"
        % (n // 50, n, n % 9, n % 127)
        for n in range(((1 << 20) - len(crash)) // 75)
    )
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "dmesg")
        log.write_bytes(benign + crash)
        os.environ["XDG_CACHE_HOME"] = folder
        triage = [str(Path(sys.executable).with_name("necropsy")), "triage", "--format", "jsonl", str(log)]
        first_s, _ = _process(triage)
        runs = [_process(triage) for _ in range(ROUNDS)]
        bare = [_process([sys.executable, "-c", "pass"]) for _ in range(ROUNDS)]
    seconds, base_s = (statistics.median(s for s, _ in figures) for figures in (runs, bare))
    resident, base = (max(r for _, r in figures) for figures in (runs, bare))
    print(f"cold start, {log.name} of {len(benign + crash) / 1e6:.2f} MB, median of {ROUNDS}:")
    print(f"  {seconds:.3f} s, {seconds / base_s:.1f} x a bare interpreter ({base_s:.3f} s)")
    print(
        f"  {resident / 1e6:.0f} MB at peak, {resident / base:.1f} x a bare interpreter ({base / 1e6:.0f} MB)"
    )
    print(f"  {first_s:.3f} s the very first time, when rules are compiled and cached")


def _process(command: list[str]) -> tuple[float, int]:
    """Run a process; its wall time in seconds and its peak resident size in bytes."""
    started = time.perf_counter()
    pid = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{command[0]} ended with status {status}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024


def _throughput(logs: list[bytes]) -> None:
    known = knowledge()
    cases = [Case(input=str(n), artifacts=(Artifact(name="log", data=log),)) for n, log in enumerate(logs)]
    diagnose(cases[0], known)
    started = time.process_time()
    for case in cases:
        diagnose(case, known)
    seconds = time.process_time() - started
    started = time.process_time()
    for log in logs:
        log.decode("utf-8", "replace").splitlines()
    split_s = max(time.process_time() - started, 1e-9)
    size = sum(map(len, logs))
    rate, bytes_rate = len(logs) / seconds, size / seconds / 1e6
    print(f"triage of {len(logs)} logs ({size / 1e6:.2f} MB) in one process, one core:")
    print(f"  {rate:.0f} logs/s, {bytes_rate:.1f} MB/s, {seconds / split_s:.0f} x the time of a split")


if __name__ == "__main__":
    main()

"""All rules over a 50 MB log, 95 % of it benign: the matcher against a loop over compiled `re`, in one run.

Both parts are recorded (fixtures/healthy, and what follows the boot in fixtures/crashes). The loop is the
usual way to run many patterns: each compiled pattern searched in each line until all were asked. It is far
too slow for the whole log, so it is timed on evenly spaced slices of it and scaled to bytes; so is
google-re2's Set, the portable fallback.
"""

import re
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import zstandard

from necropsy_analyzer.cli.knowledge import knowledge
from necropsy_analyzer.evidence.match import Matcher, build, flat
from necropsy_analyzer.report.lines import read

ROOT = Path(__file__).parents[2]
HEALTHY = sorted(ROOT.glob("fixtures/healthy/*/console.log.zst"))
CRASHES = sorted(ROOT.glob("fixtures/crashes/*/console.log.zst"))
BOOT_LINES = 340
"""So many lines of every recording are a healthy boot."""

SIZE_BYTES = 50_000_000
FAULTY = 20
LOOP_BYTES = 100_000
RE2_BYTES = 4_000_000
ROUNDS = 5


def main() -> None:
    """Print the figures."""
    known = knowledge()
    rules = [rule.patterns for rule in known.rules]
    patterns = flat(rules)
    log = b"\n".join(_lines())
    messages = log.decode("utf-8", "replace").split("\n")
    print(f"{len(known.rules)} rules, {len(patterns)} patterns, {len(log) / 1e6:.1f} MB, 95 % benign")

    matcher = Matcher(rules, build(patterns))
    matched_s = min(_timed(lambda: _matched(matcher, log, messages)) for _ in range(ROUNDS))
    engine_s = min(_timed(lambda: _scanned(matcher, log)) for _ in range(ROUNDS))
    loop_part = _slices(log, LOOP_BYTES)
    loop = [re.compile(pattern.encode()) for pattern in patterns]
    loop_s = min(_timed(lambda: _looped(loop, loop_part)) for _ in range(2)) * len(log) / len(loop_part)
    re2_part = _slices(log, RE2_BYTES)
    re2 = Matcher(rules, build(patterns, prefer="re2"))
    re2.scan(re2_part[:100_000])
    re2_messages = re2_part.decode("utf-8", "replace").split("\n")
    re2_s = (
        min(_timed(lambda: _matched(re2, re2_part, re2_messages)) for _ in range(2))
        * len(log)
        / len(re2_part)
    )

    for name, seconds in (
        (f"{matcher.engine.name} with captures", matched_s),
        (f"{matcher.engine.name} alone", engine_s),
        (f"re2 with captures (on {len(re2_part) / 1e6:.1f} MB, scaled)", re2_s),
        (f"loop over compiled re (on {len(loop_part) / 1e6:.1f} MB, scaled)", loop_s),
    ):
        print(f"  {len(log) / seconds / 1e6:8.1f} MB/s  {loop_s / seconds:7.1f} x the loop  {name}")


def _lines() -> Iterator[bytes]:
    """Give a healthy machine's messages with a recorded crash's among them, a twentieth of the bytes."""
    benign = cycle(line for path in HEALTHY for line in _messages(path, 0))
    crashes = cycle([crash for path in CRASHES if (crash := list(_messages(path, BOOT_LINES)))])
    size = crash_size = 0
    while size < SIZE_BYTES:
        line = next(benign)
        size += len(line) + 1
        yield line
        if crash_size * FAULTY < size:
            for line in next(crashes):
                size += len(line) + 1
                crash_size += len(line) + 1
                yield line


def _messages(path: Path, first: int) -> Iterator[bytes]:
    data = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    for line in read(data).lines[first:]:
        if line.kernel and line.text.strip():
            yield line.text.encode()


def _slices(log: bytes, size: int) -> bytes:
    """Take pieces from all over the log, cut at line ends."""
    pieces = []
    for begin in range(0, len(log), len(log) // 10):
        start = log.find(b"\n", begin) + 1
        pieces.append(log[start : log.rfind(b"\n", start, start + size // 10)])
    return b"\n".join(pieces)


def _matched(matcher: Matcher, log: bytes, messages: list[str]) -> int:
    """Find the hits and read the captures of each rule's first; collecting has the messages at hand."""
    hits = matcher.scan(log)
    for hit in hits:
        matcher.captures(hit.rule, messages[hit.lines[0]])
    return len(hits)


def _scanned(matcher: Matcher, log: bytes) -> int:
    return sum(1 for _ in matcher.engine.scan(log))


def _looped(loop: list[re.Pattern[bytes]], log: bytes) -> int:
    return sum(1 for line in log.split(b"\n") for pattern in loop if pattern.search(line))


def _timed(work: Callable[[], int]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()

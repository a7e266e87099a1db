"""Which parts of a log are read, and in which order. In: bytes. Out: pieces of text with their line numbers.

A log of usual size is one piece. Of a very long one the two ends are read and what surrounds likely faults.
The parts of a pstore dump come newest first where somebody put the files one after another
(fs/pstore/platform.c writes `Panic#1 Part1` for the end of the log); they are put into reading order.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from necropsy_analyzer.report.formats import HEADINGS
from necropsy_analyzer.report.formats.heading import HEADING_CHARACTERS

WHOLE_BYTES: Final = 48 << 20
"""A log up to this size is read whole."""

_LINE_BYTES: Final = 1024
_HEAD_BYTES: Final = 4 << 20
_TAIL_BYTES: Final = 24 << 20
_BEFORE_BYTES: Final = 64 << 10
_AFTER_BYTES: Final = 256 << 10
_WINDOWS: Final = 64
_CANDIDATES: Final = 20_000
# One of these is in nearly every heading, and bytes.find() is as fast as memory.
_LIKELY: Final = (
    b"BUG: ", b"Kernel panic", b"cut here ]", b"Oops: ", b"kernel BUG at", b"general protection",
    b"blocked for more than", b"hard LOCKUP", b"detected stall", b"detected expedited", b"able to handle",
    b"Machine Check Exception", b"Internal error: ", b"event severity: fatal", b"Trigger a crash",
)  # fmt: skip
_QUOTED: Final = re.compile(rb"\b(?!kernel\[)[A-Za-z][\w.@-]{0,63}\[\d{1,10}\]: ")
_PART: Final = re.compile(r"^([A-Z][a-z]{2,15}#\d{1,10}) Part ?(\d{1,5})\r?$", re.MULTILINE)
_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


def pieces(data: bytes, damage: list[str]) -> Iterator[tuple[int, str]]:
    """Give the parts of the log that are read, each with the number of its first line."""
    if data.startswith(_BOMS):
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    for number, piece in _spans(data, damage):
        text = piece.decode("utf-8", "replace")
        text = text.removeprefix("\ufeff").replace("\0", "")
        yield from _in_order(number, text)


def _spans(data: bytes, damage: list[str]) -> Iterator[tuple[int, bytes]]:
    if len(data) <= WHOLE_BYTES:
        yield 1, data
        return
    spans = [(0, _HEAD_BYTES), (len(data) - _TAIL_BYTES, len(data))]
    likely = _likely(data)
    if len(likely) > _WINDOWS:
        likely = likely[: _WINDOWS // 2] + likely[-_WINDOWS // 2 :]
    spans += [(max(0, place - _BEFORE_BYTES), place + _AFTER_BYTES) for place in likely]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    number, counted, taken = 1, 0, 0
    for start, end in merged:
        begin = start if start == 0 else data.find(b"\n", start) + 1 or start
        number += data.count(b"\n", counted, begin)
        counted = begin
        taken += max(0, min(end, len(data)) - begin)
        yield number, data[begin:end]
    damage.append(
        f"{(len(data) - taken) >> 20} MiB of {len(data) >> 20} MiB between likely faults were passed over"
    )


def _likely(data: bytes) -> list[int]:
    """Give the places at which reports may begin, in order; of those close together the first."""
    places: set[int] = set()
    for literal in _LIKELY:
        place = data.find(literal, _HEAD_BYTES)
        for _ in range(_CANDIDATES):
            if place < 0:
                break
            start = data.rfind(b"\n", place - _LINE_BYTES, place) + 1 or place
            end = data.find(b"\n", place, place + _LINE_BYTES)
            if _begins(data[start : end if end >= 0 else place + _LINE_BYTES]):
                places.add(start)
                end = place + _AFTER_BYTES // 2
            place = data.find(literal, max(end, place + 1))
    return sorted(places)


def _begins(line: bytes) -> bool:
    """Say whether the kernel begins a report with this line."""
    if _QUOTED.search(line, 0, 200) is not None:
        return False
    text = line.decode("utf-8", "replace")
    return "cut here ]" in text or any(
        known.literal in text and known.pattern.search(text, 0, HEADING_CHARACTERS) is not None
        for known in HEADINGS
    )


def _in_order(first: int, text: str) -> Iterator[tuple[int, str]]:
    """Turn dumps round whose parts stand newest first."""
    heads = list(_PART.finditer(text)) if " Part" in text else []
    if len(heads) < 2:
        yield first, text
        return
    bounds = [0, *(head.start() for head in heads), len(text)]
    sections = []
    number = first
    for start, end in pairwise(bounds):
        sections.append((number, text[start:end]))
        number += text.count("\n", start, end)
    yield sections[0]
    run = [sections[1]]
    for (before, head), section in zip(pairwise(heads), sections[2:], strict=True):
        if before[1] != head[1] or int(before[2]) + 1 != int(head[2]):
            yield from reversed(run)
            run = []
        run.append(section)
    yield from reversed(run)

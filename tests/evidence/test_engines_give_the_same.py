"""Hyperscan, RE2 and Python's `re` find the same lines, whatever the bytes; captures come from the line."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from necropsy_analyzer.evidence import match
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.evidence.match import Hit, Matcher, build, flat
from necropsy_analyzer.report.lines import read
from necropsy_analyzer.report.unwrap import unwrap

ROOT = Path(__file__).parents[2]
LOGS = sorted(ROOT.glob("fixtures/*/*/console.log.zst"))
PATTERNS = [
    ["EDAC MC\\d+: \\d+ UE .* on (?P<dimm>\\S+)", "row \\d+ of EDAC$"],
    ["^Kernel panic - not syncing: (?P<why>[^\\n]+)"],
    ["(?P<device>\\S+): .*words that are rare here", "[Ll]ockup on CPU"],
    ["soft lockup|hung task", "\\bpanic\\b"],
]
WORDS = st.sampled_from(
    [
        *(
            b"EDAC MC0: 1 UE x on DIMM_A",
            b"row 3 of EDAC",
            b"Kernel panic - not syncing: x",
            b"lockup on CPU",
        ),
        *(b"sda: ", b"words that are rare here", b"hung task", b"panic", b" ", b"\n"),
        *(b"\r", b"\0", b"\xff\xc3", b"x" * 600, b"y " * 40_000),
    ]
)


@pytest.fixture(scope="module", params=["hyperscan", "re2"])
def engine(request: pytest.FixtureRequest) -> Matcher:
    if request.param == "hyperscan":
        pytest.importorskip("hyperscan")
    return Matcher(PATTERNS, build(flat(PATTERNS), prefer=request.param))


def _reference(rules: list[list[str]], data: bytes) -> list[Hit]:
    """Ask each line every pattern: slow and plainly right."""
    hits = []
    for number, patterns in enumerate(rules):
        asked = [re.compile(pattern.encode()) for pattern in patterns]
        lines = [
            place for place, line in enumerate(data.split(b"\n")) if any(ask.search(line) for ask in asked)
        ]
        if lines:
            hits.append(Hit(number, tuple(lines[: match.KEPT_LINES]), len(lines)))
    return sorted(hits, key=lambda hit: (hit.lines[0], hit.rule))


@settings(max_examples=200, deadline=None)
@given(data=st.one_of(st.binary(max_size=400), st.lists(WORDS, max_size=12).map(b"".join)))
def test_any_bytes_are_matched_as_re_would(engine: Matcher, data: bytes) -> None:
    assert engine.scan(data) == _reference(PATTERNS, data)


def test_lines_over_many_chunks_are_numbered_right(engine: Matcher) -> None:
    lines = [b"nothing to see here, move on %d" % number for number in range(20_000)]
    for number in (0, 1999, 2000, 4711, 19_999):
        lines[number] = b"Kernel panic - not syncing: number %d" % number
    assert engine.scan(b"\n".join(lines))[:1] == [Hit(1, (0, 1999, 2000, 4711, 19_999), 5)]


def test_a_hostile_line_takes_no_more_than_its_length(engine: Matcher) -> None:
    # `re` would try every one of these characters as the beginning of a device's name.
    line = b"x" * 200_000 + b" words that are rare here"
    assert engine.scan(b"\n".join([line] * 20)) == []


def test_threads_may_scan_at_once(engine: Matcher) -> None:
    texts = [b"EDAC MC0: 1 UE x on DIMM_%d\n" % number * 3000 for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(engine.scan, texts)) == [engine.scan(text) for text in texts]


def test_a_storm_is_counted_whole_and_kept_in_part(engine: Matcher) -> None:
    (hit,) = engine.scan(b"EDAC MC0: 1 UE memory read error on DIMM_B2\n" * 5000)
    assert hit.count == 5000
    assert hit.lines == tuple(range(match.KEPT_LINES))


def test_captures_come_from_the_first_pattern_that_matches(engine: Matcher) -> None:
    assert engine.captures(0, "EDAC MC0: 1 UE memory read error on DIMM_B2 (channel:0)") == {
        "dimm": "DIMM_B2"
    }
    assert engine.captures(1, "Kernel panic - not syncing: Fatal exception") == {"why": "Fatal exception"}
    assert engine.captures(1, f"Kernel panic - not syncing: {'long ' * 200}") == {"why": "long " * 200}
    assert engine.captures(3, "a hung task") == {}
    assert engine.captures(1, "another line") == {}


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.parent.name)
def test_recorded_logs_give_the_same(path: Path, shipped: Knowledge, portable: Matcher) -> None:
    data, _ = unwrap(path.read_bytes())
    text = "\n".join(line.text for line in read(data).lines).encode("utf-8", "replace")
    assert portable.scan(text) == shipped.matcher.scan(text)


def test_re_itself_gives_the_same_on_a_recorded_crash(shipped: Knowledge) -> None:
    data, _ = unwrap((ROOT / "fixtures/crashes/disk-write-errors@6.1/console.log.zst").read_bytes())
    text = "\n".join(line.text for line in read(data).lines[-250:]).encode("utf-8", "replace")
    rules = [list(rule.patterns) for rule in shipped.rules]
    assert shipped.matcher.scan(text) == _reference(rules, text)


@pytest.fixture(scope="module")
def portable(shipped: Knowledge) -> Matcher:
    patterns = [rule.patterns for rule in shipped.rules]
    return Matcher(patterns, build(flat(patterns), prefer="re2"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_examples_give_the_same(shipped: Knowledge, portable: Matcher, data: st.DataObject) -> None:
    texts = [
        "mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 7: be00000001010091",
        "BUG: kernel NULL pointer dereference, address: 0000000000000018",
        "EXT4-fs error (device sda1): ext4_lookup:1855: inode #2: comm ls: deleted inode referenced: 1234",
        "nvme nvme0: I/O 12 QID 3 timeout, aborting",
    ]
    text = bytearray("\n".join(texts).encode())
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(text)))
    assert portable.scan(bytes(text[cut:])) == shipped.matcher.scan(bytes(text[cut:]))

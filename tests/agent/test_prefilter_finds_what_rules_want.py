"""The prefilter against plain `re`: every line that a rule wants, with either engine."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from necropsy_agent import prefilter
from necropsy_agent.patterns import literals_of, widened
from necropsy_agent.prefilter import Hits, load, rule_files

ENGINES = ("hyperscan", "re")


class Example(NamedTuple):
    rule: str
    patterns: tuple[str, ...]
    line: str


def _rules() -> Iterator[dict[str, Any]]:
    for file in rule_files(()):
        for rule in yaml.safe_load(file.read_bytes()):
            if isinstance(rule, dict) and "match" in rule and rule.get("state") != "retired":
                yield rule


def _examples() -> Iterator[Example]:
    for rule in _rules():
        match = rule["match"] if isinstance(rule["match"], list) else [rule["match"]]
        for example in (*rule.get("examples", ()), *rule.get("counterexamples", ())):
            for line in example["text"].splitlines():
                yield Example(rule["id"], tuple(match), line)


def _record(line: str, number: int = 7) -> bytes:
    """Write a message as /dev/kmsg gives it: what is not printable ASCII is escaped by its bytes."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte != 0x5C else f"\\x{byte:02x}" for byte in line.encode()
    )
    return f"4,{number},{number * 1000},-;{escaped}".encode()


@pytest.fixture(scope="module", params=ENGINES)
def hits(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Hits:
    said: list[str] = []
    made = load((), tmp_path_factory.mktemp("state"), said.append, request.param)
    assert said == []
    return made


def _lines_hit(hits: Hits, text: bytes) -> set[int]:
    return {text.count(b"\n", 0, offset) for offset in hits(text)}


def test_every_line_that_a_rule_matches_is_wanted(hits: Hits) -> None:
    missed = [
        example
        for example in _examples()
        if any(re.search(pattern, example.line) for pattern in example.patterns)
        and not list(hits(_record(example.line)))
    ]
    assert missed == []


def test_the_lines_wanted_are_those_of_plain_re(hits: Hits) -> None:
    examples = list(dict.fromkeys(example.line for example in _examples()))
    random.Random(3).shuffle(examples)
    noise = [f"usb 1-{n}: new high-speed USB device number {n} using xhci_hcd" for n in range(200)]
    lines = [_record(line, n) for n, line in enumerate(examples + noise)]
    random.Random(4).shuffle(lines)
    patterns = {
        pattern
        for rule in _rules()
        for pattern in (rule["match"] if isinstance(rule["match"], list) else [rule["match"]])
    }
    plain = [re.compile(widened(pattern).encode()) for pattern in sorted(patterns)]
    expected = {n for n, line in enumerate(lines) if any(one.search(line) for one in plain)}
    assert _lines_hit(hits, b"\n".join(lines)) == expected
    assert len(expected) > 100


def test_continuation_lines_and_empty_text_do_no_harm(hits: Hits) -> None:
    assert list(hits(b"")) == []
    text = b"6,1,1,-;usb 1-1: gone\n SUBSYSTEM=usb\n DEVICE=c189:1\n" + _record(
        "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0 (channel:1 slot:0)"
    )
    assert _lines_hit(hits, text) == {3}


@given(
    st.lists(
        st.sampled_from(sorted({example.line for example in _examples()})).flatmap(
            lambda line: st.integers(0, len(line)).map(lambda cut: line[:cut])
        ),
        max_size=8,
    )
)
def test_both_engines_agree_on_any_text(both: tuple[Hits, Hits], lines: list[str]) -> None:
    text = b"\n".join(map(_record, lines))
    first, second = both
    assert _lines_hit(first, text) == _lines_hit(second, text)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hits, Hits]:
    state = tmp_path_factory.mktemp("state")
    return load((), state, print, "hyperscan"), load((), state, print, "re")


@pytest.mark.parametrize(
    ("pattern", "line", "wanted"),
    [
        ("^Kernel panic", "Kernel panic - not syncing", True),
        (r"hung \(0x1\)$", "task hung (0x1)", True),
        (r"^rcu:\s+\d+-", "rcu: \t3-...!: (1 GPs behind)", True),
        (r"rcu:[ \t]+\d+", "rcu:\t3", True),
        (r"path C:\\temp", "path C:\\temp", True),
        ("(?P<what>disk) failed|(?P<what2>fan) failed", "fan failed", True),
        ("(?i)KERNEL panic", "kernel PANIC", True),
        (r"[^]x]\d+ broke", "a17 broke", True),
        ("Kernel panic", "Kernel Panic", False),
        (r"cost \$5", "cost $5", True),
        (r"a\^b here", "a^b here", True),
        ("(?:one|two) of them died", "two of them died", True),
        ("(?:one|two) of them died", "ten of them died", False),
        ("x{2,}yyyy", "xxyyyy", True),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_patterns_are_widened_for_the_form_of_the_kernel_log(
    pattern: str, line: str, wanted: bool, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "own.yaml").write_text(yaml.safe_dump([{"id": "own", "match": pattern}]))
    monkeypatch.setattr(prefilter, "rule_files", lambda folders: (folder / "own.yaml",))
    hits = load((folder,), tmp_path, print, engine)
    text = b"\n".join((_record("something else"), _record(line), _record("and more")))
    assert _lines_hit(hits, text) == ({1} if wanted else set())


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        (b"Kernel panic - not syncing", {b"Kernel panic - not syncing"}),
        (rb"CPU \d+: Machine Check", {b": Machine Check"}),
        (b"(?:soft|hard) lockup", {b" lockup"}),
        (b"first|second", {b"first", b"second"}),
        (b"(?:abc)?defg", {b"defg"}),
        (b"(?:abcdefgh)+ij", {b"abcdefgh"}),
        (rb"\d+", set()),
        (b"(?i)panic", set()),
        (b"abcd|", set()),
    ],
)
def test_literals_are_those_no_match_can_do_without(pattern: bytes, literals: set[bytes]) -> None:
    assert literals_of(pattern) == literals


def _own(folder: Path, text: str) -> tuple[Path, ...]:
    folder.mkdir(exist_ok=True)
    (folder / "own.yaml").write_text(text)
    return (folder,)


def test_own_rules_are_wanted_too_and_replace_shipped_ones(tmp_path: Path) -> None:
    shipped = next(rule for rule in _rules())
    line = next(
        example.line
        for example in _examples()
        if example.rule == shipped["id"] and re.search(example.patterns[0], example.line)
    )
    before = load((), tmp_path, print)
    folders = _own(tmp_path / "rules", f"- {{id: {shipped['id']}, match: frobnicator exploded}}\n")
    after = load(folders, tmp_path, print)
    assert list(after(_record("the frobnicator exploded")))
    assert not list(before(_record("the frobnicator exploded")))
    assert list(before(_record(line)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- id: own\n  match: 'unclosed ('\n", "unclosed ("),
        (":\n- not yaml: [", "own.yaml"),
    ],
)
def test_rules_that_cannot_be_used_are_said_and_left_out(text: str, words: str, tmp_path: Path) -> None:
    said: list[str] = []
    hits = load(_own(tmp_path / "rules", text), tmp_path, said.append)
    assert len(said) == 1
    assert words in said[0]
    assert list(hits(_record("EDAC MC0: 1 UE memory read error on DIMM_A1 (channel:1 slot:0)")))


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:],
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 0xFF]),
        lambda raw: b"\0" * len(raw),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_damaged_cache_is_made_anew(damage: Any, engine: str, tmp_path: Path) -> None:
    load((), tmp_path, print, engine)
    [cache] = tmp_path.glob("prefilter-*")
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    said: list[str] = []
    hits = load((), tmp_path, said.append, engine)
    assert said == []
    assert list(hits(_record("EDAC MC0: 1 UE memory read error on DIMM_A1 (channel:1 slot:0)")))
    assert cache.read_bytes() == whole


def test_caches_of_older_rules_are_removed(tmp_path: Path) -> None:
    load(_own(tmp_path / "rules", "- {id: own, match: first pattern}\n"), tmp_path, print)
    load(_own(tmp_path / "rules", "- {id: own, match: second pattern}\n"), tmp_path, print)
    assert len(list(tmp_path.glob("prefilter-*"))) == 1


def test_a_filter_that_cannot_be_made_is_said_and_wants_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    hits = load((), tmp_path / "not there", said.append)
    assert len(said) == 1
    assert "prefilter" in said[0]
    assert list(hits(_record("EDAC MC0: 1 UE memory read error on DIMM_A1 (channel:1 slot:0)"))) == []

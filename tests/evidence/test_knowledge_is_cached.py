"""The cache saves time and nothing else: neither damage nor a folder that takes no file change knowledge."""

import os
from pathlib import Path

import pytest

from necropsy_analyzer.evidence.knowledge import Knowledge, KnowledgeError, load_knowledge

RULE = """\
- id: own-rule
  title: something broke
  origin: "mm/slub.c"
  match: 'something broke in (?P<frame>\\w+)'
  supports: {kernel.bug: WEIGHT}
  culprit: {frame: frame}
  examples: [{text: 'something broke in alloc_pages'}]
  counterexamples: [{text: 'nothing broke', because: it is whole}]
"""


@pytest.fixture
def place(folder: Path) -> Path:
    (folder / "own.yaml").write_text(RULE.replace("WEIGHT", "1.5"))
    return folder


def _same(one: Knowledge, other: Knowledge) -> bool:
    text = b"a line\nsomething broke in alloc_pages"
    return (
        (one.rules, one.causes, one.mechanisms, one.features, one.fusion, one.model)
        == (other.rules, other.causes, other.mechanisms, other.features, other.fusion, other.model)
        and one.frames.classes == other.frames.classes
        and one.matcher.scan(text) == other.matcher.scan(text)
        and len(one.matcher.scan(text)) == 1
    )


def test_what_was_kept_is_what_was_made(place: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    made = load_knowledge((place,), cache)
    assert list(cache.glob("knowledge-*.msgpack"))
    assert _same(load_knowledge((place,), cache), made)
    assert _same(load_knowledge((place,), None), made)


@pytest.mark.parametrize("shape", ["knowledge-*.msgpack", "patterns-*.db"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "gone", "foreign"])
def test_a_damaged_cache_is_made_again(place: Path, tmp_path: Path, shape: str, damage: str) -> None:
    cache = tmp_path / "cache"
    made = load_knowledge((place,), cache)
    for path in cache.glob(shape):
        data = path.read_bytes()
        middle = len(data) // 2
        if damage == "gone":
            path.unlink()
            continue
        path.write_bytes(
            {
                "cut": data[:middle],
                "flipped": data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1 :],
                "emptied": b"",
                "foreign": b"#!/bin/sh\n" * 100,
            }[damage]
        )
    assert _same(load_knowledge((place,), cache), made)
    assert _same(load_knowledge((place,), cache), made)


def test_a_change_is_seen(place: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = load_knowledge((place,), cache)
    text = RULE.replace("WEIGHT", "0.5")
    old = (place / "own.yaml").stat()
    (place / "own.yaml").write_text(text)
    os.utime(place / "own.yaml", ns=(old.st_atime_ns, old.st_mtime_ns))
    after = load_knowledge((place,), cache)
    assert after.rules[0].supports == {"kernel.bug": 0.5}
    assert after.model != before.model


def test_no_place_for_a_cache_is_no_fault(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert _same(load_knowledge((place,), tmp_path / "file" / "cache"), load_knowledge((place,), None))


def test_old_files_are_dropped(place: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for number in range(1, 9):
        (place / "own.yaml").write_text(
            RULE.replace("WEIGHT", f"0.{number}").replace("broke", "broke" * number)
        )
        load_knowledge((place,), cache)
    assert 1 <= len(list(cache.glob("knowledge-*"))) <= 5
    assert 1 <= len(list(cache.glob("patterns-*"))) <= 5
    assert not list(cache.glob(".new-*"))


def test_own_folders_lie_over_the_shipped_one(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.yaml").write_text(RULE.replace("WEIGHT", "0.3"))
    (own / "broken.yaml").write_text("- id: broken\n")
    known = load_knowledge((place, own), None)
    assert known.by_id["own-rule"].supports == {"kernel.bug": 0.3}
    assert any("broken.yaml:1" in str(complaint) for complaint in known.complaints)


def test_a_cause_of_ones_own_may_say_what_to_do_here(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    entry = "  description: a DIMM\n  prior: 0.05\n  action: {summary: Call the data centre., steps: [x]}\n"
    (own / "causes.yaml").write_text(f"hardware.memory:\n{entry}bad.luck:\n{entry}")
    known = load_knowledge((place, own), None)
    assert known.causes["hardware.memory"].action.summary == "Call the data centre."
    assert "bad.luck" not in known.causes
    assert any("no such cause: bad.luck" in str(complaint) for complaint in known.complaints)


def test_without_causes_there_is_no_knowledge(tmp_path: Path) -> None:
    (tmp_path / "shipped").mkdir()
    with pytest.raises(KnowledgeError):
        load_knowledge((tmp_path / "shipped",), None)

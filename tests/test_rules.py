"""The shipped rules: examples hit and give what they say, counterexamples do not, every cause has rules."""

from collections import defaultdict
from pathlib import Path

import pytest

from necropsy_analyzer.cli.knowledge import rule_folders
from necropsy_analyzer.evidence.examples import run_examples
from necropsy_analyzer.evidence.knowledge import Knowledge, load_knowledge, read_texts
from necropsy_analyzer.evidence.match import Matcher, build, flat
from necropsy_analyzer.evidence.rule import Entry
from necropsy_analyzer.evidence.shelf import Shelf

SHIPPED = rule_folders()[0]


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf(["rules"], [read_texts(SHIPPED)])


@pytest.fixture(scope="module")
def knowledge() -> Knowledge:
    return load_knowledge((SHIPPED,), None)


def test_there_is_nothing_to_complain_about(shelf: Shelf) -> None:
    assert [str(complaint) for complaint in shelf.complaints] == []


@pytest.mark.parametrize("file", sorted(path.name for path in Path(SHIPPED).glob("*.yaml")))
def test_examples_do_as_they_should(file: str, shelf: Shelf, knowledge: Knowledge) -> None:
    entries = [entry for entry in shelf.entries if entry.file.endswith(f"/{file}")]
    assert [str(failure) for failure in run_examples(entries, knowledge)] == []


def test_examples_do_as_they_should_without_hyperscan(shelf: Shelf, knowledge: Knowledge) -> None:
    patterns = [rule.patterns for rule in knowledge.rules]
    portable = Matcher(patterns, build(flat(patterns), prefer="re2"))
    assert _hits(shelf.entries, portable) == _hits(shelf.entries, knowledge.matcher)


def test_every_pattern_runs_whole_on_every_engine(knowledge: Knowledge) -> None:
    hyperscan = pytest.importorskip("hyperscan")
    patterns = flat([rule.patterns for rule in knowledge.rules])
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[pattern.encode() for pattern in patterns],
        ids=list(range(len(patterns))),
        elements=len(patterns),
        flags=hyperscan.HS_FLAG_MULTILINE,
    )
    assert build(patterns, prefer="re2").name == "re2"


def test_every_cause_is_supported_by_rules(knowledge: Knowledge) -> None:
    assert len(knowledge.rules) >= 80
    support: dict[str, float] = defaultdict(float)
    for rule in knowledge.rules:
        if rule.state == "live":
            for cause, weight in rule.supports.items():
                support[cause] = max(support[cause], weight)
    telling = {cause for cause, weight in support.items() if weight >= 1.0}
    # A silent end has no message that a rule could match; how the boot ended tells of it.
    assert telling | {"unknown.silent"} == set(knowledge.causes)


def test_every_cause_says_what_to_do(knowledge: Knowledge) -> None:
    for name, cause in knowledge.causes.items():
        assert cause.action.summary, name
        assert cause.action.steps, name
    assert sum(cause.prior for cause in knowledge.causes.values()) == pytest.approx(1.0, abs=0.15)


def _hits(entries: tuple[Entry, ...], matcher: Matcher) -> list[tuple[int, tuple[int, ...]]]:
    texts = [
        example.text
        for entry in entries
        for example in (*entry.examples, *entry.counterexamples)
        if entry.rule.patterns
    ]
    return [(hit.rule, hit.lines) for hit in matcher.scan("\n".join(texts).encode())]

"""What a pattern must not be is told in words; what all engines take is taken. Anchors are in every match."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from necropsy_analyzer.evidence.anchors import anchors, scanned
from necropsy_analyzer.evidence.lint import lint
from necropsy_analyzer.evidence.match import EngineError, build

GOOD = [
    r"EDAC MC\d+: (?P<count>\d+) UE .* on (?P<dimm>\S+)",
    r"^Remounting filesystem read-only$",
    r"(?:Oops|BUG): [^\n]{0,40}\bpanic",
    r"[Ss]oft lockup - CPU#\d+ stuck for \d+s!",
    r"(?P<device>\S+): (?:timed out in vain|gave up on it)(?: again)?",
]
BAD = [
    (r"(?=Oops)Oops: 0002", "lookahead"),
    (r"(?<!not )syncing: all", "lookahead and lookbehind"),
    (r"(word) again \1", "back reference"),
    (r"panic\s+here", "newline"),
    (r"panic [^x]+ here", "newline"),
    (r"panic \W here", "newline"),
    ("panic\nhere", "printable"),
    (r"panic \D{2} here", "newline"),
    (r"panic [\s.] here", "newline"),
    (r"error: \d+", None),
    (r"[Ss]tatus: \d+", None),
    (r"\d+: \S+", "literal of 4"),
    (r"kernel panic|\w+", "literal of 4"),
    (r"(?:abc|defg)\d", "literal of 4"),
    (r" {8}: -{4}", "literal of 4"),
    (r"(?P<device>\S+): .*(?:failed|gave up after ten tries)", "makes all rules slow"),
    (r"[0-9a-f]{4}: status", "makes all rules slow"),
    (r"(?i)kernel panic", "inline flags"),
    (r"(?i:kernel) panic", "inline flags"),
    (r"\Akernel panic", r"\A"),
    (r"kernel panic\Z", r"\A and \Z"),
    (r".*kernel panic", "begins with"),
    (r"kernel panic.*", "ends with"),
    (r"(?:a+ )+kernel", "exponential"),
    (r"panic {2000}here", "1000 times"),
    (r"panic (here", "not a regular expression"),
    (r"panic [[:digit:]] here", "engines read this differently"),
    (r"panic++ here", "possessive"),
    (r"panic (?>here|there) now", "atomic"),
    ("größe der panic", "ASCII"),
    ("panic " * 400, "2000 characters"),
]


@pytest.mark.parametrize("pattern", GOOD)
def test_good_patterns_pass_and_run_everywhere(pattern: str) -> None:
    assert lint(pattern) == []
    assert build([pattern], prefer="re2").name == "re2"


@pytest.mark.parametrize(("pattern", "words"), BAD)
def test_bad_patterns_are_told_why(pattern: str, words: str | None) -> None:
    complaints = lint(pattern)
    if words is None:
        assert complaints == []
    else:
        assert any(words in complaint for complaint in complaints), complaints


@settings(max_examples=300, deadline=None)
@given(pattern=st.text(alphabet="ab (|)[]{}?+*^$.\\dswS1,:<>P=!-\n", max_size=24))
def test_any_text_is_linted_without_failing_and_what_passes_runs(pattern: str) -> None:
    if lint(pattern) == []:
        re.compile(pattern)
        build([pattern], prefer="re2")


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        (r"kernel panic", {"kernel panic"}),
        (r"\S+: .*words to find", {"words to find"}),
        (r"(?:Soft|Hard) lockup", {"Soft lockup", "Hard lockup"}),
        (r"[Ss]oft \d+ lockup on CPU", {" lockup on CPU"}),
        (r"a(?: very)? long tale", {"a long tale", "a very long tale"}),
        (r"(?:first alternative|\d second one) told", {"first alternative", " second one"}),
        (r"\d+", {""}),
    ],
)
def test_the_most_telling_literals_are_the_anchors(pattern: str, literals: set[str]) -> None:
    assert anchors(pattern) == literals


@settings(max_examples=200, deadline=None)
@given(text=st.from_regex(re.compile(GOOD[2], re.ASCII)) | st.from_regex(re.compile(GOOD[4], re.ASCII)))
def test_every_match_holds_an_anchor(text: str) -> None:
    for pattern in (GOOD[2], GOOD[4]):
        found = re.search(pattern, text)
        if found is not None:
            assert any(literal in found[0] for literal in anchors(pattern))


def test_what_is_scanned_for_ends_where_words_meet() -> None:
    assert (
        scanned(r"\S+: .*uncorrectable hardware memory corruption") == r"uncorrectable\ hardware\ memory\ co"
    )
    assert scanned(r"Oops: \d+") is None


def test_an_engine_refuses_what_is_no_pattern() -> None:
    with pytest.raises(EngineError):
        build(["(unclosed"], prefer="re2")

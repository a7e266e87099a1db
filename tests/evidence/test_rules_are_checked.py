"""Every complaint about a rule names its file and line and says what is wrong; the other rules are loaded."""

import pytest

from necropsy_analyzer.evidence.load import Loaded, Vocabulary, layered, load

KNOWN = Vocabulary(frozenset({"kernel.bug", "hardware.memory"}), frozenset({"bug", "mce"}))
RULE = """\
- id: own-rule
  title: something broke
  origin: "mm/slub.c"
  match: 'something broke in (?P<frame>\\w+)'
  mechanism: bug
  severity: fault
  supports: {kernel.bug: 1.5}
  culprit: {frame: frame}
  examples:
    - text: 'something broke in alloc_pages'
      gives: {frame: alloc_pages}
  counterexamples:
    - text: 'nothing broke'
      because: it is whole
"""

# What is changed in the rule above, the line of the complaint, and words of it.
WRONG = [
    ("  mechanism: bug", "  mechanism: bugg", 5, "no such mechanism: bugg"),
    ("  mechanism: bug", "  mechansim: bug", 5, "unknown key `mechansim`"),
    ("kernel.bug: 1.5", "kernel.bgu: 1.5", 7, "no such cause: kernel.bgu"),
    ("kernel.bug: 1.5", "kernel.bug: 15", 7, "log-odds from -6 to 6"),
    ("kernel.bug: 1.5", "kernel.bug: much", 7, "Expected `float`"),
    ("{frame: frame}", "{frame: fame}", 8, "no capture `fame`"),
    ("{frame: frame}", "{function: frame}", 8, "no such field: function"),
    ("severity: fault", "severity: bad", 6, "severity"),
    ("something broke in (?P<frame>\\w+)", "(?P<frame>\\w+)", 4, "literal of 4"),
    ("something broke in (?P<frame>\\w+)", "broke [^x]+ (?P<frame>y)", 4, "newline"),
    ("- id: own-rule", "- id: Own Rule", 1, "lower-case words"),
    ("  title: something broke\n", "", 1, "`title` is missing"),
    ("  title: something broke", "  title: ''", 2, "title: says nothing"),
    ('  origin: "mm/slub.c"', '  origin: "mm/slub.c"\n  origin: "x"', 4, "`origin` stands twice"),
    ("      because: it is whole\n", "", 13, "`because:` is missing"),
    ("gives: {frame: alloc_pages}", "gives: {name: alloc_pages}", 10, "no capture `name`"),
    ("gives: {frame: alloc_pages}", "takes: {frame: alloc_pages}", 10, "expected `text:` and `gives:`"),
    ("gives: {frame: alloc_pages}", "gives: {frame: 12}", 10, "Expected `str`"),
    ("  supports:", "  report: {mechanism: [bug]}\n  supports:", 1, "`match` or `report`, one of them"),
]


@pytest.mark.parametrize(("old", "new", "line", "words"), WRONG)
def test_a_complaint_names_its_place(old: str, new: str, line: int, words: str) -> None:
    assert old in RULE
    loaded = load({"rules/own.yaml": RULE.replace(old, new, 1)}, KNOWN)
    assert loaded.entries == ()
    told = [str(complaint) for complaint in loaded.complaints]
    assert any(f"rules/own.yaml:{line}:" in complaint and words in complaint for complaint in told), told


def test_a_good_rule_is_loaded_as_it_stands() -> None:
    loaded = load({"rules/own.yaml": RULE}, KNOWN)
    assert loaded.complaints == ()
    (entry,) = loaded.entries
    assert (entry.file, entry.line, entry.rule.family) == ("rules/own.yaml", 1, "own")
    assert entry.rule.supports == {"kernel.bug": 1.5}
    assert entry.rule.state == "live"
    assert entry.examples[0].gives == {"frame": "alloc_pages"}


def test_all_of_a_rules_faults_are_told_and_other_rules_stay() -> None:
    broken = RULE.replace("own-rule", "broken-rule").replace("kernel.bug", "nobody").replace("bug", "nothing")
    loaded = load({"a.yaml": RULE + broken}, KNOWN)
    assert [entry.rule.id for entry in loaded.entries] == ["own-rule"]
    assert len(loaded.complaints) == 2
    assert {complaint.rule for complaint in loaded.complaints} == {"broken-rule"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- id: [", "not YAML"),
        ("id: x", "expected a list of rules"),
        ("- just words", "expected an entry"),
        ("- id: x\n\t- bad", "not YAML"),
        ("\x00", "not YAML"),
    ],
)
def test_a_file_that_holds_no_rules_is_told(text: str, words: str) -> None:
    loaded = load({"a.yaml": text, "b.yaml": RULE}, KNOWN)
    assert any(words in str(complaint) for complaint in loaded.complaints)
    assert all(complaint.file == "a.yaml" for complaint in loaded.complaints)
    assert len(loaded.entries) == 1


def test_an_empty_file_is_no_fault() -> None:
    assert load({"a.yaml": "# to come\n"}, KNOWN) == Loaded((), ())


def test_an_id_stands_once() -> None:
    loaded = load({"a.yaml": RULE, "b.yaml": RULE}, KNOWN)
    (complaint,) = loaded.complaints
    assert (complaint.file, complaint.line) == ("b.yaml", 1)
    assert "a.yaml:1" in complaint.message


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("{}", "asks for nothing"),
        ("{depth: 3}", "asks for nothing"),
        ("{mechanism: [oomph]}", "no such mechanism: oomph"),
        ("{mechanism: [bug], depth: 3}", "`depth` counts frames"),
        ("{frames: ['*']}", "matches everything"),
        ("{context: [attic]}", "context is"),
        ("{frame: [x]}", "unknown field"),
        ("{mechanism: bug}", "Expected `array`"),
    ],
)
def test_report_tests_are_checked(test: str, words: str) -> None:
    match = RULE.splitlines()[3]
    text = RULE.replace(match, f"  report: {test}").replace("  culprit: {frame: frame}\n", "")
    text = text.replace("      gives: {frame: alloc_pages}\n", "")
    told = [str(complaint) for complaint in load({"a.yaml": text}, KNOWN).complaints]
    assert any(words in complaint for complaint in told), told


def test_a_later_folder_replaces_a_rule_by_its_id() -> None:
    shipped = load({"shipped/a.yaml": RULE + RULE.replace("own-rule", "other-rule")}, KNOWN)
    own = load({"own/a.yaml": RULE.replace("1.5", "0.5")}, KNOWN)
    both = layered([shipped, own])
    assert both.complaints == ()
    assert {(entry.rule.id, entry.rule.supports["kernel.bug"]) for entry in both.entries} == {
        ("own-rule", 0.5),
        ("other-rule", 1.5),
    }


def test_a_retired_id_is_not_used_again() -> None:
    retired = load({"shipped/a.yaml": RULE + "  state: retired\n"}, KNOWN)
    both = layered([retired, load({"own/a.yaml": RULE}, KNOWN)])
    (complaint,) = both.complaints
    assert (complaint.file, complaint.line) == ("own/a.yaml", 1)
    assert "retired at shipped/a.yaml:1" in complaint.message
    assert both.entries[0].rule.state == "retired"

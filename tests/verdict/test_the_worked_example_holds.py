"""docs/fusion.md walks through a recorded crash: its evidence is there, and the verdict is what it says."""

import re
from pathlib import Path

from necropsy_analyzer.cli.inputs import case_of
from necropsy_analyzer.cli.knowledge import rule_folders
from necropsy_analyzer.diagnose import diagnose
from necropsy_analyzer.evidence.knowledge import load_knowledge

ROOT = Path(__file__).parents[2]


def test_the_documented_verdict_is_given() -> None:
    text = (ROOT / "docs" / "fusion.md").read_text()
    example = text[text.index("## A worked example") :]
    crash = re.search(r"`(fixtures/crashes/\S+)`", example)
    told = re.search(r"\*\*(\S+) (\d+) %\*\*", example)
    assert crash
    assert told
    known = load_knowledge(rule_folders()[:1], None)
    verdict = diagnose(case_of(str(ROOT / crash[1] / "console.log.zst")), known)
    assert (verdict.cause, f"{verdict.confidence:.0%}") == (told[1], f"{told[2]}%")
    rows = re.findall(r"^\| \w+ \| `([\w-]+)`.*\| ([+.\d]*) \| ([+.\d]*) \|$", example, re.MULTILINE)
    assert len(rows) >= 5
    supports = {proof.rule: proof.supports for proof in verdict.evidence}
    for rule, kernel, external in rows:
        for cause, weight in (("kernel.bug", kernel), ("driver.external", external)):
            if weight:
                assert f"{supports[rule][cause]:+.2f}".rstrip("0") == f"{float(weight):+.2f}".rstrip("0"), (
                    rule
                )

"""Every recorded crash: what is known to be true of it stands in the verdict, whatever it left behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from necropsy_analyzer.cli.inputs import case_of
from necropsy_analyzer.cli.knowledge import rule_folders
from necropsy_analyzer.diagnose import diagnose
from necropsy_analyzer.evidence.knowledge import Knowledge, load_knowledge
from necropsy_analyzer.verdict.verdict import Verdict

CRASHES = Path(__file__).parents[1] / "fixtures" / "crashes"


@pytest.fixture(scope="module")
def knowledge() -> Knowledge:
    return load_knowledge(rule_folders(), None)


def _inputs() -> Iterator[Any]:
    """Give each way in which a crash was recorded: the serial console, and what the next boot found."""
    for crash in sorted(CRASHES.iterdir()):
        truth = yaml.safe_load((crash / "truth.yaml").read_text())
        for path in (crash / "console.log.zst", crash / "host" / "sys" / "fs" / "pstore"):
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                yield pytest.param(path, truth, id=f"{crash.name}-{path.name.split('.')[0]}")


def _diagnosed(path: Path, knowledge: Knowledge) -> Verdict:
    return diagnose(case_of(str(path)), knowledge)


@pytest.mark.parametrize(("path", "truth"), tuple(_inputs()))
def test_the_truth_stands_in_the_verdict(path: Path, truth: dict[str, Any], knowledge: Knowledge) -> None:
    verdict = _diagnosed(path, knowledge)
    assert verdict.crashed == truth["crash"]
    assert verdict.cause in {truth["cause"], *truth.get("alt_causes", [])}
    if not truth["crash"]:
        return  # how a silent end came about is not in the log: the next boot tells
    assert verdict.mechanism == truth["mechanism"]
    assert verdict.fatal == truth["fatal"]
    for field, value in truth.get("culprit", {}).items():
        assert getattr(verdict.culprit, field) == value, field


@pytest.mark.parametrize(("path", "truth"), tuple(_inputs()))
def test_the_evidence_is_quoted_where_it_stands(
    path: Path, truth: dict[str, Any], knowledge: Knowledge
) -> None:
    verdict = _diagnosed(path, knowledge)
    assert not truth["crash"] or any(proof.line and proof.text for proof in verdict.evidence)
    assert all(proof.line > 0 for proof in verdict.evidence if proof.text)

"""Healthy machines: no crash is seen, nothing is fatal, and no cause is claimed."""

from pathlib import Path

import pytest

from necropsy_analyzer.cli.inputs import case_of
from necropsy_analyzer.cli.knowledge import rule_folders
from necropsy_analyzer.diagnose import diagnose
from necropsy_analyzer.evidence.knowledge import load_knowledge

HEALTHY = Path(__file__).parents[1] / "fixtures" / "healthy"


@pytest.mark.parametrize("path", sorted(HEALTHY.glob("*/console.log.zst")), ids=lambda path: path.parent.name)
def test_a_healthy_log_raises_nothing(path: Path) -> None:
    verdict = diagnose(case_of(str(path)), load_knowledge(rule_folders(), None))
    assert not verdict.crashed
    assert not verdict.fatal
    assert verdict.cause == "unknown.silent"
    assert verdict.confidence < 0.5

"""Weighted evidence becomes probabilities: more of it never makes a cause less likely, none is never loud."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from necropsy_analyzer.cli.knowledge import rule_folders
from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.knowledge import Knowledge, load_knowledge
from necropsy_analyzer.verdict.fuse import damped, fuse


@pytest.fixture(scope="module")
def known() -> Knowledge:
    return load_knowledge(rule_folders()[:1], None)


def _evidence(family: str = "a", **supports: float) -> Evidence:
    named = {cause.replace("__", "."): weight for cause, weight in supports.items()}
    return Evidence(rule="x", title="x", family=family, supports=named)


def _probability(evidence: list[Evidence], cause: str, known: Knowledge) -> float:
    return next(item.probability for item in fuse(evidence, known) if item.cause == cause)


def test_without_evidence_it_is_silent_and_not_loud(known: Knowledge) -> None:
    ranking = fuse([], known)
    assert ranking[0].cause == "unknown.silent"
    assert ranking[0].probability < 0.3
    priors = sum(cause.prior for cause in known.causes.values())
    for item in ranking:
        assert item.probability == pytest.approx(known.causes[item.cause].prior / priors)


def test_one_telling_piece_decides(known: Knowledge) -> None:
    ranking = fuse([_evidence(hardware__memory=4.0)], known)
    assert ranking[0].cause == "hardware.memory"
    assert ranking[0].probability > 0.9


def test_a_hint_does_not(known: Knowledge) -> None:
    assert fuse([_evidence(hardware__memory=0.3)], known)[0].cause == "unknown.silent"


def test_a_family_tells_one_thing(known: Knowledge) -> None:
    same = [_evidence("one", hardware__memory=1.0) for _ in range(30)]
    apart = [_evidence(f"family {number}", hardware__memory=1.0) for number in range(3)]
    assert _probability(same, "hardware.memory", known) < _probability(apart, "hardware.memory", known)


@pytest.mark.parametrize(
    ("weights", "total"), [([], 0.0), ([2.0], 2.0), ([1.0, 2.0], 2.5), ([1.0, 2.0, 4.0], 5.25), ([0.0], 0.0)]
)
def test_the_strongest_counts_whole_and_further_ones_less(weights: list[float], total: float) -> None:
    assert damped(weights, 0.5) == pytest.approx(total)


def test_evidence_for_no_cause_changes_nothing(known: Knowledge) -> None:
    assert fuse([_evidence(), _evidence(no__cause=5.0)], known) == fuse([], known)


CAUSES = st.sampled_from(
    ["hardware.memory", "kernel.bug", "driver.external", "unknown.silent", "resource.oom"]
)
PIECES = st.builds(
    lambda family, supports: Evidence(rule="x", title="x", family=family, supports=supports),
    family=st.sampled_from(["a", "b", "c"]),
    supports=st.dictionaries(CAUSES, st.floats(-6, 6, allow_nan=False), max_size=3),
)


@settings(max_examples=200, deadline=None)
@given(evidence=st.lists(PIECES, max_size=12), more=st.floats(0.01, 6), cause=CAUSES)
def test_probabilities_are_a_distribution_and_follow_the_evidence(
    evidence: list[Evidence], more: float, cause: str, known: Knowledge
) -> None:
    ranking = fuse(evidence, known)
    assert sum(item.probability for item in ranking) == pytest.approx(1.0)
    assert {item.cause for item in ranking} == set(known.causes)
    assert all(0 <= item.probability <= 1 and math.isfinite(item.probability) for item in ranking)
    assert [item.probability for item in ranking] == sorted((i.probability for i in ranking), reverse=True)
    assert fuse(list(reversed(evidence)), known)[0].probability == pytest.approx(ranking[0].probability)
    extra: dict[str, Any] = {"rule": "x", "title": "x", "family": "a", "supports": {cause: more}}
    with_more = fuse([*evidence, Evidence(**extra)], known)
    before = next(item.probability for item in ranking if item.cause == cause)
    after = next(item.probability for item in with_more if item.cause == cause)
    assert after >= before - 1e-12

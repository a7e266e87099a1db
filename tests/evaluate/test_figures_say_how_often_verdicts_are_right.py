"""Figures over cases whose truth is known, against figures worked out by hand."""

import pytest

from necropsy_analyzer.evaluate import Miss, Row, Share, Truth, evaluate
from necropsy_analyzer.verdict.verdict import Culprit, Ranked, Verdict


def _verdict(
    cause: str,
    confidence: float,
    second: str = "unknown.silent",
    *,
    frame: str | None = None,
    crashed: bool = True,
) -> Verdict:
    return Verdict(
        input="x",
        crashed=crashed,
        mechanism="gpf",
        cause=cause,
        confidence=confidence,
        ranking=(Ranked(cause, confidence), Ranked(second, 1 - confidence)),
        culprit=Culprit(frame=frame),
    )


def test_of_four_causes_two_are_right_and_one_is_second() -> None:
    figures = evaluate(
        [
            ("a", Truth(cause="kernel.bug"), _verdict("kernel.bug", 0.95)),
            ("b", Truth(cause="kernel.bug"), _verdict("driver.external", 0.65, "kernel.bug")),
            ("c", Truth(cause="resource.oom"), _verdict("kernel.bug", 0.55)),
            ("d", Truth(cause="kernel.lockup", alt_causes=("kernel.bug",)), _verdict("kernel.bug", 0.75)),
        ]
    )
    assert figures.top1 == Share(2, 4)
    assert figures.top2 == Share(3, 4)
    assert figures.sure == Share(1, 4)
    assert figures.sure_right == Share(1, 1)
    assert figures.causes == (
        Row(name="driver.external", cases=0, said=1, right=0),
        Row(name="kernel.bug", cases=2, said=2, right=1),
        Row(name="kernel.lockup", cases=1, said=1, right=1),
        Row(name="resource.oom", cases=1, said=0, right=0),
    )
    assert figures.macro_f1 == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert figures.calibration_error == pytest.approx((0.05 + 0.65 + 0.55 + 0.25) / 4)
    assert figures.brier == pytest.approx((0.05**2 + 0.65**2 + 0.55**2 + 0.25**2) / 4)
    assert figures.confusion == (
        ("kernel.bug", "driver.external", 1),
        ("resource.oom", "kernel.bug", 1),
    )


def test_false_alarms_and_missed_crashes_are_counted_over_their_own_cases() -> None:
    figures = evaluate(
        [
            ("a", Truth(crash=False), _verdict("unknown.silent", 0.3, crashed=False)),
            ("b", Truth(crash=False), _verdict("kernel.bug", 0.6)),
            ("c", Truth(crash=True), _verdict("unknown.silent", 0.3, crashed=False)),
        ]
    )
    assert figures.false_alarms == Share(1, 2)
    assert figures.missed == Share(1, 1)
    assert figures.top1 == Share(0, 0)
    assert figures.top1.value is None
    assert figures.calibration_error is None


def test_of_a_cut_report_only_that_it_is_a_crash_is_judged() -> None:
    truth = Truth(mechanism="null_deref", frames=("f",), crash=True, fatal=True)
    cut = Truth(mechanism="null_deref", frames=("f",), crash=True, corrupted=True)
    verdict = _verdict("kernel.bug", 0.6, frame="g")
    figures = evaluate([("whole", truth, verdict), ("cut", cut, verdict)])
    assert (figures.mechanism, figures.frame, figures.fatal) == (Share(0, 1), Share(0, 1), Share(0, 1))
    assert {(miss.case, miss.what) for miss in figures.misses} == {
        ("whole", "mechanism"), ("whole", "frame"), ("whole", "fatal"),
    }  # fmt: skip
    assert Miss(case="whole", what="frame", truth="f", said="g", confidence=0.6) in figures.misses


def test_a_mechanism_may_have_another_name() -> None:
    truth = Truth(mechanism="bad_page_fault", alt_mechanisms=("gpf",))
    assert evaluate([("a", truth, _verdict("kernel.bug", 0.6))]).mechanism == Share(1, 1)

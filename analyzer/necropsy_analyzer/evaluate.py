"""How often verdicts are right. In: truths and verdicts of the same cases. Out: `Figures`. No I/O.

Each figure is over the cases whose truth speaks of it. A cause is right where it is the truth's or one of its
alternatives. Calibration: the expected calibration error over ten equal bins of the top cause's probability
(Naeini, Cooper and Hauskrecht, AAAI 2015), and the Brier score of the top cause.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from necropsy_analyzer.verdict.verdict import Verdict

SURE: Final = 0.9
"""From this probability on a verdict counts as one that is sure."""

_BINS: Final = 10


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a case; a field that is None, or empty, is not judged.

    `frames` are the functions that may be named as culprit. `corrupted`: the log is cut in the middle of its
    report, so that only whether a crash is seen can be judged.
    """

    cause: str | None = None
    alt_causes: tuple[str, ...] = ()
    mechanism: str | None = None
    alt_mechanisms: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    crash: bool | None = None
    fatal: bool | None = None
    corrupted: bool = False


class Share(msgspec.Struct, frozen=True):
    """How many of how many."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        """The share, None of nothing."""
        return self.hits / self.of if self.of else None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One cause or mechanism: how many cases are it, how many were said to be it, how many of both."""

    name: str
    cases: int
    said: int
    right: int

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / (self.cases + self.said) if self.right else 0.0


class Miss(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a verdict got wrong."""

    case: str
    what: str
    truth: str
    said: str | None
    confidence: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one run. `confusion` counts (true cause, said cause) of the wrong ones."""

    cases: int
    top1: Share
    top2: Share
    macro_f1: float | None
    calibration_error: float | None
    brier: float | None
    sure: Share
    sure_right: Share
    mechanism: Share
    frame: Share
    fatal: Share
    false_alarms: Share
    missed: Share
    causes: tuple[Row, ...]
    mechanisms: tuple[Row, ...]
    confusion: tuple[tuple[str, str, int], ...]
    misses: tuple[Miss, ...]


def evaluate(told: Sequence[tuple[str, Truth, Verdict]]) -> Figures:
    """Compare verdicts with truths; each case has a name."""
    caused = [(truth, verdict) for _, truth, verdict in told if truth.cause is not None]
    right = [verdict.cause in _causes(truth) for truth, verdict in caused]
    second = [
        bool(_causes(truth) & {item.cause for item in verdict.ranking[:2]}) for truth, verdict in caused
    ]
    sure = [ok for ok, (_, verdict) in zip(right, caused, strict=True) if verdict.confidence >= SURE]
    whole = [
        (truth, verdict) for _, truth, verdict in told if truth.crash is not False and not truth.corrupted
    ]
    causes = _rows(
        (truth.cause or "", truth.cause or "" if ok else verdict.cause)
        for ok, (truth, verdict) in zip(right, caused, strict=True)
    )
    mechanisms = _rows(
        (truth.mechanism, truth.mechanism if _mechanism(truth, verdict) else verdict.mechanism or "none")
        for truth, verdict in whole
        if truth.mechanism is not None
    )
    return Figures(
        cases=len(told),
        top1=_share(right),
        top2=_share(second),
        macro_f1=sum(row.f1 for row in causes if row.cases) / known if (known := _known(causes)) else None,
        calibration_error=_calibration_error([verdict.confidence for _, verdict in caused], right),
        brier=_mean([(ok - verdict.confidence) ** 2 for ok, (_, verdict) in zip(right, caused, strict=True)]),
        sure=Share(len(sure), len(caused)),
        sure_right=_share(sure),
        mechanism=_share(_mechanism(truth, verdict) for truth, verdict in whole if truth.mechanism),
        frame=_share(verdict.culprit.frame in truth.frames for truth, verdict in whole if truth.frames),
        fatal=_share(verdict.fatal == truth.fatal for truth, verdict in whole if truth.fatal is not None),
        false_alarms=_share(verdict.crashed for _, truth, verdict in told if truth.crash is False),
        missed=_share(not verdict.crashed for _, truth, verdict in told if truth.crash is True),
        causes=causes,
        mechanisms=mechanisms,
        confusion=_confusion(caused),
        misses=tuple(miss for name, truth, verdict in told for miss in _misses(name, truth, verdict)),
    )


def _causes(truth: Truth) -> set[str]:
    return {truth.cause or "", *truth.alt_causes}


def _mechanism(truth: Truth, verdict: Verdict) -> bool:
    return verdict.mechanism in {truth.mechanism, *truth.alt_mechanisms}


def _share(marks: Iterable[bool]) -> Share:
    kept = list(marks)
    return Share(sum(kept), len(kept))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _known(rows: Iterable[Row]) -> int:
    return sum(1 for row in rows if row.cases)


def _rows(pairs: Iterable[tuple[str, str]]) -> tuple[Row, ...]:
    kept = list(pairs)
    cases = Counter(truth for truth, _ in kept)
    said = Counter(answer for _, answer in kept)
    right = Counter(truth for truth, answer in kept if truth == answer)
    return tuple(
        Row(name=name, cases=cases[name], said=said[name], right=right[name]) for name in sorted(cases | said)
    )


def _confusion(caused: Iterable[tuple[Truth, Verdict]]) -> tuple[tuple[str, str, int], ...]:
    wrong = Counter(
        (truth.cause or "", verdict.cause) for truth, verdict in caused if verdict.cause not in _causes(truth)
    )
    return tuple(
        (*pair, count) for pair, count in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    )


def _calibration_error(confidences: Sequence[float], right: Sequence[bool]) -> float | None:
    if not confidences:
        return None
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, ok in zip(confidences, right, strict=True):
        bins[min(_BINS - 1, int(confidence * _BINS))].append((confidence, ok))
    gaps = (abs(sum(ok for _, ok in kept) - sum(p for p, _ in kept)) for kept in bins.values())
    return sum(gaps) / len(confidences)


def _misses(name: str, truth: Truth, verdict: Verdict) -> Iterable[Miss]:
    def miss(what: str, wanted: str, said: str | None) -> Miss:
        return Miss(case=name, what=what, truth=wanted, said=said, confidence=verdict.confidence)

    if truth.cause is not None and verdict.cause not in _causes(truth):
        yield miss("cause", truth.cause, verdict.cause)
    if truth.crash is not None and truth.crash != verdict.crashed:
        yield miss("crash", "yes" if truth.crash else "no", "yes" if verdict.crashed else "no")
    if truth.crash is False or truth.corrupted:
        return
    if truth.mechanism is not None and not _mechanism(truth, verdict):
        yield miss("mechanism", truth.mechanism, verdict.mechanism)
    if truth.frames and verdict.culprit.frame not in truth.frames:
        yield miss("frame", " or ".join(truth.frames), verdict.culprit.frame)
    if truth.fatal is not None and truth.fatal != verdict.fatal:
        yield miss("fatal", "yes" if truth.fatal else "no", "yes" if verdict.fatal else "no")

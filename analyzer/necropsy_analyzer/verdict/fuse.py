"""Weighted evidence → probabilities. In: evidence, knowledge. Out: causes and probabilities, likeliest first.

Naive Bayes in log-odds, with two corrections for evidence that is not independent (docs/fusion.md): within
a family each further piece counts a share of the one before, and the scores are divided by a temperature. A
last doubt is spread over all causes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import exp, log

from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.verdict.verdict import Ranked


def fuse(evidence: Sequence[Evidence], knowledge: Knowledge) -> list[Ranked]:
    """Rank all causes; probabilities sum to 1. With no evidence they are the priors."""
    scores = score(evidence, knowledge)
    temperature = knowledge.fusion.temperature
    top = max(scores.values())
    parts = {cause: exp((value - top) / temperature) for cause, value in scores.items()}
    whole = sum(parts.values())
    priors = sum(cause.prior for cause in knowledge.causes.values())
    doubt = knowledge.fusion.doubt
    ranked = [
        Ranked(cause, (1 - doubt) * part / whole + doubt * knowledge.causes[cause].prior / priors)
        for cause, part in parts.items()
    ]
    ranked.sort(key=lambda item: (-item.probability, item.cause))
    return ranked


def score(evidence: Sequence[Evidence], knowledge: Knowledge) -> dict[str, float]:
    """Give each cause's log-odds: its prior's, and what each family of evidence adds."""
    weights: dict[str, dict[str, list[float]]] = {cause: defaultdict(list) for cause in knowledge.causes}
    for item in evidence:
        for cause, weight in item.supports.items():
            if cause in weights:
                weights[cause][item.family].append(weight)
    damping = knowledge.fusion.damping
    return {
        cause: knowledge.fusion.temperature * log(knowledge.causes[cause].prior)
        + sum(
            damped((w for w in family if w > 0), damping) - damped((-w for w in family if w < 0), damping)
            for family in families.values()
        )
        for cause, families in weights.items()
    }


def damped(weights: Iterable[float], damping: float) -> float:
    """Add weights of one family: the greatest whole, of each further one a smaller share."""
    return sum(weight * damping**place for place, weight in enumerate(sorted(weights, reverse=True)))

"""A finding becomes evidence: its words and weights stand in rules/necropsy_rules/features.yaml.

In: the finding's name, where it was found. Out: evidence.
"""

from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.evidence.scene import Scene


def made(
    name: str, knowledge: Knowledge, place: tuple[Scene, int] | None = None, *, text: str = "", family: str
) -> Evidence:
    """Make evidence of a finding; `place` is where it was found, a line of the input."""
    known = knowledge.features.findings[name]
    number = 0
    if place is not None:
        scene, line = place
        index = scene.index(line)
        if index is not None:
            number, text = line, scene.spoken[index].text.strip()
    return Evidence(
        rule=name, title=known.title, family=family, line=number, text=text, supports=known.supports
    )

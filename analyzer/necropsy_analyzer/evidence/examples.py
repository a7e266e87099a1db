"""Runs the examples that stand beside rules. In: entries and the knowledge they are part of. Out: failures.

An example goes the way a log goes: through the reader, the finder of reports and the whole matcher.
"""

from collections.abc import Iterable, Iterator

from necropsy_analyzer.evidence.collect import heard, matches
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.evidence.rule import Complaint, Entry, Example
from necropsy_analyzer.evidence.scene import Scene
from necropsy_analyzer.report.find import find
from necropsy_analyzer.report.lines import read


def run_examples(entries: Iterable[Entry], knowledge: Knowledge) -> Iterator[Complaint]:
    """Give a complaint for each example that does not do what it should; retired rules are not run."""
    numbers = {rule.id: number for number, rule in enumerate(knowledge.rules)}
    for entry in entries:
        number = numbers.get(entry.rule.id)
        if number is None:
            continue
        for example in entry.examples:
            for message in _wrong(example, number, knowledge):
                yield _complaint(entry, example, message)
        for example in entry.counterexamples:
            if _hit(example, number, knowledge):
                yield _complaint(entry, example, f"hits a counterexample: {example.because}")


def _wrong(example: Example, number: int, knowledge: Knowledge) -> Iterator[str]:
    hit = _hit(example, number, knowledge)
    if not hit:
        yield "does not hit its example"
        return
    captures = knowledge.matcher.captures(number, hit[0])
    for name, expected in example.gives.items():
        given = captures.get(name)
        if given != expected:
            yield f"capture `{name}` is {given!r}, the example says {expected!r}"


def _hit(example: Example, number: int, knowledge: Knowledge) -> list[str]:
    """Give the messages that the rule hits; of a rule that looks at reports, the reports' titles."""
    rule = knowledge.rules[number]
    log = read(example.text.encode("utf-8", "replace"))
    if rule.report is not None:
        return [report.title for report in find(log, knowledge.frames) if matches(rule, report) is not False]
    scene = Scene(log, ())
    return [
        scene.spoken[line].text
        for hit in knowledge.matcher.scan(scene.text)
        if hit.rule == number
        for line in heard(rule, hit.lines, scene)
    ]


def _complaint(entry: Entry, example: Example, message: str) -> Complaint:
    return Complaint(file=entry.file, line=example.line, message=message, rule=entry.rule.id)

"""`necropsy rules`: check the form of rules, run their examples. In: folders. Out: complaints with places."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from necropsy_analyzer.cli.answer import Format, FormatOption
from necropsy_analyzer.cli.knowledge import cache_folder, rule_folders, shelf
from necropsy_analyzer.cli.terminal import write_json

if TYPE_CHECKING:
    from necropsy_analyzer.evidence.rule import Complaint

app = typer.Typer(no_args_is_help=True, help="Check rules and run their examples.")


_Rules = Annotated[
    list[Path] | None, typer.Option("--rules", help="A folder of your own rules, over the shipped ones.")
]


@app.command()
def check(format_: FormatOption = Format.TEXT, rules: _Rules = None) -> int:
    """Check every rule: form, names, patterns that all engines take, examples present.

    Exit status: 0 nothing to complain about, 1 complaints.
    """
    found = shelf(tuple(rules or ()))
    states = [entry.rule.state for entry in found.entries]
    answer = {
        "rules": len(states),
        "live": states.count("live"),
        "shadow": states.count("shadow"),
        "retired": states.count("retired"),
    }
    return _tell(format_, f"{len(states)} rules", answer, found.complaints)


@app.command("test")
def run(format_: FormatOption = Format.TEXT, rules: _Rules = None) -> int:
    """Run every rule's examples and counterexamples through the whole matcher.

    Exit status: 0 all did as they should, 1 some did not, or some rules could not be loaded.
    """
    from necropsy_analyzer.evidence.examples import run_examples
    from necropsy_analyzer.evidence.knowledge import load_knowledge

    own = tuple(rules or ())
    found = shelf(own)
    knowledge = load_knowledge(rule_folders(own), cache_folder())
    failures = [*found.complaints, *run_examples(found.entries, knowledge)]
    examples = sum(len(entry.examples) + len(entry.counterexamples) for entry in found.entries)
    answer = {"rules": len(found.entries), "examples": examples}
    return _tell(format_, f"{len(found.entries)} rules, {examples} examples", answer, failures)


def _tell(format_: Format, what: str, answer: dict[str, Any], complaints: "Sequence[Complaint]") -> int:
    if format_ is Format.JSON:
        write_json(answer | {"complaints": list(complaints)})
    else:
        for complaint in complaints:
            print(complaint)
        print(f"{what}: {f'{len(complaints)} complaints' if complaints else 'nothing to complain about'}")
    return 1 if complaints else 0

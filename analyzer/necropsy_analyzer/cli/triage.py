"""`necropsy triage`: diagnose files and folders offline, with no server and no database."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from necropsy_analyzer.cli.knowledge import knowledge
from necropsy_analyzer.cli.terminal import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from necropsy_analyzer.verdict.verdict import Verdict


class Format(StrEnum):
    """How verdicts are written."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


def triage(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="A kernel log, crash folder or pstore folder; - is standard input."
        ),
    ],
    format_: Annotated[Format, typer.Option("--format", help="Form of the answer.")] = Format.TEXT,
    rules: Annotated[
        list[Path] | None, typer.Option(help="A folder of your own rules, over the shipped ones.")
    ] = None,
) -> int:
    """Diagnose each PATH on its own: why the host died, what proves it, what to do.

    Exit status: 0 every PATH was read (crash or not), 1 some PATH could not be, 2 usage.
    """
    status = 0

    def counted(verdicts: "Iterable[Verdict]") -> "Iterator[Verdict]":
        nonlocal status
        for verdict in verdicts:
            status |= verdict.error is not None
            yield verdict

    _write(counted(_verdicts(paths, tuple(rules or ()))), format_, len(paths))
    return status


def _verdicts(paths: list[str], rules: tuple[Path, ...]) -> "Iterator[Verdict]":
    from necropsy_analyzer.cli.inputs import InputError, case_of
    from necropsy_analyzer.diagnose import diagnose, failed

    known = knowledge(rules)
    for path in paths:
        try:
            yield diagnose(case_of(path), known)
        except InputError as error:
            yield failed(path, str(error))


def _write(verdicts: "Iterable[Verdict]", format_: Format, total: int) -> None:
    if format_ is Format.TEXT:
        _write_text(verdicts, total)
    elif format_ is Format.JSONL:
        encoder = msgspec.json.Encoder()
        for verdict in verdicts:
            sys.stdout.buffer.write(encoder.encode(verdict) + b"\n")
    else:
        whole = [msgspec.to_builtins(verdict) for verdict in verdicts]
        write_json(whole[0] if total == 1 else whole)
    sys.stdout.buffer.flush()


def _write_text(verdicts: "Iterable[Verdict]", total: int) -> None:
    from necropsy_analyzer.cli.render import render
    from necropsy_analyzer.cli.terminal import console

    out = console()
    for number, verdict in enumerate(verdicts):
        if number:
            out.print()
        render(verdict, out)

"""`necropsy evaluate`: how often verdicts are right on cases whose truth is known."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from necropsy_analyzer.cli import CommandError
from necropsy_analyzer.cli.answer import Format, FormatOption
from necropsy_analyzer.cli.knowledge import knowledge
from necropsy_analyzer.cli.terminal import console, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from necropsy_analyzer.diagnose import Case
    from necropsy_analyzer.evaluate import Figures, Row, Share, Truth

_Labelled = tuple[str, "Truth", "Case"]


def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="CASES...",
            exists=True,
            help="JSON Lines with the fields log, cause, mechanism, frames, crash …; or a folder of recorded "
            "crashes, each with its truth.yaml.",
        ),
    ],
    format_: FormatOption = Format.TEXT,
    misses: Annotated[int, typer.Option(min=0, help="List so many of the wrong answers.")] = 20,
    rules: Annotated[
        list[Path] | None, typer.Option(help="A folder of your own rules, over the shipped ones.")
    ] = None,
) -> int:
    """Diagnose cases whose truth is known, and print accuracy, calibration and confusion.

    Exit status: 0 every case was read, 1 some could not be, 2 usage.
    """
    from rich.progress import track

    from necropsy_analyzer.diagnose import diagnose
    from necropsy_analyzer.evaluate import evaluate as compared

    known = knowledge(tuple(rules or ()))
    labelled = [case for path in paths for case in _cases(path)]
    told = [
        (name, truth, diagnose(case, known))
        for name, truth, case in track(
            labelled, "diagnosing", console=_progress(), transient=True, disable=not sys.stderr.isatty()
        )
    ]
    figures = compared(told)
    if format_ is Format.JSON:
        write_json({"model": known.model.version, **msgspec.to_builtins(figures)})
        return 0
    _write(figures, misses, console())
    return 0


def _progress() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _cases(path: Path) -> Iterator[_Labelled]:
    """Read the cases at a path. Raises CommandError where it holds none."""
    count = 0
    for case in _recorded(path) if path.is_dir() else _lines(path):
        count += 1
        yield case
    if not count:
        raise CommandError(f"{path} holds no case: give JSON Lines, or a folder with truth.yaml files")


def _lines(path: Path) -> Iterator[_Labelled]:
    from necropsy_analyzer.diagnose import Artifact, Case
    from necropsy_analyzer.evaluate import Truth

    class Line(Truth, frozen=True, kw_only=True):
        log: str
        id: str = ""

    decode = msgspec.json.Decoder(Line).decode
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                line = decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise CommandError(f"{path}, line {number} is no case: {error}") from error
            name = line.id or f"{path.name}:{number}"
            log = Artifact(name=name, data=line.log.encode("utf-8", "surrogatepass"))
            yield name, line, Case(input=name, artifacts=(log,))


def _recorded(folder: Path) -> Iterator[_Labelled]:
    """Give every way in which a crash was recorded: the serial console, and pstore after the reboot."""
    from necropsy_analyzer.cli.inputs import case_of

    for told in sorted(folder.rglob("truth.yaml")):
        truth = _truth(told)
        for place in ("console.log.zst", "host/sys/fs/pstore"):
            path = told.parent / place
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                yield f"{told.parent.name} ({path.name.split('.')[0]})", truth, case_of(str(path))


def _truth(path: Path) -> "Truth":
    import yaml

    from necropsy_analyzer.evaluate import Truth

    try:
        written: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        frame = written.get("culprit", {}).get("frame")
        fields = {name: written[name] for name in Truth.__struct_fields__ if name in written}
        return msgspec.convert({**fields, "frames": (frame,) if frame else ()}, Truth)
    except (yaml.YAMLError, AttributeError, TypeError, msgspec.ValidationError) as error:
        raise CommandError(f"{path} is no truth of a recorded crash: {error}") from error


def _write(figures: "Figures", misses: int, out: "Console") -> None:
    from rich.table import Table

    out.print(f"{figures.cases} cases")
    table = Table("figure", "share", "of", box=None, header_style="bold")
    for name, share in (
        ("cause, first", figures.top1),
        ("cause, first two", figures.top2),
        ("mechanism", figures.mechanism),
        ("culprit's function", figures.frame),
        ("went down or not", figures.fatal),
        ("sure (0.9 and more)", figures.sure),
        ("right when sure", figures.sure_right),
        ("false alarms", figures.false_alarms),
        ("missed crashes", figures.missed),
    ):
        if share.of:
            table.add_row(name, _percent(share), str(share.of))
    out.print(table)
    for name, value in (
        ("macro-F1 over causes", figures.macro_f1),
        ("expected calibration error", figures.calibration_error),
        ("Brier score", figures.brier),
    ):
        if value is not None:
            out.print(f"{name}: {value:.3f}")
    _rows("cause", figures.causes, out)
    _rows("mechanism", figures.mechanisms, out)
    if figures.confusion:
        confusion = Table("true cause", "said instead", "cases", box=None, header_style="bold")
        for truth, said, count in figures.confusion:
            confusion.add_row(truth, said, str(count))
        out.print()
        out.print(confusion)
    for miss in figures.misses[:misses]:
        out.print(
            f"{miss.case}: {miss.what} is {miss.truth}, said {miss.said} ({miss.confidence:.0%})",
            markup=False,
        )
    if len(figures.misses) > misses:
        out.print(f"and {len(figures.misses) - misses} more")


def _rows(kind: str, rows: "tuple[Row, ...]", out: "Console") -> None:
    from rich.table import Table

    if not rows:
        return
    table = Table(kind, "cases", "right", "said wrongly", box=None, header_style="bold")
    for row in rows:
        table.add_row(row.name, str(row.cases), str(row.right), str(row.said - row.right))
    out.print()
    out.print(table)


def _percent(share: "Share") -> str:
    value = share.value
    return "" if value is None else f"{value:.1%}"

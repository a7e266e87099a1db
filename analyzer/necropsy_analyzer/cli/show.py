"""`necropsy show`: one incident, its verdict and all earlier ones."""

from typing import Annotated

import typer

from necropsy_analyzer.cli import CommandError
from necropsy_analyzer.cli.answer import Format, FormatOption, when
from necropsy_analyzer.cli.incidents import summary
from necropsy_analyzer.cli.server import Database, StateDir, open_store
from necropsy_analyzer.cli.terminal import write_json


def show(
    number: Annotated[
        int, typer.Argument(metavar="ID", help="The incident, as 'necropsy incidents' lists it.")
    ],
    *,
    revision: Annotated[
        int | None, typer.Option(min=1, help="An earlier verdict instead of the latest.")
    ] = None,
    state_dir: StateDir = None,
    database: Database = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show one incident: why the host died, what proves it, what to do, and how the verdict came about."""
    from necropsy_analyzer.store import incidents as stored

    store = open_store(state_dir, database)
    try:
        with store.read() as connection:
            incident = stored.one(connection, number)
            revisions = () if incident is None else stored.every_revision(connection, incident.id)
    finally:
        store.close()
    if incident is None:
        raise CommandError(f"there is no incident {number}: 'necropsy incidents' lists them")
    if revision is not None and revision > len(revisions):
        raise CommandError(f"incident {incident.id} has {len(revisions)} revisions")
    chosen = revisions[(revision or len(revisions)) - 1] if revisions else None
    if format_ is Format.JSON:
        answer = {
            **summary(incident),
            "verdict": None if chosen is None else chosen.verdict,
            "made_of": [] if chosen is None else chosen.made_of,
            "revisions": [
                {
                    "revision": item.n,
                    "made": when(item.made_ns),
                    "cause": item.verdict.cause,
                    "confidence": item.verdict.confidence,
                    "evidence_events": len(item.made_of),
                }
                for item in revisions
            ],
        }
        write_json(answer)
        return
    from rich.text import Text

    from necropsy_analyzer.cli.render import render
    from necropsy_analyzer.cli.terminal import console, line

    out = console()
    if incident.id != number:
        out.print(Text(f"Incident {number} turned out to be the same death as this one.", style="dim"))
    out.print(
        Text(f"Incident {incident.id}", style="bold"), Text(f"died {when(incident.died_ns) or 'unseen'}")
    )
    if chosen is None:
        print("Its evidence has arrived and is not diagnosed yet: is 'necropsy serve' running?")
        return
    render(chosen.verdict, out)
    out.print()
    for item in revisions:
        mark = "*" if item.n == chosen.n else " "
        of = f"of {len(item.made_of)} event{'s' if len(item.made_of) != 1 else ''}"
        verdict = f"{item.verdict.cause} {item.verdict.confidence:.0%}"
        out.print(line(f"  {mark} revision {item.n}  {when(item.made_ns)}  {verdict}, {of}", style="dim"))

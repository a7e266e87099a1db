"""`necropsy incidents`: who died, of what, how sure."""

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from necropsy_analyzer.cli import CommandError
from necropsy_analyzer.cli.answer import Format, FormatOption, when
from necropsy_analyzer.cli.server import Database, StateDir, open_store
from necropsy_analyzer.cli.terminal import write_json

if TYPE_CHECKING:
    from necropsy_analyzer.store.incidents import Incident

_UNITS_S = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


def incidents(
    *,
    host: Annotated[str | None, typer.Option(help="Only those of this host.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only after WHEN: 2026-11-24, 2026-11-24T14:00, 90m, 7d."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    state_dir: StateDir = None,
    database: Database = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List incidents, the last death first, each with the verdict as it stands."""
    from necropsy_analyzer.store import hosts
    from necropsy_analyzer.store.incidents import listed

    since_ns = None if since is None else _since_ns(since)
    store = open_store(state_dir, database)
    try:
        with store.read() as connection:
            known = host is None or any(one.name == host for one in hosts.every(connection))
            found = listed(connection, host=host, since_ns=since_ns, limit=limit)
    finally:
        store.close()
    if not known:
        raise CommandError(f"there is no host {host!a}: 'necropsy hosts list' names them")
    if format_ is Format.JSON:
        write_json([summary(incident) for incident in found])
        return
    from rich.table import Table

    from necropsy_analyzer.cli.terminal import console, line

    if not found:
        print("no incidents")
        return
    table = Table("id", "died", "host", "cause", "sure", "what", box=None, header_style="bold")
    for incident in found:
        table.add_row(*map(line, _cells(incident)))
    console().print(table)


def summary(incident: "Incident") -> dict[str, Any]:
    """Give an incident as other programs read it: who, when, and of its verdict what a list shows."""
    verdict = incident.verdict
    return {
        "id": incident.id,
        "host": incident.host,
        "boot": incident.boot,
        "died": when(incident.died_ns) or None,
        "opened": when(incident.opened_ns),
        "revision": incident.revision,
        "fatal": None if verdict is None else verdict.fatal,
        "cause": None if verdict is None else verdict.cause,
        "confidence": None if verdict is None else verdict.confidence,
        "mechanism": None if verdict is None else verdict.mechanism,
        "title": None if verdict is None else verdict.title,
        "fingerprint": None if verdict is None else verdict.fingerprint,
    }


def _cells(incident: "Incident") -> tuple[str, ...]:
    verdict = incident.verdict
    died = when(incident.died_ns) or f"by {when(incident.opened_ns)}"
    if verdict is None:
        return str(incident.id), died, incident.host, "", "", "not diagnosed yet"
    what = verdict.title or ""
    if not verdict.fatal:
        what = f"{what} (survived)".strip()
    return str(incident.id), died, incident.host, verdict.cause, f"{verdict.confidence:.0%}", what


def _since_ns(text: str) -> int:
    """Read a moment: a date or time, in UTC where it names no zone, or a span before now."""
    span = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if span is not None:
        return max(0, time.time_ns() - int(span.group(1)) * _UNITS_S[span.group(2)] * 10**9)
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!a} is no time: give 2026-11-24, 2026-11-24T14:00, 90m or 7d"
        ) from error
    return min(max(0, int(seconds)) * 10**9, (1 << 63) - 1)

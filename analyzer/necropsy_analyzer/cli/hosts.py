"""`necropsy hosts`: which hosts may send, and their tokens."""

import sys
import time
from typing import Annotated

import msgspec
import typer

from necropsy_analyzer.cli import CommandError
from necropsy_analyzer.cli.answer import Format, FormatOption, when
from necropsy_analyzer.cli.server import Database, StateDir, open_store
from necropsy_analyzer.cli.terminal import write_json

app = typer.Typer(help="Hosts and their tokens.", no_args_is_help=True, rich_markup_mode=None)


Name = Annotated[str, typer.Argument(metavar="NAME", help="What the host is called.")]


@app.command()
def enroll(
    name: Name,
    *,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label, as rack=7; may be repeated.")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="A new token; the old one ends at once.")] = False,
    state_dir: StateDir = None,
    database: Database = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Let a host send, and print its token. It is shown this once: only its hash is kept."""
    from necropsy_analyzer.store import hosts

    labels = dict(_label(text) for text in label or ())
    store = open_store(state_dir, database, create=True)
    try:
        with store.write() as connection:
            token = hosts.enroll(connection, name, labels=labels, now_ns=time.time_ns(), renew=renew)
    except hosts.HostError as error:
        raise CommandError(str(error)) from error
    finally:
        store.close()
    if format_ is Format.JSON:
        write_json({"name": name, "token": token})
        return
    print(token)
    if sys.stdout.isatty():
        print(f"Put it into {name}'s token file; it is not shown again.", file=sys.stderr)


@app.command(name="list")
def list_(state_dir: StateDir = None, database: Database = None, format_: FormatOption = Format.TEXT) -> None:
    """List all hosts: when they were enrolled and last heard of."""
    from necropsy_analyzer.store import hosts

    store = open_store(state_dir, database)
    try:
        with store.read() as connection:
            found = hosts.every(connection)
    finally:
        store.close()
    if format_ is Format.JSON:
        write_json(
            [{**msgspec.to_builtins(host), "state": _state(host.revoked_ns, host.seen_ns)} for host in found]
        )
        return
    from rich.table import Table

    from necropsy_analyzer.cli.terminal import console, line

    if not found:
        print("no hosts: 'necropsy hosts enroll NAME' lets one send")
        return
    table = Table("host", "state", "last seen", "agent", "labels", box=None, header_style="bold")
    for host in found:
        labels = " ".join(f"{key}={value}" for key, value in host.labels.items())
        state = _state(host.revoked_ns, host.seen_ns)
        cells = (host.name, state, when(host.seen_ns), host.agent or "", labels)
        table.add_row(*map(line, cells))
    console().print(table)


@app.command()
def revoke(
    name: Name, state_dir: StateDir = None, database: Database = None, format_: FormatOption = Format.TEXT
) -> None:
    """End a host's token. What it sent stays."""
    from necropsy_analyzer.store import hosts

    store = open_store(state_dir, database)
    try:
        with store.write() as connection:
            hosts.revoke(connection, name, now_ns=time.time_ns())
    except hosts.HostError as error:
        raise CommandError(str(error)) from error
    finally:
        store.close()
    if format_ is Format.JSON:
        write_json({"name": name, "state": "revoked"})
    else:
        print(f"{name} is revoked.")


def _state(revoked_ns: int | None, seen_ns: int | None) -> str:
    if revoked_ns is not None:
        return "revoked"
    return "enrolled" if seen_ns is None else "active"


def _label(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found or not key:
        raise typer.BadParameter(f"{text!r} is no label: give KEY=VALUE")
    return key, value

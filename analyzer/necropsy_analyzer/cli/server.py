"""What the commands on a server's store share: where it is. In: options. Out: an open `Store`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from necropsy_analyzer.cli import CommandError

if TYPE_CHECKING:
    from necropsy_analyzer.store.store import Store

SYSTEM_STATE: Final = Path("/var/lib/necropsy")

StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the store; /var/lib/necropsy for root, else $XDG_STATE_HOME/necropsy.",
        envvar="NECROPSY_STATE_DIR",
        file_okay=False,
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        help="URL of another database than the embedded one, as postgresql+psycopg://HOST/NAME.",
        envvar="NECROPSY_DATABASE",
    ),
]


def state_folder(given: Path | None) -> Path:
    """Name the folder of the store: as given, the system's for root, else the user's."""
    if given is not None:
        return given
    if os.geteuid() == 0:
        return SYSTEM_STATE
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base, "necropsy")


def open_store(state_dir: Path | None, database: str | None, *, create: bool = False) -> "Store":
    """Open the store of a command; only `create` makes one. Raises CommandError in one line."""
    from necropsy_analyzer.store.store import Store, StoreError, sqlite_url

    try:
        return Store.open(database or sqlite_url(state_folder(state_dir)), create=create)
    except StoreError as error:
        raise CommandError(str(error)) from error

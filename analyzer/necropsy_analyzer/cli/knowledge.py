"""Where the command line finds rules and keeps what it compiled of them (XDG base directories, FHS)."""

import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from necropsy_analyzer.cli import CommandError

if TYPE_CHECKING:
    from necropsy_analyzer.evidence.knowledge import Knowledge
    from necropsy_analyzer.evidence.shelf import Shelf

SYSTEM_RULES: Final = Path("/etc/necropsy/rules.d")


def cache_folder() -> Path:
    """Give the folder for what can be made again: $XDG_CACHE_HOME/necropsy."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "necropsy")


def rule_folders(own: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """List rule folders, a later one over an earlier: shipped, the system's, the caller's.

    Raises CommandError where one of the caller's is no folder.
    """
    for folder in own:
        if not folder.is_dir():
            raise CommandError(f"{folder}: no such folder of rules; check --rules")
    shipped = Path(str(files("necropsy_rules")))
    system = (SYSTEM_RULES,) if SYSTEM_RULES.is_dir() else ()
    return (shipped, *system, *own)


def knowledge(own: tuple[Path, ...] = ()) -> "Knowledge":
    """Load rules, causes, frame model and fusion's numbers, from the cache where nothing changed.

    Rules that could not be loaded are told once, on standard error; the others do their work. Raises
    CommandError where the shipped knowledge is not whole.
    """
    from necropsy_analyzer.evidence.knowledge import KnowledgeError, load_knowledge

    try:
        known = load_knowledge(rule_folders(own), cache_folder())
    except (KnowledgeError, OSError) as error:
        raise CommandError(f"{error}; reinstall necropsy") from error
    if known.complaints:
        count, first = len(known.complaints), known.complaints[0]
        print(f"necropsy: {first} ({count} complaints; see: necropsy rules check)", file=sys.stderr)
    return known


def shelf(own: tuple[Path, ...] = ()) -> "Shelf":
    """Read all rules with their examples and places, past the cache."""
    from necropsy_analyzer.evidence.knowledge import read_texts
    from necropsy_analyzer.evidence.shelf import Shelf

    folders = rule_folders(own)
    return Shelf([str(folder) for folder in folders], [read_texts(folder) for folder in folders])

"""Where the command line finds rules and keeps what it compiled of them (XDG base directories, FHS)."""

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from necropsy_analyzer.evidence.knowledge import Knowledge

SYSTEM_RULES: Final = Path("/etc/necropsy/rules.d")


def cache_folder() -> Path:
    """Give the folder for what can be made again: $XDG_CACHE_HOME/necropsy."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "necropsy")


def rule_folders(own: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """List rule folders, a later one over an earlier: shipped, the system's, the caller's."""
    shipped = Path(str(files("necropsy_rules")))
    system = (SYSTEM_RULES,) if SYSTEM_RULES.is_dir() else ()
    return (shipped, *system, *own)


def knowledge(own: tuple[Path, ...] = ()) -> "Knowledge":
    """Load rules, causes, frame model and fusion model, from the cache where nothing changed."""
    from necropsy_analyzer.evidence.knowledge import load_knowledge

    return load_knowledge(rule_folders(own), cache_folder())

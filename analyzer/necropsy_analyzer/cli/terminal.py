"""Where answers are written. In: text that hosts sent, values. Out: what is safe on a terminal; JSON.

A log may hold anything: escape sequences that move the cursor or set the terminal's title (ECMA-48), turns
of the writing direction, a line of megabytes. None of it reaches a terminal as it is.
"""

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

LINE_CHARACTERS: Final = 400
"""Of a longer line the beginning is shown."""

_PIPE_COLUMNS: Final = 10_000
_UNSAFE_JSON: Final = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def console() -> "Console":
    """Give the console of a command: colour only on a terminal, NO_COLOR honoured, no wrapping in a pipe."""
    from rich.console import Console

    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # a terminal without UTF-8
    columns = None if sys.stdout.isatty() else _PIPE_COLUMNS
    return Console(highlight=False, soft_wrap=True, width=columns)


def safe(text: str, characters: int = LINE_CHARACTERS) -> str:
    """Write what does not print as an escape, on one line; of a long text the beginning."""
    more = len(text) - characters
    if more > 0:
        return f"{safe(text[:characters])} … {more} characters more"
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def line(text: str, style: str = "") -> "Text":
    """Give a host's text as one line on a console."""
    from rich.text import Text

    return Text(safe(text), style=style)


def write_json(answer: Any) -> None:
    """Write an answer as JSON for people and programs: indented, what does not print escaped."""
    text = msgspec.json.format(msgspec.json.encode(answer), indent=2).decode()
    escaped = _UNSAFE_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    sys.stdout.buffer.write(escaped.encode() + b"\n")
    sys.stdout.buffer.flush()


def _escaped(character: str) -> str:
    if character == "\t":
        return " "
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

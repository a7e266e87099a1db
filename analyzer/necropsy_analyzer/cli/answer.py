"""How commands answer: as text for people or JSON for programs, and how both write a time."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """Form of an answer."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="Form of the answer.")]


def when(wall_ns: int | None) -> str:
    """Write a time as people and machines read it: UTC, to the second; empty for None."""
    if wall_ns is None:
        return ""
    return datetime.fromtimestamp(wall_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

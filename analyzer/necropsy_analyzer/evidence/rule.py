"""The values of the rule engine: a rule, its entry with examples, causes, complaints. No reading here.

The format that people write is told in rules/README.md.
"""

from typing import Final, Literal

import msgspec

State = Literal["live", "shadow", "retired"]
Severity = Literal["info", "fault", "fatal"]
Speaker = Literal["kernel", "any"]

CULPRIT_FIELDS: Final = ("frame", "module", "device", "dimm", "cpu", "process", "filesystem")
"""What a rule may name of the culprit, as the verdict publishes it."""


class Action(msgspec.Struct, frozen=True):
    """What to do: one line, and the steps."""

    summary: str
    steps: tuple[str, ...] = ()


class ReportTest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a parsed crash report must be like; every field that is given must hold.

    `mechanism`: one of these. `frames`: shell patterns, one reliable frame matches one of them, looked for
    in the innermost `depth` frames (0: all). `not_frames`: no reliable frame matches any. `module`: the
    culprit's or a frame's. `process`: shell patterns. `taint`: letters that are all set. `culprit`: shell
    patterns for the blamed function. `context`: where the CPU was.
    """

    mechanism: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    not_frames: tuple[str, ...] = ()
    depth: int = 0
    module: tuple[str, ...] = ()
    process: tuple[str, ...] = ()
    culprit: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    taint: str = ""


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the engine runs.

    `patterns` are regular expressions, any one hits; empty where `report` is given. `supports` maps causes
    to log-odds. `culprit` maps verdict fields to a capture's name, or to `=text`. Rules of one `family` see
    the same trouble from several sides, so their weights are damped together; it is the file's name unless
    the rule says otherwise. `speaker`: whose lines are asked, the kernel's alone or any program's too.
    """

    id: str
    title: str
    family: str
    state: State = "live"
    patterns: tuple[str, ...] = ()
    report: ReportTest | None = None
    mechanism: str | None = None
    severity: Severity = "info"
    supports: dict[str, float] = {}
    culprit: dict[str, str] = {}
    action: Action | None = None
    speaker: Speaker = "kernel"


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A text that must hit (`gives`: the captures it yields) or, with `because`, must not."""

    text: str
    line: int
    gives: dict[str, str] = {}
    because: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it stands in a file: with its examples, its sources, and its place (1-based line)."""

    rule: Rule
    file: str
    line: int
    origin: str
    references: tuple[str, ...] = ()
    gaps: str = ""
    examples: tuple[Example, ...] = ()
    counterexamples: tuple[Example, ...] = ()


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A cause of the taxonomy: what it means, how common it is before any evidence, what to do."""

    description: str
    prior: float
    action: Action


class Complaint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong with an entry, and where. The entry is not loaded."""

    file: str
    line: int
    message: str
    rule: str | None = None

    def __str__(self) -> str:
        """Give the complaint as compilers do: `file:line: rule: message`."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.rule}: {self.message}" if self.rule else f"{place}: {self.message}"

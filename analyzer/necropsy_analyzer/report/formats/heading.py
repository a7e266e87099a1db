"""What every kind of report is described with: how its first line reads, what it means, whom to blame.

In: nothing. Out: `Heading`, the value that the files of this package list.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

HEADING_CHARACTERS: Final = 512
"""So much of a message is asked for a heading: kernels begin with it."""

Blame = Literal["pointer", "stack", "named"]
"""Where the culprit is looked for first.

`pointer`: the instruction pointer, then outwards from there; `stack`: the reporting CPU's own trace; `named`:
the function that the heading names (group `function`), where that is not passed over, then the stack.
"""


@dataclass(frozen=True, slots=True)
class Heading:
    """One wording by which a kernel begins a report.

    `literal` is in every line that `pattern` matches. `title` is a template over the pattern's groups; ` in
    CULPRIT` is added where there is one. `use` names the frame model's use, `detail` finds the blamed
    function in later lines, `trace` the words before the trace that tells it. A `weak` heading is a report
    only where no other begins within it: it is a consequence, or another's first words.
    """

    literal: str
    pattern: re.Pattern[str]
    mechanism: str
    title: str
    blame: Blame = "stack"
    use: str = "default"
    detail: re.Pattern[str] | None = None
    trace: re.Pattern[str] | None = None
    fatal: bool = False
    weak: bool = False


def heading(
    literal: str,
    pattern: str,
    mechanism: str,
    title: str,
    *,
    blame: Blame = "stack",
    use: str = "default",
    detail: str | None = None,
    trace: str | None = None,
    fatal: bool = False,
    weak: bool = False,
) -> Heading:
    """Make a heading; patterns are compiled here."""
    return Heading(
        literal=literal,
        pattern=re.compile(pattern),
        mechanism=mechanism,
        title=title,
        blame=blame,
        use=use,
        detail=None if detail is None else re.compile(detail),
        trace=None if trace is None else re.compile(trace),
        fatal=fatal,
        weak=weak,
    )


FUNCTION = r"\[?<?(?:[0-9a-f]{8,16}>?\]? )?(?P<function>[A-Za-z_]\w{0,127})(?:\.[\w.]{1,64})?\+0x"
"""A symbol with its offset, as %pS prints it, with or without an address before."""

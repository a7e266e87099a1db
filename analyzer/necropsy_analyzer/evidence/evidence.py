"""The value that counts for or against a cause."""

import msgspec


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing seen.

    `rule` is the id of the rule or feature that saw it, `line` the 1-based line in the input (0: not from a
    line), `text` the message quoted. `supports` maps causes to log-odds (negative: speaks against), as they
    count here: what was seen often weighs more than the rule says, what was seen in an aftershock less.
    `count` is how often it was seen, `line` and `text` are the first time that counts in full. `fault`:
    this is a report of a kernel fault; `fatal`: the host went down with it. `mechanism` and `culprit` are
    what it tells of them. Evidence of one `family` tells of the same trouble, and is damped together.
    """

    rule: str
    title: str
    family: str = ""
    line: int = 0
    text: str = ""
    supports: dict[str, float] = {}
    count: int = 1
    fault: bool = False
    fatal: bool = False
    mechanism: str | None = None
    culprit: dict[str, str] = {}
    time_s: float | None = None

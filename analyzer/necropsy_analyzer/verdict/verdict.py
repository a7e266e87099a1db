"""The published verdict: `necropsy.verdict/1`, one JSON object a diagnosed input."""

import msgspec

from necropsy_analyzer.evidence.rule import Action

SCHEMA = "necropsy.verdict/1"


class Ranked(msgspec.Struct, frozen=True):
    """A cause and its probability."""

    cause: str
    probability: float


class Culprit(msgspec.Struct, frozen=True, kw_only=True):
    """Who or what is blamed; None where nothing says."""

    frame: str | None = None
    module: str | None = None
    device: str | None = None
    dimm: str | None = None
    cpu: int | None = None
    process: str | None = None
    filesystem: str | None = None


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel that died, as its own report names it."""

    release: str | None = None
    tainted: str | None = None
    hardware: str | None = None


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of evidence as published; `source` names the text where the case has more than one."""

    rule: str
    line: int
    text: str
    supports: dict[str, float]
    title: str = ""
    count: int = 1
    source: str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Why one input's host died. Fields are only ever added to this schema.

    `confidence` is the probability of `cause`, `ranking` the whole distribution from the top on (causes
    below 0.005 are left out). `error` says why an input could not be read; the rest is then empty.
    `damage` lists what was wrong with the input though it was read.
    """

    schema: str = SCHEMA
    input: str
    error: str | None = None
    crashed: bool = False
    fatal: bool = False
    title: str | None = None
    mechanism: str | None = None
    cause: str = "unknown.silent"
    confidence: float = 0.0
    ranking: tuple[Ranked, ...] = ()
    culprit: Culprit = Culprit()
    fingerprint: str | None = None
    stack: tuple[str, ...] = ()
    kernel: Kernel = Kernel()
    evidence: tuple[Proof, ...] = ()
    action: Action = Action(summary="")
    model: str = ""
    damage: tuple[str, ...] = ()

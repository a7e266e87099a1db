"""Values of features.yaml, mechanisms.yaml and fusion.yaml: what counts how much, how it is weighed."""

import msgspec


class Mechanism(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the kernel saw, and what a report of that kind says of the cause by itself, in log-odds."""

    is_: str = msgspec.field(name="is")
    supports: dict[str, float] = {}


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a finding counts for.

    `takes` is the share of what speaks for a defect of the kernel that speaks for its external modules
    instead.
    """

    title: str
    supports: dict[str, float]
    takes: float = 0.0


class Succession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Earlier evidence that explains a later fault.

    `first`: the cause that the earlier evidence speaks for, by rules whose mechanism is one of `of` (empty:
    any). `then`: mechanisms of the later. `mechanism`: the verdict's, where the later is only a
    consequence.
    """

    id: str
    title: str
    first: str
    of: tuple[str, ...]
    then: tuple[str, ...]
    supports: dict[str, float]
    mechanism: str | None = None


class Component(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A kind of hardware: beginnings of its names, the cause its faults speak for, what its device is."""

    begins: tuple[str, ...]
    cause: str
    culprit: str
    mechanism: str | None = None


class Features(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of features.yaml; its comments tell what each part means. `in_tree` is tables/modules.yaml."""

    findings: dict[str, Finding]
    sequences: tuple[Succession, ...]
    components: tuple[Component, ...]
    severities: dict[str, float]
    guests: tuple[str, ...]
    real: tuple[str, ...]
    guest_releases: tuple[str, ...]
    guest_modules: tuple[str, ...]
    external: tuple[str, ...]
    external_functions: tuple[str, ...]
    external_words: tuple[str, ...]
    in_tree: frozenset[str] = frozenset()

    def causes(self) -> set[str]:
        """Give every cause that is named."""
        named = {entry.cause for entry in self.components} | {entry.first for entry in self.sequences}
        for finding in self.findings.values():
            named |= finding.supports.keys()
        for succession in self.sequences:
            named |= succession.supports.keys()
        return named

    def mechanisms(self) -> set[str]:
        """Give every mechanism that is named."""
        named = {entry.mechanism for entry in self.components} | {entry.mechanism for entry in self.sequences}
        named |= {name for entry in self.sequences for name in (*entry.of, *entry.then)}
        return {name for name in named if name is not None}


class Fusion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The numbers by which evidence becomes probability; fusion.yaml tells what they mean."""

    version: str
    temperature: float
    doubt: float
    damping: float
    repeat_gain: float
    repeat_limit: float
    quoted: float
    aftershock_share: float
    afterwards_share: float
    other_boot_share: float

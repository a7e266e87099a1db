"""Lines of a report → stack frames. In: messages. Out: `Frame`s with their sections, told from everything
else.

Formats: arch/x86/kernel/dumpstack.c (with and without addresses), arch/arm64/kernel/stacktrace.c, arch/arm
`(f) from (g)`, powerpc and s390; scripts' `file:line [inline]` of symbolized traces.
"""

import re
from typing import Final

from necropsy_analyzer.report.report import Frame, Section

_ENTRY: Final = re.compile(
    r"\s{0,40}(?:(?:</?#?[A-Z][A-Za-z#0-9]{0,16}>|<<[A-Z#]{1,16}>>)\s{0,8}){0,4}"
    r"(?:\(?\[?<?(?:0x)?[0-9a-fA-F]{8,16}>?\]?\)?:?\s{0,8}){0,3}"
    r"(\? )?\s{0,8}\(?\.?([A-Za-z_$][\w.$]{0,511})\+0x([0-9a-f]{1,8})(?:/0x([0-9a-f]{1,8}))?\)?"
    r"(?: \[([\w-]{1,64})(?: [0-9a-f]{6,64})?\])?"
)
_INLINE: Final = re.compile(
    r"\s{0,40}(\? )?([A-Za-z_]\w{0,255}(?:\.\w{1,64}){0,4}) [\w./+-]{1,256}\.[chSs]:\d{1,7} \[inline\]"
)
_FROM: Final = re.compile(
    r"\s{0,40}(?:\[<[0-9a-f]{8}>\] )?\(?([A-Za-z_][\w.]{0,511})(?:\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8})?\)?"
    r" from (?:\[<[0-9a-f]{8}>\] )?\(?[A-Za-z_][\w.]{0,511}\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}\)?"
)
_POINTER: Final = re.compile(
    r"(?:EIP is at|RIP|EIP|IP|NIP|PC is at|epc|pc|PC)\s{0,4}:?\s{0,4}(?:\w{1,4}:)?\s{0,4}"
    r"(?:\[?<?(?:0x)?[0-9a-f]{8,16}>?\]?\s{0,4}){0,2}"
    r"\[?([A-Za-z_$][\w.$]{0,511})\+0x([0-9a-f]{1,8})(?:/0x([0-9a-f]{1,8}))?\]?"
    r"(?: \[([\w-]{1,64})(?: [0-9a-f]{6,64})?\])?"
)
_MARK: Final = re.compile(r"</?(#?[A-Z][A-Za-z#0-9]{0,16})>|<<([A-Z#]{1,16})>>")
_FRAME_CHARACTERS: Final = 1024
_SUFFIX: Final = re.compile(
    r"(?:\.(?:isra|constprop|part|cold|llvm|lto_priv|localalias|clone|ipa_sra|ra|plt|str)(?:\.[0-9a-fA-F]+)*"
    r"|\.\d+)+$"
)
_SECTIONS: Final[dict[str, Section]] = {
    "IRQ": "irq",
    "SOFTIRQ": "softirq",
    "NMI": "nmi",
    "TASK": "task",
    "EOI": "task",
    "EOE": "task",
}


def plain_name(raw: str) -> str:
    """Take the compiler's suffixes off a symbol: `foo.isra.0.cold` → `foo`."""
    return _SUFFIX.sub("", raw) or raw


def frame_of(text: str, section: Section = "task", line: int = 0) -> Frame | None:
    """Read one entry of a stack trace, None where the message is something else."""
    if len(text) > _FRAME_CHARACTERS:
        return None
    if "+0x" in text:
        if " from " in text:
            from_ = _FROM.match(text)
            if from_ is not None:
                raw = from_[1]
                return Frame(function=plain_name(raw), raw=raw, section=section, line=line)
        found = _ENTRY.match(text)
        if found is None:
            return None
        rest = text[found.end() :]
        if rest and rest[0] not in " \t)" and not rest.startswith("<"):
            return None
        if len(rest) > 120:
            return None
        doubt, raw, offset, size, module = found.groups()
        return Frame(
            function=plain_name(raw),
            raw=raw,
            offset=int(offset, 16),
            size=None if size is None else int(size, 16),
            module=module,
            reliable=doubt is None and not rest.startswith(" (unreliable)"),
            section=section,
            line=line,
        )
    if "[inline]" in text:
        inline = _INLINE.match(text)
        if inline is not None:
            raw = inline[2]
            return Frame(
                function=plain_name(raw), raw=raw, reliable=inline[1] is None, section=section, line=line
            )
    return None


def pointer_of(text: str, line: int = 0) -> Frame | None:
    """Read the function that an instruction pointer line names (`RIP: 0010:foo+0x1/0x2 [m]`, `pc :
    foo+0x…`).
    """
    found = _POINTER.search(text, 0, _FRAME_CHARACTERS)
    if found is None:
        return None
    raw, offset, size, module = found.groups()
    return Frame(
        function=plain_name(raw),
        raw=raw,
        offset=int(offset, 16),
        size=None if size is None else int(size, 16),
        module=module,
        line=line,
    )


def section_of(text: str, current: Section) -> Section:
    """Follow the section marks of a trace (`<IRQ>`, `</IRQ>`, `<NMI>`, `<TASK>`, `<EOI>`, `<#DF>`)."""
    if "<" not in text:
        return current
    for found in _MARK.finditer(text):
        name = found[1] or found[2]
        if found[0].startswith("</"):
            current = "task"
        elif name.startswith("#"):
            current = "exception"
        else:
            current = _SECTIONS.get(name, current)
    return current

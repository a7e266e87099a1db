"""The rules' patterns, made ready for the prefilter. In: rule files. Out: widened patterns, their literals.

Rules are written for a bare kernel message (rules/README.md). Here they are widened to hit wherever in a line
of /dev/kmsg's form the message stands, escaped as the kernel's readers see it (kernel/printk/printk.c,
msg_add_ext_text): anchors go, and what is meant to match a tab matches `\\x09` as well. A line too many does
no harm.

A line can only match a pattern if one of a few literals stands in it; those are found in the pattern's own
syntax tree. This module runs in a child of the agent, which has neither YAML nor a compiler to load.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from re import _parser as syntax  # the only way to a pattern's literals
from typing import Any, Final

import msgspec

FORM: Final = b"necropsy prefilter 1\n"
FILE_BYTES: Final = 8 << 20
"""Of a rule file so much is read."""

Say = Callable[[str], None]


class Patterns(msgspec.Struct, frozen=True, kw_only=True):
    """What the prefilter works with. Bytes are written as Latin-1, so that JSON can hold them.

    `literals` maps a literal to the patterns (by number) that may match a line which holds it; `anywhere`
    are those without a literal, which may match any line.
    """

    patterns: tuple[str, ...] = ()
    literals: dict[str, tuple[int, ...]] = {}
    anywhere: tuple[int, ...] = ()


def read(files: Iterable[Path], say: Say) -> Patterns:
    """Read rule files; a later rule replaces an earlier one with its id.

    What cannot be read is left out and said: checking rules is `necropsy rules check`'s business.
    """
    patterns: list[str] = []
    literals: dict[str, list[int]] = {}
    anywhere: list[int] = []
    for pattern in _matches(files, say):
        wide = widened(pattern).encode()
        try:
            re.compile(wide)
        except (re.error, RecursionError, OverflowError) as error:
            say(f"pattern {pattern[:80]!r} is not used: {error}")
            continue
        needed = literals_of(wide)
        for literal in sorted(needed):
            literals.setdefault(literal.decode("latin-1"), []).append(len(patterns))
        if not needed:
            anywhere.append(len(patterns))
        patterns.append(wide.decode("latin-1"))
    return Patterns(
        patterns=tuple(patterns),
        literals={literal: tuple(numbers) for literal, numbers in literals.items()},
        anywhere=tuple(anywhere),
    )


def widened(pattern: str) -> str:
    """Rewrite a pattern for a message so that it hits wherever in a record's line that message stands."""
    out: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern[at] == "[":
            end = _class_end(pattern, at)
            out.append(_with_tab(pattern[at:end]))
            at = end
        elif pattern[at] == "\\":
            out.append(_with_tab(pattern[at : at + 2]) if pattern[at : at + 2] != r"\\" else r"\\x5c")
            at += 2
        elif pattern.startswith("(?P<", at):  # names may come twice once patterns stand side by side
            out.append("(?:")
            at = pattern.find(">", at) + 1 or len(pattern)
        elif pattern[at] in "^$":
            at += 1
        else:
            out.append(pattern[at])
            at += 1
    return "".join(out)


def literals_of(pattern: bytes) -> frozenset[bytes]:
    """Give literals of which every match of a pattern holds one, the longest there are; none if unknown."""
    tree = syntax.parse(pattern)
    if tree.state.flags & re.IGNORECASE or b"(?i" in pattern:
        return frozenset()
    return _needed(tree)


def main(arguments: list[str]) -> int:
    """Write the prefilter's cache: ENGINE CACHE RULEFILE… What cannot be used is printed."""
    engine, cache, *files = arguments
    patterns = read(map(Path, files), print)
    told = msgspec.json.encode(patterns)
    content = len(told).to_bytes(8, "big") + told
    if engine == "hyperscan" and patterns.literals:
        content += _database(patterns.literals)
    draft = Path(f"{cache}.new")
    draft.write_bytes(FORM + hashlib.sha256(content).digest() + content)
    draft.replace(cache)
    return 0


def _matches(files: Iterable[Path], say: Say) -> Iterable[str]:
    """Give every pattern of every rule in use, once."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    rules: dict[object, list[str]] = {}
    for file in files:
        try:
            with file.open("rb") as opened:
                told = yaml.load(opened.read(FILE_BYTES), loader)  # noqa: S506  a safe loader
        except (OSError, yaml.YAMLError) as error:
            say(f"{file}: not read: {str(error).splitlines()[0]}")
            continue
        for number, rule in enumerate(told if isinstance(told, list) else []):
            if isinstance(rule, dict):
                match = [] if rule.get("state") == "retired" else rule.get("match", [])
                rules[str(rule.get("id", (file, number)))] = match if isinstance(match, list) else [match]
    return dict.fromkeys(one for match in rules.values() for one in match if isinstance(one, str))


def _class_end(pattern: str, at: int) -> int:
    """Find where the class that begins at `at` ends; a `]` that stands first is one of its members."""
    end = at + 1
    if pattern[end : end + 1] == "^":
        end += 1
    if pattern[end : end + 1] == "]":
        end += 1
    while end < len(pattern) and pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    return end + 1


def _with_tab(piece: str) -> str:
    """Let what is meant to match a tab match its escape too; a negated class has no special liking for it."""
    try:
        tab = not piece.startswith("[^") and re.fullmatch(piece, "\t") is not None
    except re.error:
        tab = False
    return rf"(?:{piece}|\\x09)" if tab else piece


def _needed(tree: Any) -> frozenset[bytes]:
    """Choose, of the sets of literals that a syntax tree cannot match without, the one that says most."""
    sets: list[frozenset[bytes]] = []
    run = bytearray()
    for operation, value in tree:
        if operation is syntax.LITERAL:
            run.append(value)
            continue
        sets.append(frozenset([bytes(run)]))
        run.clear()
        if operation is syntax.SUBPATTERN:
            sets.append(_needed(value[3]))
        elif operation is syntax.BRANCH:
            branches = [_needed(branch) for branch in value[1]]
            if all(branches):
                sets.append(frozenset().union(*branches))
        elif operation in (syntax.MAX_REPEAT, syntax.MIN_REPEAT) and value[0] > 0:
            sets.append(_needed(value[2]))
    sets.append(frozenset([bytes(run)]))
    useful = [one for one in sets if one and all(one)]
    return max(useful, key=lambda one: (min(map(len, one)), -len(one)), default=frozenset())


def _database(literals: Iterable[str]) -> bytes:
    import hyperscan

    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(expressions=[literal.encode("latin-1") for literal in literals], literal=True)
    return bytes(hyperscan.dumpb(database))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

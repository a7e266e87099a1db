"""All rules over a whole log in one pass. In: messages joined with newlines. Out: which rule hit where.

Three engines read one dialect (lint.py): hyperscan scans many lines at once, google-re2's Set stands in
where there is no hyperscan, and `re` gives the captures, on the few lines that hit. All look at bytes, so
that none of them has an opinion about damaged UTF-8, and a line is what is between two newlines.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol

import msgspec

from necropsy_analyzer.evidence.anchors import scanned

CHUNK_BYTES: Final = 64 << 10
"""How much is scanned at once: as much as the processor's caches hold beside the automaton."""

KEPT_LINES: Final = 1000
"""Of a rule that hits more lines, the first so many are kept; all are counted."""


LONG_CHARACTERS: Final = 256
"""A longer line is asked by RE2, in time that grows with its length; `re` may take its square."""

_PATTERN_BITS: Final = 16
_PATTERN: Final = (1 << _PATTERN_BITS) - 1


class Hit(msgspec.Struct, frozen=True):
    """A rule's hits: its index, 0-based lines (`KEPT_LINES` at most, in order), and how many there are."""

    rule: int
    lines: tuple[int, ...]
    count: int


class Engine(Protocol):
    """Finds lines; `scan` gives, in order of lines, (0-based line, indexes of the patterns that hit it)."""

    name: str

    def scan(self, data: bytes) -> Iterator[tuple[int, set[int]]]:
        """Scan messages joined with newlines."""

    def dump(self) -> bytes:
        """Give the compiled form for a cache; empty where compiling is as fast as loading."""


class EngineError(Exception):
    """The engine does not take a compiled form or a pattern."""


class NoEngineError(EngineError):
    """The engine is not to be had on this machine."""


class Matcher:
    """Every pattern of every rule, compiled. Patterns must be clean by lint.py."""

    def __init__(self, rules: Sequence[Sequence[str]], engine: Engine) -> None:
        """Take for each rule its patterns, and the engine compiled from `flat(rules)`."""
        self.engine = engine
        self._rules = rules
        self._owner = [number for number, patterns in enumerate(rules) for _ in patterns]

    def scan(self, data: bytes) -> list[Hit]:
        """Give the rules that hit, in order of the first line they hit."""
        kept: dict[int, list[int]] = {}
        counts: dict[int, int] = {}
        owner = self._owner
        for line, patterns in self.engine.scan(data):
            for rule in {owner[pattern] for pattern in patterns}:
                count = counts.get(rule, 0)
                counts[rule] = count + 1
                if not count:
                    kept[rule] = [line]
                elif count < KEPT_LINES:
                    kept[rule].append(line)
        hits = [Hit(rule, tuple(lines), counts[rule]) for rule, lines in kept.items()]
        hits.sort(key=lambda hit: (hit.lines[0], hit.rule))
        return hits

    def captures(self, rule: int, message: str) -> dict[str, str]:
        """Give the captures of a rule's first pattern that matches the message; empty if none does."""
        line = message.encode("utf-8", "replace")
        asked = compiled if len(line) <= LONG_CHARACTERS else linear
        for pattern in self._rules[rule]:
            found = asked(pattern).search(line)
            if found is not None:
                # RE2 names groups in bytes where it looks at bytes.
                return {
                    name if isinstance(name, str) else name.decode(): value.decode("utf-8", "replace")
                    for name, value in found.groupdict().items()
                    if value is not None
                }
        return {}


def flat(rules: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Give all patterns of all rules in order: what engines are compiled from."""
    return tuple(pattern for patterns in rules for pattern in patterns)


def build(patterns: Sequence[str], dumped: bytes | None = None, prefer: str | None = None) -> Engine:
    """Compile patterns, or take up a compiled form that an engine of this kind dumped.

    `prefer` is `hyperscan` or `re2`; without it the first that is to be had. Raises EngineError.
    """
    if not patterns:
        return _Nothing()
    if prefer != "re2":
        try:
            return Hyperscan(patterns, dumped)
        except NoEngineError:
            if prefer is not None:
                raise
    return Re2(patterns)


def engine_version() -> str:
    """Name the engine whose compiled form a cache may hold, and its version."""
    try:
        return f"hyperscan {import_module('hyperscan').__version__}"
    except ImportError:
        return "none"


class _Nothing:
    name = "none"

    def scan(self, data: bytes) -> Iterator[tuple[int, set[int]]]:
        return iter(())

    def dump(self) -> bytes:
        return b""


class Hyperscan:
    """Intel's automata (also Vectorscan): whole chunks a step.

    Most patterns are looked for by their words alone (anchors.py), and `re` asks the rest of the lines
    found: a thousand patterns of which some can begin anywhere are several times slower than a thousand
    literals.
    """

    name = "hyperscan"

    def __init__(self, patterns: Sequence[str], dumped: bytes | None = None) -> None:
        """Compile, or take up what `dump` gave. Raises EngineError, also where it cannot run here."""
        self._patterns = patterns
        self._asked: dict[int, Callable[..., object]] = {}
        # Working memory of a scan: two at a time must not share it.
        self._own = threading.local()
        try:
            self._module: Any = import_module("hyperscan")
        except ImportError as error:
            raise NoEngineError(f"no hyperscan here: {error}") from error
        try:
            self._database = self._compile() if dumped is None else self._load(dumped)
            # A compiled form from another processor is refused only when it scans.
            self._database.scan(b"\n", match_event_handler=lambda *_: None)
        except self._module.ArchitectureError as error:
            raise NoEngineError(f"hyperscan does not run on this processor: {error}") from error
        except self._module.error as error:
            raise EngineError(f"hyperscan: {error}") from error

    def _compile(self) -> Any:
        forms = [scanned(pattern) for pattern in self._patterns]
        self._exact = bytes(form is None for form in forms)
        expressions = [
            pattern if form is None else form for pattern, form in zip(self._patterns, forms, strict=True)
        ]
        database = self._module.Database(mode=self._module.HS_MODE_BLOCK)
        database.compile(
            expressions=[expression.encode() for expression in expressions],
            ids=list(range(len(expressions))),
            elements=len(expressions),
            flags=self._module.HS_FLAG_MULTILINE,
        )
        return database

    def _load(self, dumped: bytes) -> Any:
        count = len(self._patterns)
        self._exact = dumped[:count]
        database = self._module.loadb(dumped[count:], self._module.HS_MODE_BLOCK)
        database.scratch = self._module.Scratch(database)
        return database

    def dump(self) -> bytes:
        """Give the compiled form: which patterns are scanned whole, and the engine's database."""
        database: bytes = self._module.dumpb(self._database)
        return self._exact + database

    def scan(self, data: bytes) -> Iterator[tuple[int, set[int]]]:
        """Scan messages joined with newlines."""
        found: list[int] = []
        append = found.append

        def matched(pattern: int, _start: int, end: int, _flags: int, _context: object) -> None:
            append(end << _PATTERN_BITS | pattern)

        scan, asked = self._database.scan, self._asked
        scratch = getattr(self._own, "scratch", None)
        if scratch is None:
            scratch = self._own.scratch = self._module.Scratch(self._database)
        line, counted = 0, 0
        for begin, chunk in _chunks(data, CHUNK_BYTES):
            scan(chunk, match_event_handler=matched, scratch=scratch)
            if not found:
                continue
            found.sort()
            start, stop = 0, -1
            hit: set[int] = set()
            seen: set[int] = set()
            for key in found:
                end = key >> _PATTERN_BITS
                pattern = key & _PATTERN
                if end > stop:
                    if hit:
                        line += data.count(b"\n", counted, begin + start)
                        counted = begin + start
                        yield line, hit
                        hit = set()
                    seen.clear()
                    # A match ends in its line; it cannot reach over a newline.
                    start = chunk.rfind(b"\n", 0, end - 1) + 1
                    stop = chunk.find(b"\n", end - 1)
                    stop = len(chunk) if stop < 0 else stop
                elif pattern in seen:
                    continue
                seen.add(pattern)
                ask = asked.get(pattern) or self._question(pattern)
                if stop - start > LONG_CHARACTERS and ask is not _certain:
                    answer = linear(self._patterns[pattern]).search(chunk[start:stop])
                else:
                    answer = ask(chunk, start, stop)
                if answer is not None:
                    hit.add(pattern)
            found.clear()
            if hit:
                line += data.count(b"\n", counted, begin + start)
                counted = begin + start
                yield line, hit

    def _question(self, pattern: int) -> Callable[..., object]:
        if self._exact[pattern]:
            self._asked[pattern] = _certain
        else:
            self._asked[pattern] = compiled(self._patterns[pattern]).search
        return self._asked[pattern]


def _certain(*_: object) -> bool:
    return True


class Re2:
    """Google's automata: one line a step, on every platform."""

    name = "re2"

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile. Raises EngineError."""
        try:
            re2: Any = import_module("re2")
        except ImportError as error:
            raise NoEngineError("no pattern engine here: install google-re2") from error
        options = _byte_options(re2)
        options.max_mem = 256 << 20
        try:
            self._lines = re2.Set.SearchSet(options)
            for pattern in patterns:
                self._lines.Add(f"(?m){pattern}".encode())
            self._lines.Compile()
        except re2.error as error:
            raise EngineError(f"re2: {error}") from error

    def dump(self) -> bytes:
        """Give nothing: RE2 builds its automaton as it scans."""
        return b""

    def scan(self, data: bytes) -> Iterator[tuple[int, set[int]]]:
        """Scan messages joined with newlines."""
        match = self._lines.Match
        line = 0
        for _, chunk in _chunks(data, CHUNK_BYTES >> 4):
            if match(chunk):
                for number, text in enumerate(chunk.split(b"\n")):
                    hit = match(text)
                    if hit:
                        yield line + number, set(hit)
            line += chunk.count(b"\n")


def _byte_options(re2: Any) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return options


def _chunks(data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """Cut at line ends; give where each chunk begins, and the chunk."""
    begin = 0
    while begin < len(data):
        cut = begin + size
        if cut < len(data):
            cut = data.rfind(b"\n", begin, cut) + 1 or data.find(b"\n", cut) + 1 or len(data)
        yield begin, data[begin:cut]
        begin = cut


@cache
def linear(pattern: str) -> Any:
    """Give a pattern for RE2, over one line; for `re` where there is no RE2."""
    try:
        re2 = import_module("re2")
    except ImportError:
        return compiled(pattern)
    return re2.compile(pattern.encode(), _byte_options(re2))


@cache
def compiled(pattern: str) -> re.Pattern[bytes]:
    """Give a pattern for Python's `re`, over bytes, to be asked of one line of many."""
    return re.compile(pattern.encode(), re.MULTILINE)

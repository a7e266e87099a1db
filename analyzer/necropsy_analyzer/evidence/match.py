"""All rules over a whole log in one pass. In: messages joined with newlines. Out: which rule hit where.

Three engines read one dialect (lint.py): hyperscan scans many lines at once, google-re2's Set stands in
where there is no hyperscan, and `re` gives the captures, on the few lines that hit. All look at bytes, so
that none of them has an opinion about damaged UTF-8, and a line is what is between two newlines.
"""

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final, Protocol

import msgspec

CHUNK_BYTES: Final = 64 << 10
"""How much is scanned at once: as much as the processor's caches hold beside the automaton."""

KEPT_LINES: Final = 1000
"""Of a rule that hits more lines, the first so many are kept; all are counted."""


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
        self._compiled: dict[int, list[re.Pattern[bytes]]] = {}

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
        compiled = self._compiled.get(rule)
        if compiled is None:
            compiled = [re.compile(pattern.encode()) for pattern in self._rules[rule]]
            self._compiled[rule] = compiled
        line = message.encode("utf-8", "replace")
        for pattern in compiled:
            found = pattern.search(line)
            if found is not None:
                return {
                    name: value.decode("utf-8", "replace")
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
        except EngineError:
            if prefer is not None:
                raise
    return Re2(patterns)


def engine_version() -> str:
    """Name the engine to be had here and its version: what a compiled form is good for."""
    for package in ("hyperscan", "google-re2"):
        try:
            return f"{package} {version(package)}"
        except ModuleNotFoundError:
            continue
    return "none"


class _Nothing:
    name = "none"

    def scan(self, data: bytes) -> Iterator[tuple[int, set[int]]]:
        return iter(())

    def dump(self) -> bytes:
        return b""


class Hyperscan:
    """Intel's automata (also Vectorscan): several lines a step."""

    name = "hyperscan"

    def __init__(self, patterns: Sequence[str], dumped: bytes | None = None) -> None:
        """Compile, or take up what `dump` gave. Raises EngineError, also where it cannot run here."""
        try:
            self._module: Any = import_module("hyperscan")
        except ImportError as error:
            raise NoEngineError(f"no hyperscan here: {error}") from error
        try:
            self._database = self._compile(patterns) if dumped is None else self._load(dumped)
            # A compiled form from another processor is refused only when it scans.
            self._database.scan(b"\n", match_event_handler=lambda *_: None)
        except self._module.error as error:
            raise EngineError(f"hyperscan: {error}") from error

    def _compile(self, patterns: Sequence[str]) -> Any:
        database = self._module.Database(mode=self._module.HS_MODE_BLOCK)
        database.compile(
            expressions=[pattern.encode() for pattern in patterns],
            ids=list(range(len(patterns))),
            elements=len(patterns),
            flags=self._module.HS_FLAG_MULTILINE,
        )
        return database

    def _load(self, dumped: bytes) -> Any:
        database = self._module.loadb(dumped, self._module.HS_MODE_BLOCK)
        database.scratch = self._module.Scratch(database)
        return database

    def dump(self) -> bytes:
        """Give the compiled form."""
        dumped: bytes = self._module.dumpb(self._database)
        return dumped

    def scan(self, data: bytes) -> Iterator[tuple[int, set[int]]]:
        """Scan messages joined with newlines."""
        line, counted, begin = 0, 0, 0
        ends: list[tuple[int, int]] = []
        ended: dict[int, int] = {}

        def matched(pattern: int, _start: int, end: int, _flags: int, _context: object) -> None:
            # A pattern that ends in a repeat matches at every character of it; one hit a line is enough.
            if end > ended.get(pattern, -1):
                ended[pattern] = chunk.find(b"\n", end) % whole
                ends.append((end, pattern))

        scan = self._database.scan
        while begin < len(data):
            cut = begin + CHUNK_BYTES
            if cut < len(data):
                cut = data.rfind(b"\n", begin, cut) + 1 or data.find(b"\n", cut) + 1 or len(data)
            chunk = data[begin:cut]
            whole = len(chunk) + 1
            scan(chunk, match_event_handler=matched)
            if ends:
                ends.sort()
                hit: set[int] = set()
                at = -1
                for end, pattern in ends:
                    # The match lies in one line, and its last character is in that line.
                    stop = begin + end - 1
                    now = line + data.count(b"\n", counted, stop)
                    line, counted = now, stop
                    if now != at:
                        if hit:
                            yield at, hit
                        at, hit = now, set()
                    hit.add(pattern)
                yield at, hit
                ends.clear()
                ended.clear()
            begin = cut


class Re2:
    """Google's automata: one line a step, on every platform."""

    name = "re2"

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile. Raises EngineError."""
        try:
            re2: Any = import_module("re2")
        except ImportError as error:
            raise NoEngineError("no pattern engine here: install google-re2") from error
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = 256 << 20
        options.log_errors = False
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
        line, begin = 0, 0
        while begin < len(data):
            cut = begin + (CHUNK_BYTES >> 4)
            if cut < len(data):
                cut = data.rfind(b"\n", begin, cut) + 1 or data.find(b"\n", cut) + 1 or len(data)
            chunk = data[begin:cut]
            if match(chunk):
                for number, text in enumerate(chunk.split(b"\n")):
                    hit = match(text)
                    if hit:
                        yield line + number, set(hit)
            line += chunk.count(b"\n")
            begin = cut

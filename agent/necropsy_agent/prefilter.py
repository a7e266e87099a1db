"""The rules' prefilter: which lines some rule may want. In: rule files. Out: `Hits` for the kmsg source.

All literals without which no pattern can match are searched at once, by hyperscan, or one after the other
where that is not to be had; on the few lines that hold one, Python's `re` decides. So both give the same
lines, and what stays in memory is a database of literals (a seventh of one of whole patterns).

A child reads the rules and compiles (patterns.py); what it made is kept in the state folder under a digest of
all that it was made of, so that a start loads a file and nothing more.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from necropsy_agent.patterns import FILE_BYTES, FORM, Patterns, Say

Hits = Callable[[bytes], Iterable[int]]
Find = Callable[[bytes], Iterable[tuple[int, int]]]
"""Gives the number of each literal that stands in a text, and an offset within it there."""

_CACHE: Final = "prefilter-"
_COMPILE_TIMEOUT_S: Final = 120.0
_COMPILED: Final = 256


class _CacheError(Exception):
    """The cache is not there, or not as it was written, or of another processor or version."""


def load(folders: Sequence[Path], state: Path, say: Say, engine: str | None = None) -> Hits:
    """Make the prefilter of the shipped rules and those in `folders`, from the cache in `state` or anew.

    `engine` is `hyperscan` or `re`; None takes hyperscan where it is installed. `say` hears of rules that
    cannot be used; where the filter cannot be made it wants nothing, and the kernel's own levels decide.
    """
    engine = engine or ("hyperscan" if find_spec("hyperscan") else "re")
    files = rule_files(folders)
    cache = state / f"{_CACHE}{_digest(files, engine)}.{engine}"
    with suppress(_CacheError):
        return _cached(cache, engine)
    try:
        for line in _compile(files, cache, engine):
            say(line)
        hits = _cached(cache, engine)
    except (OSError, subprocess.TimeoutExpired, _CacheError) as error:
        say(f"the rules' prefilter cannot be made, so warnings and faults alone are shipped: {error}")
        return _nothing
    for old in state.glob(f"{_CACHE}*"):
        if old != cache:
            with suppress(OSError):
                old.unlink()
    return hits


def rule_files(folders: Sequence[Path]) -> tuple[Path, ...]:
    """List rule files: the shipped ones, then each folder's by name."""
    import necropsy_rules

    shipped = [Path(path) for path in necropsy_rules.__path__]
    return tuple(path for folder in (*shipped, *folders) for path in sorted(folder.glob("*.yaml")))


def hits_of(patterns: Patterns, find: Find) -> Hits:
    """Make the filter of patterns and what finds their literals."""
    owners = tuple(patterns.literals.values())

    @lru_cache(_COMPILED)
    def compiled(number: int) -> re.Pattern[bytes]:
        return re.compile(patterns.patterns[number].encode("latin-1"))

    def hits(text: bytes) -> set[int]:
        hit: set[int] = set()
        asked: set[tuple[int, int]] = set()
        for literal, offset in find(text):
            start = text.rfind(b"\n", 0, offset) + 1
            if start in hit:
                continue
            end = text.find(b"\n", offset)
            for number in owners[literal]:
                if (start, number) in asked:
                    continue
                asked.add((start, number))
                if compiled(number).search(text[start : end if end >= 0 else len(text)]):
                    hit.add(start)
                    break
        if patterns.anywhere:
            start = 0
            for line in text.split(b"\n"):
                if start not in hit and any(compiled(number).search(line) for number in patterns.anywhere):
                    hit.add(start)
                start += len(line) + 1
        return hit

    return hits


def _digest(files: Sequence[Path], engine: str) -> str:
    """Name the cache by all that it is made of; an unreadable file counts as an empty one."""
    seen = hashlib.sha256(FORM)
    for part in (engine, _version(engine), platform.machine(), sys.version):
        seen.update(part.encode() + b"\0")
    for file in files:
        with suppress(OSError), file.open("rb") as opened:
            seen.update(bytes(file) + b"\0" + hashlib.sha256(opened.read(FILE_BYTES)).digest())
    return seen.hexdigest()[:32]


def _version(engine: str) -> str:
    if engine != "hyperscan":
        return ""
    import hyperscan

    return str(getattr(hyperscan, "__version__", ""))  # its stub does not have it


def _cached(cache: Path, engine: str) -> Hits:
    """Make the filter of a cache. Raises _CacheError."""
    try:
        raw = cache.read_bytes()
    except OSError as error:
        raise _CacheError(f"{cache}: {error.strerror}") from error
    head = len(FORM) + 32
    content = raw[head:]
    if not raw.startswith(FORM) or hashlib.sha256(content).digest() != raw[len(FORM) : head]:
        raise _CacheError(f"{cache}: damaged")
    end = 8 + int.from_bytes(content[:8], "big")
    try:
        patterns = msgspec.json.decode(content[8:end], type=Patterns)
    except msgspec.MsgspecError as error:
        raise _CacheError(f"{cache}: {error}") from error
    if not patterns.patterns:
        return _nothing
    use_hyperscan = engine == "hyperscan" and patterns.literals
    return hits_of(patterns, _by_hyperscan(content[end:]) if use_hyperscan else _by_find(patterns.literals))


def _compile(files: Sequence[Path], cache: Path, engine: str) -> list[str]:
    """Let a child write the cache; give what it complained of. Raises OSError, TimeoutExpired."""
    done = subprocess.run(  # noqa: S603  our own interpreter and module
        [sys.executable, "-I", "-m", "necropsy_agent.patterns", engine, str(cache), *map(str, files)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
        cwd="/",
        timeout=_COMPILE_TIMEOUT_S,
    )
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise OSError(f"the child that reads them ended with status {done.returncode}: {last}")
    return done.stdout.decode("utf-8", "replace").splitlines()


def _by_hyperscan(stored: bytes) -> Find:
    """Find literals by a stored database. Raises _CacheError where this processor or version refuses it."""
    import hyperscan

    try:
        database = hyperscan.loadb(stored, mode=hyperscan.HS_MODE_BLOCK)
        database.scratch = hyperscan.Scratch(database)
    except hyperscan.error as error:
        raise _CacheError(str(error)) from error

    def find(text: bytes) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        # A match is told by its end; its last character is within it.
        database.scan(
            text, match_event_handler=lambda number, _from, to, _flags, _: found.append((number, to - 1))
        )
        return found

    return find


def _by_find(literals: Iterable[str]) -> Find:
    """Find literals one after the other."""
    wanted = tuple(literal.encode("latin-1") for literal in literals)

    def find(text: bytes) -> Iterator[tuple[int, int]]:
        for number, literal in enumerate(wanted):
            at = text.find(literal)
            while at >= 0:
                yield number, at
                # One occurrence in a line is enough.
                at = text.find(b"\n", at)
                at = text.find(literal, at) if at >= 0 else -1

    return find


def _nothing(text: bytes) -> Iterable[int]:
    return ()

"""The rules' prefilter: which lines some rule may want. In: rule files. Out: `Hits` for the kmsg source.

Rules are the `*.yaml` of the `necropsy_rules` package and of the administrator's folders (rules/README.md).
Their patterns are written for a bare kernel message; here they are widened to hit wherever in a line of
/dev/kmsg's form the message stands, escaped as printk_ringbuffer readers see it (kernel/printk/printk.c,
msg_add_ext_text): anchors go, and what matches a tab matches `\\x09` as well. A line too many does no harm.

Patterns are read and compiled by a child process, so that the resident one loads neither YAML nor a compiler,
and kept in the state folder: hyperscan's database (dumpb, loadb), or the widened patterns where hyperscan is
not to be had and Python's `re` does the same.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

_CACHE: Final = "prefilter-"
_FORM: Final = b"necropsy prefilter 1\n"
_COMPILE_TIMEOUT_S: Final = 120.0
_FILE_BYTES: Final = 8 << 20

Hits = Callable[[bytes], Iterable[int]]
Say = Callable[[str], None]


class _CacheError(Exception):
    """The cache is not there, or not as it was written."""


def load(folders: Sequence[Path], state: Path, say: Say, engine: str | None = None) -> Hits:
    """Make the prefilter of the shipped rules and those in `folders`, from the cache in `state` or anew.

    `engine` is `hyperscan` or `re`; None takes hyperscan where it is installed. `say` hears of rules that
    cannot be used; where none can, the filter wants nothing and the kernel's own levels decide.
    """
    engine = engine or ("hyperscan" if find_spec("hyperscan") else "re")
    files = rule_files(folders)
    cache = state / f"{_CACHE}{_digest(files, engine)}.{engine}"
    try:
        return _made(engine, _cached(cache))
    except _CacheError:
        pass
    try:
        told = _compiled(files, cache, engine)
        for line in told:
            say(line)
        hits = _made(engine, _cached(cache))
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


def patterns_of(files: Iterable[Path], say: Say) -> tuple[str, ...]:
    """Read the patterns of rule files, widened; a later rule replaces an earlier one with its id.

    What cannot be read is left out and said: checking rules is `necropsy rules check`'s business.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    rules: dict[object, list[str]] = {}
    for file in files:
        try:
            with file.open("rb") as opened:
                told = yaml.load(opened.read(_FILE_BYTES), loader)  # noqa: S506  a safe loader
        except (OSError, yaml.YAMLError) as error:
            say(f"{file}: not read: {str(error).splitlines()[0]}")
            continue
        for number, rule in enumerate(told if isinstance(told, list) else []):
            if isinstance(rule, dict):
                rules[rule.get("id", (file, number))] = _matches(rule)
    wide = []
    for pattern in dict.fromkeys(pattern for matches in rules.values() for pattern in matches):
        try:
            re.compile(widened(pattern).encode())
        except (re.error, UnicodeEncodeError, RecursionError) as error:
            say(f"pattern {pattern[:80]!r} is not used: {error}")
        else:
            wide.append(widened(pattern))
    return tuple(wide)


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
            out.append(_with_tab(pattern[at : at + 2]) if pattern[at : at + 2] != "\\\\" else r"\\x5c")
            at += 2
        elif pattern.startswith("(?P<", at):
            out.append("(?:")
            at = pattern.index(">", at) + 1 if ">" in pattern[at:] else len(pattern)
        elif pattern[at] in "^$":
            at += 1
        else:
            out.append(pattern[at])
            at += 1
    return "".join(out)


def main(arguments: list[str]) -> int:
    """Compile rule files into a cache: ENGINE CACHE FILE… What cannot be used is printed."""
    engine, cache, *files = arguments
    patterns = patterns_of(map(Path, files), print)
    content = _database(patterns, print) if engine == "hyperscan" else "\n".join(patterns).encode()
    draft = Path(f"{cache}.new")
    draft.write_bytes(_FORM + hashlib.sha256(content).digest() + content)
    draft.replace(cache)
    return 0


def _matches(rule: dict[str, Any]) -> list[str]:
    if rule.get("state") == "retired":
        return []
    match = rule.get("match", [])
    return [one for one in (match if isinstance(match, list) else [match]) if isinstance(one, str)]


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


def _digest(files: Sequence[Path], engine: str) -> str:
    """Name the cache by all that it is made of; an unreadable file counts as an empty one."""
    seen = hashlib.sha256(_FORM)
    for part in (engine, _version(engine), platform.machine(), sys.version):
        seen.update(part.encode() + b"\0")
    for file in files:
        with suppress(OSError), file.open("rb") as opened:
            seen.update(bytes(file) + b"\0" + hashlib.sha256(opened.read(_FILE_BYTES)).digest())
    return seen.hexdigest()[:32]


def _version(engine: str) -> str:
    if engine != "hyperscan":
        return ""
    from importlib.metadata import version

    return version("hyperscan")


def _cached(cache: Path) -> bytes:
    """Read a cache. Raises _CacheError."""
    try:
        raw = cache.read_bytes()
    except OSError as error:
        raise _CacheError(f"{cache}: {error.strerror}") from error
    head = len(_FORM) + 32
    if not raw.startswith(_FORM) or hashlib.sha256(raw[head:]).digest() != raw[len(_FORM) : head]:
        raise _CacheError(f"{cache}: damaged")
    return raw[head:]


def _compiled(files: Sequence[Path], cache: Path, engine: str) -> list[str]:
    """Let a child write the cache; give what it complained of. Raises OSError, TimeoutExpired."""
    done = subprocess.run(  # noqa: S603  our own interpreter and module
        [sys.executable, "-I", "-m", "necropsy_agent.prefilter", engine, str(cache), *map(str, files)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
        cwd="/",
        timeout=_COMPILE_TIMEOUT_S,
    )
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise OSError(f"the compiler ended with status {done.returncode}: {last}")
    return done.stdout.decode("utf-8", "replace").splitlines()


def _made(engine: str, content: bytes) -> Hits:
    return _by_hyperscan(content) if engine == "hyperscan" else _by_re(content)


def _database(patterns: Iterable[str], say: Say) -> bytes:
    """Compile to hyperscan's database; a pattern that it does not take is left out and said."""
    import hyperscan

    def compiled(expressions: list[bytes]) -> Any:
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        database.compile(expressions=expressions)
        return database

    usable = [pattern.encode() for pattern in patterns]
    try:
        return bytes(hyperscan.dumpb(compiled(usable))) if usable else b""
    except hyperscan.error:
        fit = []
        for pattern in usable:
            try:
                compiled([pattern])
            except hyperscan.error as error:
                say(f"pattern {pattern[:80].decode()!r} is not used: {error}")
            else:
                fit.append(pattern)
        return bytes(hyperscan.dumpb(compiled(fit))) if fit else b""


def _by_hyperscan(content: bytes) -> Hits:
    """Make the filter of a stored database. Raises _CacheError where this processor or version refuses it."""
    if not content:
        return _nothing
    import hyperscan

    try:
        database = hyperscan.loadb(content, mode=hyperscan.HS_MODE_BLOCK)
        database.scratch = hyperscan.Scratch(database)
    except hyperscan.error as error:
        raise _CacheError(str(error)) from error

    def hits(text: bytes) -> list[int]:
        found: set[int] = set()
        # A match is told by its end; its last character is in the line that is wanted.
        database.scan(text, match_event_handler=lambda _id, _from, to, _flags, _: found.add(to - 1))
        return sorted(found)

    return hits


def _by_re(content: bytes) -> Hits:
    """Make the filter of widened patterns, one alternation of all."""
    if not content:
        return _nothing
    search = re.compile(b"|".join(b"(?:%b)" % pattern for pattern in content.split(b"\n"))).search

    def hits(text: bytes) -> Iterator[int]:
        at = 0
        while match := search(text, at):
            yield match.start()
            # On with the next line: one hit is enough, and none may hide behind one that ran on.
            at = text.find(b"\n", match.start()) + 1
            if at == 0:
                return

    return hits


def _nothing(text: bytes) -> Iterable[int]:
    return ()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

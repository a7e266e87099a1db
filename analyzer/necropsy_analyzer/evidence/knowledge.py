"""What the diagnosis knows: rules, causes, frames, the fusion's numbers. In: folders. Out: `Knowledge`.

Reading YAML and compiling 500 patterns takes a second, so the result is kept in a cache folder under a
digest of all that went into it. The cache is data only (msgpack and the engine's own format), is written
aside and renamed, and is made again whenever it does not read well; without a folder to write to,
everything works, only slower.
"""

import hashlib
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from necropsy_analyzer.evidence.feature import Features, Fusion, Mechanism
from necropsy_analyzer.evidence.match import Engine, EngineError, Matcher, build, engine_version, flat
from necropsy_analyzer.evidence.rule import Action, Cause, Complaint, Rule
from necropsy_analyzer.report.frames import FrameModel

FORMAT: Final = 2
"""Of the cache: raised when a struct below changes."""

_KEPT: Final = 4


class Model(msgspec.Struct, frozen=True):
    """What made a verdict, so that two verdicts can be told to be by the same knowledge."""

    version: str


class Knowledge(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All that diagnosing needs to know. `complaints` are about entries that were therefore not loaded."""

    model: Model
    fusion: Fusion
    causes: dict[str, Cause]
    mechanisms: dict[str, Mechanism]
    features: Features
    frames: FrameModel
    rules: tuple[Rule, ...]
    complaints: tuple[Complaint, ...] = ()
    compiled: Engine | None = None

    @cached_property
    def matcher(self) -> Matcher:
        """Give all patterns compiled; a rule's index there is that in `rules`."""
        patterns = [rule.patterns for rule in self.rules]
        return Matcher(patterns, self.compiled or build(flat(patterns)))

    @cached_property
    def reporting(self) -> tuple[Rule, ...]:
        """Give the rules that look at parsed reports."""
        return tuple(rule for rule in self.rules if rule.report is not None)

    @cached_property
    def by_id(self) -> dict[str, Rule]:
        """Give rules by their ids."""
        return {rule.id: rule for rule in self.rules}

    def action_of(self, rule: str) -> Action | None:
        """Give a rule's own action; None where it leaves that to the cause, or is no rule."""
        known = self.by_id.get(rule)
        return None if known is None else known.action


class KnowledgeError(Exception):
    """The shipped knowledge is not whole; reinstall."""


class _Kept(msgspec.Struct, frozen=True):
    """What the cache file holds beside the compiled patterns."""

    model: Model
    fusion: Fusion
    causes: dict[str, Cause]
    mechanisms: dict[str, Mechanism]
    features: Features
    frames: FrameModel
    rules: tuple[Rule, ...]
    complaints: tuple[Complaint, ...]


def load_knowledge(folders: tuple[Path, ...], cache: Path | None) -> Knowledge:
    """Load the folders' knowledge, a later one over an earlier; from `cache` where nothing changed.

    The first folder holds causes, mechanisms, frames and the fusion's numbers; later ones may replace a
    cause's entry and add frames. Raises KnowledgeError where those of the first cannot be read.
    """
    texts = [read_texts(folder) for folder in folders]
    digest = _digest(texts)
    if cache is not None:
        known = _cached(cache, digest)
        if known is not None:
            return known
    known = read_knowledge([str(folder) for folder in folders], texts, digest)
    if cache is not None:
        _keep(cache, digest, known)
    return known


def read_knowledge(names: list[str], texts: list[dict[str, str]], digest: str) -> Knowledge:
    """Make knowledge of texts by file name, a mapping for each folder."""
    from necropsy_analyzer.evidence.shelf import Shelf

    shelf = Shelf(names, texts)
    if shelf.fusion is None or shelf.features is None or not shelf.causes or not shelf.mechanisms:
        raise KnowledgeError(f"{names[0]}: {'; '.join(map(str, shelf.complaints)) or 'no causes there'}")
    rules = tuple(entry.rule for entry in shelf.entries if entry.rule.state != "retired")
    return Knowledge(
        model=Model(f"rules {shelf.fusion.version} ({digest[:8]})"),
        fusion=shelf.fusion,
        causes=shelf.causes,
        mechanisms=shelf.mechanisms,
        features=shelf.features,
        frames=shelf.frames,
        rules=rules,
        complaints=shelf.complaints,
        compiled=shelf.engine,
    )


def read_texts(folder: Path) -> dict[str, str]:
    """Read a folder's YAML files, by their path in it."""
    texts: dict[str, str] = {}
    for path in sorted(folder.rglob("*.yaml")):
        if path.is_file():
            texts[path.relative_to(folder).as_posix()] = path.read_bytes().decode("utf-8", "replace")
    return texts


def _digest(texts: list[dict[str, str]]) -> str:
    digest = hashlib.blake2b(f"{FORMAT}".encode(), digest_size=16)
    for folder in texts:
        for name, text in folder.items():
            for part in (name, text):
                encoded = part.encode("utf-8", "replace")
                digest.update(b"%d:" % len(encoded))
                digest.update(encoded)
        digest.update(b"|")
    return digest.hexdigest()


def _cached(cache: Path, digest: str) -> Knowledge | None:
    kept = _decoded(_read(cache / f"knowledge-{digest}.msgpack"))
    if kept is None:
        return None
    patterns = flat([rule.patterns for rule in kept.rules])
    name = _patterns_name(patterns)
    engine = _engine(patterns, _read(cache / name))
    if engine is None:
        engine = build(patterns)
        _write(cache / name, engine.dump())
    return Knowledge(
        model=kept.model,
        fusion=kept.fusion,
        causes=kept.causes,
        mechanisms=kept.mechanisms,
        features=kept.features,
        frames=kept.frames,
        rules=kept.rules,
        complaints=kept.complaints,
        compiled=engine,
    )


def _decoded(data: bytes | None) -> _Kept | None:
    if data is None:
        return None
    try:
        return msgspec.msgpack.decode(data, type=_Kept)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _engine(patterns: tuple[str, ...], dumped: bytes | None) -> Engine | None:
    if dumped is None:
        return None
    try:
        return build(patterns, dumped, prefer="hyperscan")
    except EngineError:
        return None


def _keep(cache: Path, digest: str, known: Knowledge) -> None:
    kept = _Kept(
        model=known.model,
        fusion=known.fusion,
        causes=known.causes,
        mechanisms=known.mechanisms,
        features=known.features,
        frames=known.frames,
        rules=known.rules,
        complaints=known.complaints,
    )
    patterns = flat([rule.patterns for rule in known.rules])
    _write(cache / _patterns_name(patterns), known.matcher.engine.dump())
    _write(cache / f"knowledge-{digest}.msgpack", msgspec.msgpack.encode(kept))
    for shape in ("knowledge-*.msgpack", "patterns-*.db"):
        _drop_old(cache, shape)


def _patterns_name(patterns: tuple[str, ...]) -> str:
    whole = "\0".join((f"{FORMAT}", engine_version(), *patterns))
    return f"patterns-{hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()}.db"


def _read(path: Path) -> bytes | None:
    """Read a file of ours; None where there is none, or where it is not whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    seal, content = data[:16], data[16:]
    return content if _seal(content) == seal else None


def _write(path: Path, content: bytes) -> None:
    """Write a file of ours whole or not at all; a folder that takes none is as good as no cache."""
    if not content:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_seal(content) + content)
            os.replace(aside, path)
        except OSError:
            os.unlink(aside)
            raise
    except OSError:
        return


def _seal(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _drop_old(cache: Path, shape: str) -> None:
    try:
        paths = sorted(cache.glob(shape), key=lambda path: path.stat().st_mtime_ns)
        for path in paths[:-_KEPT]:
            path.unlink()
    except OSError:
        return

"""Folders of YAML → everything in them, checked. In: texts by file name, a mapping a folder. Out: a `Shelf`.

The first folder is the shipped one. `causes.yaml`, `mechanisms.yaml` and `fusion.yaml` have their own
forms, files below `frames/` make the frame model, `tables/modules.yaml` goes to the features, files in other
folders are tables of their own; every other file holds rules.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import yaml

from necropsy_analyzer.evidence.feature import Features, Fusion, Mechanism
from necropsy_analyzer.evidence.load import (
    Loaded,
    Vocabulary,
    layered,
    load,
    load_causes,
    load_features,
    load_mechanisms,
)
from necropsy_analyzer.evidence.match import Engine, EngineError, NoEngineError, Re2, build, flat
from necropsy_analyzer.evidence.rule import Cause, Complaint, Entry
from necropsy_analyzer.report.frames import FrameModel, load_frames

_SPECIAL: Final = ("causes.yaml", "mechanisms.yaml", "features.yaml", "fusion.yaml")


class Shelf:
    """What stands in the folders. `names` are the folders' paths, for complaints."""

    def __init__(self, names: Sequence[str], texts: Sequence[dict[str, str]]) -> None:
        """Read everything; what is wrong is in `complaints`."""
        self.causes: dict[str, Cause] = {}
        self.mechanisms: dict[str, Mechanism] = {}
        self.features: Features | None = None
        self.fusion: Fusion | None = None
        self._complaints: list[Complaint] = []
        self._special(names, texts)
        self._check_names(names[0])
        self.frames = self._frames(names, texts)
        known = Vocabulary(frozenset(self.causes), frozenset(self.mechanisms))
        loaded = layered(
            [
                load(
                    _prefixed(name, {f: t for f, t in folder.items() if "/" not in f and f not in _SPECIAL}),
                    known,
                )
                for name, folder in zip(names, texts, strict=True)
            ]
        )
        loaded, self.engine = _compiled(loaded)
        self.entries: tuple[Entry, ...] = loaded.entries
        self.complaints: tuple[Complaint, ...] = (*self._complaints, *loaded.complaints)

    def _special(self, names: Sequence[str], texts: Sequence[dict[str, str]]) -> None:
        for number, (name, folder) in enumerate(zip(names, texts, strict=True)):
            if "causes.yaml" in folder:
                file = f"{name}/causes.yaml"
                causes, complaints = load_causes(file, folder["causes.yaml"])
                self._complaints.extend(complaints)
                for cause in causes.keys() - self.causes.keys() if number else ():
                    self._complain(file, f"no such cause: {cause}; causes are those of the published verdict")
                    del causes[cause]
                self.causes |= causes
            if number:
                for special in _SPECIAL[1:]:
                    if special in folder:
                        self._complain(f"{name}/{special}", "only the shipped one is used")
                continue
            if "mechanisms.yaml" in folder:
                self.mechanisms, complaints = load_mechanisms(
                    f"{name}/mechanisms.yaml", folder["mechanisms.yaml"]
                )
                self._complaints.extend(complaints)
            if "features.yaml" in folder:
                self.features, complaints = load_features(
                    f"{name}/features.yaml", folder["features.yaml"], folder.get("tables/modules.yaml", "")
                )
                self._complaints.extend(complaints)
            if "fusion.yaml" in folder:
                self.fusion = self._fusion(f"{name}/fusion.yaml", folder["fusion.yaml"])

    def _check_names(self, name: str) -> None:
        """Hold the shipped files' names against each other."""
        supported = {cause for known in self.mechanisms.values() for cause in known.supports}
        if self.features is not None:
            supported |= self.features.causes()
            for mechanism in sorted(self.features.mechanisms() - self.mechanisms.keys()):
                self._complain(f"{name}/features.yaml", f"no such mechanism: {mechanism}")
        for cause in sorted(supported - self.causes.keys()):
            self._complain(f"{name}/causes.yaml", f"no such cause, though other files name it: {cause}")

    def _fusion(self, file: str, text: str) -> Fusion | None:
        try:
            document: Any = yaml.safe_load(text)
            return msgspec.convert(document, Fusion, strict=True)
        except (yaml.YAMLError, msgspec.ValidationError) as error:
            self._complain(file, str(error))
            return None

    def _frames(self, names: Sequence[str], texts: Sequence[dict[str, str]]) -> FrameModel:
        frames: dict[str, str] = {}
        for name, folder in zip(names, texts, strict=True):
            frames |= _prefixed(name, {f: t for f, t in folder.items() if f.startswith("frames/")})
        try:
            return load_frames(frames)
        except ValueError as error:
            file, _, what = str(error).partition(": ")
            self._complain(file, what)
            return FrameModel()

    def _complain(self, file: str, message: str) -> None:
        self._complaints.append(Complaint(file=file, line=0, message=message))


def _prefixed(name: str, texts: dict[str, str]) -> dict[str, str]:
    return {f"{name}/{file}": text for file, text in texts.items()}


def _compiled(loaded: Loaded) -> tuple[Loaded, Engine]:
    """Compile all patterns; leave out rules that an engine refuses though lint.py takes them."""
    patterns = _patterns(loaded.entries)
    try:
        return loaded, _taken(patterns)
    except EngineError:
        pass
    entries: list[Entry] = []
    complaints = list(loaded.complaints)
    for entry in loaded.entries:
        try:
            _taken(entry.rule.patterns)
            entries.append(entry)
        except EngineError as error:
            complaints.append(
                Complaint(file=entry.file, line=entry.line, message=f"match: {error}", rule=entry.rule.id)
            )
    return Loaded(tuple(entries), tuple(complaints)), build(_patterns(entries))


def _patterns(entries: Sequence[Entry]) -> tuple[str, ...]:
    return flat([entry.rule.patterns for entry in entries if entry.rule.state != "retired"])


def _taken(patterns: Sequence[str]) -> Engine:
    """Compile for every engine to be had, so that a rule works on all hosts; give the one used here."""
    with suppress(NoEngineError):
        Re2(patterns)
    return build(patterns)

"""The model of what kernel functions are for. In: YAML of rules/necropsy_rules/frames/. Out: `FrameModel`.

A function of the kernel reports faults, asserts, allocates, locks, copies, dispatches … ; such classes are
data, as are the uses: which classes are passed over when the culprit of a certain kind of report is looked
for.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from functools import cached_property
from typing import Any, Final

import msgspec

_SHAPE: Final = "*?["
_ANSWERS: Final = 65536
"""So many functions' answers are kept by each test."""


class FrameModel(msgspec.Struct, dict=True):
    """Classes of functions, and for each use the classes that are passed over.

    `classes` maps a class to the shell patterns of its functions, `!name` for one that a pattern of the class
    catches and that is not of its kind; `uses` maps a use to names of classes. Functions are compared without
    compiler suffix.
    """

    classes: dict[str, tuple[str, ...]] = {}
    uses: dict[str, tuple[str, ...]] = {}

    def passed_over(self, use: str) -> Callable[[str], bool]:
        """Give the test whether a function is passed over in this use; an unknown use is the default one."""
        known = self._tests.get(use)
        if known is None:
            known = _test(self.uses.get(use, self.uses.get("default", ())), self.classes)
            self._tests[use] = known
        return known

    def belongs(self, function: str, name: str) -> bool:
        """Say whether a function belongs to a class."""
        key = f"class {name}"
        known = self._tests.get(key)
        if known is None:
            known = _test((name,), self.classes)
            self._tests[key] = known
        return known(function)

    @cached_property
    def _tests(self) -> dict[str, Callable[[str], bool]]:
        return {}


def _test(names: tuple[str, ...], classes: Mapping[str, tuple[str, ...]]) -> Callable[[str], bool]:
    members = [_members(classes[name]) for name in names if name in classes]
    answers: dict[str, bool] = {}

    def test(function: str) -> bool:
        answer = answers.get(function)
        if answer is None:
            answer = any(member(function) for member in members)
            if len(answers) < _ANSWERS:
                answers[function] = answer
        return answer

    return test


def _members(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    exact = {pattern for pattern in patterns if not any(sign in pattern for sign in _SHAPE)}
    excepted = {pattern[1:] for pattern in exact if pattern.startswith("!")}
    shapes = [pattern for pattern in patterns if pattern not in exact]
    matched = re.compile("|".join(map(translate, shapes))).match if shapes else None

    def member(function: str) -> bool:
        if function in exact:
            return True
        return matched is not None and matched(function) is not None and function not in excepted

    return member


def load_frames(texts: Mapping[str, str]) -> FrameModel:
    """Build the model from YAML texts by file name; a class or use in several files is their union.

    Raises ValueError with the file's name where a text is not of the model's shape.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    classes: dict[str, tuple[str, ...]] = {}
    uses: dict[str, tuple[str, ...]] = {}
    for name in sorted(texts):
        try:
            document: Any = yaml.load(texts[name], Loader=loader) or {}  # noqa: S506 - a safe loader
            part = msgspec.convert(document, FrameModel, strict=True)
        except (yaml.YAMLError, msgspec.ValidationError) as error:
            raise ValueError(f"{name}: {error}") from error
        for target, source in ((classes, part.classes), (uses, part.uses)):
            for key, values in source.items():
                target[key] = (*target.get(key, ()), *values)
    unknown = {name for names in uses.values() for name in names} - classes.keys()
    if unknown:
        raise ValueError(f"frames: no such class: {', '.join(sorted(unknown))}")
    return FrameModel(classes=classes, uses=uses)

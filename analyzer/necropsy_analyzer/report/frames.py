"""The model of what kernel functions are for. In: YAML of rules/necropsy_rules/frames/. Out: `FrameModel`.

A function of the kernel reports faults, asserts, allocates, locks, copies, dispatches … ; such classes are data, as
are the uses: which classes are passed over when the culprit of a certain kind of report is looked for.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from functools import cached_property
from typing import Any

import msgspec


class FrameModel(msgspec.Struct, dict=True):
    """Classes of functions, and for each use the classes that are passed over.

    `classes` maps a class to the shell patterns of its functions, `uses` a use to names of classes. Functions are
    compared without compiler suffix. `anchors` are the dispatchers: what they call is where an operation begins.
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
    exact: set[str] = set()
    shapes: list[str] = []
    for name in names:
        for pattern in classes.get(name, ()):
            if any(sign in pattern for sign in "*?["):
                shapes.append(pattern)
            else:
                exact.add(pattern)
    matched = re.compile("|".join(map(translate, shapes))).match if shapes else None
    answers: dict[str, bool] = {}

    def test(function: str) -> bool:
        answer = answers.get(function)
        if answer is None:
            answer = function in exact or (matched is not None and matched(function) is not None)
            if len(answers) < 65536:
                answers[function] = answer
        return answer

    return test


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

"""Whose code failed: modules from outside the kernel tree. In: a scene, its principal report. Out: evidence.

Such a module taints the kernel (Documentation/admin-guide/tainted-kernels.rst) and is marked in the list of
modules (kernel/module/main.c, module_flags()); where a report is cut before that, its name, its functions'
names, or what it said just before must do.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final

from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.feature import Features
from necropsy_analyzer.evidence.finding import made
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.evidence.scene import Scene
from necropsy_analyzer.report.report import Frame, LogLine, Report

_DEEP: Final = 12
"""Frames further out called what failed; they did not fail."""

_STALLS: Final = frozenset({"soft_lockup", "hard_lockup", "rcu_stall", "hung_task"})
_LOADERS: Final = frozenset({"modprobe", "insmod", "systemd-modules", "systemd-udevd", "(udev-worker)"})
_FRAME: Final = re.compile(rb"[\w.]+\+0x[0-9a-f]+/0x[0-9a-f]+ \[([\w-]+)\]")
_FRAMES: Final = 500
_BEFORE: Final = 12
_BEFORE_S: Final = 1.0
# kernel/module/main.c, check_modinfo(), set_license(), module_sig_check()
_TAINTS: Final = re.compile(
    r"[\w-]{1,64}: (?:loading out-of-tree module taints kernel|module license '.{1,40}' taints kernel"
    r"|module verification failed)"
)


def modules(scene: Scene, report: Report, knowledge: Knowledge) -> Iterator[Evidence]:
    """Weigh modules from outside the tree: one that is blamed much, one that is merely loaded little."""
    if report.mechanism in ("sysrq", "mce", "edac", "aer"):
        return
    known = knowledge.features
    if _blamed(report, known):
        frame = next((frame for frame in report.stack if frame.function == report.culprit), None)
        number = frame.line if frame is not None and frame.line else report.first_line
        yield made("external-culprit", knowledge, (scene, number), family="external")
        return
    inner = ([frame for frame in report.stack if frame.reliable] or list(report.stack))[:_DEEP]
    near = next((frame for frame in inner if _external_frame(frame, report, known)), None)
    if near is not None:
        yield made("external-in-stack", knowledge, (scene, near.line), family="external")
        return
    if report.process in _LOADERS and any(
        "+" in flags and _outside(flags) for flags in report.modules.values()
    ):
        yield made("external-loading", knowledge, (scene, report.first_line), family="external")
        return
    if len(report.stack) <= 1 and report.culprit_module is None and not _untainted(report):
        beside = next(cut_off(scene, knowledge), None) or next(_just_spoke(scene, report, knowledge), None)
        if beside is not None:
            yield beside
            return
    if _outside(report.tainted or "") or any(_outside(flags) for flags in report.modules.values()):
        unseen = report.culprit is None and not report.stack and report.mechanism != "nmi"
        yield made("external-unseen" if unseen else "external-loaded", knowledge, family="external")
    elif report.release is not None:
        yield made("untainted", knowledge, family="external")
    if report.culprit is not None and report.mechanism not in _STALLS:
        yield made("in-tree-culprit", knowledge, family="external")


def is_external(module: str, report: Report, known: Features) -> bool:
    """Say whether a module is from outside the kernel tree: by its own taint, else by its name."""
    flags = report.modules.get(module)
    if flags is not None:
        return _outside(flags)
    if _untainted(report) or module.replace("-", "_") in known.in_tree:
        return False
    if report.tainted and not any(flags for flags in report.modules.values()):
        # No list of modules; the kernel is tainted by some module, and this one is what failed.
        return True
    return any(fnmatchcase(module, pattern) for pattern in known.external)


def cut_off(scene: Scene, knowledge: Knowledge) -> Iterator[Evidence]:
    """Look for external modules in what is left of a trace whose report was cut off."""
    for found in islice(_FRAME.finditer(scene.text), _FRAMES):
        module = found[1].decode("ascii", "replace")
        if any(fnmatchcase(module, pattern) for pattern in knowledge.features.external):
            line = scene.spoken[scene.text.count(b"\n", 0, found.start())]
            if not line.kernel:
                continue
            yield made("external-in-stack", knowledge, (scene, line.number), family="external")
            return


def _blamed(report: Report, known: Features) -> bool:
    if report.culprit_module is not None:
        return is_external(report.culprit_module, report, known)
    return report.culprit is not None and _external_function(report.culprit, report, known)


def _external_function(function: str, report: Report, known: Features) -> bool:
    """Say whether only a module from outside the tree has functions of this name."""
    if _untainted(report):
        return False
    return any(fnmatchcase(function, pattern) for pattern in known.external_functions)


def _just_spoke(scene: Scene, report: Report, knowledge: Knowledge) -> Iterator[Evidence]:
    """Look who spoke last before a report that is cut before it says whose code failed."""
    begin = scene.index(report.first_line)
    if begin is None or report.culprit is not None:
        return
    here = scene.spoken[begin]
    for line in reversed(scene.spoken[max(0, begin - _BEFORE) : begin]):
        if not line.kernel or not _within(line, here):
            continue
        taints = _TAINTS.match(line.text)
        if taints is not None or any(word in line.text for word in knowledge.features.external_words):
            yield made("external-spoke-before", knowledge, (scene, line.number), family="external")
            return


def _within(line: LogLine, here: LogLine) -> bool:
    return line.time_s is None or here.time_s is None or 0 <= here.time_s - line.time_s <= _BEFORE_S


def _untainted(report: Report) -> bool:
    """Say whether the report tells that no such module was loaded."""
    return report.release is not None and not _outside(report.tainted or "")


def _outside(flags: str) -> bool:
    """Say whether taint letters tell of a module from outside the tree (O) or a proprietary one (P)."""
    return "O" in flags or "P" in flags


def _external_frame(frame: Frame, report: Report, known: Features) -> bool:
    if frame.module is None:
        return _external_function(frame.function, report, known)
    return is_external(frame.module, report, known)

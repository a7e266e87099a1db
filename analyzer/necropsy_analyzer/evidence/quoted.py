"""What a few lines tell that somebody chose to show. In: the scene, what rules saw. Out: evidence.

A whole log holds hints that mean nothing; a handful of lines was cut out for what is in them. And a device's
own message may be a defect of its driver (so its rule says): that alone is no report of a defect.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.evidence.scene import Scene

_FEW: Final = 30
_MORE_THAN_ROUTINE: Final = 0.7
_HINT: Final = 0.14
"""Less is what no boot of such a machine goes without, as a module's taint; nobody shows lines for that."""
_SOFTWARE: Final = ("kernel.bug", "kernel.lockup")
_BOOTS: Final = ("Linux version ", "-- Reboot --", "-- Boot ")


def quoted(scene: Scene, seen: Sequence[Evidence], knowledge: Knowledge) -> Iterator[Evidence]:
    """Weigh what there is where the kernel reported no fault of its own."""
    if scene.reports:
        return
    findings = knowledge.features.findings
    telling = [item for item in seen if any(weight > 0 for weight in item.supports.values())]
    software = [item for item in telling if any(item.supports.get(cause, 0.0) > 0 for cause in _SOFTWARE)]
    if software and not any(_foremost(item) in _SOFTWARE for item in software):
        known = findings["device-spoke"]
        yield Evidence(rule="device-spoke", title=known.title, family="no-report", supports=known.supports)
    if any(item.fault for item in seen):
        return
    if len(scene.spoken) > _FEW:
        if not any(weight >= _MORE_THAN_ROUTINE for item in seen for weight in item.supports.values()):
            known = findings["routine"]
            yield Evidence(rule="routine", title=known.title, family="end", supports=known.supports)
        return
    if not telling or _restarts(scene):
        return
    first = max(telling, key=lambda item: max(item.supports.values()))
    known = findings["quoted"]
    top = max(first.supports.values())
    if top < _HINT:
        return
    supports = dict(known.supports)
    for cause, weight in first.supports.items():
        if weight > 0:
            share = knowledge.fusion.quoted * weight / top
            supports[cause] = round(supports.get(cause, 0.0) + share, 3)
    yield Evidence(rule="quoted", title=known.title, family="quoted", supports=supports)


def _foremost(item: Evidence) -> str:
    """Give the cause that evidence speaks for first; of equals, software."""
    return max(item.supports, key=lambda cause: (item.supports[cause], cause in _SOFTWARE))


def _restarts(scene: Scene) -> bool:
    """Say whether the log goes on into another boot: what it was shown for is then that it does."""
    return any(line.text.startswith(_BOOTS) for line in scene.spoken[1:])

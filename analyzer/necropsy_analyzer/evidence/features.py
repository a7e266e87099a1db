"""Evidence that is computed rather than matched. In: the scene, what rules saw, boot, hardware events."""

from collections.abc import Iterator, Sequence

from necropsy_agent import wire
from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.evidence.scene import Scene


def features(
    scene: Scene,
    seen: Sequence[Evidence],
    knowledge: Knowledge,
    boot: wire.Boot | None,
    hardware: Sequence[wire.HardwareEvent],
) -> Iterator[Evidence]:
    """Give what the features say."""
    return iter(())

"""Every kind of report, in the order in which a line is asked: the first heading that matches it counts."""

from typing import Final

from necropsy_analyzer.report.formats import (
    corruption,
    locking,
    oops,
    panics,
    sanitizers,
    stalls,
    warnings,
)
from necropsy_analyzer.report.formats.heading import Heading

HEADINGS: Final[tuple[Heading, ...]] = (
    *sanitizers.HEADINGS,
    *stalls.HEADINGS,
    *panics.HEADINGS,
    *corruption.HEADINGS,
    *warnings.HEADINGS,
    *locking.HEADINGS,
    *oops.HEADINGS,
)

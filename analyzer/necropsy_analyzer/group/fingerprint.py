"""A crash report's exact fingerprint: 16 hexadecimal digits, the same for the same defect.

In: a `Report`. Out: a digest over the mechanism, the culprit and the innermost reliable functions. Addresses,
offsets, compiler suffixes, module load order and process names are not part of it, so KASLR, a rebuild or
another workload do not change it. `VERSION` is mixed in: fingerprints of two versions never meet.
"""

import hashlib

from necropsy_analyzer.report.report import Report

VERSION = 1
DEPTH = 8
"""How many functions from the culprit outwards belong to the identity; callers further out vary."""


def fingerprint(report: Report) -> str:
    """Give the fingerprint of a report; two reports with no stack are told apart by their titles."""
    reliable = [frame.function for frame in report.stack if frame.reliable]
    if report.culprit in reliable:
        # What lies inside the culprit is reporting machinery and inlining, which differ between kernels.
        reliable = reliable[reliable.index(report.culprit) :]
    parts = [str(VERSION), report.mechanism, report.culprit or "", report.culprit_module or ""]
    parts += reliable[:DEPTH] or [report.title]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]

"""Reports of the kernel's own checkers: KASAN, KFENCE, KMSAN, KCSAN, UBSAN, kmemleak.

mm/kasan/report*.c, mm/kfence/report.c, mm/kmsan/report.c, kernel/kcsan/report.c, lib/ubsan.c, mm/kmemleak.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import FUNCTION, Heading, heading

_WHERE: Final = r"(?: in | on )?(?:" + FUNCTION + r")?"


def _named(checker: str, pattern: str, mechanism: str, use: str = "fault") -> Heading:
    return heading(
        f"BUG: {checker}:",
        rf"BUG: {checker}: (?P<what>{pattern})" + _WHERE,
        mechanism,
        f"{checker}: {{what}}",
        blame="named",
        use=use,
    )


HEADINGS: Final = (
    _named("KASAN", r"(?:double-free or )?invalid-free|double-free", "use_after_free"),
    _named("KASAN", r"(?:slab-|vmalloc-)?use-after-(?:free|scope|return)", "use_after_free"),
    _named("KASAN", r"null-ptr-deref", "null_deref"),
    _named("KASAN", r"(?:user-memory|wild-memory|invalid)-access|unknown-crash", "bad_page_fault"),
    _named("KASAN", r"[\w-]{1,64}", "out_of_bounds"),
    _named("KASan", r"use after free|double-free", "use_after_free"),  # before 4.5
    _named("KASan", r"[\w -]{1,64}?(?= in | on )", "out_of_bounds"),
    _named("KFENCE", r"use-after-free(?: read| write)?|invalid free", "use_after_free"),
    _named("KFENCE", r"out-of-bounds(?: read| write)?", "out_of_bounds"),
    _named("KFENCE", r"[\w -]{1,64}?(?= in )", "memory_corruption"),
    _named("KMSAN", r"[\w-]{1,64}", "uninit_value", use="uninit"),
    heading(
        "BUG: KCSAN:",
        r"BUG: KCSAN: (?P<what>data-race|assert: race|[\w-]{1,64}) in (?P<function>[A-Za-z_]\w{0,127})",
        "data_race",
        "KCSAN: {what}",
        blame="named",
        use="none",
    ),
    heading(
        "UBSAN:",
        r"UBSAN: (?P<what>array-index-out-of-bounds|object-size-mismatch) in",
        "out_of_bounds",
        "UBSAN: {what}",
        use="fault",
    ),
    heading(
        "UBSAN:",
        r"UBSAN: (?P<what>[\w -]{1,64}?) in \S",
        "undefined_behavior",
        "UBSAN: {what}",
        use="fault",
    ),
    heading(
        "unreferenced object",
        r"unreferenced object 0x[0-9a-f]{4,16} \(size \d{1,10}\)",
        "memory_leak",
        "memory leak",
        use="leak",
    ),
)

"""Reports of the kernel's own checkers: KASAN, KFENCE, KMSAN, KCSAN, UBSAN, kmemleak.

mm/kasan/report*.c, mm/kfence/report.c, mm/kmsan/report.c, kernel/kcsan/report.c, lib/ubsan.c, mm/kmemleak.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import FUNCTION, heading

HEADINGS: Final = (
    heading(
        "BUG: KASAN:",
        r"BUG: KASAN: (?P<what>(?:double-free or invalid-free|double-free|invalid-free)) in (?:"
        + FUNCTION
        + r")?",
        "use_after_free",
        "KASAN: {what}",
        blame="named",
        use="fault",
    ),
    heading(
        "BUG: KASAN:",
        r"BUG: KASAN: (?P<what>(?:slab-)?use-after-(?:free|scope|return)|vmalloc-use-after-free) (?:in |on )(?:"
        + FUNCTION
        + r")?",
        "use_after_free",
        "KASAN: {what}",
        blame="named",
        use="fault",
    ),
    heading(
        "BUG: KASAN:",
        r"BUG: KASAN: (?P<what>null-ptr-deref) (?:in |on )(?:" + FUNCTION + r")?",
        "null_deref",
        "KASAN: {what}",
        blame="named",
        use="fault",
    ),
    heading(
        "BUG: KASAN:",
        r"BUG: KASAN: (?P<what>user-memory-access|wild-memory-access|invalid-access|unknown-crash) (?:in |on )(?:"
        + FUNCTION
        + r")?",
        "bad_page_fault",
        "KASAN: {what}",
        blame="named",
        use="fault",
    ),
    heading(
        "BUG: KASAN:",
        r"BUG: KASAN: (?P<what>[\w-]+)(?: in | on )?(?:" + FUNCTION + r")?",
        "out_of_bounds",
        "KASAN: {what}",
        blame="named",
        use="fault",
    ),
    heading(
        "BUG: KFENCE:",
        r"BUG: KFENCE: (?P<what>use-after-free(?: \w+)?|invalid free) in (?:" + FUNCTION + r")?",
        "use_after_free",
        "KFENCE: {what}",
        blame="named",
        use="fault",
    ),
    heading(
        "BUG: KFENCE:",
        r"BUG: KFENCE: (?P<what>out-of-bounds(?: \w+)?) in (?:" + FUNCTION + r")?",
        "out_of_bounds",
        "KFENCE: {what}",
        blame="named",
        use="fault",
    ),
    heading(
        "BUG: KFENCE:",
        r"BUG: KFENCE: (?P<what>[\w -]+?) in (?:" + FUNCTION + r")?",
        "memory_corruption",
        "KFENCE: {what}",
        blame="named",
        use="fault",
    ),
    heading(
        "BUG: KMSAN:",
        r"BUG: KMSAN: (?P<what>[\w-]+)(?: in )?(?:" + FUNCTION + r")?",
        "uninit_value",
        "KMSAN: {what}",
        blame="named",
        use="uninit",
    ),
    heading(
        "BUG: KCSAN:",
        r"BUG: KCSAN: (?P<what>data-race|assert: race|\S+) in (?P<function>[A-Za-z_]\w*)",
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
        r"UBSAN: (?P<what>[\w -]+?) in \S",
        "undefined_behavior",
        "UBSAN: {what}",
        use="fault",
    ),
    heading(
        "unreferenced object",
        r"unreferenced object 0x[0-9a-f]+ \(size \d+\)",
        "memory_leak",
        "memory leak",
        use="leak",
    ),
)

"""Memory found damaged: lists, slabs, pages, page tables.

lib/list_debug.c, mm/slub.c, mm/slab.c, mm/page_alloc.c, mm/memory.c, kernel/fork.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import Heading, heading

# mm/page_owner.c: a page is found broken by whoever comes next; to blame is whose page it was.
_OWNER: Final = r"^page last allocated via "


def _damage(
    literal: str, pattern: str, title: str, *, use: str = "fault", trace: str | None = None
) -> Heading:
    return heading(literal, pattern, "memory_corruption", title, use=use, trace=trace)


HEADINGS: Final = (
    _damage("corruption", r"list_(?:add|del|del_entry) corruption", "list corruption"),
    _damage("list_add double add", r"list_add double add", "list corruption"),
    _damage(
        "BUG: Bad page state",
        r"BUG: Bad page state in process (?P<process>.{1,64}?) {1,8}pfn:",
        "BUG: Bad page state",
        use="page",
        trace=_OWNER,
    ),
    _damage(
        "BUG: Bad page",
        r"BUG: Bad page (?:map|cache|state)(?: in process (?P<process>.{1,64}?) {1,8}(?:pte|pfn))?",
        "BUG: Bad page map",
        use="page",
    ),
    _damage("BUG: Bad rss-counter", r"BUG: Bad rss-counter state", "BUG: Bad rss-counter state", use="none"),
    _damage(
        "BUG: non-zero",
        r"BUG: non-zero (?:pgtables_bytes|nr_ptes|nr_pmds) on freeing mm",
        "BUG: non-zero pgtables_bytes on freeing mm",
        use="none",
    ),
    _damage("bad p", r"\S{1,80}:\d{1,6}: bad p[gu4m]d ", "bad page table entry", use="none"),
    _damage(
        "BUG ",
        r"^(?:=+ )?BUG (?P<cache>[\w:.-]{1,64}) \((?:Not tainted|Tainted: [^)]{1,120}?)\s{0,4}\): "
        r"(?P<what>[A-Za-z][A-Za-z ]{0,60})",
        "slab corruption: {what}",
    ),
    _damage("Slab corruption", r"Slab corruption(?: \(.{0,80}\))?: \S", "slab corruption"),
    _damage("slab error in", r"slab error in \w{1,64}\(\): cache", "slab corruption"),
    _damage("orrupted page table", r"Corrupted page table at address", "corrupted page table", use="none"),
    heading(
        "PAX: ",
        r"PAX: (?:size overflow|refcount overflow|From )",
        "bug",
        "PaX report",
        use="fault",
    ),
)

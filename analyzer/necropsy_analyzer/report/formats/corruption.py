"""Memory found damaged: lists, slabs, pages, page tables.

lib/list_debug.c, mm/slub.c, mm/slab.c, mm/page_alloc.c, mm/memory.c, mm/usercopy.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import heading

HEADINGS: Final = (
    heading(
        "corruption",
        r"(?:^|\s)(?:list_add|list_del|__list_add|__list_del_entry) corruption|list_(?:add|del) corruption"
        r"|list_add double add|list_del corruption",
        "memory_corruption",
        "list corruption",
        use="fault",
    ),
    heading(
        "list_add double add", r"list_add double add", "memory_corruption", "list corruption", use="fault"
    ),
    heading(
        "BUG: Bad page state",
        r"BUG: Bad page state in process (?P<process>.+?) +pfn:",
        "memory_corruption",
        "BUG: Bad page state",
        use="page",
    ),
    heading(
        "BUG: Bad page",
        r"BUG: Bad page (?:map|cache|state)(?: in process (?P<process>\S+))?",
        "memory_corruption",
        "BUG: Bad page map",
        use="page",
    ),
    heading(
        "BUG: Bad rss-counter",
        r"BUG: Bad rss-counter state",
        "memory_corruption",
        "BUG: Bad rss-counter state",
        use="none",
    ),
    heading(
        "BUG: non-zero",
        r"BUG: non-zero (?:pgtables_bytes|nr_ptes) on freeing mm",
        "memory_corruption",
        "BUG: non-zero pgtables_bytes on freeing mm",
        use="none",
    ),
    heading(
        "bad pmd",
        r"\S+:\d+: bad p[gu4m]d ",
        "memory_corruption",
        "bad page table entry",
        use="none",
    ),
    heading(
        "BUG ",
        r"^(?:=*\s*)?BUG (?P<cache>[\w:.-]+) \((?:Not tainted|Tainted: [A-Z ()]+?)\s*\): (?P<what>\S.*)",
        "memory_corruption",
        "slab corruption: {what}",
        use="fault",
    ),
    heading(
        "Slab corruption",
        r"Slab corruption(?: \(.*\))?: (?P<cache>\S+)",
        "memory_corruption",
        "slab corruption",
        use="fault",
    ),
    heading(
        "lready free",
        r"BUG .*: (?:Object|Invalid object pointer|Free pointer).*|BUG: Object already free",
        "memory_corruption",
        "slab corruption: object already free",
        use="fault",
    ),
    heading(
        "double free detected",
        r"double free detected in|slab: double free",
        "memory_corruption",
        "double free",
        use="fault",
    ),
    heading(
        "orrupted page table",
        r"(?:Corrupted page table at address|BUG: corrupted page table)",
        "memory_corruption",
        "corrupted page table",
        use="none",
    ),
    heading(
        "PAX: ",
        r"PAX: (?:size overflow|refcount overflow|From )",
        "bug",
        "PaX report",
        use="fault",
    ),
)

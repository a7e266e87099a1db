"""Oopses: faults of the CPU in kernel mode, and BUG().

arch/x86/mm/fault.c, arch/x86/kernel/{traps,dumpstack}.c, arch/arm64/mm/fault.c, arch/arm64/kernel/traps.c,
arch/arm/mm/fault.c, arch/arm/kernel/traps.c, arch/powerpc/mm/fault.c, arch/riscv/mm/fault.c, lib/bug.c,
mm/usercopy.c, lib/string_helpers.c.
"""

from typing import Final

from necropsy_analyzer.report.formats.heading import Heading, heading


def _trap(literal: str, pattern: str, mechanism: str, title: str, *, weak: bool = False) -> Heading:
    return heading(literal, pattern, mechanism, title, blame="pointer", use="fault", weak=weak)


HEADINGS: Final = (
    _trap(
        "NULL pointer dereference",
        r"(?:BUG: (?:unable to handle )?kernel|Unable to handle kernel|Kernel) NULL pointer dereference",
        "null_deref",
        "kernel NULL pointer dereference",
    ),
    _trap(  # another CPU's message came between the two halves of the line
        "NULL pointer dereference at",
        r"^NULL pointer dereference at (?: {0,16}\(null\)|[0-9a-f]{8,16})",
        "null_deref",
        "kernel NULL pointer dereference",
    ),
    _trap(
        "nable to handle",
        r"(?:BUG: unable to handle (?:kernel )?(?:paging request|page fault)|Unable to handle kernel \S)",
        "bad_page_fault",
        "bad page fault",
    ),
    _trap("BUG: Bad page fault", r"BUG: Bad page fault", "bad_page_fault", "bad page fault"),
    _trap(
        "general protection",
        r"general protection fault(?:[,:] ?.{0,200}\[#\d{1,9}\]|: [0-9a-f]{4}(?: |$)"
        r"|,? (?:probably |maybe )?for (?:non-canonical )?address)",
        "gpf",
        "general protection fault",
    ),
    _trap("stack segment", r"stack segment: [0-9a-f]{4} \[#\d", "gpf", "stack segment fault"),
    _trap("double fault", r"PANIC: double fault|^(?:Oops: )?double fault: ", "double_fault", "double fault"),
    _trap("divide error", r"divide error: [0-9a-f]{4}", "divide_error", "divide error"),
    _trap(
        "invalid opcode",
        r"invalid opcode: [0-9a-f]{4}.{0,120}\[#\d",
        "invalid_opcode",
        "invalid opcode",
        weak=True,
    ),
    _trap(
        "[#",
        r"^(?:traps: |Oops: )?(?P<what>int3|debug|simd exception|alignment check|segment not present"
        r"|[Ii]nvalid or fatal FRED event"
        r"|invalid TSS|bounds|overflow|control protection|coprocessor \w{1,32}): [0-9a-f]{4}.{0,120}\[#\d",
        "panic_other",
        "{what}",
        weak=True,
    ),
    _trap(
        "guard page was hit",
        r"stack guard page was hit",
        "stack_overflow",
        "kernel stack overflow",
    ),
    _trap(
        "stack overflow",
        r"[Kk]ernel stack overflow|BUG: [\w ]{1,40}stack overflow",
        "stack_overflow",
        "kernel stack overflow",
    ),
    _trap(
        "Insufficient stack space",
        r"Insufficient stack space to handle exception",
        "stack_overflow",
        "kernel stack overflow",
    ),
    _trap(
        "Thread overran stack",
        r"Thread overran stack, or stack corrupted",
        "stack_overflow",
        "kernel stack overflow",
        weak=True,
    ),
    _trap("kernel BUG at", r"(?:^|\s|\])kernel BUG at \S", "bug", "kernel BUG"),
    _trap("Kernel BUG", r"Kernel BUG (?:at \S|\[#\d)", "bug", "kernel BUG"),
    _trap("Bad mode in", r"Bad mode in Error handler detected", "mce", "SError interrupt"),
    _trap("Bad mode in", r"Bad mode in .{0,40} handler detected", "panic_other", "bad mode"),
    _trap("SError Interrupt", r"SError Interrupt on CPU(?P<cpu>\d{1,5})", "mce", "SError interrupt"),
    _trap(
        "external abort",
        r"Internal error: .{0,40}external abort.{0,60}\[#\d",
        "mce",
        "synchronous external abort",
    ),
    _trap(
        "nhandled fault:",
        r"Unhandled fault: [\w() -]{1,64}?(?: \(0x[0-9a-f]{1,8}\))? at",
        "bad_page_fault",
        "unhandled fault",
    ),
    _trap("lignment trap", r"Alignment trap: not handling", "panic_other", "alignment trap"),
    _trap("Internal error:", r"Internal error: Oops - BUG: .{0,40}\[#\d", "bug", "kernel BUG", weak=True),
    _trap(
        "Internal error:",
        r"Internal error: Oops - [Uu]ndefined instruction: .{0,40}\[#\d",
        "invalid_opcode",
        "undefined instruction",
        weak=True,
    ),
    _trap(
        "Internal error:",
        r"Internal error: .{1,60}? \[#\d",
        "bad_page_fault",
        "internal error",
        weak=True,
    ),
    _trap("Oops", r"Oops: Machine check, sig: \d{1,3} \[#\d", "mce", "machine check"),
    _trap(
        "Oops",
        r"(?:^|\s)Oops(?: - [\w /-]{1,40})?: \w.{0,200}\[#\d",
        "bad_page_fault",
        "oops",
        weak=True,
    ),
    heading(
        "usercopy: ",
        r"usercopy: [Kk]ernel memory (?:exposure|overwrite) attempt",
        "bug",
        "bad usercopy",
        use="fault",
    ),
    _trap(
        "CFI failure",
        r"CFI failure (?:at [A-Za-z_][\w.]{0,127}\+0x|\()",
        "bug",
        "CFI failure",
    ),
    heading(
        "detected buffer overflow",
        r"detected buffer overflow",
        "out_of_bounds",
        "detected buffer overflow",
        use="fault",
    ),
)

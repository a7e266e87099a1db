"""What a faulting address tells. In: an address, the register values. Out: the name of a finding, or None.

Kernel addresses: x86-64 Documentation/arch/x86/x86_64/mm.rst, arm64 Documentation/arch/arm64/memory.rst (48
bits: the upper 16 bits, on x86 17, are all ones); poisons: include/linux/poison.h, mm/slab.h,
include/linux/list.h.
"""

from collections.abc import Iterable
from typing import Final

_BITS: Final = 64
_WORD: Final = (1 << _BITS) - 1
_UPPER: Final = 47
_PAGE: Final = 4096
_NEAR: Final = 4096
"""How far a member's offset carries an access from the pointer it is based on."""

_POISONS: Final = (
    0xDEAD000000000100,  # LIST_POISON1 with x86's and arm64's POISON_POINTER_DELTA
    0xDEAD000000000122,  # LIST_POISON2
    0x00100100,  # LIST_POISON1 before 2.6.28 on 64 bits, and without the delta
    0x00200200,
    0x6B6B6B6B6B6B6B6B,  # POISON_FREE: freed slab objects
    0x5A5A5A5A5A5A5A5A,  # POISON_INUSE: never written slab objects
    0xAAAAAAAAAAAAAAAA,  # PAGE_POISON
    0xCCCCCCCCCCCCCCCC,  # POISON_FREE_INITMEM
    0xDEAD4EADDEAD4EAD,  # SPINLOCK_MAGIC twice
)
_TEXT_BYTES: Final = 7
_POINTERS: Final = frozenset(
    ["RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP"]
    + [f"R{number:02}" for number in range(8, 16)]
    + [f"X{number}" for number in range(31)]
)


def finding(address: int | None, registers: dict[str, int], *, noncanonical: bool) -> str | None:
    """Say what the address of a fault is, by the name of a finding in features.yaml.

    A general protection fault has no address of its own on kernels before 5.4: then (`noncanonical`) the
    pointers in the registers are looked at.
    """
    values: Iterable[int] = () if address is None else (address,)
    if noncanonical and (address is None or is_canonical(address)):
        pointers = (value for name, value in registers.items() if name.upper() in _POINTERS)
        values = [value for value in pointers if not is_canonical(value)]
    return next((name for value in values if (name := _kind(value)) is not None), None)


def is_canonical(address: int) -> bool:
    """Say whether a 64-bit address has its upper 17 bits alike (four-level page tables)."""
    return address >> _UPPER in (0, _WORD >> _UPPER)


def _kind(value: int) -> str | None:
    if any(-_NEAR < value - poison < _NEAR for poison in _POISONS):
        return "address-poison"
    upper = value >> _UPPER
    missing = ((_WORD >> _UPPER) ^ upper).bit_count()
    if not is_canonical(value):
        if _is_text(value):
            return "address-text"
        # With the bit back this is an address that the kernel uses; a small one has lost more than that.
        # With the upper 16 bits whole it is one already, on arm64.
        lost = missing == 1 and value >> 48 != 0xFFFF and value & ((1 << _UPPER) - 1) >= _PAGE
        return "address-one-bit" if lost else None
    if upper == 0 and value.bit_length() > 32 and _is_null_but_one(value):
        return "address-null-one-bit"
    return None


def _is_null_but_one(value: int) -> bool:
    """Say whether one bit is set, and below it no more than a member's offset."""
    return value & ~(_NEAR - 1) == 1 << (value.bit_length() - 1)


def _is_text(value: int) -> bool:
    characters = value.to_bytes(8, "little").rstrip(b"\0")
    return len(characters) >= _TEXT_BYTES and all(0x20 <= byte < 0x7F for byte in characters)

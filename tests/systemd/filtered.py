"""Become a program under a unit's SystemCallFilter= and MemoryDenyWriteExecute=. In: UNIT PROGRAM [ARGUMENT].

What systemd.exec(5) says of both is done with libseccomp, as systemd does it: calls that are not in the
filter fail with EPERM, memory is never writable and executable. Groups of calls are those of this machine's
`systemd-analyze syscall-filter`.
"""

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
MASKED_EQ = 7
PROT_WRITE, PROT_EXEC = 2, 4


class Compare(ctypes.Structure):
    """struct scmp_arg_cmp: argument `arg` and mask `a` give `b`."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def calls(group: str) -> set[str]:
    """Name the calls of a group, and of the groups in it."""
    told = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    found: set[str] = set()
    for word in (line.strip() for line in told.splitlines()[1:]):
        if word.startswith("@"):
            found |= calls(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def allowed(unit: Path) -> set[str]:
    """Name the calls that a unit's SystemCallFilter= lines let through."""
    found: set[str] = set()
    for line in unit.read_text().splitlines():
        name, _, value = line.partition("=")
        if name != "SystemCallFilter":
            continue
        groups = [calls(word) for word in value.removeprefix("~").split()]
        found = found.difference(*groups) if value.startswith("~") else found.union(*groups)
    return found


def load(names: set[str]) -> None:
    """Let this process and what it becomes call nothing else."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ERRNO | errno.EPERM)))
    for name in sorted(names):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue  # another architecture's
        forbidden = {"mprotect": (PROT_EXEC,), "pkey_mprotect": (PROT_EXEC,), "mmap": (PROT_EXEC, PROT_WRITE)}
        for bit in forbidden.get(name, (None,)):
            rules = [] if bit is None else [Compare(2, MASKED_EQ, bit, 0)]
            given = (Compare * 1)(*rules)
            assert (
                library.seccomp_rule_add_array(context, ctypes.c_uint32(ALLOW), number, len(rules), given)
                == 0
            )
    assert library.seccomp_load(context) == 0


if __name__ == "__main__":
    load(allowed(Path(sys.argv[1])))
    os.execv(sys.argv[2], sys.argv[2:])

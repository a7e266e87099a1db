"""Records of /dev/kmsg as kernel text. In: `KernelLog` bodies of one boot. Out: text, one message a line.

A record is `prefix,sequence,microseconds,flags[,caller=T123];message` and continuation lines ` KEY=value`
(Documentation/ABI/testing/dev-kmsg); the text is in the form of `dmesg --raw`, with the caller in brackets as
CONFIG_PRINTK_CALLER prints it.
"""

import re
from collections.abc import Iterable
from typing import Final

from necropsy_agent.wire import KernelLog

_HEAD: Final = re.compile(r"(\d{1,9}),(\d{1,19}),(\d{1,19}),([^;]*);")
_CALLER: Final = re.compile(r"(?:^|,)caller=([TC]\d+)(?:,|$)")
_ESCAPE: Final = re.compile(r"\\x([0-9a-f]{2})")
_LEVELS: Final = 7


def kernel_text(logs: Iterable[KernelLog]) -> tuple[bytes, tuple[str, ...]]:
    """Join logs of one boot in the order of their records, each record once; and say what was lost."""
    ordered: dict[int, str] = {}
    damage: list[str] = []
    strange = 0
    for log in logs:
        if log.lost:
            damage.append(f"the kernel overwrote {log.lost} records before they were read")
        for record in log.records:
            found = _HEAD.match(record)
            if found is None:
                strange += 1
                continue
            prefix, sequence, time_us, flags = found.groups()
            caller = _CALLER.search(flags)
            message = record[found.end() :].split("\n ", 1)[0]
            seconds, micros = divmod(int(time_us), 10**6)
            mark = f"[{caller.group(1):>7}]" if caller else ""
            head = f"<{int(prefix) & _LEVELS}>[{seconds:5d}.{micros:06d}]{mark} "
            ordered[int(sequence)] = head + _unescaped(message)
    if strange:
        damage.append(f"{strange} kernel log records are not in /dev/kmsg's form")
    lines = [ordered[sequence] for sequence in sorted(ordered)]
    text = "".join(f"{line}\n" for line in lines)
    return text.encode("utf-8", "surrogatepass"), tuple(damage)


def _unescaped(message: str) -> str:
    r"""Undo the kernel's `\xNN` for control characters and backslashes; bytes past ASCII stay escaped."""
    return _ESCAPE.sub(_character, message)


def _character(found: re.Match[str]) -> str:
    code = int(found.group(1), 16)
    return chr(code) if code in (0x09, 0x5C) else found.group(0)

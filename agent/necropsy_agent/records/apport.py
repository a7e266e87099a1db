"""Kernel crash reports as apport files them. In: /var/crash/linux-image-….crash. Out: a `CrashRecord`.

The format is apport's problem report (apport/doc/data-format.tex, problem_report.py): lines `Key: value`, a
longer value on lines that begin with a space, a binary one as `Key: base64` with one base64 chunk of a gzip
stream a line. Text keys stand before binary ones, so the vmcore inside (`VmCore`) is never reached.
"""

import binascii
import re
import zlib
from calendar import timegm
from email.utils import parsedate_tz
from typing import Final

from necropsy_agent.records.folder import Folder
from necropsy_agent.records.kernel_text import release_of
from necropsy_agent.wire import Blob, CrashPart, CrashRecord

NAME: Final = re.compile(r"(?:linux-image|linux|kernel)-\S{1,160}\.crash")
"""Names of kernel reports; those of programs begin with `_usr_`."""

_READ_BYTES: Final = 16 << 20
_TEXT_BYTES: Final = 8 << 20
_LOGS: Final = (b"VmCoreDmesg", b"OopsText", b"CurrentDmesg", b"Dmesg")


def read(folder: Folder, name: str) -> CrashRecord | None:
    """Read the report `name` of `folder`; None where it does not speak of a kernel. Content never raises."""
    before = len(folder.damage)
    raw = folder.read(name, _READ_BYTES, from_end=False)
    damage = folder.damage[before:]
    del folder.damage[before:]
    values = _values(raw or b"")
    if values.get(b"ProblemType") not in ((b"KernelCrash",), (b"KernelOops",)):
        return None
    text = b""
    for key in _LOGS:
        if key in values:
            text, whole = _text(values[key])
            if not whole:
                damage.append(f"{name}: its {key.decode()} is damaged or longer than {_TEXT_BYTES} bytes")
            break
    else:
        damage.append(f"{name}: no kernel log in it")
    when = parsedate_tz(b" ".join(values.get(b"Date", ())).decode("ascii", "replace"))
    uname = re.match(rb"Linux (\S{1,128})", b" ".join(values.get(b"Uname", ())))
    return CrashRecord(
        origin="kdump",
        path=str(folder.path / name),
        key=f"apport:{name}",
        died_wall_ns=timegm(when[:6]) * 10**9 if when is not None and 1970 <= when[0] < 2200 else None,
        release=release_of(text) or (uname.group(1).decode("ascii", "replace") if uname else None),
        complete=bool(text) and not damage,
        damage=tuple(damage),
        parts=(CrashPart(name=name, blob=Blob.of(text)),) if text else (),
    )


def _values(raw: bytes) -> dict[bytes, tuple[bytes, ...]]:
    """Take the report's fields apart, each into its lines."""
    values: dict[bytes, list[bytes]] = {}
    lines: list[bytes] = []
    for line in raw.split(b"\n"):
        if line.startswith(b" "):
            lines.append(line[1:])
        elif b":" in line:
            key, _, first = line.partition(b":")
            lines = values[key.strip()] = [first.strip()] if first.strip() else []
    return {key: tuple(lines) for key, lines in values.items()}


def _text(lines: tuple[bytes, ...]) -> tuple[bytes, bool]:
    """Give a value's text, and whether it is whole."""
    if lines[:1] != (b"base64",):
        return b"\n".join(lines), True
    stream = zlib.decompressobj(wbits=31)
    out = bytearray()
    for line in lines[1:]:
        try:
            out += stream.decompress(binascii.a2b_base64(line), _TEXT_BYTES + 1 - len(out))
        except (zlib.error, binascii.Error):
            return bytes(out), False
        if stream.eof or len(out) > _TEXT_BYTES:
            break
    return bytes(out[:_TEXT_BYTES]), stream.eof and len(out) <= _TEXT_BYTES

"""pstore records, live or archived by systemd-pstore. In: a folder. Out: `CrashRecord`s, oldest first.

File names and content are those of the kernel's fs/pstore: inode.c (`TYPE-BACKEND-ID[.enc.z]`), platform.c
(the header `Panic#2 Part3`; Part1 holds the newest lines), ram.c (`====1700000000.123456-D`), zone.c (`Panic:
Total 2 times`), drivers/acpi/apei/erst.c with drivers/firmware/efi/cper.c (ids count up from the time of the
boot's first record, shifted by 32), drivers/firmware/efi/efi-pstore.c (ids are time, part and count in
decimal). The archive is that of systemd's src/pstore/pstore.c: `ID/dmesg.txt` (ERST), `TIME/COUNT/dmesg.txt`
(EFI) beside the moved files, all other files moved as they are.
"""

import hashlib
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from necropsy_agent.records.compressed import decompress
from necropsy_agent.records.folder import Folder
from necropsy_agent.records.kernel_text import last_time_us, release_of
from necropsy_agent.wire import Blob, CrashPart, CrashRecord

FILE_LIMIT_BYTES: Final = 8 << 20
"""Of a longer file the end is read; kernels give records of some kilobytes to a megabyte."""

TOTAL_LIMIT_BYTES: Final = 64 << 20
"""What is read of all folders together."""

_NAME: Final = re.compile(
    r"(?P<type>dmesg|mce|console|ftrace|rtas|powerpc-ofw|powerpc-common|powerpc-opal|pmsg|unknown)"
    r"-(?P<backend>\S{1,40}?)-(?P<id>\d{1,20})(?P<enc>\.enc\.z)?"
)
_HEADER: Final = re.compile(
    rb"(?:====(?P<time>\d{1,12})\.(?P<fraction>\d{1,9})(?:-(?P<packed>[CD]))?\n)?"
    rb"(?:[A-Z][A-Za-z]{2,15}: Total \d{1,10} times\n)?"
    rb"(?:(?P<reason>[A-Z][A-Za-z]{2,15})#(?P<count>\d{1,10}) Part(?P<part>\d{1,10})\n)?"
)
# dmesg.txt: the content of files one after the other, since systemd 252 bare, before after a line "NAME:".
_JOINT: Final = re.compile(
    rb"^(?:(?P<name>dmesg-[!-9;-~]{1,60}):\n)?"
    rb"(?P<header>[A-Z][A-Za-z]{2,15}#\d{1,10} Part(?P<part>\d{1,10})\n)",
    re.MULTILINE,
)
_EFI: Final = ("efi", "efi_pstore")  # renamed in Linux 5.19 (the driver's module name)
_EFI_SAME_DUMP_S: Final = 60
_NEVER_NS: Final = 1 << 63  # what a name that is no kernel's may say
_NOT_YET_S: Final = 1_000_000_000  # a clock that stood before 2001 was never set


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """One file, or one section of a dmesg.txt: how it was found, and what its header says."""

    name: str
    folder: Path
    type: str
    backend: str
    id: int
    raw: bytes
    text: bytes
    was: str | None = None
    reason: str | None = None
    count: int = 0
    part: int = 0
    time_ns: int | None = None
    mtime_ns: int | None = None
    damage: tuple[str, ...] = ()
    unread: bool = False

    @property
    def seed(self) -> int:
        """The part of an ERST id that all records of one boot share."""
        return self.id >> 24 if self.id >> 63 else self.id >> 32

    @property
    def boot_s(self) -> int:
        """The time at which the ERST ids of this boot began (cper_next_record_id)."""
        return self.seed & ~(1 << 39) if self.id >> 63 else self.seed


@dataclass(slots=True)
class _Dump:
    """The pieces of one dump, in reading order, and what names it for ever."""

    pieces: list[_Piece]
    key: str
    died_ns: int | None = None
    damage: list[str] = field(default_factory=list)


def read(folder: Path, *, live: bool | None = None) -> tuple[CrashRecord, ...]:
    """Read all records of `folder`: /sys/fs/pstore, systemd-pstore's archive, a part or a copy of either.

    Files of one dump become one record, its parts in reading order, oldest lines first. Missing and damaged
    parts are said in the record's `damage`; a part that cannot be decompressed is kept as it is; a record
    whose file cannot be read has no parts and a key of its own, so that it is not taken for shipped. `live`
    says that the files' times are the kernel's (None: unless it looks like an archive). Content never raises;
    OSError where the folder itself cannot be read.
    """
    return read_all([(folder, live)])


def read_all(folders: Iterable[tuple[Path, bool | None]]) -> tuple[CrashRecord, ...]:
    """Read several folders as one, so that a dump that is being moved from one to the other stays whole.

    Of a file that is in two folders with the same content the first is taken. Raises OSError where a folder
    cannot be read.
    """
    pieces: dict[tuple[str, str, int, bytes], _Piece] = {}
    lost: list[str] = []
    left = TOTAL_LIMIT_BYTES
    for path, live in folders:
        with Folder(path) as folder:
            for piece in _walk(folder, live, left, 0):
                left -= len(piece.raw)
                pieces.setdefault((piece.type, piece.backend, piece.id, piece.text), piece)
            lost += folder.damage
    dmesg = [piece for piece in pieces.values() if piece.type == "dmesg"]
    others = [piece for piece in pieces.values() if piece.type != "dmesg"]
    dumps = [*_erst(dmesg), *_efi(dmesg), *_slots(dmesg), *map(_single, others)]
    dumps.sort(key=lambda dump: (dump.died_ns or 0, dump.pieces[0].backend, dump.pieces[0].id))
    # Two slots with the same content have the same key, and are the same record.
    unique = list({dump.key: dump for dump in reversed(dumps)}.values())[::-1]
    if unique:
        unique[0].damage += lost
    return tuple(map(_record, unique))


def _walk(folder: Folder, live: bool | None, left: int, depth: int) -> Iterator[_Piece]:
    """Give what stands in `folder` and, since systemd-pstore makes them, up to two folders deeper."""
    entries = folder.entries()
    below = [name for name, status in entries if stat.S_ISDIR(status.st_mode) and depth < 2]
    if live is None:
        live = not below and folder.path.parts[-2:] != ("systemd", "pstore")
    named = [(name, match, status) for name, status in entries if (match := _NAME.fullmatch(name))]
    for name, match, status in named:
        before = len(folder.damage)
        raw = folder.read(name, min(FILE_LIMIT_BYTES, max(left, 0)))
        damage = tuple(folder.damage[before:])  # it belongs to the record, not to the folder
        del folder.damage[before:]
        left -= len(raw or b"")
        piece = _Piece(
            name=name,
            folder=folder.path,
            type=match["type"],
            backend="efi" if match["backend"] in _EFI else match["backend"],
            id=int(match["id"]),
            raw=raw or b"",
            text=raw or b"",
            mtime_ns=status.st_mtime_ns if live else None,
            damage=damage,
            unread=raw is None,
        )
        yield _opened(piece, packed=bool(match["enc"])) if piece.type == "dmesg" else piece
    if depth > 0 and not any(match["type"] == "dmesg" for _, match, _ in named):
        yield from _joint(folder, left, depth)
    for name in below:
        try:
            inner = folder.below(name)
        except OSError as error:
            folder.damage.append(f"{name}: {error.strerror or error}")
            continue
        with inner:
            for piece in _walk(inner, False, left, depth + 1):
                left -= len(piece.raw)
                yield piece


def _joint(folder: Folder, left: int, depth: int) -> Iterator[_Piece]:
    """Take a dmesg.txt apart where only that was kept: the ids follow from the folder's name."""
    if "dmesg.txt" not in dict(folder.entries()):
        return
    raw = folder.read("dmesg.txt", min(FILE_LIMIT_BYTES, max(left, 0))) or b""
    starts = list(_JOINT.finditer(raw))
    base = folder.path.name
    efi = depth == 2 and base.isdecimal() and len(base) <= 4
    stamp = folder.path.parent.name if efi else base
    number = int(stamp) if stamp.isdecimal() and len(stamp) <= 20 else 0
    for n, start in enumerate(starts):
        end = starts[n + 1].start() if n + 1 < len(starts) else len(raw)
        text = raw[start.start("header") : end]
        name = (start["name"] or b"").decode("ascii", "replace")
        match = _NAME.fullmatch(name)
        part = int(start["part"])
        if match is not None:
            backend, ident = match["backend"], int(match["id"])
        elif efi:
            backend, ident = "efi", (number * 100 + part) * 1000 + int(base)
        else:
            backend, ident = "erst", number - n
        yield _opened(
            _Piece(
                name=name or "dmesg.txt",
                folder=folder.path,
                type="dmesg",
                backend="efi" if backend in _EFI else backend,
                id=ident,
                raw=text,
                text=text,
            ),
            packed=False,
        )


def _opened(piece: _Piece, *, packed: bool) -> _Piece:
    """Read the header of a dmesg record; decompress the record where the kernel did not."""
    header = _HEADER.match(piece.raw)
    assert header is not None  # every part of it is optional
    text, was, damage = piece.raw, None, piece.damage
    time_ns = None
    if header["time"]:
        time_ns = int(header["time"]) * 10**9 + int(header["fraction"].ljust(9, b"0"))
    if header["reason"] is None and piece.raw and (packed or header["packed"] == b"C"):
        body = piece.raw[header.end() :]
        opened = decompress(body)
        if opened is None:
            damage = (*damage, f"{piece.name}: compressed in a way not known here (842?), kept as it is")
        else:
            text, was = opened.text, opened.algorithm
            if not opened.whole:
                damage = (*damage, f"{piece.name}: its {was} data is cut or damaged after {len(text)} bytes")
            header = _HEADER.match(text) or header
    reason, count, part = header["reason"], header["count"], header["part"]
    return replace(
        piece,
        text=text,
        was=was,
        damage=damage,
        time_ns=time_ns,
        reason=reason.decode("ascii") if reason else None,
        count=int(count or 0),
        part=int(part or 0),
    )


def _erst(dmesg: Iterable[_Piece]) -> Iterator[_Dump]:
    """Group by boot, reason and count; a part whose header is lost is placed by its id."""
    pieces = sorted((piece for piece in dmesg if piece.backend == "erst"), key=lambda piece: piece.id)
    groups: dict[tuple[int, str, int], list[_Piece]] = {}
    for piece in pieces:
        if piece.reason is not None:
            groups.setdefault((piece.seed, piece.reason, piece.count), []).append(piece)
    taken = {piece.id for piece in pieces if piece.reason is not None}
    starts = {group[0].id - group[0].part + 1 for group in groups.values()}
    alone: list[_Piece] = []
    for piece in pieces:
        if piece.reason is not None:
            continue
        for (seed, reason, count), group in groups.items():
            part = piece.id - group[0].id + group[0].part
            follows = piece.id - 1 in {other.id for other in group} and piece.id not in starts
            if seed == piece.seed and piece.id not in taken and (1 <= part < group[-1].part or follows):
                group.append(replace(piece, reason=reason, count=count, part=part))
                group.sort(key=lambda other: other.id)
                break
        else:
            alone.append(piece)
    firsts = {piece.seed: piece for piece in pieces if piece.id & 0xFFFFFF == 1}
    for group in [*groups.values(), *([piece] for piece in alone)]:
        base = group[0].id - max(group[0].part - 1, 0)
        dump = _Dump(_reading_order(group), f"pstore:erst:{base}")
        dump.died_ns = _erst_died_ns(dump.pieces[-1], firsts.get(group[0].seed), base)
        yield dump


def _erst_died_ns(newest: _Piece, first: _Piece | None, base: int) -> int | None:
    """Tell when a dump was written: ids give the time of the boot's first record, the text the rest."""
    if newest.boot_s < _NOT_YET_S:
        return newest.mtime_ns
    began_ns = newest.boot_s * 10**9
    if base & 0xFFFFFF == 1:
        return began_ns
    then_us = last_time_us(first.text) if first is not None and first.part == 1 else None
    now_us = last_time_us(newest.text)
    if then_us is not None and now_us is not None and now_us >= then_us:
        return began_ns + (now_us - then_us) * 1000
    return max(began_ns, newest.mtime_ns or 0)


def _efi(dmesg: Iterable[_Piece]) -> Iterator[_Dump]:
    """Group by count within a minute: each part carries the second in which it was written."""
    placed: list[tuple[int, _Piece]] = []
    for piece in dmesg:
        if piece.backend != "efi":
            continue
        part = piece.part or piece.id // 1000 % 100
        stamp = (piece.id // 1000 - part) // 100
        if stamp >= _NOT_YET_S:
            placed.append((stamp, replace(piece, part=part, count=piece.count or piece.id % 1000)))
        else:  # before Linux 3.8 the id was the part alone
            placed.append((0, piece))
    placed.sort(key=lambda item: (item[1].count, item[0], item[1].part))
    groups: list[list[tuple[int, _Piece]]] = []
    for stamp, piece in placed:
        last = groups[-1] if groups else []
        if (
            not last
            or last[0][1].count != piece.count
            or len({other.reason for _, other in last if other.reason} | {piece.reason or last[0][1].reason})
            > 1
            or stamp - last[-1][0] > _EFI_SAME_DUMP_S
            or any(other.part == piece.part for _, other in last)
        ):
            groups.append([])
        groups[-1].append((stamp, piece))
    for group in groups:
        stamp, lowest = min(group, key=lambda item: item[1].part)
        known = stamp >= _NOT_YET_S
        key = f"pstore:efi:{stamp}:{lowest.count}" if known else f"pstore:efi:{_digest(lowest.text)}"
        dump = _Dump(_reading_order([piece for _, piece in group]), key)
        dump.died_ns = max(when for when, _ in group) * 10**9 if known else lowest.mtime_ns
        yield dump


def _slots(dmesg: Iterable[_Piece]) -> Iterator[_Dump]:
    """Group records of ramoops, pstore_blk, nvram …: ids are slots used again and again, a slot is a dump.

    None of these writes more than a first part; where one should, neighbours of one count belong together.
    """
    pieces = [piece for piece in dmesg if piece.backend not in ("erst", "efi")]
    pieces.sort(key=lambda piece: (piece.backend, piece.id))
    groups: list[list[_Piece]] = []
    for piece in pieces:
        last = groups[-1][-1] if groups else None
        joined = (
            last is not None
            and piece.reason is not None
            and (last.backend, last.reason, last.count) == (piece.backend, piece.reason, piece.count)
            and last.id + 1 == piece.id
            and last.part + 1 == piece.part
        )
        if not joined:
            groups.append([])
        groups[-1].append(piece)
    for group in groups:
        newest = group[0]
        yield _Dump(
            _reading_order(group),
            f"pstore:{newest.backend}:{_digest(newest.text)}",
            newest.time_ns or newest.mtime_ns,
        )


def _single(piece: _Piece) -> _Dump:
    """Make a dump of a console, ftrace, pmsg, mce or firmware record."""
    named = piece.backend in ("erst", "efi") and piece.id > _NOT_YET_S
    key = f"pstore:{piece.type}-{piece.backend}:{piece.id if named else _digest(piece.text)}"
    died_ns = piece.mtime_ns if piece.type != "mce" or piece.boot_s < _NOT_YET_S else piece.boot_s * 10**9
    return _Dump([piece], key, died_ns)


def _digest(text: bytes) -> str:
    """Name content for ever: without the lines that a backend puts before the kernel's own header."""
    header = _HEADER.match(text)
    start = header.start("reason") if header is not None and header["reason"] else 0
    return hashlib.sha256(text[start:]).hexdigest()[:16]


def _reading_order(group: list[_Piece]) -> list[_Piece]:
    """Order pieces oldest lines first, which is the highest part first; of two readings the longer."""
    best: dict[int, _Piece] = {}
    for n, piece in enumerate(group):
        place = piece.part or -1 - n
        if place not in best or len(best[place].text) < len(piece.text):
            best[place] = piece
    return [best[place] for place in sorted(best, reverse=True)]


def _record(dump: _Dump) -> CrashRecord:
    pieces = [piece for piece in dump.pieces if not piece.unread]
    first = dump.pieces[0]
    numbers = {piece.part for piece in dump.pieces if piece.part}
    # A hostile header may name any part; what is missing is counted, and only a few are named.
    missing = max(numbers, default=0) - len(numbers)
    gaps = [n for n in range(1, min(max(numbers, default=0), 1000)) if n not in numbers][:8]
    damage = [line for piece in dump.pieces for line in piece.damage] + dump.damage
    if missing:
        named = ", ".join(f"Part{n}" for n in gaps)
        damage.append(
            f"{missing} of {max(numbers)} parts missing: {named}{' …' if missing > len(gaps) else ''}"
        )
    return CrashRecord(
        origin="pstore",
        path=str(first.folder / first.name) if len(dump.pieces) == 1 else str(first.folder),
        key=dump.key if pieces else f"pstore:unread:{first.name}",
        reason=next((piece.reason for piece in pieces if piece.reason), None),
        died_wall_ns=dump.died_ns if 0 <= (dump.died_ns or 0) < _NEVER_NS else None,
        release=release_of(b"".join(piece.text for piece in pieces if piece.type in ("dmesg", "console"))),
        complete=not missing and not any(piece.damage for piece in dump.pieces),
        damage=tuple(damage),
        parts=tuple(CrashPart(name=p.name, blob=Blob.of(p.text), was=p.was) for p in pieces),
    )

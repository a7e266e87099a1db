"""A dump that pstore keeps in parts is read as one text, wherever it lies and however its files are named."""

import os
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from necropsy_agent.records import pstore
from necropsy_agent.wire import CrashRecord

ROOT = Path(__file__).parents[2]
BOOT_S = 1_700_000_000
ERST = BOOT_S << 32


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    folder.mkdir(exist_ok=True)
    return folder


def part(number: int, reason: str = "Panic", count: int = 1, at_s: int = 100) -> bytes:
    """One part as pstore_dump() writes it: a header, then whole lines; the first part has the newest."""
    lines = "".join(f"<6>[{at_s - number:5d}.{n:06d}] part {number} line {n}\n" for n in range(3))
    return f"{reason}#{count} Part{number}\n{lines}".encode()


def efi(number: int, count: int = 1, seconds: int = BOOT_S) -> int:
    """efi_pstore's id (generic_id): time, part and count in decimal."""
    return (seconds * 100 + number) * 1000 + count


def text(record: CrashRecord) -> bytes:
    return b"".join(piece.blob.content() for piece in record.parts)


JOINED = part(3) + part(2) + part(1)
LAYOUTS: dict[str, tuple[dict[str, bytes], str]] = {
    "erst": (
        {f"dmesg-erst-{ERST + n}": part(n) for n in (1, 2, 3)},
        f"pstore:erst:{ERST + 1}",
    ),
    "efi": (
        {f"dmesg-efi-{efi(n)}": part(n) for n in (1, 2, 3)},
        f"pstore:efi:{BOOT_S}:1",
    ),
    "efi since 5.19": (
        {f"dmesg-efi_pstore-{efi(n)}": part(n) for n in (1, 2, 3)},
        f"pstore:efi:{BOOT_S}:1",
    ),
    "efi over the turn of a second": (
        {f"dmesg-efi-{efi(n, seconds=BOOT_S + n // 2)}": part(n) for n in (1, 2, 3)},
        f"pstore:efi:{BOOT_S}:1",
    ),
    "archived from erst": (
        {f"{ERST + 3}/dmesg-erst-{ERST + n}": part(n) for n in (1, 2, 3)} | {f"{ERST + 3}/dmesg.txt": JOINED},
        f"pstore:erst:{ERST + 1}",
    ),
    "archived from efi": (
        {f"{BOOT_S}/001/dmesg-efi_pstore-{efi(n)}": part(n) for n in (1, 2, 3)}
        | {f"{BOOT_S}/001/dmesg.txt": JOINED},
        f"pstore:efi:{BOOT_S}:1",
    ),
    "archived by systemd before 252": (
        {f"{str(ERST)[:-6]}/dmesg-erst-{ERST + n}": part(n) for n in (1, 2, 3)}
        | {f"{str(ERST)[:-6]}/dmesg.txt": b"dmesg-erst-1:\n" + JOINED},
        f"pstore:erst:{ERST + 1}",
    ),
    "only the joint text was kept, erst": (
        {f"{ERST + 3}/dmesg.txt": JOINED},
        f"pstore:erst:{ERST + 1}",
    ),
    "only the joint text was kept, efi": (
        {f"{BOOT_S}/001/dmesg.txt": JOINED},
        f"pstore:efi:{BOOT_S}:1",
    ),
    "only the joint text was kept, before 252": (
        {
            f"{str(ERST)[:-6]}/dmesg.txt": b"".join(
                b"dmesg-erst-%d:\n" % (ERST + n) + part(n) for n in (3, 2, 1)
            )
        },
        f"pstore:erst:{ERST + 1}",
    ),
    "archived in its own folder, unknown to an older systemd": (
        {f"dmesg-efi_pstore-{efi(n)}": part(n) for n in (1, 2, 3)},
        f"pstore:efi:{BOOT_S}:1",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(layout: str, tmp_path: Path) -> None:
    files, key = LAYOUTS[layout]
    (record,) = pstore.read(write(tmp_path, files))
    assert text(record) == JOINED
    assert record.key == key
    assert record.reason == "Panic"
    assert record.complete
    assert not record.damage
    assert record.died_wall_ns is not None
    assert abs(record.died_wall_ns - BOOT_S * 10**9) <= 2 * 10**9


@pytest.mark.parametrize(
    ("files", "texts"),
    [
        ({"dmesg-ramoops-0": part(1), "dmesg-ramoops-1": part(1, "Oops", 2)}, [part(1), part(1, "Oops", 2)]),
        ({"dmesg-pstore_blk-3": b"Panic: Total 2 times\n" + part(1)}, [b"Panic: Total 2 times\n" + part(1)]),
        ({"dmesg-nvram-2": part(1)}, [part(1)]),
        (
            {"dmesg-ramoops-0": b"====1700000000.123456-D\n" + part(1)},
            [b"====1700000000.123456-D\n" + part(1)],
        ),
        ({"dmesg-some_new_backend-7": part(1), "dmesg-some_new_backend-8": part(2)}, [part(2) + part(1)]),
        ({"console-ramoops-0": b"[    1.000000] one\n"}, [b"[    1.000000] one\n"]),
        ({"pmsg-ramoops-0": b"\x00\xff\x01"}, [b"\x00\xff\x01"]),
        ({"ftrace-ramoops-0": b"CPU:0 ts:1 a  b <- c\n"}, [b"CPU:0 ts:1 a  b <- c\n"]),
        ({f"mce-erst-{ERST + 9}": bytes(range(64))}, [bytes(range(64))]),
        ({"rtas-nvram-0": b"\x06\x00"}, [b"\x06\x00"]),
        ({"readme.txt": b"x", "dmesg-erst-": b"x", "dmesg-erst-1.bak": b"x"}, []),
    ],
)
def test_every_backend(files: dict[str, bytes], texts: list[bytes], tmp_path: Path) -> None:
    records = pstore.read(write(tmp_path, files))
    assert sorted(map(text, records)) == sorted(texts)
    assert len({record.key for record in records}) == len(texts)


@pytest.mark.parametrize("backend", ["ramoops", "pstore_blk"])
def test_a_slot_that_is_used_again_is_another_record(backend: str, tmp_path: Path) -> None:
    name = f"dmesg-{backend}-0"
    (first,) = pstore.read(write(tmp_path / "a", {name: part(1, at_s=10)}))
    (again,) = pstore.read(write(tmp_path / "b", {name: part(1, at_s=10)}))
    (second,) = pstore.read(write(tmp_path / "a", {name: part(1, at_s=20)}))
    assert first.key == again.key != second.key


def test_time_in_the_header_of_ramoops_is_the_time_of_death(tmp_path: Path) -> None:
    (record,) = pstore.read(write(tmp_path, {"dmesg-ramoops-0": b"====1700000000.123456-D\n" + part(1)}))
    assert record.died_wall_ns == 1_700_000_000_123_456_000


def test_status_of_a_live_record_is_the_time_of_death_where_no_name_tells_it(tmp_path: Path) -> None:
    write(tmp_path, {"dmesg-ramoops-0": part(1)})
    os.utime(tmp_path / "dmesg-ramoops-0", ns=(5, 1_650_000_000_000_000_000))
    assert pstore.read(tmp_path)[0].died_wall_ns == 1_650_000_000_000_000_000
    assert pstore.read(tmp_path, live=False)[0].died_wall_ns is None


def test_two_dumps_of_a_boot_are_two_records_in_their_order(tmp_path: Path) -> None:
    files = {f"dmesg-erst-{ERST + n}": part(n, "Oops", 1, at_s=50) for n in (1, 2)}
    files |= {f"dmesg-erst-{ERST + 2 + n}": part(n, "Panic", 2, at_s=80) for n in (1, 2)}
    oops, panic = pstore.read(write(tmp_path, files))
    assert (oops.reason, text(oops)) == ("Oops", part(2, "Oops", 1, 50) + part(1, "Oops", 1, 50))
    assert (panic.reason, panic.key) == ("Panic", f"pstore:erst:{ERST + 3}")
    # The ids tell when the first dump was written, the kernel's own clock how much later the second was.
    assert oops.died_wall_ns == BOOT_S * 10**9
    assert panic.died_wall_ns == (BOOT_S + 30) * 10**9


def test_dumps_of_two_boots_with_the_same_number_are_told_apart(tmp_path: Path) -> None:
    later = (BOOT_S + 9000) << 32
    files = {f"dmesg-erst-{start + n}": part(n) for start in (ERST, later) for n in (1, 2)}
    files |= {f"dmesg-efi-{efi(n, seconds=BOOT_S + late)}": part(n) for late in (5000, 7000) for n in (1, 2)}
    records = pstore.read(write(tmp_path, files))
    assert [record.key for record in records] == [
        f"pstore:erst:{ERST + 1}",
        f"pstore:efi:{BOOT_S + 5000}:1",
        f"pstore:efi:{BOOT_S + 7000}:1",
        f"pstore:erst:{later + 1}",
    ]
    assert all(text(record) == part(2) + part(1) for record in records)


@pytest.mark.parametrize(("missing", "named"), [(1, "Part1"), (2, "Part2")])
@pytest.mark.parametrize("backend", ["erst", "efi"])
def test_missing_part_is_said_and_the_key_stays(
    backend: str, missing: int, named: str, tmp_path: Path
) -> None:
    ids = {n: ERST + n if backend == "erst" else efi(n) for n in (1, 2, 3)}
    files = {f"dmesg-{backend}-{ids[n]}": part(n) for n in (1, 2, 3) if n != missing}
    (record,) = pstore.read(write(tmp_path, files))
    assert not record.complete
    assert named in " ".join(record.damage)
    assert record.key == (f"pstore:erst:{ERST + 1}" if backend == "erst" else f"pstore:efi:{BOOT_S}:1")


def test_dump_on_its_way_into_the_archive_is_whole_and_keeps_its_key(tmp_path: Path) -> None:
    live = write(tmp_path / "live", {f"dmesg-erst-{ERST + n}": part(n) for n in (1, 2)})
    archive = write(tmp_path / "archive", {f"{ERST + 3}/dmesg-erst-{ERST + n}": part(n) for n in (2, 3)})
    (record,) = pstore.read_all([(live, True), (archive, False)])
    assert text(record) == JOINED
    assert record.complete
    assert record.key == f"pstore:erst:{ERST + 1}"


def test_compressed_part_is_opened_and_said_so(tmp_path: Path) -> None:
    files = {f"dmesg-erst-{ERST + n}": part(n) for n in (1, 3)}
    files[f"dmesg-erst-{ERST + 2}.enc.z"] = zlib.compress(part(2))
    (record,) = pstore.read(write(tmp_path, files))
    assert text(record) == JOINED
    assert [piece.was for piece in record.parts] == [None, "zlib", None]
    assert record.complete


def test_compressed_content_after_the_header_of_ramoops_is_opened(tmp_path: Path) -> None:
    packed = b"====1700000000.123456-C\n" + zlib.compress(part(1))
    (record,) = pstore.read(write(tmp_path, {"dmesg-ramoops-0.enc.z": packed}))
    assert (text(record), record.parts[0].was) == (part(1), "zlib")


def test_part_that_nothing_opens_is_kept_in_its_place(tmp_path: Path) -> None:
    unknown = bytes(range(200, 256)) * 9
    files = {f"dmesg-erst-{ERST + n}": part(n) for n in (1, 3)} | {f"dmesg-erst-{ERST + 2}.enc.z": unknown}
    (record,) = pstore.read(write(tmp_path, files))
    assert text(record) == part(3) + unknown + part(1)
    assert not record.complete
    assert "842" in " ".join(record.damage)


def test_cut_compressed_part_gives_its_beginning(tmp_path: Path) -> None:
    packed = zlib.compress(part(1) + b"<6>[  100.000000] and more\n" * 200 + os.urandom(500))
    (record,) = pstore.read(write(tmp_path, {f"dmesg-efi-{efi(1)}.enc.z": packed[:200]}))
    assert text(record).startswith(part(1)[:60])
    assert not record.complete
    assert "cut or damaged" in " ".join(record.damage)


def test_release_is_read_from_banner_or_report(tmp_path: Path) -> None:
    banner = b"Panic#1 Part1\n<5>[    0.000000] Linux version 6.8.0-41-generic (buildd@x) (gcc 13) #41 SMP\n"
    report = (
        b"Panic#1 Part1\n<4>[    9.0] CPU: 1 PID: 7 Comm: sh Tainted: G   OE      5.15.0-91-generic #101\n"
    )
    newer = b"Panic#1 Part1\n<4>[    9.0] CPU: 1 UID: 0 PID: 7 Comm: sh Not tainted 6.12.3 #2 PREEMPT(lazy)\n"
    for n, (content, release) in enumerate(
        ((banner, "6.8.0-41-generic"), (report, "5.15.0-91-generic"), (newer, "6.12.3"))
    ):
        (record,) = pstore.read(write(tmp_path / str(n), {"dmesg-ramoops-0": content}))
        assert record.release == release


CRASHES = sorted(path.name for path in (ROOT / "fixtures/crashes").iterdir() if path.is_dir())


@pytest.mark.parametrize("crash", CRASHES)
def test_recorded_store_reads_as_the_kernel_wrote_it(crash: str) -> None:
    folder = ROOT / "fixtures/crashes" / crash / "host/sys/fs/pstore"
    if not folder.is_dir() or not any(folder.iterdir()):
        pytest.skip("this crash left nothing in pstore")
    release = (folder / "../../../proc/sys/kernel/osrelease").read_text().strip()
    kmsg = ROOT / "fixtures/crashes" / crash / "kmsg.zst"
    if not kmsg.exists():
        pytest.skip("this kernel died before anything could read its log")
    # The reader of kmsg saw the same messages in the order of their sequence numbers.
    logged = re.findall(
        rb"^\d[^;\n]*;(.*)$",
        zstandard.ZstdDecompressor().decompressobj().decompress(kmsg.read_bytes()),
        re.MULTILINE,
    )
    dumps = [record for record in pstore.read(folder) if record.reason is not None]
    assert dumps
    for record in dumps:
        assert record.complete
        assert record.release == release
        dumped = re.findall(rb"^<\d+>\[ *\d+\.\d+\] (.*)$", text(record), re.MULTILINE)
        often = Counter(logged) | Counter(dumped)
        places = [logged.index(message) for message in dumped if message in logged and often[message] == 1]
        assert len(places) > 3  # enough to tell an order by
        assert places == sorted(places)
    assert sum(len(record.parts) for record in dumps) == len(list(folder.glob("dmesg-*")))


def test_parts_are_joined_in_whatever_order_they_are_found(tmp_path: Path) -> None:
    for n, order in enumerate(permutations((1, 2, 3))):
        folder = tmp_path / str(n)
        for number in order:
            write(folder, {f"dmesg-erst-{ERST + number}": part(number)})
        assert text(pstore.read(folder)[0]) == JOINED


NAMES = st.from_regex(
    r"(dmesg|console|mce|pmsg)-(erst|efi|efi_pstore|ramoops|nvram)-[0-9]{1,20}(\.enc\.z)?", fullmatch=True
)
CONTENT = st.one_of(
    st.binary(max_size=200),
    st.builds(part, st.integers(0, 10**9), st.sampled_from(["Panic", "Oops"]), st.integers(0, 5)),
    st.builds(lambda text, cut: zlib.compress(text)[:cut], st.just(part(1)), st.integers(0, 90)),
)


@settings(max_examples=200, deadline=None)
@given(files=st.dictionaries(NAMES, CONTENT, max_size=6), folder=st.sampled_from(["", "5/", "5/001/"]))
def test_no_content_makes_it_fail_and_nothing_is_left_out(
    files: dict[str, bytes], folder: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = write(
        tmp_path_factory.mktemp("pstore"), {folder + name: content for name, content in files.items()}
    )
    records = pstore.read(root)
    assert len({record.key for record in records}) == len(records)
    found = {piece.name for record in records for piece in record.parts}
    # Of the same part twice (both names of the EFI backend, say) one is enough; nothing else may be missing.
    assert found <= set(files)
    if records and len(files) == 1:
        assert found == set(files)
    assert bool(records) == bool(files)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=400), insert=st.integers(0, 200))
def test_no_bytes_in_a_joint_text_make_it_fail(
    raw: bytes, insert: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pstore")
    content = JOINED[:insert] + raw + JOINED[insert:]
    for name in ("17/dmesg.txt", "1700000000/001/dmesg.txt", "x/dmesg.txt"):
        write(folder, {name: content})
    pstore.read(folder)


def test_folder_that_is_not_there_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pstore.read(tmp_path / "nowhere")

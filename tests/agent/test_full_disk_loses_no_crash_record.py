"""A disk without room: the source is not advanced, it is asked again, and nothing of a crash is lost."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from necropsy_agent.outbox import Outbox
from necropsy_agent.outbox_file import OutboxError
from necropsy_agent.parcels import Parcels

from .conftest import MIB, ORIGIN, Peer, Site, crash, lines_of


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, if we may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _fill(folder: Path) -> Path:
    """Take all the room that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (64 << 10, 4096, 512, 1):
            while True:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    break
    return filler


def test_crash_records_wait_for_room(small_disk: Path) -> None:
    state = small_disk / "state"
    outbox = Outbox.open(state, 16 * MIB, ORIGIN)
    outbox.take("pstore", [crash("before", cursor="before")])
    filler = _fill(small_disk)
    texts = [os.urandom(20_000).hex() for _ in range(10)]
    stored = 0
    with pytest.raises(OutboxError):  # noqa: PT012  how far it comes is what is asked
        for n, text in enumerate(texts):
            outbox.take("pstore", [crash(f"k{n}", text, cursor=f"k{n}")])
            stored = n + 1
    assert outbox.cursor("pstore") == (f"k{stored - 1}" if stored else "before")
    filler.unlink()
    outbox.take("pstore", [crash(f"k{n}", text) for n, text in enumerate(texts)])
    shipper = Parcels(state)
    parcel = shipper.parcel(1000, 64 * MIB)
    shipper.close()
    outbox.close()
    assert parcel is not None
    assert len(lines_of(parcel.lines)) == 11


def test_the_command_says_so_and_goes_on_when_there_is_room(small_disk: Path, site: Site, peer: Peer) -> None:
    site.state = small_disk / "state"
    site.configure(peer.url)
    assert site.once().returncode == 0
    for n in range(5):
        site.pstore(n, os.urandom(30_000).hex())
    filler = _fill(small_disk)
    told = site.once()
    assert told.returncode == 1
    assert "full" in told.stderr or "disk" in told.stderr, told.stderr
    assert "Traceback" not in told.stderr
    filler.unlink()
    assert site.once().returncode == 0
    records = {event.id for event in peer.arrived if event.kind == "crash.record"}
    assert len(records) == 5


def test_a_limit_on_file_sizes_is_a_full_disk_too(tmp_path: Path) -> None:
    """RLIMIT_FSIZE fails with EFBIG, which SQLite tells as an I/O error."""
    program = """
import os, sys
from pathlib import Path
from necropsy_agent.outbox import Outbox, Origin
from necropsy_agent.outbox_file import OutboxError
from necropsy_agent.sources import Found
from necropsy_agent.wire import Blob, CrashPart, CrashRecord
outbox = Outbox.open(Path(sys.argv[1]), 16 << 20, Origin("h", "b"))
stored = 0
try:
    for n in range(100):
        part = CrashPart(name="dmesg", blob=Blob.of(os.urandom(20000).hex().encode()))
        record = CrashRecord(origin="pstore", path="/", key=f"k{n}", parts=(part,))
        outbox.take("pstore", [Found(record, "crash", f"k{n}", cursor=str(n))])
        stored = n + 1
except OutboxError as error:
    print(stored, outbox.cursor("pstore"), outbox.known("pstore", f"k{stored}"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "state")],
        check=True, capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB)),
    )  # fmt: skip
    stored, cursor, known = done.stdout.split()
    assert int(stored) > 3
    assert (cursor, known) == (str(int(stored) - 1), "False")
    outbox = Outbox.open(tmp_path / "state", 16 * MIB, ORIGIN)
    assert outbox.fill().waiting == {"crash": int(stored)}
    outbox.close()

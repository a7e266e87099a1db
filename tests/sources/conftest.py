"""A host tree that the sources can look at, and what reads a source to its end."""

import ctypes
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
import zstandard

from necropsy_agent.sources import Found, Host, Source

BOOT = "b" * 32
DEAD = "d" * 32
STARTED_S = 1_790_000_000


class Tree:
    """A host's files below a temporary folder, booted at `STARTED_S`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write(
            {"proc/stat": f"cpu  1 2 3\nbtime {STARTED_S}\n", "proc/sys/kernel/osrelease": "6.1.0-test\n"}
        )

    def write(self, files: Mapping[str, str | bytes]) -> "Tree":
        """Write files, with their folders."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self

    def host(self, boot: str = BOOT, previous: str | None = None) -> Host:
        """Give the tree as a host that runs `boot`."""
        return Host(root=self.root, boot=boot, previous=previous)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A host tree with nothing but its start in it."""
    return Tree(tmp_path / "host")


@contextmanager
def modes_count() -> Iterator[None]:
    """Do without root's rights to pass over file modes (capset(2)), where the tests run as root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0


def never(key: str) -> bool:
    """Know nothing: an outbox before its first event."""
    return False


def look(source: Source, host: Host, known: Callable[[str], bool] = never) -> list[Found]:
    """Open a source without a cursor, look once, close it."""
    assert source.open(host, None) is None
    try:
        return list(source.read(known))
    finally:
        source.close()


def until_failure(given: Iterable[Found]) -> tuple[list[Found], str]:
    """Take what a source gives before it raises OSError, and what that says."""
    found: list[Found] = []
    try:
        for item in given:
            found.append(item)  # noqa: PERF402  a comprehension would lose what came before the failure
    except OSError as error:
        return found, str(error)
    raise AssertionError("it did not fail")


FIXTURES = Path(__file__).parents[2] / "fixtures"
_HOSTS = sorted(FIXTURES.glob("*/*/host"))


@pytest.fixture(params=_HOSTS, ids=lambda path: path.parent.name)
def recorded_host(request: pytest.FixtureRequest) -> Host:
    """Each host tree of the fixtures, as an agent sees it that runs there."""
    root: Path = request.param
    boot = (root / "proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    return Host(root=root, boot=boot)


def journal_tree(tree: Tree, journal: str) -> tuple[Host, str]:
    """Put a recorded journal into the tree; give the host after its last boot, and that boot's id."""
    origin = yaml.safe_load((FIXTURES / "journals/origin.yaml").read_text())[journal]
    machine = origin["machine"]
    packed = (FIXTURES / "journals" / f"{journal}.journal.zst").read_bytes()
    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    tree.write({"etc/machine-id": machine + "\n", f"var/log/journal/{machine}/system.journal": unpacked})
    return tree.host(boot=origin["next_boot"]), origin["boot"]


def script(path: Path, printed: bytes, after: str = "") -> str:
    """Write a program that prints something, whatever it is asked, and then does `after` in shell."""
    path.with_suffix(".out").write_bytes(printed)
    path.write_text(f"#!/bin/sh\ncat '{path.with_suffix('.out')}'\n{after}\n")
    path.chmod(0o755)
    return str(path)

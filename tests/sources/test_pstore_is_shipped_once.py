"""pstore's records, live and archived, are shipped once each, and erased only where that is wanted."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sources.conftest import (
    BOOT,
    DEAD,
    STARTED_S,
    Tree,
    look,
    modes_count,
    never,
    script,
    until_failure,
)

from necropsy_agent.sources import Found, Host, LastBoot
from necropsy_agent.sources.pstore import Pstore
from necropsy_agent.wire import CrashRecord, pack

DIED_S = STARTED_S - 60
ERST = DIED_S << 32
LIVE = "sys/fs/pstore"
ARCHIVE = "var/lib/systemd/pstore"


def part(number: int, reason: str = "Panic", count: int = 1) -> str:
    return f"{reason}#{count} Part{number}\n<6>[  100.{9 - number:06d}] part {number}\n"


def erst(folder: str, *numbers: int) -> dict[str, str]:
    return {f"{folder}/dmesg-erst-{ERST + n}": part(n) for n in numbers}


def pstore(last: LastBoot | None = None, *, clear: bool = False) -> Pstore:
    return Pstore(last or LastBoot(None, "no-such-journalctl"), clear=clear)


def bodies(found: Iterable[Found]) -> list[CrashRecord]:
    return [item.body for item in found if isinstance(item.body, CrashRecord)]


def text(record: CrashRecord) -> str:
    return b"".join(piece.blob.content() for piece in record.parts).decode()


def test_kernel_without_pstore_is_off(tree: Tree) -> None:
    assert pstore().open(tree.host(), None) == "there is no /sys/fs/pstore: the kernel has no pstore"


def test_empty_store_has_nothing_there(tree: Tree) -> None:
    (tree.root / LIVE).mkdir(parents=True)
    assert look(pstore(), tree.host()) == []


@pytest.mark.parametrize(
    ("live", "archived"),
    [((1, 2, 3), ()), ((), (1, 2, 3)), ((1, 2, 3), (1, 2, 3)), ((3,), (1, 2)), ((1, 2), (2, 3))],
)
def test_live_archived_or_on_its_way_it_is_one_record(
    live: tuple[int, ...], archived: tuple[int, ...], tree: Tree
) -> None:
    tree.write(erst(LIVE, *live) | erst(f"{ARCHIVE}/{ERST + 3}", *archived))
    (found,) = look(pstore(), tree.host(previous=DEAD))
    (record,) = bodies([found])
    assert text(record) == part(3) + part(2) + part(1)
    assert record.complete
    assert (found.key, found.keep) == (f"pstore:erst:{ERST + 1}", "crash")


def test_record_moved_into_the_archive_after_it_was_shipped_is_not_shipped_again(tree: Tree) -> None:
    source = pstore()
    (found,) = look(source, tree.write(erst(LIVE, 1, 2)).host())
    for path in (tree.root / LIVE).iterdir():
        target = tree.root / ARCHIVE / str(ERST + 2) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    assert source.open(tree.host(), found.cursor) is None
    assert list(source.read(lambda key: key == found.key)) == []


def test_store_that_has_not_changed_is_not_read_again(tree: Tree) -> None:
    source = pstore()
    source.open(tree.write(erst(LIVE, 1)).host(), None)
    assert len(list(source.read(never))) == 1
    with modes_count():  # reading would fail now
        (tree.root / LIVE / f"dmesg-erst-{ERST + 1}").chmod(0)
        assert list(source.read(never)) == []


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("clear", [False, True])
def test_only_clear_erases_and_only_live_records_of_that_key(clear: bool, archived: bool, tree: Tree) -> None:
    other = {f"{LIVE}/dmesg-efi_pstore-{(DIED_S * 100 + 1) * 1000 + 1}": part(1)}
    folder = f"{ARCHIVE}/{ERST + 2}" if archived else LIVE
    source = pstore(clear=clear)
    source.open(tree.write(erst(folder, 1, 2) | other).host(), None)
    assert len(list(source.read(never))) == 2
    source.acknowledged(f"pstore:erst:{ERST + 1}")
    left = {path.name for path in (tree.root / LIVE).iterdir()}
    assert {name.split("/")[-1] for name in other} <= left
    assert (f"dmesg-erst-{ERST + 1}" in left) == (not clear and not archived)
    assert not archived or len(list((tree.root / folder).iterdir())) == 2
    source.acknowledged(f"pstore:erst:{ERST + 1}")  # told again after a restart
    source.acknowledged("pstore:nothing:1")
    source.close()


def test_erasing_that_is_not_allowed_is_a_failure(tree: Tree) -> None:
    source = pstore(clear=True)
    source.open(tree.write(erst(LIVE, 1)).host(), None)
    (found,) = source.read(never)
    (tree.root / LIVE).chmod(0o500)
    with modes_count(), pytest.raises(PermissionError):
        source.acknowledged(found.key or "")
    (tree.root / LIVE).chmod(0o700)


def test_record_that_cannot_be_read_fails_and_is_asked_for_again(tree: Tree) -> None:
    source = pstore()
    source.open(tree.write(erst(LIVE, 1) | {f"{LIVE}/dmesg-ramoops-0": part(1)}).host(), None)
    (tree.root / LIVE / "dmesg-ramoops-0").chmod(0)
    with modes_count():
        found, why = until_failure(source.read(never))
    assert "ramoops-0: Permission denied" in why
    assert [item.key for item in found] == [f"pstore:erst:{ERST + 1}"]
    (tree.root / LIVE / "dmesg-ramoops-0").chmod(0o400)
    (again,) = source.read(lambda key: key == found[0].key)
    assert (again.key or "").startswith("pstore:ramoops:")


def test_folder_that_cannot_be_read_fails_after_the_other_was_read(tree: Tree) -> None:
    source = pstore()
    source.open(tree.write(erst(f"{ARCHIVE}/{ERST + 1}", 1)).host(), None)
    (tree.root / LIVE).mkdir(parents=True, mode=0)
    with modes_count():
        found, why = until_failure(source.read(never))
    assert "Permission denied" in why
    assert len(found) == 1
    (tree.root / LIVE).chmod(0o700)


@pytest.mark.parametrize(
    ("reason", "keep"),
    [
        *((reason, "crash") for reason in ("Panic", "Oops", "Emergency")),
        *((reason, "routine") for reason in ("Restart", "Halt", "Poweroff", "Shutdown")),
    ],
)
def test_dump_of_an_orderly_end_weighs_little(reason: str, keep: str, tree: Tree) -> None:
    (found,) = look(pstore(), tree.write({f"{LIVE}/dmesg-erst-{ERST + 1}": part(1, reason)}).host())
    assert found.keep == keep


def test_console_record_is_a_crash_only_after_an_unclean_end(tree: Tree) -> None:
    tree.write({f"{LIVE}/console-ramoops-0": "[    1.0] x\n", f"{LIVE}/pmsg-ramoops-0": "android\n"})
    assert {item.keep for item in look(pstore(), tree.host())} == {"crash", "fault"}
    orderly = json.dumps(
        {
            "_BOOT_ID": DEAD,
            "MESSAGE": "Journal stopped",
            "MESSAGE_ID": "d93fb3c9c24d451a97cea615ce59c00b",
            "__REALTIME_TIMESTAMP": "1789999990000000",
        }
    )
    clean = LastBoot(None, script(tree.root / "journalctl", orderly.encode() + b"\n"))
    assert look(pstore(clean), tree.host()) == []


@pytest.mark.parametrize(
    ("died_s", "boot"),
    # an oops of the running boot is in pstore too; one of long ago is of a boot nobody knows
    [(DIED_S, DEAD), (STARTED_S + 500, None), (DIED_S - 90 * 86_400, DEAD)],
)
def test_record_names_the_boot_that_died(died_s: int, boot: str | None, tree: Tree) -> None:
    tree.write({f"{LIVE}/dmesg-erst-{(died_s << 32) + 1}": part(1)})
    (found,) = look(pstore(), tree.host(previous=DEAD))
    assert found.of_boot == boot


def test_record_from_before_the_last_boot_names_none(tree: Tree, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    tree.write({"proc/stat": f"btime {STARTED_S - 9000}\n"})
    LastBoot(state, "no-such-journalctl").seen(tree.host(boot=DEAD))
    tree.write({"proc/stat": f"btime {STARTED_S}\n"})
    tree.write({f"{LIVE}/dmesg-erst-{(STARTED_S - 86_400 << 32) + 1}": part(1)} | erst(LIVE, 1))
    last = LastBoot(state, "no-such-journalctl")
    assert [item.of_boot for item in look(pstore(last), tree.host())] == [None, DEAD]


def test_recorded_crash_comes_out_of_the_recorded_host(recorded_host: Host) -> None:
    source = pstore()
    if source.open(recorded_host, None) is not None:
        return  # this crash left no store
    found = list(source.read(never))
    assert len({item.key for item in found}) == len(found)
    dumps = [record for record in bodies(found) if record.reason is not None]
    assert all(record.complete for record in dumps)
    files = [name for name in os.listdir(recorded_host.path("/sys/fs/pstore")) if name.startswith("dmesg-")]
    assert sum(len(record.parts) for record in dumps) == len(files)
    assert list(source.read(never)) == []
    source.close()


NAMES = st.from_regex(
    r"(dmesg|console|mce|pmsg|x)-[a-z_]{1,10}-[0-9]{1,20}(\.enc\.z)?|dmesg\.txt", fullmatch=True
)


@settings(max_examples=100, deadline=None)
@given(
    live=st.dictionaries(
        NAMES, st.one_of(st.binary(max_size=80), st.builds(part, st.integers(0, 99)).map(str.encode))
    ),
    archived=st.dictionaries(NAMES, st.binary(max_size=80)),
)
def test_no_content_makes_it_fail(
    live: dict[str, bytes], archived: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = Tree(tmp_path_factory.mktemp("host"))
    tree.write({f"{LIVE}/{name}": content for name, content in live.items()})
    tree.write({f"{ARCHIVE}/123/001/{name}": content for name, content in archived.items()})
    (tree.root / LIVE).mkdir(parents=True, exist_ok=True)
    source = pstore(clear=True)
    source.open(tree.host(boot=BOOT), None)
    found = list(source.read(never))
    for item in found:
        pack(item.body)
        source.acknowledged(item.key or "")
    source.close()

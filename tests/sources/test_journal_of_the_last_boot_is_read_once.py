"""The last boot's journal is read after an unclean end, once, whatever journalctl does."""

import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sources.conftest import BOOT, DEAD, Tree, journal_tree, never, script

from necropsy_agent.sources import Found, LastBoot
from necropsy_agent.sources.journal import TEXT_BYTES, Journal
from necropsy_agent.wire import CrashRecord, pack

needs_journalctl = pytest.mark.skipif(shutil.which("journalctl") is None, reason="there is no journalctl")


def drain(journal: Journal, known: Callable[[str], bool] = never) -> list[Found]:
    """Read as the loop does, whenever the pipe is readable, until it has gone quiet for good."""
    found: list[Found] = []
    fd = journal.fileno()
    assert fd is not None
    with select.epoll() as loop:
        loop.register(fd, select.EPOLLIN)
        while "pipe" in os.readlink(f"/proc/self/fd/{fd}"):
            assert loop.poll(60)
            found += journal.read(known)
    assert list(journal.read(known)) == []
    journal.close()
    return found


def record(found: list[Found]) -> tuple[CrashRecord, bytes]:
    (item,) = found
    assert isinstance(item.body, CrashRecord)
    pack(item.body)
    return item.body, b"".join(part.blob.content() for part in item.body.parts)


def entry(message: object, **fields: object) -> bytes:
    """An entry as `journalctl --output=json` prints it."""
    given = {
        "_BOOT_ID": DEAD,
        "__REALTIME_TIMESTAMP": "1789999000000000",
        "__MONOTONIC_TIMESTAMP": "12345678",
        "_SOURCE_MONOTONIC_TIMESTAMP": "12345600",
        "PRIORITY": "3",
        "MESSAGE": message,
    }
    return json.dumps({**given, **fields}).encode() + b"\n"


def read_printed(
    printed: bytes, tree: Tree, after: str = "", text_bytes: int = TEXT_BYTES, timeout_s: float = 60
) -> list[Found]:
    """Read what a journalctl prints (the newest first) that does `after` when it has printed."""
    tree.root.mkdir(exist_ok=True)
    program = script(tree.root / "journalctl", printed, after)
    # The end of the last boot is told by a program of its own, which is well.
    ending = script(tree.root / "ending", entry("the last line"))
    journal = Journal(LastBoot(None, ending), program, text_bytes, timeout_s)
    assert journal.open(tree.host(), None) is None
    return drain(journal)


# With the real journalctl, on journals that systemd wrote


@needs_journalctl
@pytest.mark.parametrize("name", ["breaks-off", "ends-in-a-report"])
def test_text_is_the_kernels_log_in_its_order(name: str, tree: Tree) -> None:
    host, dead = journal_tree(tree, name)
    journal = Journal(LastBoot(None))
    assert journal.open(host, None) is None
    found = drain(journal)
    body, text = record(found)
    messages = subprocess.run(
        ["journalctl", f"--root={tree.root}", f"--boot={dead}", "--dmesg", "--no-pager", "--output=cat"],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    lines = text.splitlines()
    assert [line.split(b"] ", 1)[1] for line in lines] == messages.splitlines()
    assert lines[-3].endswith(b"] usb 1-1: Product: \xff\xfe\x80 stick")
    assert re.fullmatch(rb"<5>\[    0\.000000\] Linux version 6\.1\.0-.*", lines[0])
    assert b"next boot" not in text
    assert (found[0].of_boot, found[0].key, found[0].keep) == (dead, f"journal:{dead}", "crash")
    assert body.complete
    assert body.release == "6.1.0-56-amd64"
    assert (body.died_wall_ns or 0) // 10**9 in range(1_795_530_000, 1_795_530_010)


@needs_journalctl
def test_orderly_end_leaves_the_journal_alone(tree: Tree) -> None:
    host, _ = journal_tree(tree, "ends-in-order")
    journal = Journal(LastBoot(None))
    assert journal.open(host, None) == "the last boot's end was clean"
    assert journal.fileno() is None


@needs_journalctl
def test_journal_is_read_once_a_boot(tree: Tree) -> None:
    host, dead = journal_tree(tree, "breaks-off")
    journal = Journal(LastBoot(None))
    assert journal.open(host, None) is None
    (found,) = drain(journal)
    assert journal.open(host, found.cursor) == "the last boot's journal was read"
    # Killed between journal and cursor: the key is known.
    assert journal.open(host, None) is None
    assert drain(journal, lambda key: key == f"journal:{dead}") == []


# With programs that print what journalctl would, and then behave worse


def test_host_without_journalctl_is_off(tree: Tree) -> None:
    journal = Journal(LastBoot(None, "no-such-journalctl"), "no-such-journalctl")
    assert journal.open(tree.host(), None) == "there is no no-such-journalctl on this host"


def test_unknown_end_leaves_the_journal_alone(tree: Tree) -> None:
    program = script(tree.root / "journalctl", b"")
    assert (
        Journal(LastBoot(None, program), program).open(tree.host(), None) == "the last boot's end was unknown"
    )


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (entry("plain"), b"<3>[   12.345600] plain\n"),
        (entry("caf\u00e9 \U0001f4a5"), "<3>[   12.345600] café 💥\n".encode()),
        (entry([98, 255, 0, 97]), b"<3>[   12.345600] b\xff\x00a\n"),
        (entry(None), b"<3>[   12.345600] (the journal left this message out, as it is too long)\n"),
        (entry(["two", "values"]), b"<3>[   12.345600] two\n<3>[   12.345600] values\n"),
        (entry(["one", [98, 255]]), b"<3>[   12.345600] one\n<3>[   12.345600] b\xff\n"),
        (entry("two\nlines"), b"<3>[   12.345600] two\n<3>[   12.345600] lines\n"),
        (entry(""), b"<3>[   12.345600] \n"),
        (entry([]), b"<3>[   12.345600] \n"),
        (entry("x", PRIORITY=["4", "5"]), b"<4>[   12.345600] x\n"),
        (entry("x", PRIORITY=None), b"<6>[   12.345600] x\n"),
        (entry("x", PRIORITY="99"), b"<6>[   12.345600] x\n"),
        (entry("x", _SOURCE_MONOTONIC_TIMESTAMP=None), b"<3>[   12.345678] x\n"),
        (entry("x", _SOURCE_MONOTONIC_TIMESTAMP="nonsense"), b"<3>[   12.345678] x\n"),
        (entry("newest") + entry("oldest"), b"<3>[   12.345600] oldest\n<3>[   12.345600] newest\n"),
    ],
)  # fmt: skip
def test_every_form_of_a_message(printed: bytes, text: bytes, tree: Tree) -> None:
    body, got = record(read_printed(printed, tree))
    assert got == text
    assert body.complete


@pytest.mark.parametrize(
    "noise",
    [b"no json\n", b"{\n", b"[]\n", b'{"MESSAGE": {"a": 1}}\n', b"[" * 5000 + b"\n", b"x" * (3 << 20) + b"\n",
     b'{"MESSAGE": ' + b"[" * 900 + b"]" * 900 + b"}\n"],
    ids=range(7),
)  # fmt: skip
def test_entry_that_cannot_be_read_is_counted_and_costs_no_other(noise: bytes, tree: Tree) -> None:
    body, text = record(read_printed(entry("after") + noise + entry("before"), tree))
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == (b"<3>[   12.345600] before", b"<3>[   12.345600] after")
    assert body.damage == ("1 journal entries could not be read",) or (len(lines) == 3 and not body.damage)


def test_killed_child_still_gives_what_it_printed_and_says_so(tree: Tree) -> None:
    body, text = record(read_printed(entry("the crash"), tree, "kill -9 $$"))
    assert text == b"<3>[   12.345600] the crash\n"
    assert not body.complete
    assert "status -9" in body.damage[0]


def test_child_killed_before_it_printed_anything_is_a_failure(tree: Tree) -> None:
    with pytest.raises(OSError, match="signal 9"):
        read_printed(b"", tree, "kill -9 $$")


def test_child_that_finds_no_such_boot_gives_nothing(tree: Tree) -> None:
    assert read_printed(b"", tree, "exit 1") == []


def test_only_the_running_boots_own_journal_is_no_record(tree: Tree) -> None:
    assert read_printed(entry("x", _BOOT_ID=BOOT), tree) == []


def test_silent_child_is_stopped_in_time(tree: Tree) -> None:
    with pytest.raises(OSError, match="signal 9"):
        read_printed(b"", tree, "exec sleep 600", timeout_s=0.05)


def test_child_that_stalls_is_stopped_in_time_and_what_came_is_kept(tree: Tree) -> None:
    body, text = record(read_printed(entry("the crash"), tree, "exec sleep 600", timeout_s=2))
    assert text == b"<3>[   12.345600] the crash\n"
    assert "within 2 s" in body.damage[0]


def test_endless_output_is_cut_at_its_newest_end(tree: Tree) -> None:
    line = entry("again " + "x" * 200).decode().strip()
    body, text = record(read_printed(entry("the crash"), tree, f"exec yes '{line}'", text_bytes=100_000))
    assert 100_000 <= len(text) < 1_000_000
    assert text.endswith(b"the crash\n")
    assert body.damage == (f"only the last {len(text)} bytes were read",)


def test_closing_in_the_middle_leaves_no_child(tree: Tree) -> None:
    program = script(tree.root / "journalctl", entry("x"), "exec sleep 600")
    ending = script(tree.root / "ending", entry("the last line"))
    journal = Journal(LastBoot(None, ending), program)
    assert journal.open(tree.host(), None) is None
    list(journal.read(never))
    journal.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@settings(max_examples=40, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                entry,
                st.one_of(
                    st.text(max_size=20), st.none(), st.integers(),
                    st.recursive(st.one_of(st.integers(-9, 300), st.text(max_size=3), st.none()), st.lists),
                ),
                PRIORITY=st.one_of(st.text(max_size=3), st.integers(), st.none()),
                __REALTIME_TIMESTAMP=st.one_of(st.just("9" * 25), st.just("1789999000000000"), st.none()),
            ),
        ),
        max_size=8,
    ),
    cut=st.integers(0, 400),
)  # fmt: skip
def test_no_output_makes_it_fail(
    lines: list[bytes], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    printed = b"\n".join(lines)
    for found in read_printed(
        printed[: len(printed) - cut % (len(printed) + 1)], Tree(tmp_path_factory.mktemp("h"))
    ):
        pack(found.body)

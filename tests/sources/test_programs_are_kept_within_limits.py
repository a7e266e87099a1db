"""Programs that a source asks are stopped when they are slow, print without end or fail."""

import os
from pathlib import Path

import pytest

from necropsy_agent.sources import child


def shell(command: str) -> list[str]:
    return ["/bin/sh", "-c", command]


def test_output_is_given_whole() -> None:
    assert child.output(shell("seq 1 20000"), 30, 1 << 20) == b"".join(b"%d\n" % n for n in range(1, 20001))


@pytest.mark.parametrize("command", ["echo x; exit 3", "kill -9 $$", "echo x; kill -TERM $$"])
def test_program_that_fails_gives_nothing(command: str) -> None:
    assert child.output(shell(command), 30, 1 << 20) is None


def test_program_that_is_slow_is_stopped() -> None:
    assert child.output(shell("echo begun; exec sleep 600"), 0.1, 1 << 20) is None


def test_program_that_closes_its_output_and_stays_is_stopped() -> None:
    assert child.output(shell("exec >&-; exec sleep 600"), 0.1, 1 << 20) is None


def test_program_that_prints_without_end_is_stopped() -> None:
    assert child.output(["yes"], 60, 10_000) is None


def test_program_gets_no_environment_no_input_and_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NECROPSY_TOKEN", "secret")
    end, other = os.pipe()
    os.set_inheritable(other, True)
    try:
        told = child.output(shell("env; cat; ls /proc/self/fd; pwd"), 30, 1 << 20)
    finally:
        os.close(end)
        os.close(other)
    assert told is not None
    assert b"secret" not in told
    assert b"LC_ALL=C.UTF-8" in told
    assert f"\n{other}\n".encode() not in told
    assert told.endswith(b"/\n")


def test_program_may_write_no_file(tmp_path: Path) -> None:
    # The limit is set from outside when the program runs already, so it waits for it.
    command = f'while [ "$(ulimit -f)" != 0 ]; do :; done; seq 1 9999 >{tmp_path}/file; echo status $?'
    assert b"status 0" not in (child.output(shell(command), 30, 1 << 20) or b"")
    assert not (tmp_path / "file").exists() or (tmp_path / "file").stat().st_size == 0


def test_program_that_is_not_there() -> None:
    assert child.find("no-such-program") is None
    with pytest.raises(FileNotFoundError):
        child.start(["/no/such/program"])


def test_status_of_a_stopped_program_is_its_signal() -> None:
    running = child.start(["sleep", "600"])
    assert child.stop(running) == -9

"""Agent and analyzer do their whole work with no other system calls than their units allow."""

import ctypes.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or ctypes.util.find_library("seccomp") is None,
    reason="it takes systemd-analyze and libseccomp",
)


def filtered(program: str, *argv: object) -> list[str]:
    unit = ROOT / "systemd" / f"necropsy-{'agent' if program == 'necropsy-agent' else 'analyzer'}.service"
    words = (sys.executable, ROOT / "tests/systemd/filtered.py", unit, BIN / program, *argv)
    return list(map(str, words))


@contextmanager
def analyzer(state: Path) -> Iterator[str]:
    """Serve under the unit's filter; give the address, and stop in order."""
    argv = filtered("necropsy", "serve", "--listen", "127.0.0.1:0", "--state-dir", state)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        try:
            listening = serving.stdout.readline().split()
            assert listening[:2] == ["listening", "on"]
            yield listening[2]
        finally:
            serving.terminate()
            _, said = serving.communicate(timeout=60)
    assert serving.returncode == 0, said
    assert "not permitted" not in said


def configure(folder: Path, host: Path, url: str) -> None:
    (folder / "agent.toml").write_text(
        f'root = "{host}"\nstate_dir = "{folder / "agent"}"\n'
        f'[server]\nurl = "{url}"\ntoken_file = "{folder / "token"}"\n'
    )


def test_crash_travels_from_agent_to_analyzer_under_both_filters(tmp_path: Path) -> None:
    state = tmp_path / "analyzer"
    enroll: list[str | Path] = [
        BIN / "necropsy",
        "hosts",
        "enroll",
        "web-7",
        "--state-dir",
        state,
        "--format",
        "json",
    ]
    token = json.loads(subprocess.run(enroll, capture_output=True, check=True, timeout=60).stdout)["token"]
    (tmp_path / "token").write_text(token)
    host = ROOT / "fixtures/crashes/null-deref@6.1/host"
    with analyzer(state) as url:
        configure(tmp_path, host, url)
        done = subprocess.run(
            filtered("necropsy-agent", "once", "--config", tmp_path / "agent.toml"),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "not permitted" not in done.stderr


def test_filter_is_in_force(tmp_path: Path) -> None:
    program = "import os\ntry: os.chown('/', -1, -1)\nexcept PermissionError as error: print(error)"
    argv = filtered("necropsy-agent")[:-1]
    told = subprocess.run(
        [*argv, sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "not permitted" in told.stdout


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="it takes root and setpriv")
def test_agents_two_capabilities_are_enough_for_what_root_alone_may_read(tmp_path: Path) -> None:
    host = tmp_path / "host"
    shutil.copytree(ROOT / "fixtures/crashes/null-deref@6.1/host", host)
    crash = host / "var/crash/202611241200"
    crash.mkdir(parents=True)
    (crash / "dmesg.202611241200").write_text("[    1.0] Kernel panic - not syncing: x\n")
    os.utime(crash / "dmesg.202611241200", (1_795_521_600, 1_795_521_600))
    for path in (crash, crash.parent, *host.rglob("sys/fs/pstore"), *host.rglob("sys/fs/pstore/*")):
        path.chmod(0o700 if path.is_dir() else 0o400)
    (tmp_path / "token").write_text("t")
    (tmp_path / "agent").mkdir()
    configure(tmp_path, host, "http://127.0.0.1:9")
    held = "-all,+syslog,+dac_read_search"
    limits = [f"--{kind}={held}" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
    waiting = []
    other: list[str] = ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", *limits]
    for user in (other, []):
        shutil.rmtree(tmp_path / "agent")
        (tmp_path / "agent").mkdir()
        os.chown(tmp_path / "agent", *((65534, 65534) if user else (0, 0)))
        command: list[str | Path] = [
            "setpriv",
            *user,
            BIN / "necropsy-agent",
            "once",
            "--config",
            tmp_path / "agent.toml",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert "ermission denied" not in done.stderr
        waiting.append([line for line in done.stderr.splitlines() if "events wait" in line])
    assert waiting[0] == waiting[1] != []

"""The wheel carries all that its users need: rules and model with the analyzer, and an agent without it."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PANIC = """\
[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000018
[   12.345690] #PF: supervisor read access in kernel mode
[   12.345700] #PF: error_code(0x0000) - not-present page
[   12.345710] Oops: 0000 [#1] PREEMPT SMP PTI
[   12.345720] CPU: 3 PID: 771 Comm: kworker/3:2 Not tainted 6.1.0-18-amd64 #1  Debian 6.1.76-1
[   12.345730] RIP: 0010:ext4_put_super+0x1c/0x40 [ext4]
[   12.345740] Call Trace:
[   12.345750]  <TASK>
[   12.345760]  generic_shutdown_super+0x7d/0x110
[   12.345770]  kill_block_super+0x27/0x60
[   12.345780]  </TASK>
[   12.345790] Kernel panic - not syncing: Fatal exception
"""

pytestmark = pytest.mark.install


def _run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    # The checkout must not be importable, and no cache of an earlier run may help.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["XDG_CACHE_HOME"] = str(cwd / "cache")
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        check=check,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def _install(folder: Path, requirement: str) -> Path:
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    _run(programs / "python", "-m", "pip", "install", "-q", requirement, cwd=folder)
    return programs


def test_the_analyzer_triages_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    programs = _install(tmp_path, f"necropsy[analyzer] @ {wheel.as_uri()}")
    (tmp_path / "panic.log").write_text(PANIC)
    answer = _run(programs / "necropsy", "triage", "--format", "jsonl", "panic.log", cwd=tmp_path)
    verdict = json.loads(answer.stdout)
    assert verdict["mechanism"] == "null_deref"
    assert verdict["culprit"]["frame"] == "ext4_put_super"
    assert verdict["cause"] == "kernel.bug"
    assert verdict["evidence"]
    assert verdict["action"]["summary"]
    assert verdict["model"]
    checked = _run(programs / "necropsy", "rules", "check", "--format", "json", cwd=tmp_path)
    assert json.loads(checked.stdout)["rules"] >= 80


def test_the_agent_stands_without_the_analyzer(wheel: Path, tmp_path: Path) -> None:
    programs = _install(tmp_path, str(wheel))
    (tmp_path / "token").write_text("necropsy-0")
    (tmp_path / "agent.toml").write_text('[server]\nurl = "http://127.0.0.1:9"\ntoken_file = "token"\n')
    checked = _run(programs / "necropsy-agent", "check-config", "--config", "agent.toml", cwd=tmp_path)
    assert "can be used" in checked.stdout
    refused = _run(programs / "necropsy", "triage", "x", cwd=tmp_path, check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "necropsy[analyzer]" in refused.stderr

"""A host for the real agent: a recorded tree, to which the test adds what a longer life leaves behind."""

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import BIN, Analyzer

from necropsy_agent.wire import host_id

CRASHES = Path(__file__).parents[2] / "fixtures" / "crashes"
BOOT_TIME, RUN_LVL = 2, 1  # ut_type of utmp(5)


class Machine:
    """A host below a folder of its own, enrolled at an analyzer, with an agent that is not running."""

    def __init__(self, folder: Path, analyzer: Analyzer, name: str) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.name = name
        self.analyzer = analyzer
        self.config = folder / "agent.toml"
        for path in ("etc", "proc/sys/kernel/random", "var/log"):
            (self.root / path).mkdir(parents=True)
        (self.root / "etc/machine-id").write_text(f"{name.encode().hex():0>32}\n")
        (self.root / "proc/sys/kernel/osrelease").write_text("6.1.0-56-amd64\n")
        token = folder / "token"
        token.write_text(analyzer.enroll(name))
        self.config.write_text(
            f'root = "{self.root}"\nstate_dir = "{folder / "agent"}"\n\n'
            f'[server]\nurl = "{analyzer.url}"\ntoken_file = "{token}"\n\n'
            '[sources]\noff = ["journal"]\ncrash_quiet_s = 0\nlook_every_s = 0.2\n'
        )

    @property
    def id(self) -> str:
        """What the wire calls it."""
        return host_id((self.root / "etc/machine-id").read_text())

    def boots(self, boot: str, at_s: int, *, orderly: bool = False) -> None:
        """Start the next boot: as the kernel and login records tell of it, after an orderly end or none."""
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"{boot}\n")
        (self.root / "proc/stat").write_text(f"cpu 0 0 0 0\nbtime {at_s}\n")
        with (self.root / "var/log/wtmp").open("ab") as wtmp:
            if orderly:
                wtmp.write(_utmp(RUN_LVL, b"shutdown", at_s - 30))
            wtmp.write(_utmp(BOOT_TIME, b"reboot", at_s))

    def finds(self, crash: str) -> None:
        """Have in pstore what the recorded crash left there."""
        shutil.rmtree(self.root / "sys", ignore_errors=True)
        shutil.copytree(CRASHES / crash / "host" / "sys", self.root / "sys")
        # The kernel gave the files their times, which no checkout keeps.
        for name, at_s in truth(crash)["origin"]["pstore_mtime_s"].items():
            os.utime(self.root / "sys/fs/pstore" / name, (at_s, at_s))

    def agent(self, command: str = "once") -> "subprocess.CompletedProcess[str]":
        """Run a command of the agent."""
        return subprocess.run(
            [BIN / "necropsy-agent", command, "--config", self.config],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def looks(self) -> None:
        """Let the agent look at everything once and ship it."""
        done = self.agent()
        assert done.returncode == 0, done.stderr

    def incidents(self) -> list[dict[str, Any]]:
        """Give this host's incidents as they are shown when all is diagnosed, the oldest death first."""
        found = [one for one in self.analyzer.diagnosed() if one["host"] == self.name]
        found.sort(key=lambda one: one["id"])
        return [self.analyzer.shown(one["id"]) for one in found]


def _utmp(kind: int, user: bytes, at_s: int) -> bytes:
    """Make a record of utmp(5) in the form that it has on x86."""
    form = "<hxxi32s4s32s256shhlll16s20x"
    return struct.pack(form, kind, 0, b"~", b"~~", user, b"6.1", 0, 0, 0, at_s, 0, b"")


def truth(crash: str) -> dict[str, Any]:
    """Give what is known to be true of a recorded crash."""
    known: dict[str, Any] = yaml.safe_load((CRASHES / crash / "truth.yaml").read_text())
    return known


def died_s(crash: str) -> int:
    """Give the second in which the kernel wrote the recorded crash into pstore."""
    return int(min(truth(crash)["origin"]["pstore_mtime_s"].values()))


@pytest.fixture
def machine(tmp_path: Path, analyzer: Analyzer) -> Callable[[str], Machine]:
    """Set up hosts of a running analyzer by name."""
    analyzer.start()

    def made(name: str) -> Machine:
        folder = tmp_path / name
        folder.mkdir()
        return Machine(folder, analyzer, name)

    return made

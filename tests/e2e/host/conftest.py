"""A host under QEMU with the agent installed by systemd/README.md, and an analyzer on loopback.

The image is made once and kept (image.py); the agent is installed once a session, and each test has a copy
of that disk and of the analyzer's state.
"""

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Analyzer
from tests.e2e.host import image, machine, readme
from tests.e2e.host.image import Image, NoImageError
from tests.e2e.host.machine import Machine

from necropsy_agent.wire import Event
from necropsy_analyzer.store import evidence, hosts, incidents
from necropsy_analyzer.store.incidents import Revision
from necropsy_analyzer.store.store import Store, sqlite_url

ROOT = Path(__file__).parents[3]
NAME = "web-7"  # as in the README
MEDIA_BYTES = 128 << 20
VERDICT_S = 240.0
# What a person does at the step where the README opens an editor.
EDITOR = """#!/bin/sh
sed -i 's,^url = .*,url = "https://analyzer.example:8470",; s,^# \\(ca_file = \\),\\1,' "$1"
"""


@dataclass
class Installed:
    """What the README's steps left: a disk, an analyzer's folder; and what their commands printed."""

    image: Image
    folder: Path
    printed: dict[str, str]


@dataclass
class Host:
    """A machine with the agent, and its analyzer."""

    machine: Machine
    analyzer: Analyzer

    def events(self, *kinds: str) -> list[Event]:
        """Give the evidence of these kinds that has arrived, each with its body."""
        store = Store.open(sqlite_url(self.analyzer.state))
        try:
            with store.read() as connection:
                (row,) = [one.id for one in hosts.every(connection) if one.name == NAME]
                found = evidence.of_host(connection, row, bodies=kinds)
        finally:
            store.close()
        return [one.event for one in found if one.event.kind in kinds]

    def revisions(self, incident: int) -> tuple[Revision, ...]:
        """Give all verdicts on an incident, the first one first."""
        store = Store.open(sqlite_url(self.analyzer.state))
        try:
            with store.read() as connection:
                return incidents.every_revision(connection, incident)
        finally:
            store.close()

    def arrived(self, boot: str, *kinds: str, within_s: float = VERDICT_S) -> list[Event]:
        """Wait until an event of each of these kinds has come that was seen in this boot; give them."""
        found: list[Event] = []

        def all_there() -> bool:
            found[:] = [event for event in self.events(*kinds) if event.boot == boot]
            return {event.kind for event in found} == set(kinds)

        self.machine.wait(all_there, within_s, f"no {' and '.join(kinds)} of boot {boot}")
        return found

    def settled(self, within_s: float = VERDICT_S) -> None:
        """Wait until the agent has looked at everything and has nothing but routine to ship."""

        def done() -> bool:
            told = self.status()
            looked = told is not None and all("not looked at" not in one["why"] for one in told["sources"])
            waiting = {} if told is None else told["outbox"]["waiting"]
            return looked and not {"crash", "fault"} & waiting.keys()

        self.machine.wait(done, within_s, "the agent has not shipped all")

    def status(self) -> dict[str, Any] | None:
        """Give what the agent says of itself; None where it does not run."""
        done = self.machine.tried("/opt/necropsy/bin/necropsy-agent status --format json")
        told: dict[str, Any] = json.loads(done.stdout) if done.status == 0 else {"running": False}
        return told if told["running"] else None

    def incident(self, died: str) -> dict[str, Any]:
        """Give the one incident there is, of the boot that died, when all that has arrived is diagnosed."""
        (one,) = self.analyzer.diagnosed()
        assert (one["host"], one["boot"]) == (NAME, died)
        return self.analyzer.shown(one["id"])

    def agent_started_s(self) -> float:
        """Tell when the agent's service was started in this boot, as this machine's time.time()."""
        told = self.machine.run(
            "systemctl show -P ExecMainStartTimestampMonotonic necropsy-agent; cat /proc/uptime"
        )
        started_us, uptime_s = told.split()[:2]
        return time.time() - float(uptime_s) + int(started_us) / 1e6


@pytest.fixture(scope="session")
def base(request: pytest.FixtureRequest) -> Image:
    """A Debian without the agent."""
    if "guest" not in request.config.option.markexpr:
        pytest.skip("a Debian under QEMU takes minutes: 'make e2e' (or -m guest) runs it")
    lacking = machine.missing()
    if lacking:
        pytest.skip(f"there is no {' and no '.join(lacking)}: .ci/packages installs it")
    try:
        return image.base()
    except NoImageError as error:
        pytest.skip(f"no guest can be made: {error}")


@pytest.fixture(scope="session")
def installed(base: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A host on which all the README's steps were done, switched off.

    A folder named in NECROPSY_E2E_KEEP keeps it, for whoever works on these tests.
    """
    keep = os.environ.get("NECROPSY_E2E_KEEP")
    folder = Path(keep) if keep else tmp_path_factory.mktemp("installed")
    folder.mkdir(exist_ok=True)
    printed = folder / "printed.json"
    if not printed.exists():
        printed.write_text(json.dumps(_install(folder, base)))
    disk = folder / "disk"
    yield Installed(Image(disk, base.kernel, base.initramfs), folder, json.loads(printed.read_text()))
    if not keep:
        disk.unlink()


@pytest.fixture
def boot(installed: Installed, tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Switch on a host of the test's own, its kernel given further parameters; its analyzer serves."""
    started: list[Host] = []

    def booted(parameters: str = "") -> Host:
        shutil.copytree(installed.folder / "state", tmp_path / "state")
        analyzer = _analyzer(tmp_path, installed.folder)
        analyzer.start()
        port = int(analyzer.url.rpartition(":")[2])
        host = Host(Machine(tmp_path, installed.image, port, parameters), analyzer)
        started.append(host)
        # Only now is the agent's status of this boot, and not of the one before.
        host.arrived(host.machine.switch_on(), "boot")
        host.settled()
        return host

    yield booted
    for host in started:
        host.machine.cut_power()
        host.machine.disk.unlink()
        host.analyzer.kill()


def _install(folder: Path, base: Image) -> dict[str, str]:
    """Have the agent installed on a machine of that folder; give what each step's commands printed."""
    media = _media(folder / "media")
    analyzer = _analyzer(folder, folder)
    analyzer.start()
    guest = Machine(folder, base, int(analyzer.url.rpartition(":")[2]))
    guest.media = folder / "media.disk"
    image.filesystem(media, guest.media, MEDIA_BYTES)
    try:
        guest.switch_on()
        guest.run("mount /dev/vdb /mnt; mkdir -p /etc/necropsy; cp /mnt/ca.pem /etc/necropsy/")
        guest.run("install -m 755 /mnt/editor /usr/local/bin/editor")
        printed = _follow_readme(guest, analyzer)
        host = Host(guest, analyzer)
        host.arrived(guest.boot_id(), "host.inventory", "boot")
        host.settled()
        for step, script in (
            ("status of the service", "systemctl status --no-pager necropsy-agent"),
            ("status of the agent", "/opt/necropsy/bin/necropsy-agent status"),
            ("warnings", "journalctl --no-pager --quiet --unit=necropsy-agent --priority=warning"),
        ):
            printed[step] = guest.tried(script).stdout
        printed["hosts list"] = analyzer.run("hosts", "list").stdout
        guest.run("umount /mnt")
        guest.switch_off()
        analyzer.stop()
    finally:
        guest.cut_power()
        analyzer.kill()
    return printed


def _follow_readme(guest: Machine, analyzer: Analyzer) -> dict[str, str]:
    """Do what the README says, in its order, for a host that reaches no package index."""
    done: dict[str, str] = {}
    steps = readme.steps("A host")
    _, from_folder = readme.steps("Without a package index")[""]
    (install,) = steps["Install"]
    environment, from_index = install.splitlines()
    assert "pip install" in from_index
    todo = {
        "Install": [f"{environment}\n{from_folder}", *readme.steps("The analyzer")["User and folders"]],
        **{name: scripts for name, scripts in steps.items() if name and name != "Install"},
    }
    token = ""
    for step, scripts in todo.items():
        # The last script of the README's proof brings the machine down; that is the other tests' matter.
        for script in scripts[:1] if step == "Verify" else scripts:
            for on_analyzer, lines in itertools.groupby(
                script.splitlines(), lambda line: line.startswith("sudo -u necropsy ")
            ):
                if on_analyzer:
                    printed = "".join(_on_analyzer(analyzer, line) for line in lines)
                    token = printed if step == "Enrol" else token
                else:
                    printed = guest.run("\n".join(lines), token.encode(), "/mnt", within_s=600)
                done[step] = done.get(step, "") + printed
    return done


def _on_analyzer(analyzer: Analyzer, line: str) -> str:
    words = shlex.split(line)
    at = words.index("--state-dir")
    assert words[:4] == ["sudo", "-u", "necropsy", "/opt/necropsy/bin/necropsy"]
    return analyzer.run(*words[4:at], *words[at + 2 :]).stdout


def _media(folder: Path) -> Path:
    """What is carried to the host: the wheel with all it needs, and the certificate of an authority."""
    folder.mkdir()
    (folder / "editor").write_text(EDITOR)
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", ROOT)
    fill, _ = readme.steps("Without a package index")[""]
    assert fill.startswith("python3 ")
    _run("sh", "-e", "-c", fill.replace("python3", sys.executable, 1), cwd=folder)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    _run(
        *("openssl", "req", "-x509", *key, "-days", "2", "-subj", "/CN=analyzer.example"),
        *("-addext", "subjectAltName=DNS:analyzer.example"),
        *("-keyout", folder.parent / "tls.key", "-out", folder / "ca.pem"),
    )
    shutil.copy(folder / "ca.pem", folder.parent / "tls.pem")
    return folder


def _analyzer(folder: Path, certificate: Path) -> Analyzer:
    analyzer = Analyzer(folder)
    analyzer.options = ["--tls-cert", certificate / "tls.pem", "--tls-key", certificate / "tls.key"]
    return analyzer


def _run(*argv: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(
        list(map(str, argv)), cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

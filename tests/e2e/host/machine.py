"""A machine of QEMU's, software emulation. In: disk, kernel, initramfs. Out: a guest that can be commanded.

Its network is QEMU's user network with `restrict=on`: it reaches the analyzer at 10.0.2.100 and nothing else.
Its ACPI ERST (error record store) is a file, so that pstore outlives every end of the machine.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.host.guest_agent import Done, GuestAgent, GuestGoneError
from tests.e2e.host.image import Image

MEMORY_MB = 1024
ERST_BYTES = 1 << 20
BOOT_S = 300.0
_POLL_S = 0.3
# Emulated processors have no constant_tsc: without tsc=reliable every line of a report bears the same time.
CMDLINE = "root=/dev/vda ro console=ttyS0,115200 tsc=reliable panic=5"


class MachineError(AssertionError):
    """The machine did not do what it was told."""


class Machine:
    """One host's hardware: its disk and error record store stay when it is switched off. Mutable.

    `port` is where the analyzer listens on loopback.
    """

    def __init__(self, folder: Path, image: Image, port: int, cmdline: str = "") -> None:
        self.folder = folder
        self.image = image
        self.port = port
        self.cmdline = f"{CMDLINE} {cmdline}".strip()
        self.console = folder / "console.log"
        self.disk = folder / "disk"
        self.media: Path | None = None
        self._qemu: subprocess.Popen[bytes] | None = None
        self.agent = GuestAgent(folder / "qga")
        subprocess.run(["cp", "--sparse=always", image.disk, self.disk], check=True, timeout=300)
        with (folder / "erst").open("wb") as file:
            file.truncate(ERST_BYTES)

    def switch_on(self) -> str:
        """Start it and wait until it has booted; give the boot's id."""
        assert self._qemu is None
        with (self.folder / "qemu.log").open("ab") as log:
            self._qemu = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self.booted()

    def cut_power(self) -> None:
        """End it at once, as pulling the plug does."""
        self.agent.close()
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    def switch_off(self, within_s: float = 120.0) -> None:
        """Shut it down in good order."""
        self._tell("systemctl poweroff")
        assert self._qemu is not None
        try:
            self._qemu.wait(within_s)
        except subprocess.TimeoutExpired:
            raise MachineError(f"it did not switch off within {within_s:g} s\n{self.said()}") from None
        self.cut_power()

    def reboot(self) -> str:
        """Reboot it in good order and give the next boot's id."""
        before = self.boot_id()
        self._tell("systemctl reboot")
        return self.booted(before)

    def panic(self) -> None:
        """Have its kernel panic (sysrq-c)."""
        self._tell("echo 1 > /proc/sys/kernel/sysrq; sync; echo c > /proc/sysrq-trigger")

    def boot_id(self) -> str:
        """Tell which boot runs."""
        return self.run("cat /proc/sys/kernel/random/boot_id").replace("-", "").strip()

    def booted(self, before: str = "", within_s: float = BOOT_S) -> str:
        """Wait until it has booted, anew where the boot `before` is named; give the boot's id.

        kdump's capture kernel is a boot as well, but none that is waited for.
        """
        found = ""

        def up() -> bool:
            nonlocal found
            self._alive()
            if not self.agent.answers():
                return False
            try:
                done = self.tried("test ! -e /proc/vmcore; cat /proc/sys/kernel/random/boot_id")
            except GuestGoneError:
                return False
            found = done.stdout.replace("-", "").strip()
            return done.status == 0 and found != before

        self.wait(up, within_s, "it did not boot")
        return found

    def run(self, script: str, stdin: bytes = b"", cwd: str = "/", within_s: float = 120.0) -> str:
        """Run a script as root and give what it printed; MachineError where it fails."""
        done = self.tried(script, stdin, cwd, within_s)
        if done.status != 0:
            raise MachineError(f"status {done.status}: {script}\n{done.stdout}{done.stderr}")
        return done.stdout

    def tried(self, script: str, stdin: bytes = b"", cwd: str = "/", within_s: float = 120.0) -> Done:
        """Run a script as root and give what came of it."""
        return self.agent.run(script, stdin, cwd, within_s)

    def wait(self, until: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait until something holds; MachineError with the console's end where it does not."""
        until_s = time.monotonic() + within_s
        while not until():
            if time.monotonic() > until_s:
                raise MachineError(f"{what} within {within_s:g} s\n{self.said()}")
            time.sleep(_POLL_S)

    def said(self, lines: int = 60) -> str:
        """Give the end of what it wrote on its serial console."""
        text = self.console.read_text("utf-8", "replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _tell(self, script: str) -> None:
        """Start a script that may take the guest with it."""
        self.agent.start(script)

    def _alive(self) -> None:
        assert self._qemu is not None
        if self._qemu.poll() is not None:
            log = (self.folder / "qemu.log").read_text("utf-8", "replace")
            raise MachineError(
                f"QEMU ended with status {self._qemu.returncode}\n{log[-2000:]}\n{self.said()}"
            )

    def _command(self) -> list[str]:
        relay = f"{sys.executable} -I -S {Path(__file__).parent / 'relay.py'} {self.port}"
        store = f"memory-backend-file,id=erst,mem-path={self.folder / 'erst'},size={ERST_BYTES},share=on"
        command = [
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg,thread=multi"),
            *("-cpu", "max", "-M", "q35", "-smp", "2", "-m", str(MEMORY_MB)),
            *("-nodefaults", "-no-user-config", "-display", "none"),
            *("-kernel", self.image.kernel, "-initrd", self.image.initramfs, "-append", self.cmdline),
            *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=qga,path={self.folder / 'qga'},server=on,wait=off"),
            *("-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"),
            *("-object", store, "-device", "acpi-erst,memdev=erst"),
            *("-drive", f"if=virtio,format=raw,cache=unsafe,file={self.disk}"),
            *("-nic", f"user,model=virtio-net-pci,restrict=on,guestfwd=tcp:10.0.2.100:8470-cmd:{relay}"),
        ]
        if self.media is not None:
            command += ["-drive", f"if=virtio,format=raw,readonly=on,file={self.media}"]
        return list(map(str, command))


def missing() -> list[str]:
    """Name the programs that a machine takes and that are not there."""
    return [name for name in ("qemu-system-x86_64", "setpriv") if shutil.which(name) is None]

"""What the host is made of. In: /proc, /sys and os-release. Out: a `HostInventory` when it is new or changed.

Serial numbers, asset tags and the machine id are left out.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from necropsy_agent.sources.source import Found, Host
from necropsy_agent.wire import HostInventory, pack

_LIMIT_BYTES: Final = 64 << 10
_FILES: Final = {
    "kernel.cmdline": "/proc/cmdline",
    "kernel.version": "/proc/version",
    "kernel.tainted": "/proc/sys/kernel/tainted",
    "kernel.panic": "/proc/sys/kernel/panic",
    "kernel.panic_on_oops": "/proc/sys/kernel/panic_on_oops",
    "kernel.crash_loaded": "/sys/kernel/kexec_crash_loaded",
    "kernel.crash_bytes": "/sys/kernel/kexec_crash_size",
    "pstore.backend": "/sys/module/pstore/parameters/backend",
    "cpu.present": "/sys/devices/system/cpu/present",
    "node.online": "/sys/devices/system/node/online",
    "hypervisor.type": "/sys/hypervisor/type",
    "devicetree.model": "/proc/device-tree/model",
    **{
        f"dmi.{name}": f"/sys/class/dmi/id/{name}"
        for name in (
            *("sys_vendor", "product_name", "product_version", "product_family", "product_sku"),
            *("board_vendor", "board_name", "board_version", "chassis_type"),
            *("bios_vendor", "bios_version", "bios_date", "bios_release", "ec_firmware_release"),
        )
    },
}
# The first processor's lines of /proc/cpuinfo, as x86 and arm64 name them.
_CPU: Final = {
    "vendor_id": "cpu.vendor",
    "cpu family": "cpu.family",
    "model": "cpu.model",
    "model name": "cpu.name",
    "stepping": "cpu.stepping",
    "microcode": "cpu.microcode",
    "CPU implementer": "cpu.implementer",
    "CPU part": "cpu.part",
    "CPU variant": "cpu.variant",
}
_OS: Final = re.compile(r'^(ID|VERSION_ID|PRETTY_NAME)=["\']?(.*?)["\']?$', re.MULTILINE)


class Inventory:
    """Looks at the host at the start and every hour; gives what it found unless it gave the same before."""

    name = "inventory"
    interval_s: float | None = 3600.0

    def __init__(self) -> None:
        self._host: Host | None = None
        self._digest: str | None = None

    def open(self, host: Host, cursor: str | None) -> str | None:
        """Make ready; the cursor is the digest of what was given last."""
        self._host = host
        self._digest = cursor
        return None

    def fileno(self) -> int | None:
        """Nothing to poll."""
        return None

    def read(self, known: Callable[[str], bool]) -> Iterable[Found]:
        """Give the inventory if it has changed. Raises OSError where no kernel release is told."""
        if self._host is None:
            return
        body = inventory(self._host)
        digest = hashlib.sha256(pack(body)).hexdigest()[:32]
        if digest == self._digest:
            return
        self._digest = digest
        yield Found(body=body, keep="fault", cursor=digest)

    def acknowledged(self, key: str) -> None:
        """Nothing on the host needs a mark."""

    def close(self) -> None:
        """Nothing is held open."""
        self._host = None


def inventory(host: Host) -> HostInventory:
    """Look at a host tree. Facts that it does not tell are left out; OSError where it tells no release."""
    release = _line(host.path("/proc/sys/kernel/osrelease"))
    if not release:
        raise OSError(f"{host.path('/proc/sys/kernel/osrelease')} cannot be read")
    facts = {name: value for name, path in _FILES.items() if (value := _line(host.path(path)))}
    for line in _text(host.path("/proc/cpuinfo")).split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        if name.strip() in _CPU and value.strip():
            facts.setdefault(_CPU[name.strip()], value.strip())
    os_release = _text(host.path("/etc/os-release")) or _text(host.path("/usr/lib/os-release"))
    facts |= {f"os.{name.lower()}": value for name, value in _OS.findall(os_release) if value}
    running = host.root == Path("/")
    return HostInventory(
        hostname=_line(host.path("/proc/sys/kernel/hostname")) or _line(host.path("/etc/hostname")),
        release=release,
        # since Linux 6.1 (CONFIG_PROC_SYSCTL, bfca3dd3d068)
        architecture=_line(host.path("/proc/sys/kernel/arch"))
        or (os.uname().machine if running else "unknown"),
        facts=facts,
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _line(path: Path) -> str:
    return _text(path).strip("\0\n\t ")

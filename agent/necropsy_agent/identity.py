"""Which host and which boot this is. In: a host tree's machine-id(5) and boot_id (random(4)). Out: names."""

from pathlib import Path

from necropsy_agent.outbox import Origin
from necropsy_agent.sources import Host
from necropsy_agent.wire import host_id

_MACHINE_IDS = ("etc/machine-id", "var/lib/dbus/machine-id")
_BOOT_ID = "proc/sys/kernel/random/boot_id"


class IdentityError(Exception):
    """Host or boot cannot be named, in one line that says what to do."""


def identify(root: Path) -> tuple[Host, Origin]:
    """Name the host below `root` and its running boot. Raises IdentityError."""
    boot = (_read(root / _BOOT_ID) or "").replace("-", "")
    if len(boot) != 32 or not all(digit in "0123456789abcdef" for digit in boot):
        raise IdentityError(f"{root / _BOOT_ID}: no boot id: mount /proc, or give a host tree's root")
    for place in _MACHINE_IDS:
        try:
            return Host(root, boot), Origin(host_id(_read(root / place) or ""), boot)
        except ValueError:
            continue
    raise IdentityError(f"{root / _MACHINE_IDS[0]}: no machine id there: run systemd-machine-id-setup")


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(256).decode("ascii", "replace").strip()
    except OSError:
        return None

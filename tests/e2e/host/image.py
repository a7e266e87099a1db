"""Debian 12 for QEMU. In: the machine's own apt sources. Out: a disk of stock packages, kernel, initramfs.

mmdebstrap(1) installs it, as root, from what apt-get(8) `indextargets` names as Debian's; it is kept in
$XDG_CACHE_HOME/necropsy-e2e under a digest of how it is made. Remove that folder to have it made anew, with
newer packages.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
PACKAGES = (
    *("linux-image-amd64", "initramfs-tools", "zstd", "systemd-sysv", "dbus", "udev", "kmod", "procps"),
    *("kdump-tools", "makedumpfile", "kexec-tools", "python3", "python3-venv", "qemu-guest-agent"),
)
EXCLUDED = ("doc", "man", "locale")
TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
DISK_BYTES = 3 << 30
FILES = {
    # What the disk takes, instead of every driver there is: each megabyte is slow to unpack here.
    "etc/initramfs-tools/conf.d/e2e": "MODULES=list\n",
    "etc/fstab": "/dev/vda / ext4 errors=remount-ro 0 1\n",
    "etc/hostname": "web-7\n",
    "etc/hosts": "127.0.0.1 localhost\n10.0.2.100 analyzer.example\n",
    "etc/systemd/network/20-e2e.network": "[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\n",
    # Nothing that happens at random times may load the machine while it is measured.
    "etc/systemd/system-preset/00-e2e.preset": "disable *.timer\n",
}
MODULES = ("virtio_pci", "virtio_blk", "ext4")
CUSTOMIZE = """
set -e
printf '%s\\n' {modules} >> "$1/etc/initramfs-tools/modules"
systemctl --root="$1" enable systemd-networkd.service
chroot "$1" update-initramfs -u -k all
for kernel in "$1"/lib/modules/*; do
    # What kdump-config(8) `load` would do at the first boot, a minute under emulation.
    cp "$1/etc/kdump/sysctl.conf" "$1/var/lib/kdump/latest_sysctls-$(basename "$kernel")"
    chroot "$1" kdump-config symlinks "$(basename "$kernel")"
done
"""


class NoImageError(Exception):
    """Why there can be no image on this machine, in one line."""


@dataclass(frozen=True)
class Image:
    """What QEMU boots; the disk has one ext4 file system and no partitions."""

    disk: Path
    kernel: Path
    initramfs: Path


def base() -> Image:
    """Give the image, made now if it is not there. Raises NoImageError."""
    folder = cache() / _digest()
    with (cache() / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _make(folder)
    return Image(folder / "disk", folder / "vmlinuz", folder / "initrd.img")


def cache() -> Path:
    """Give the folder that outlives test runs."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "necropsy-e2e"
    root.mkdir(parents=True, exist_ok=True)
    return root


def filesystem(folder: Path, disk: Path, size_bytes: int) -> None:
    """Make a disk that holds a folder's files as root's."""
    with disk.open("wb") as file:
        file.truncate(size_bytes)
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, "-E", "root_owner=0:0", disk)


def _digest() -> str:
    recipe = repr((SUITE, PACKAGES, EXCLUDED, DISK_BYTES, FILES, MODULES, CUSTOMIZE))
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def _make(folder: Path) -> None:
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool, path=_path()) is None]
    if missing:
        raise NoImageError(f"missing packages: {' '.join(missing)}")
    if os.geteuid() != 0:
        raise NoImageError("only root can make the guest's image")
    work = cache() / "unfinished"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    root = work / "root"
    files = work / "files"
    for name, text in FILES.items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(text)
    (work / "customize").write_text(CUSTOMIZE.format(modules=" ".join(MODULES)))
    _run(
        # However it ends, its mounts (/sys among them) are gone with its namespace before the folder is.
        *("unshare", "--mount", "--"),
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"),
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in EXCLUDED),
        *('--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=Acquire::Check-Date "false"'),
        f'--setup-hook=cp -r {files}/. "$1"',
        f'--customize-hook=cp -r {files}/. "$1"',
        f'--customize-hook=sh {work / "customize"} "$1"',
        *(SUITE, root, "-"),
        given=_sources(),
    )
    for name in ("vmlinuz", "initrd.img"):
        (newest,) = (root / "boot").glob(f"{name}-*")
        shutil.copy(newest, work / name)
    filesystem(root, work / "disk", DISK_BYTES)
    for left in (root, files):
        shutil.rmtree(left)
    for older in cache().iterdir():
        if older.is_dir() and older != work:
            shutil.rmtree(older)
    work.rename(folder)


def _sources() -> str:
    """Say in the form of sources.list(5) where this machine has Debian's packages from."""
    _run("apt-get", "update", "-qq")
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    line = f"deb [signed-by={keys}] $(REPO_URI) $(RELEASE) $(COMPONENT)"
    told = _run("apt-get", "indextargets", f"--format={line}", "Created-By: Packages", "Origin: Debian")
    sources = [source for source in dict.fromkeys(told.splitlines()) if source.split()[3].startswith(SUITE)]
    if not sources:
        raise NoImageError(f"this machine's apt has no sources of Debian's {SUITE}")
    return "\n".join(sources) + "\n"


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _run(*argv: str | Path, given: str = "", timeout_s: float = 900) -> str:
    done = subprocess.run(
        list(map(str, argv)), input=given, capture_output=True, text=True, timeout=timeout_s, check=False,
        env={**os.environ, "PATH": _path(), "DEBIAN_FRONTEND": "noninteractive"},
    )  # fmt: skip
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise NoImageError(f"{argv[0]} failed: {' / '.join(lines[-5:])}")
    return done.stdout

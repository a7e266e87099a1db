"""Programs of the host that a source asks. In: an argument list. Out: what they print, within limits.

No shell, no inherited environment or descriptors, no terminal; bounds on time, processor, memory and output.
"""

import os
import resource
import select
import shutil
import subprocess
import time
from typing import Final

_CPU_S: Final = 60
_ADDRESS_SPACE_BYTES: Final = 4 << 30  # journalctl maps the journal files it reads
_CHUNK_BYTES: Final = 64 << 10


def find(program: str) -> str | None:
    """Find a program on PATH."""
    return shutil.which(program)


def start(argv: list[str]) -> subprocess.Popen[bytes]:
    """Start a program whose output is read without blocking from `stdout`. Raises OSError."""
    child = subprocess.Popen(  # noqa: S603  no shell, and the arguments are our own
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
        cwd="/",
        start_new_session=True,
    )
    # Set from here and not between fork and exec, where Python code is not safe to run.
    for limit, value in (
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_AS, _ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            _, hard = resource.prlimit(child.pid, limit)
            soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(child.pid, limit, (soft, soft))
        except (ProcessLookupError, PermissionError):
            break  # already over, or a program of another user (set-uid): it has its own limits
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    return child


def stop(child: subprocess.Popen[bytes]) -> int:
    """End a child and give its exit status, negative for a signal; at once where it has ended by itself."""
    if child.poll() is None:
        child.kill()
    status = child.wait()
    if child.stdout is not None:
        child.stdout.close()
    return status


def output(argv: list[str], timeout_s: float, limit_bytes: int) -> bytes | None:
    """Run a program to its end and give its output, up to `limit_bytes`.

    None where it failed, was stopped after `timeout_s`, or printed more. Raises OSError if it cannot start.
    """
    child = start(argv)
    assert child.stdout is not None
    fd = child.stdout.fileno()
    deadline = time.monotonic() + timeout_s
    out = bytearray()
    ready = select.poll()
    ready.register(fd, select.POLLIN)
    whole = False
    while len(out) <= limit_bytes and (left := deadline - time.monotonic()) > 0:
        if not ready.poll(left * 1000):
            break
        chunk = os.read(fd, _CHUNK_BYTES)
        if not chunk:
            whole = True
            break
        out += chunk
    if whole:
        try:
            child.wait(max(deadline - time.monotonic(), 1.0))
        except subprocess.TimeoutExpired:
            whole = False
    status = stop(child)
    return bytes(out) if whole and status == 0 else None


def beginning(argv: list[str], timeout_s: float, size_bytes: int) -> bytes:
    """Run a program until it has printed `size_bytes` and give those; fewer where it ends or is too slow.

    Raises OSError if it cannot start.
    """
    child = start(argv)
    assert child.stdout is not None
    fd = child.stdout.fileno()
    deadline = time.monotonic() + timeout_s
    out = b""
    ready = select.poll()
    ready.register(fd, select.POLLIN)
    while len(out) < size_bytes and ready.poll(max(deadline - time.monotonic(), 0) * 1000):
        chunk = os.read(fd, size_bytes - len(out))
        if not chunk:
            break
        out += chunk
    stop(child)
    return out

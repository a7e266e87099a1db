"""The last boot's kernel log, out of systemd's journal. In: journalctl's JSON. Out: one `CrashRecord`.

Fields are those of systemd.journal-fields(7), their JSON form that of "Journal JSON Format": a MESSAGE is a
string, an array of byte values where it is not UTF-8, null where it is too long. It is read from its end
backwards, since a crash stands there. The record's text is in the form of `dmesg --raw`: `<6>[   12.345678]
message`.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import msgspec

from necropsy_agent.records.kernel_text import release_of
from necropsy_agent.sources import child
from necropsy_agent.sources.descriptors import silence
from necropsy_agent.sources.last_boot import LastBoot, journal_of
from necropsy_agent.sources.source import Found, Host
from necropsy_agent.wire import Blob, CrashPart, CrashRecord

TEXT_BYTES: Final = 4 << 20
"""How much of the end of the log is kept."""
TIMEOUT_S: Final = 300.0
"""How long journalctl may take for that."""

_LINE_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 256 << 10
_CHUNKS: Final = 16
_FIELDS: Final = "MESSAGE,PRIORITY,_SOURCE_MONOTONIC_TIMESTAMP,_BOOT_ID"


class _Entry(msgspec.Struct, frozen=True):
    """The fields of a journal entry that are asked for; a field may come more than once, as an array."""

    MESSAGE: str | list[object] | None = None
    PRIORITY: str | list[object] | None = None
    SOURCE_US: str | list[object] | None = msgspec.field(name="_SOURCE_MONOTONIC_TIMESTAMP", default=None)
    MONOTONIC_US: str | list[object] | None = msgspec.field(name="__MONOTONIC_TIMESTAMP", default=None)
    WALL_US: str | list[object] | None = msgspec.field(name="__REALTIME_TIMESTAMP", default=None)
    BOOT: str | list[object] | None = msgspec.field(name="_BOOT_ID", default=None)


class Journal:
    """Reads the last boot's journal once, where that boot did not end cleanly, through journalctl's pipe.

    journalctl runs beside the loop: its output is taken as it comes, so that a journal of gigabytes holds
    nothing up. It is stopped when there is text enough, or after `timeout_s`.
    """

    name = "journal"
    interval_s: float | None = None

    def __init__(
        self,
        last: LastBoot,
        program: str = "journalctl",
        text_bytes: int = TEXT_BYTES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._last = last
        self._program = program
        self._text_bytes = text_bytes
        self._timeout_s = timeout_s
        self._host: Host | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._fd = -1
        self._timer: threading.Timer | None = None
        self._reset()

    def _reset(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []  # the newest first
        self._size = 0
        self._damaged = 0
        self._overlong = False
        self._timed_out = False
        self._boot: str | None = None
        self._wall_us = 0

    def open(self, host: Host, cursor: str | None) -> str | None:
        """Start reading, unless the last boot ended cleanly or its journal was read in this boot."""
        if cursor == host.boot:
            return "the last boot's journal was read"
        program = child.find(self._program)
        if program is None:
            return f"there is no {self._program} on this host"
        ending = self._last.of(host)
        if ending.end != "unclean":
            return f"the last boot's end was {ending.end}"
        which = f"--boot={ending.previous or -1}"
        argv = [program, *journal_of(host), which, "--dmesg", "--reverse", "--no-pager", "--output=json"]
        try:
            self._child = child.start([*argv, f"--output-fields={_FIELDS}"])
        except OSError as error:
            return f"{program}: {error.strerror or error}"
        assert self._child.stdout is not None
        self._host = host
        self._fd = os.dup(self._child.stdout.fileno())
        self._child.stdout.close()
        self._reset()
        # A child that says nothing wakes no loop; its end does.
        self._timer = threading.Timer(self._timeout_s, self._late, (self._child,))
        self._timer.daemon = True
        self._timer.start()
        return None

    def fileno(self) -> int | None:
        """Give journalctl's pipe."""
        return self._fd if self._fd >= 0 else None

    def read(self, known: Callable[[str], bool]) -> Iterable[Found]:
        """Take what journalctl has printed; at its end, or when that is enough, give the record.

        Raises OSError where journalctl was ended before it printed anything.
        """
        if self._child is None or self._host is None:
            return
        for _ in range(_CHUNKS):
            try:
                chunk = os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:
                return
            self._take(chunk or b"\n")
            if not chunk or self._size >= self._text_bytes:
                yield from self._end(known)
                return

    def acknowledged(self, key: str) -> None:
        """The journal needs no mark."""

    def close(self) -> None:
        """Stop journalctl."""
        self._stop()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _late(self, process: subprocess.Popen[bytes]) -> None:
        self._timed_out = True
        process.kill()

    def _stop(self) -> int:
        """End the child; the pipe's number stays, quiet, since the loop may be polling it."""
        if self._child is None:
            return 0
        process, self._child = self._child, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._timer = None
        silence(self._fd)
        return child.stop(process)

    def _end(self, known: Callable[[str], bool]) -> Iterable[Found]:
        assert self._child is not None
        host = self._host
        assert host is not None
        enough = self._size >= self._text_bytes
        if not enough:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(5.0)  # its output has ended, so it is about to exit
        status = self._stop()
        boot = self._boot
        if boot is None or boot == host.boot or not self._lines:
            if status < 0:
                raise OSError(f"{self._program} was ended by signal {-status}")
            return  # no such boot in the journal
        key = f"journal:{boot}"
        if known(key):
            return
        text = b"".join(reversed(self._lines))
        damage = []
        if enough:
            damage.append(f"only the last {len(text)} bytes were read")
        elif self._timed_out:
            damage.append(f"only the last {len(text)} bytes were read within {self._timeout_s:.0f} s")
        elif status != 0:
            damage.append(f"{self._program} ended with status {status}")
        if self._damaged:
            damage.append(f"{self._damaged} journal entries could not be read")
        ending = self._last.of(host)
        record = CrashRecord(
            origin="journal",
            path=f"journal of boot {boot}",
            key=key,
            died_wall_ns=max(self._wall_us * 1000, ending.seen_ns or 0) or None,
            release=release_of(text),
            complete=not damage,
            damage=tuple(damage),
            parts=(CrashPart(name="journal", blob=Blob.of(text)),),
        )
        yield Found(body=record, keep="crash", key=key, of_boot=boot, cursor=host.boot)

    def _take(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if self._overlong:
                self._overlong = False  # the end of a line that was given up
            elif line:
                try:
                    self._add(_DECODER.decode(line))
                except (msgspec.MsgspecError, RecursionError):
                    self._damaged += 1
        if len(self._rest) > _LINE_BYTES:
            self._rest = b""
            self._damaged += not self._overlong
            self._overlong = True

    def _add(self, entry: _Entry) -> None:
        boot = _first(entry.BOOT)
        if boot is not None and len(boot) == 32:
            self._boot = boot
        self._wall_us = max(self._wall_us, _microseconds(entry.WALL_US))
        time_us = _microseconds(entry.SOURCE_US) or _microseconds(entry.MONOTONIC_US)
        priority = _first(entry.PRIORITY)
        level = priority if priority in _LEVELS else "6"
        head = f"<{level}>[{time_us // 1_000_000:5d}.{time_us % 1_000_000:06d}] ".encode()
        for text in reversed(_message(entry.MESSAGE).splitlines() or [b""]):
            line = head + text + b"\n"
            self._lines.append(line)
            self._size += len(line)


_DECODER: Final = msgspec.json.Decoder(_Entry)
_LEVELS: Final = tuple("01234567")


def _first(value: str | list[object] | None) -> str | None:
    """Give a field's value, of several the first."""
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, str)), None)
    return value


def _microseconds(value: str | list[object] | None) -> int:
    text = _first(value)
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 16 else 0


def _message(value: str | list[object] | None) -> bytes:
    """Give a message's bytes in whichever form it came."""
    if isinstance(value, list) and not any(isinstance(item, int) for item in value):  # several messages
        return b"\n".join(map(_bytes, value))
    return _bytes(value)


def _bytes(value: object) -> bytes:
    """Give one message's bytes: a string's, those of an array of byte values; null is a message left out."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, list):
        return bytes(item for item in value if isinstance(item, int) and 0 <= item < 256)
    return b"(the journal left this message out, as it is too long)"

"""Commands in a guest. In: the socket of its qemu-ga (QEMU Guest Agent protocol). Out: what they printed."""

import base64
import itertools
import json
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL_S = 0.2
_NUMBERS = itertools.count(int(time.time()) << 16)


class GuestGoneError(Exception):
    """The guest does not answer: it is booting, or dead."""


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    status: int
    stdout: str
    stderr: str


class GuestAgent:
    """The agent of one QEMU process; it outlives reboots of the guest. Mutable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._rest = b""

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def answers(self, within_s: float = 2.0) -> bool:
        """Say whether the guest answers."""
        try:
            self._sync(within_s)
        except GuestGoneError:
            return False
        return True

    def start(self, script: str, stdin: bytes = b"", cwd: str = "/") -> int:
        """Start a shell script in the guest and give its number. Raises GuestGoneError."""
        self._sync()
        arguments = {
            "path": "/bin/sh",
            "arg": ["-e", "-c", f"cd {cwd}\n{script}"],
            "input-data": base64.b64encode(stdin).decode(),
            "capture-output": True,
        }
        number: int = self._call("guest-exec", arguments)["pid"]
        return number

    def ended(self, number: int) -> Done | None:
        """Give what came of a script; None while it runs. Raises GuestGoneError."""
        told = self._call("guest-exec-status", {"pid": number})
        if not told["exited"]:
            return None
        stdout, stderr = (
            base64.b64decode(told.get(name, "")).decode("utf-8", "replace")
            for name in ("out-data", "err-data")
        )
        return Done(told.get("exitcode", -told.get("signal", 1)), stdout, stderr)

    def run(self, script: str, stdin: bytes = b"", cwd: str = "/", within_s: float = 120.0) -> Done:
        """Run a shell script in the guest to its end. Raises GuestGoneError."""
        number = self.start(script, stdin, cwd)
        until_s = time.monotonic() + within_s
        while (done := self.ended(number)) is None:
            if time.monotonic() > until_s:
                raise GuestGoneError(f"not done within {within_s:g} s: {script}")
            time.sleep(_POLL_S)
        return done

    def _sync(self, within_s: float = 10.0) -> None:
        """Bring both sides to the same place of the stream, whatever a reboot left in it."""
        number = next(_NUMBERS)
        self._send({"execute": "guest-sync-delimited", "arguments": {"id": number}}, b"\xff")
        until_s = time.monotonic() + within_s
        while self._line(until_s).get("return") != number:
            pass

    def _call(self, command: str, arguments: dict[str, object], within_s: float = 30.0) -> Any:
        self._send({"execute": command, "arguments": arguments})
        told = self._line(time.monotonic() + within_s)
        if "error" in told:
            raise GuestGoneError(f"{command}: {told['error'].get('desc')}")
        return told["return"]

    def _send(self, message: dict[str, object], before: bytes = b"") -> None:
        try:
            if self._socket is None:
                self._rest = b""
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(5.0)
                self._socket.connect(str(self._path))
            self._socket.settimeout(5.0)
            self._socket.sendall(before + json.dumps(message).encode() + b"\n")
        except OSError as error:
            self.close()
            raise GuestGoneError(str(error)) from error

    def _line(self, until_s: float) -> dict[str, Any]:
        """Read the next answer; what is none is passed over."""
        while True:
            line, found, rest = self._rest.partition(b"\n")
            if found:
                self._rest = rest
                with suppress(ValueError):
                    told = json.loads(line.rpartition(b"\xff")[2])
                    if isinstance(told, dict):
                        return told
                continue
            left_s = until_s - time.monotonic()
            if left_s <= 0 or self._socket is None:
                raise GuestGoneError("no answer")
            try:
                self._socket.settimeout(left_s)
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                raise GuestGoneError("no answer") from None
            except OSError as error:
                self.close()
                raise GuestGoneError(str(error)) from error
            if not data:
                self.close()
                raise GuestGoneError("QEMU has ended")
            self._rest += data

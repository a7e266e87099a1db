"""When the shipper runs. In: what was stored, how the last run ended. Out: one child at a time.

Crash evidence goes at once; what has no urgency waits for company, since every run costs a start of Python.
After a failure the pause is drawn from a range that doubles ("full jitter", so that a fleet whose analyzer
was away does not come back as one), and is never shorter than the analyzer's Retry-After.
"""

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from math import inf
from typing import Final

import msgspec

from necropsy_agent.notify import INFO, WARNING, say
from necropsy_agent.outbox import Contact
from necropsy_agent.shipper import DENIED, EMPTY, Job
from necropsy_agent.wire import Keep

_FIRST_S: Final = 2.0
_MOST_S: Final = 300.0
_DENIED_FIRST_S: Final = 30.0
_DENIED_MOST_S: Final = 900.0
_FAULT_WAIT_S: Final = 1.0
_HANGS_S: Final = 1200.0
_STOP_S: Final = 3.0


def pause_s(failures: int, *, denied: bool, retry_after_s: float | None, draw: float) -> float:
    """Say how long to wait after `failures` in a row; `draw` is uniform in [0, 1)."""
    first, most = (_DENIED_FIRST_S, _DENIED_MOST_S) if denied else (_FIRST_S, _MOST_S)
    range_s = min(first * 2.0 ** min(failures - 1, 20), most)
    if retry_after_s is not None:
        # All that were told the same would come in the same moment.
        return retry_after_s + draw * min(range_s, max(1.0, retry_after_s / 4))
    return max(0.2, draw * range_s)


class Delivery:
    """The shipper's child and its next time. Mutable; `due_s` is a time.monotonic()."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.due_s = inf
        self._not_before_s = -inf
        self._failures = 0
        self._why = ""
        self._started_s = 0.0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether a child is at work."""
        return self._child is not None

    @property
    def why(self) -> str:
        """Why nothing could be shipped; empty where shipping went well."""
        return self._why

    def wanted(self, keep: Keep, now_s: float) -> None:
        """Plan a run for an event of a class that was just stored."""
        wait_s = {"crash": 0.0, "fault": _FAULT_WAIT_S, "routine": self.job.ship.routine_wait_s}[keep]
        self.due_s = max(min(self.due_s, now_s + wait_s), self._not_before_s)

    def start_if_due(self, now_s: float) -> None:
        """Start the child when it is time; one that hangs is ended."""
        if self._child is not None:
            if now_s - self._started_s > _HANGS_S:
                self._child.kill()
            return
        if now_s < self.due_s:
            return
        self.due_s = inf
        self._started_s = now_s
        try:
            self._child = start(self.job)
        except OSError as error:
            self._failed(f"the shipper cannot be started: {error.strerror}", now_s, Contact(), denied=False)

    def ended(self, now_s: float) -> int | None:
        """Give the exit status of a child that has ended since, None where none has."""
        if self._child is None or (status := self._child.poll()) is None:
            return None
        self._child = None
        if status == EMPTY:
            if self._why:
                say("the analyzer takes what is shipped again", INFO)
            self._failures, self._why, self._not_before_s = 0, "", -inf
        return status

    def came_back(self, status: int, contact: Contact, now_s: float) -> None:
        """Plan the next run after one that failed."""
        why = (contact.why if contact.failures else "") or f"the shipper ended with status {status}"
        self._failed(why, now_s, contact, denied=status == DENIED)

    def stop(self) -> None:
        """End the child; it gets a moment to finish, and what it has in hand then is sent again."""
        child, self._child = self._child, None
        if child is not None:
            for end in (None, signal.SIGTERM, signal.SIGKILL):
                if end is not None:
                    child.send_signal(end)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_STOP_S)
                    break

    def _failed(self, why: str, now_s: float, contact: Contact, *, denied: bool) -> None:
        self._failures += 1
        if why != self._why:
            say(f"nothing can be shipped: {why}", WARNING)
        self._why = why
        self._not_before_s = now_s + pause_s(
            max(self._failures, contact.failures),
            denied=denied,
            retry_after_s=contact.retry_after_s,
            draw=random.random(),  # noqa: S311  spreads load, keeps no secret
        )
        self.due_s = self._not_before_s


def start(job: Job) -> "subprocess.Popen[bytes]":
    """Start a shipper. Raises OSError.

    It is told by its standard input and gets nothing of the environment that could change where it ships.
    """
    child = subprocess.Popen(
        [sys.executable, "-I", "-m", "necropsy_agent.shipper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
        cwd="/",
    )
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # it ended at once; its status tells
        child.stdin.write(msgspec.json.encode(job))
        child.stdin.close()
    return child

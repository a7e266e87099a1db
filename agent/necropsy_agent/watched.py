"""One source, as the daemon has it. In: a `Source`. Out: events in the outbox, its state, when it is due.

The three outcomes of a look are counted: found, nothing there, failed. A look that failed is repeated with
growing pauses, and what it had read since its last stored cursor it reads again.
"""

import time
import traceback
from math import inf
from typing import Final, Literal

from necropsy_agent.notify import ERROR, WARNING, say
from necropsy_agent.outbox import Outbox, Taken
from necropsy_agent.outbox_file import OutboxDamagedError, OutboxError
from necropsy_agent.sources import Host, Source
from necropsy_agent.wire import SourceState

_AGAIN_S: Final = 1.0
_AGAIN_MOST_S: Final = 600.0
_ROOM_MOST_S: Final = 60.0
_BUG_S: Final = 60.0
_BUG_MOST_S: Final = 3600.0
_OFF_S: Final = 600.0
"""A source that is off is asked again so often: a module may be loaded, a file system mounted."""


class Watched:
    """A source, its counts, its next time. Mutable.

    `due_s` is a time.monotonic(); `fd` is to be polled, and is another one whenever `opened` has grown.
    """

    def __init__(self, source: Source, every_s: float | None = None) -> None:
        self.source = source
        self.due_s = -inf
        self.fd: int | None = None
        self.opened = 0
        self._every_s = every_s
        self._open = False
        self._failures = 0
        self._state: Literal["on", "off", "failed"] = "off"
        self._why = "not looked at yet"
        self._found = self._nothing = self._failed = self._last_ns = 0

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    def state(self) -> SourceState:
        """Tell how the source does."""
        return SourceState(
            name=self.name,
            state=self._state,
            why=self._why,
            found=self._found,
            nothing=self._nothing,
            failed=self._failed,
            last_ns=self._last_ns,
        )

    def look(self, host: Host, outbox: Outbox) -> Taken:
        """Look once: open the source if it is not, store what it gives, decide when it is due again.

        Raises OutboxDamagedError; everything else becomes the source's state.
        """
        started_ns = time.monotonic_ns()
        taken = Taken({})
        try:
            if not self._open and not self._opened(host, outbox):
                return taken
            found = self.source.read(lambda key: outbox.known(self.name, key))
            outbox.take(self.name, found, taken)
        except OutboxDamagedError:
            raise
        except OutboxError as error:
            # What was read and not stored has to be read again: from the last cursor on.
            self._fail(str(error), _AGAIN_S, _ROOM_MOST_S, WARNING, reopen=True)
        except OSError as error:
            self._fail(_line(error), _AGAIN_S, _AGAIN_MOST_S, WARNING, reopen=self.fd is not None)
        except Exception:
            trace = traceback.format_exc().splitlines()
            for line in trace:
                say(f"{self.name}: {line}", ERROR)
            self._fail(f"an error of the agent's own: {trace[-1]}", _BUG_S, _BUG_MOST_S, ERROR, reopen=True)
        else:
            self._went_well(taken)
        finally:
            self._found += sum(taken.stored.values()) + taken.dropped
            self._last_ns = time.monotonic_ns() - started_ns
        return taken

    def tell(self, outbox: Outbox, key: str) -> None:
        """Tell the source that the analyzer has the record of a key; again later where that fails."""
        if not self._open:
            return
        try:
            self.source.acknowledged(key)
        except OSError as error:
            say(f"{self.name}: {key} could not be marked as done: {_line(error)}", WARNING)
            return
        outbox.told(self.name, key)

    def close(self) -> None:
        """Close the source; the next look opens it again."""
        self.fd = None
        if self._open:
            self._open = False
            self.source.close()

    def _opened(self, host: Host, outbox: Outbox) -> bool:
        why = self.source.open(host, outbox.cursor(self.name))
        if why is not None:
            if (self._state, self._why) != ("off", why):
                say(f"{self.name} is off: {why}")
            self._state, self._why = "off", why
            self.due_s = time.monotonic() + _OFF_S
            self.source.close()
            return False
        self._open = True
        self.opened += 1
        self.fd = self.source.fileno()
        return True

    def _went_well(self, taken: Taken) -> None:
        if self._state == "failed":
            say(f"{self.name} is well again")
        self._state, self._why, self._failures = "on", "", 0
        self._nothing += not taken.stored and not taken.dropped
        self.due_s = inf if self.fd is not None else time.monotonic() + self._pause_s()

    def _fail(self, why: str, first_s: float, most_s: float, level: int, *, reopen: bool) -> None:
        if (self._state, self._why) != ("failed", why):
            say(f"{self.name} failed: {why}", level)
        self._state, self._why = "failed", why
        self._failed += 1
        pause_s = min(first_s * 2 ** min(self._failures, 20), most_s)
        self._failures += 1
        if reopen:
            self.close()
        else:
            pause_s = max(pause_s, self._pause_s())
        self.due_s = time.monotonic() + pause_s

    def _pause_s(self) -> float:
        interval_s = self.source.interval_s
        if interval_s is None:
            return inf
        return interval_s if self._every_s is None else min(interval_s, self._every_s)


def _line(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror

"""The agent's parts, put together. In: a `Config`. Out: sources looked at, what they give in the outbox.

Held by the daemon for as long as it runs, and for one look by `once`.
"""

import fcntl
import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from necropsy_agent import prefilter
from necropsy_agent.config import Config, ConfigError
from necropsy_agent.delivery import Delivery
from necropsy_agent.health import health_of, write_status
from necropsy_agent.identity import identify
from necropsy_agent.notify import WARNING, say
from necropsy_agent.outbox import NAME, Outbox, Taken
from necropsy_agent.outbox_file import set_aside
from necropsy_agent.shipper import Job
from necropsy_agent.sources import Found, Settings, make
from necropsy_agent.watched import Watched
from necropsy_agent.wire import SourceState

LOCK: Final = "agent.lock"
_OWN: Final = "agent"


class Agent:
    """Sources, outbox and delivery of one configuration. Mutable.

    Raises ConfigError where the state folder is another agent's, IdentityError where the host cannot be
    named, OutboxError where the outbox cannot be opened now.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state = Path(config.state_dir)
        self.host, self._origin = identify(Path(config.root))
        self.started_s = time.monotonic()
        self._started_wall_ns = time.time_ns()
        self._damage = ""
        self.watched: tuple[Watched, ...] = ()
        self._lock = _lock(self.state)
        with ExitStack() as undo:
            undo.callback(os.close, self._lock)
            self.outbox = self._opened()
            undo.callback(self.outbox.close)
            self.outbox.reconsider()
            self._prepare()
            undo.pop_all()

    def close(self) -> None:
        """Close sources and outbox, end the shipper, let go of the state folder."""
        self.delivery.stop()
        for watched in self.watched:
            watched.close()
        self.outbox.close()
        os.close(self._lock)

    def configure(self, config: Config) -> None:
        """Go on with another configuration; state folder, root and limit stay until the next start."""
        for watched in self.watched:
            watched.close()
        self.delivery.stop()
        self.config = config
        self._prepare()

    def look(self, watched: Watched) -> Taken:
        """Look at one source and plan the shipping of what it gave."""
        taken = watched.look(self.host, self.outbox)
        self._plan(taken)
        return taken

    def tell(self) -> None:
        """Tell the sources what the analyzer has, also what an earlier run of the agent did not tell them."""
        sources = {watched.name: watched for watched in self.watched}
        for name, key in self.outbox.acknowledged():
            if name in sources:
                sources[name].tell(self.outbox, key)

    def report(self) -> None:
        """Put how the agent is into the outbox, and where `status` reads it."""
        self.note()
        body = health_of(self.started_s, self.outbox.fill(), self.states())
        self._plan(self.outbox.take(_OWN, [Found(body=body, keep="routine")]))

    def note(self) -> None:
        """Leave how the agent is for `status`."""
        try:
            write_status(self.state, self._started_wall_ns, self.states())
        except OSError as error:
            say(f"{self.state}: the status cannot be written: {error.strerror}", WARNING)

    def states(self) -> tuple[SourceState, ...]:
        """Tell how every source does; outbox and shipper stand at the end in the same form."""
        return (
            *(watched.state() for watched in self.watched),
            *(
                SourceState(name=name, state="off", why="by configuration")
                for name in self.config.sources.off
            ),
            SourceState(name="outbox", state="failed" if self._damage else "on", why=self._damage),
            SourceState(name="shipper", state="failed" if self.delivery.why else "on", why=self.delivery.why),
        )

    def renew_outbox(self) -> None:
        """Set a damaged outbox aside and begin a fresh one, from which every source starts anew."""
        self.delivery.stop()
        for watched in self.watched:
            watched.close()
            watched.due_s = time.monotonic()
        self.outbox.close()
        where = set_aside(self.state / NAME, self._damaged)
        self._damaged(f"the outbox is damaged: it was set aside as {where}; all is collected anew")
        self.outbox = self._opened()

    def _opened(self) -> Outbox:
        return Outbox.open(self.state, self.config.outbox.limit_bytes, self._origin, self._damaged)

    def _damaged(self, line: str) -> None:
        say(line, WARNING)
        self._damage = line

    def _prepare(self) -> None:
        config = self.config
        settings = Settings(
            state=self.state,
            hits=prefilter.load(tuple(map(Path, config.rules)), self.state, lambda line: say(line, WARNING)),
            kmsg_path=config.sources.kmsg_path,
            pstore_clear=config.sources.pstore_clear,
            crash_roots=config.sources.crash_roots,
            crash_quiet_s=config.sources.crash_quiet_s,
        )
        self.watched = tuple(
            Watched(source, config.sources.look_every_s) for source in make(settings, config.sources.off)
        )
        self.delivery = Delivery(
            Job(state_dir=str(self.state), host=self._origin.host, server=config.server, ship=config.ship)
        )
        waiting = self.outbox.heaviest()
        if waiting is not None:
            self.delivery.wanted("crash", time.monotonic())

    def _plan(self, taken: Taken) -> None:
        for keep in taken.stored:
            self.delivery.wanted(keep, time.monotonic())


def _lock(state: Path) -> int:
    """Hold the state folder for this process, until it ends however it ends. Raises ConfigError."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{state}: {error.strerror}: give another state_dir, or run as root") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise ConfigError(f"another necropsy-agent works in {state}: stop it first") from error
    return fd


def runs(state: Path) -> bool:
    """Say whether an agent works in a state folder."""
    with suppress(OSError):
        fd = os.open(state / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False

"""The resident agent: one epoll loop. In: a `Config`. Out: sources → outbox → shipper, and nothing else.

Signals: TERM and INT stop it, HUP reads the configuration anew, CHLD says that a shipper has ended. All that
is periodic is one timeout, computed from what is due next; an idle agent wakes a few times a minute.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import inf
from types import FrameType
from typing import Final

from necropsy_agent.agent import Agent
from necropsy_agent.config import Config, ConfigError
from necropsy_agent.notify import ERROR, WARNING, Notifier, say
from necropsy_agent.outbox_file import OutboxDamagedError, OutboxError
from necropsy_agent.shipper import DAMAGED, EMPTY
from necropsy_agent.watched import Watched

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_OPEN_AGAIN_S: Final = 5.0
_NEVER_S: Final = 3600.0


class Daemon:
    """Runs an agent until it is told to stop. Mutable."""

    def __init__(self, config: Config, again: Callable[[], Config], environ: Mapping[str, str]) -> None:
        self._config = config
        self._again = again
        self._notify = Notifier(environ)
        self._epoll = select.epoll()
        self._stopping = False
        self._health_s = -inf
        self._shown: object = None
        self._polled: dict[str, int] = {}

    def run(self) -> None:
        """Run until SIGTERM. Raises ConfigError and IdentityError where it cannot start."""
        with _Wakeup() as wakeup:
            self._wakeup = wakeup
            self._epoll.register(wakeup.fd, select.EPOLLIN)
            try:
                agent = self._started()
                if agent is None:
                    return
                try:
                    self._notify.send("READY=1", "STATUS=looking at the host")
                    self._loop(agent)
                finally:
                    self._notify.send("STOPPING=1")
                    agent.note()
                    agent.close()
            finally:
                self._epoll.close()
                self._notify.close()

    def _started(self) -> Agent | None:
        """Make the agent; wait where the disk does not let the outbox be opened. None if told to stop."""
        said = ""
        while not self._stopping:
            try:
                return Agent(self._config)
            except OutboxError as error:
                if str(error) != said:
                    said = str(error)
                    say(f"{error}: trying again every {_OPEN_AGAIN_S:g} s", ERROR)
                self._notify.send("READY=1", f"STATUS={error}")
                self._wait(time.monotonic() + _OPEN_AGAIN_S)
        return None

    def _loop(self, agent: Agent) -> None:
        with self._mending(agent):
            agent.tell()
        while not self._stopping:
            with self._mending(agent):
                self._step(agent)

    def _step(self, agent: Agent) -> None:
        """Wait for what is next and do it."""
        due_s = min((watched.due_s for watched in agent.watched), default=inf)
        ready = self._wait(min(due_s, agent.delivery.due_s, self._health_s), agent)
        if self._stopping:
            return
        now_s = time.monotonic()
        for watched in agent.watched:
            if watched.due_s <= now_s or (watched.fd is not None and watched.fd in ready):
                agent.look(watched)
                self._follow(watched)
                self._notify.alive(time.monotonic())
        if now_s >= self._health_s:
            self._health_s = now_s + agent.config.health_every_s
            agent.report()
        self._deliver(agent)
        self._show(agent)

    def _wait(self, until_s: float, agent: Agent | None = None) -> set[int]:
        """Wait for descriptors, a signal or a time; signals are done with here, descriptors are given."""
        until_s = min(until_s, self._notify.alive(time.monotonic()))
        left_s = min(max(until_s - time.monotonic(), 0.0), _NEVER_S)
        ready = {fd for fd, _ in self._epoll.poll(left_s)}
        if self._wakeup.fd in ready:
            arrived = self._wakeup.taken()
            if arrived & {signal.SIGTERM, signal.SIGINT}:
                self._stopping = True
            elif signal.SIGHUP in arrived and agent is not None:
                self._reload(agent)
        return ready

    def _follow(self, watched: Watched) -> None:
        """Poll the descriptor that a source has now. One that it closed epoll has let go of by itself."""
        if watched.fd is None or self._polled.get(watched.name) == watched.opened:
            return
        self._polled[watched.name] = watched.opened
        self._epoll.register(watched.fd, select.EPOLLIN)

    def _deliver(self, agent: Agent) -> None:
        now_s = time.monotonic()
        status = agent.delivery.ended(now_s)
        if status == DAMAGED:
            raise OutboxDamagedError("the shipper found the outbox damaged")
        if status is not None:
            if status == EMPTY:
                waiting = agent.outbox.heaviest()
                if waiting is not None:  # came while the shipper was about to exit
                    agent.delivery.wanted(waiting, now_s)
            else:
                agent.delivery.came_back(status, agent.outbox.contact(), now_s)
            agent.tell()
            agent.outbox.tidy()
        agent.delivery.start_if_due(now_s)

    def _show(self, agent: Agent) -> None:
        """Renew what others see of us where something has changed that they would act on."""
        shown = tuple((state.name, state.state, state.why) for state in agent.states())
        if shown != self._shown:
            self._shown = shown
            agent.note()
            bad = [name for name, state, _ in shown if state == "failed"]
            self._notify.send(f"STATUS={', '.join(bad)} failed" if bad else "STATUS=all is well")

    def _reload(self, agent: Agent) -> None:
        self._notify.reloading()
        try:
            config = self._again()
        except ConfigError as error:
            say(f"{error}; going on with the configuration as it was", ERROR)
        else:
            old = agent.config
            if (old.root, old.state_dir, old.outbox) != (config.root, config.state_dir, config.outbox):
                say("root, state_dir and the outbox's limit are taken at the next start", WARNING)
            agent.configure(config)
            self._polled.clear()
            say("the configuration was read anew")
        self._notify.send("READY=1")

    @contextmanager
    def _mending(self, agent: Agent) -> Iterator[None]:
        """Replace an outbox that turns out to be damaged; outlive one that cannot be used for a while."""
        try:
            yield
        except OutboxDamagedError:
            agent.renew_outbox()
        except OutboxError as error:
            say(str(error), WARNING)


class _Wakeup:
    """Turns signals into something to poll (signal.set_wakeup_fd), so that none comes at a bad moment."""

    def __enter__(self) -> "_Wakeup":
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {number: signal.signal(number, _noted) for number in _SIGNALS}
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._write)

    def taken(self) -> set[int]:
        """Give the numbers of the signals that came since."""
        with suppress(BlockingIOError):
            return set(os.read(self.fd, 4096))
        return set()


def _noted(_signal: int, _frame: FrameType | None) -> None:
    """Be a handler: the number is already in the pipe."""

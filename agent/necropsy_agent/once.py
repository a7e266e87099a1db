"""One look at the host, shipped. In: a `Config`. Out: all that was found acknowledged, or why not."""

import os
import select
import time
from typing import Final

from necropsy_agent import delivery, shipper
from necropsy_agent.agent import Agent
from necropsy_agent.config import Config
from necropsy_agent.outbox_file import OutboxDamagedError

_CHILDREN_S: Final = 330.0
_STREAM_LOOKS: Final = 10_000
_RETRIES: Final = 3
_RETRY_MOST_S: Final = 10.0


class NotAllError(Exception):
    """Not all was collected or acknowledged: why, in one line."""


def once(config: Config) -> None:
    """Look at everything one time and ship it.

    Raises NotAllError, ConfigError, IdentityError, OutboxError.
    """
    agent = Agent(config)
    try:
        agent.tell()
        try:
            _collect(agent)
            agent.report()
            _ship(agent)
        except OutboxDamagedError:
            agent.renew_outbox()
            _collect(agent)
            _ship(agent)
        agent.note()
        failed = [state for state in agent.states() if state.state == "failed" and state.name != "outbox"]
        if failed:
            raise NotAllError("; ".join(f"{state.name}: {state.why}" for state in failed))
    finally:
        agent.close()


def _collect(agent: Agent) -> None:
    """Look at every source; follow streams until they have given what they have."""
    for watched in agent.watched:
        agent.look(watched)
    streams = {watched.fd: watched for watched in agent.watched if watched.fd is not None}
    ready = select.poll()
    for fd in streams:
        ready.register(fd, select.POLLIN)
    until_s = time.monotonic() + _CHILDREN_S
    for _ in range(_STREAM_LOOKS):
        # A source's child (journalctl) may not have begun to print; a stream without one is done when quiet.
        wait_s = 0.5 if _children() and time.monotonic() < until_s else 0.0
        readable = [fd for fd, _ in ready.poll(wait_s * 1000)]
        if not readable and not wait_s:
            return
        for fd in readable:
            agent.look(streams[fd])
            if streams[fd].fd != fd:  # it failed, and says so
                ready.unregister(fd)


def _ship(agent: Agent) -> None:
    """Run the shipper until nothing waits. Raises NotAllError."""
    retries = _RETRIES
    while agent.outbox.heaviest() is not None:
        status = delivery.start(agent.delivery.job).wait()
        agent.tell()
        if status == shipper.DAMAGED:
            raise OutboxDamagedError("the shipper found the outbox damaged")
        if status == shipper.EMPTY:
            continue
        contact = agent.outbox.contact()
        pause_s = contact.retry_after_s
        if pause_s is None or pause_s > _RETRY_MOST_S or not retries:
            waiting = agent.outbox.fill().events
            why = contact.why or f"the shipper ended with status {status}"
            raise NotAllError(f"{waiting} events wait in {agent.state}, nothing is lost: {why}")
        retries -= 1
        time.sleep(pause_s)
    fill = agent.outbox.fill()
    if fill.refused:
        raise NotAllError(f"the analyzer refused {fill.refused} events, which are kept: {fill.refused_why}")
    agent.outbox.tidy()


def _children() -> bool:
    """Say whether a child of ours is still there."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True

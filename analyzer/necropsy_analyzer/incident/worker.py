"""Verdicts as evidence arrives. In: hosts in the store's work queue. Out: incidents, revisions of verdicts.

One thread, beside the event loop. A claim is a lease: a worker that is killed loses it, the next one starts
the host anew, and since a verdict is stored in one transaction and the same verdict is no new revision,
starting anew changes nothing that was done.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from necropsy_analyzer.store import evidence, incidents, work
from necropsy_analyzer.store.store import Store, StoreUnavailableError

if TYPE_CHECKING:
    from necropsy_analyzer.evidence.knowledge import Knowledge

log = logging.getLogger("necropsy.incident")

_CLAIMED: Final = 20
_LOOK_AGAIN_S: Final = 5.0


class Worker:
    """Makes verdicts until it is stopped. `knowledge` is called once, when the first host is due."""

    def __init__(self, store: Store, knowledge: "Callable[[], Knowledge]") -> None:
        self._store = store
        self._load = knowledge
        self._knowledge: Knowledge | None = None
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="incidents", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something to do."""
        self._wake.set()

    def stop(self, within_s: float) -> bool:
        """Let the thread finish the incident it is at, and wait for it; False where that takes too long."""
        self._stopping = True
        self._wake.set()
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def do_due(self) -> int:
        """Do all that is due now; give the number of hosts that were looked at."""
        done = 0
        while not self._stopping:
            with self._store.write() as connection:
                claims = work.claim(connection, self._owner, now_ns=time.time_ns(), limit=_CLAIMED)
            if not claims:
                break
            for held in claims:
                self._host(held)
                done += 1
        return done

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self.do_due()
            except StoreUnavailableError as error:
                log.warning("store unavailable: %s", error)
            except Exception:
                log.exception("worker failed")
            if not self._stopping:
                # What other processes add, and what is due again after a failure, wakes nobody.
                self._wake.wait(_LOOK_AGAIN_S)

    def _host(self, held: work.Claim) -> None:
        try:
            whole = self._diagnose_host(held)
        except StoreUnavailableError:
            raise
        except Exception:
            log.exception("host failed row=%d attempts=%d", held.host, held.attempts + 1)
            whole = False
        if self._stopping:
            whole = False
        with self._store.write() as connection:
            if whole:
                work.done(connection, held)
            else:
                work.failed(connection, held, now_ns=time.time_ns())

    def _diagnose_host(self, held: work.Claim) -> bool:
        """Bring the host's incidents up to date; False where one could not be."""
        from necropsy_analyzer.incident.sync import sync

        if self._knowledge is None:
            self._knowledge = self._load()
        with self._store.write() as connection:
            opened = sync(connection, held.host, now_ns=time.time_ns())
        whole = True
        for one in opened:
            if self._stopping:
                return False
            try:
                self._diagnose(held, one.incident, self._knowledge)
            except StoreUnavailableError:
                raise
            except Exception:
                # One that fails must not keep the others of its host without a verdict.
                log.exception("incident failed id=%d", one.incident)
                whole = False
        return whole

    def _diagnose(self, held: work.Claim, number: int, knowledge: "Knowledge") -> None:
        from necropsy_analyzer.diagnose import diagnose
        from necropsy_analyzer.incident.case import case_of

        with self._store.read() as connection:
            incident = incidents.one(connection, number)
            if incident is None:
                return
            ids = evidence.ids_of(connection, number)
            digest = incidents.digest(ids.values(), knowledge.model.version, incident.boot)
            if incidents.considered(connection, number) == digest:
                return
            stored = evidence.of_rows(connection, ids)
        verdict = diagnose(case_of(incident.host, incident.boot, [one.event for one in stored]), knowledge)
        with self._store.write() as connection:
            if not work.extend(connection, held, now_ns=time.time_ns()):
                return  # it took so long that another worker has the host
            revision = incidents.revise(
                connection,
                number,
                verdict,
                made_of=ids.values(),
                digest=digest,
                now_ns=time.time_ns(),
            )
        if revision is not None:
            log.info(
                "verdict made incident=%d revision=%d host=%s cause=%s confidence=%.2f",
                number, revision, incident.host, verdict.cause, verdict.confidence,
            )  # fmt: skip

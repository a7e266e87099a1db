"""`necropsy serve`: take batches over HTTP and diagnose what they bring."""

import fcntl
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Annotated

import typer

from necropsy_analyzer.cli import CommandError
from necropsy_analyzer.cli.knowledge import knowledge
from necropsy_analyzer.cli.server import Database, StateDir, open_store, state_folder

if TYPE_CHECKING:
    from necropsy_analyzer.evidence.knowledge import Knowledge
    from necropsy_analyzer.store.store import Store

_BACKLOG = 2048
_STOP_WITHIN_S = 20


def serve(
    *,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:8470",
    state_dir: StateDir = None,
    database: Database = None,
    tls_cert: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Certificate chain, PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Its key, PEM.")] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Take only agents with a certificate of this CA, PEM."
        ),
    ] = None,
    rules: Annotated[
        list[Path] | None, typer.Option(help="A folder of your own rules, over the shipped ones.")
    ] = None,
) -> None:
    """Serve the ingest API until SIGTERM, and make verdicts of what arrives."""
    if (tls_key is not None or client_ca is not None) and tls_cert is None:
        raise CommandError("--tls-key and --client-ca need --tls-cert")
    _log_plainly()
    _take_descriptors()
    lock = _only_one(state_folder(state_dir)) if database is None else None
    bound = _bind(listen)
    store = open_store(state_dir, database, create=True)
    try:
        _run(
            store,
            bound,
            lambda: knowledge(tuple(rules or ())),
            tls_cert=tls_cert,
            tls_key=tls_key,
            client_ca=client_ca,
        )
    finally:
        store.close()
        bound.close()
        if lock is not None:
            lock.close()


def _run(
    store: "Store",
    bound: socket.socket,
    load: "Callable[[], Knowledge]",
    *,
    tls_cert: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
) -> None:
    import ssl

    import uvicorn

    from necropsy_analyzer.incident.worker import Worker
    from necropsy_analyzer.ingest.app import make_app
    from necropsy_analyzer.ingest.connection import Connection
    from necropsy_analyzer.store import work

    if store.embedded:
        # Nobody else has this store (the lock), so claims are those of a process that is gone.
        with store.write() as connection:
            work.release_all(connection)
    worker = Worker(store, load)
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"http{'s' if tls_cert else ''}://{shown}:{port}"

    class Announced(uvicorn.Server):
        """Says where it listens once it does."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"listening on {url}", flush=True)
                worker.start()

    config = uvicorn.Config(
        make_app(store, arrived=worker.wake),
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        ssl_ca_certs=str(client_ca) if client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if client_ca else ssl.CERT_NONE,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
        backlog=_BACKLOG,
        server_header=False,
    )
    # uvicorn raises the signal again once it has stopped; by then there is only the worker left to stop.
    signal.signal(signal.SIGTERM, _stopped)
    signal.signal(signal.SIGINT, _stopped)
    try:
        Announced(config).run(sockets=[bound])
    except ssl.SSLError as error:
        raise CommandError(f"the certificate or key cannot be used: {error.reason or error}") from error
    worker.stop(_STOP_WITHIN_S)


def _stopped(_signal: int, _frame: FrameType | None) -> None:
    logging.getLogger("necropsy.serve").info("stopped by a signal")


def _bind(listen: str) -> socket.socket:
    """Take the address at once, so that a port of 0 has a number before anything is said."""
    host, found, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not found or not host or not port.isdecimal() or int(port) > 65535:
        raise CommandError(f"{listen!r} is no address to listen on: give ADDRESS:PORT, as 127.0.0.1:8470")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise CommandError(f"cannot listen on {listen}: {error.strerror or error}") from error
    return bound


def _only_one(folder: Path) -> IO[bytes]:
    """Hold the state folder for this process. Raises CommandError where another has it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "serve.lock").open("wb")
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror}: give another --state-dir") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise CommandError(
            f"another necropsy serves {folder}: stop it, or give another --state-dir"
        ) from error
    return lock


def _take_descriptors() -> None:
    """Take as many descriptors as may be had: a connection is one, and the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _log_plainly() -> None:
    """One line an occurrence on standard error, key=value; no header of a request is ever logged."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for noisy in ("alembic", "uvicorn", "litestar"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

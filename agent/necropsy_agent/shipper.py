"""Ships what waits in the outbox. In: a `Job` on standard input. Out: batches over HTTP, an exit status.

A child of the daemon: it loads httpx, posts batches until nothing waits, and exits, so that the resident
process stays small. Acknowledgements go straight into the outbox, and so does how it went (`Contact`). The
child never sleeps: when to come again is the daemon's to decide, by the exit status and that note.

HTTP/1.1 (RFC 9110), a bearer token (RFC 6750), zstd bodies (RFC 8878); answers are `Ack`s of wire.py and
problems (RFC 9457).
"""

import fcntl
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import msgspec
import zstandard

from necropsy_agent import __version__
from necropsy_agent.config import ConfigError, Server, ShipConfig, token_of
from necropsy_agent.outbox import Contact
from necropsy_agent.outbox_file import OutboxDamagedError, OutboxError
from necropsy_agent.parcels import Parcel, Parcels
from necropsy_agent.wire import CONTENT_TYPE, INGEST_PATH, WIRE_VERSION, Ack, BatchHead

if TYPE_CHECKING:
    import ssl

EMPTY: Final = 0
"""Exit status: nothing waits any more, or there was no more time; ask again if something waits."""
DAMAGED: Final = 65
"""Exit status (EX_DATAERR of sysexits.h): the outbox is damaged."""
LATER: Final = 75
"""Exit status (EX_TEMPFAIL): the analyzer or the disk does not take it now."""
DENIED: Final = 77
"""Exit status (EX_NOPERM): token, certificate or address are not right; a person has to look."""

RETRY_AFTER_MOST_S: Final = 3600.0
"""However long an analyzer asks to wait, it is asked again after so long."""

_RUN_S: Final = 600.0
_ANSWER_BYTES: Final = 64 << 10
_LEAST_BATCH_BYTES: Final = 64 << 10
_REFUSALS: Final = 20
_WHY_LENGTH: Final = 300
_LOCK: Final = "shipper.lock"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is told: `host` is `wire.host_id()`'s."""

    state_dir: str
    host: str
    server: Server
    ship: ShipConfig


class Undelivered(Exception):  # noqa: N818  # an outcome, told to the daemon
    """Why shipping stopped: the exit status, one line, and when the analyzer wants to be asked again."""

    def __init__(self, status: int, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.retry_after_s = retry_after_s


class _TooLongError(Exception):
    """The whole exchange took too long; no TimeoutError, which httpx would take for one of its own."""


class Problem(msgspec.Struct, frozen=True):
    """What an analyzer says is wrong (RFC 9457)."""

    status: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, as far as it matters; `body` is cut at 64 KiB."""

    status: int
    kind: str = ""
    body: bytes = b""
    retry_after: str | None = None

    def problem(self) -> str | None:
        """Give the analyzer's own words; None where it was something else that answered, a proxy say."""
        if self.kind.partition(";")[0].strip().lower() != "application/problem+json":
            return None
        with suppress(msgspec.MsgspecError):
            told = msgspec.json.decode(self.body, type=Problem)
            if told.status == self.status:
                return _shown(told.detail)
        return None

    def acknowledges(self, batch: str) -> bool:
        """Say whether this is the analyzer's word that it has the batch."""
        with suppress(msgspec.MsgspecError):
            return self.status == 200 and msgspec.json.decode(self.body, type=Ack).batch == batch
        return False


Post = Callable[[bytes], Answer]
"""Sends one compressed batch. Raises Undelivered where no answer came."""


def ship(parcels: Parcels, post: Post, job: Job, now_s: Callable[[], float] = time.monotonic) -> None:
    """Send batches until nothing waits.

    A batch that is too large is halved; one that the analyzer finds wrong is halved until the event that is
    wrong stands alone, and that is set aside. Raises Undelivered, OutboxError.
    """
    until_s = now_s() + _RUN_S
    most_bytes = job.ship.batch_bytes
    refusals = 0
    while now_s() < until_s:
        parcel = parcels.parcel(job.ship.batch_events, most_bytes)
        if parcel is None:
            return
        if parcel.damaged:
            parcels.refuse(parcel.damaged, "it was damaged on disk")
        if not parcel.seqs:
            continue
        answer = post(_body(parcel, job.host))
        if answer.acknowledges(parcel.id):
            parcels.acknowledge(parcel)
            continue
        problem = answer.problem()
        if answer.status == 409 and problem is not None:
            parcels.divide(parcel, 1)  # its id is taken; each event is still told by its own
            refusals += 1
        elif answer.status == 413 or (answer.status in (400, 422) and problem is not None):
            if answer.status == 413:
                most_bytes = max(_LEAST_BATCH_BYTES, sum(map(len, parcel.lines)) // 2)
            if len(parcel.seqs) > 1:
                parcels.divide(parcel)
                continue
            refusals += 1
            parcels.refuse(parcel.seqs, f"{answer.status} {problem or 'too large for what is on the way'}")
        else:
            raise _undelivered(answer, problem)
        if refusals >= _REFUSALS:
            raise Undelivered(DENIED, f"the analyzer refuses one event after the other: {problem}")


def retry_after_s(value: str | None, wall_s: float) -> float | None:
    """Read Retry-After (RFC 9110 section 10.2.3), seconds or an HTTP date, within an hour; None if unfit."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), RETRY_AFTER_MOST_S)
    from email.utils import parsedate_to_datetime

    try:
        at_s = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(at_s - wall_s, 0.0), RETRY_AFTER_MOST_S)


def run(job: Job) -> int:
    """Ship from the outbox of a job, note how it went, and give the exit status."""
    state = Path(job.state_dir)
    try:
        with _alone(state):
            parcels = Parcels(state)
            try:
                return _run(parcels, job)
            finally:
                parcels.close()
    except OutboxDamagedError as error:
        return _said(DAMAGED, str(error))
    except BlockingIOError:
        return _said(LATER, "another shipper is still at work")
    except (OutboxError, OSError) as error:
        return _said(LATER, str(error))


def main() -> int:
    """Read the job from standard input and do it."""
    _limit()
    return run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))


def _run(parcels: Parcels, job: Job) -> int:
    contact = parcels.contact()
    tried = time.time_ns()
    try:
        with _posting(job.server) as post:
            ship(parcels, post, job)
    except Undelivered as outcome:
        with suppress(OutboxError):
            parcels.note_contact(
                Contact(
                    tried_wall_ns=tried,
                    reached_wall_ns=contact.reached_wall_ns,
                    failures=contact.failures + 1,
                    why=outcome.why,
                    retry_after_s=outcome.retry_after_s,
                )
            )
        return outcome.status
    parcels.note_contact(Contact(tried_wall_ns=tried, reached_wall_ns=time.time_ns()))
    return EMPTY


def _undelivered(answer: Answer, problem: str | None) -> Undelivered:
    """Tell an answer that is neither an acknowledgement nor about the batch's content."""
    status = answer.status
    what = f"the analyzer answers {status}: {problem}" if problem is not None else f"the answer is {status}"
    if status in (408, 425, 429) or status >= 500:
        return Undelivered(LATER, what, retry_after_s(answer.retry_after, time.time()))
    if status in (401, 403):
        return Undelivered(DENIED, what)
    if 300 <= status < 400:
        return Undelivered(DENIED, f"{what}, a redirection: set server.url to where the analyzer is")
    return Undelivered(DENIED, f"{what}, but not an analyzer's: look at server.url and what is on the way")


def _body(parcel: Parcel, host: str) -> bytes:
    head = BatchHead(
        wire=WIRE_VERSION,
        id=parcel.id,
        host=host,
        agent=__version__,
        count=len(parcel.lines),
        sent_wall_ns=time.time_ns(),
    )
    lines = b"\n".join((msgspec.json.encode(head), *parcel.lines, b""))
    return zstandard.ZstdCompressor(level=3).compress(lines)


@contextmanager
def _posting(server: Server) -> Iterator[Post]:
    """Give what posts to the analyzer. Raises Undelivered where token or certificates cannot be used."""
    try:
        token = token_of(server)
        context = _tls(server)
    except ConfigError as error:
        raise Undelivered(DENIED, str(error)) from error
    import httpx

    headers = {
        "authorization": f"Bearer {token}",
        "content-type": CONTENT_TYPE,
        "content-encoding": "zstd",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"necropsy-agent/{__version__}",
    }
    url = server.url.rstrip("/") + INGEST_PATH
    whole_s = 4 * server.timeout_s

    with httpx.Client(
        verify=context,
        headers=headers,
        timeout=server.timeout_s,
        trust_env=False,  # neither proxies nor .netrc out of the environment
        follow_redirects=False,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
    ) as client:

        def post(body: bytes) -> Answer:
            try:
                with _within(whole_s), client.stream("POST", url, content=body) as response:
                    read = bytearray()
                    for piece in response.iter_raw():
                        read += piece
                        if len(read) > _ANSWER_BYTES:
                            break
                    return Answer(
                        status=response.status_code,
                        kind=response.headers.get("content-type", ""),
                        body=bytes(read[:_ANSWER_BYTES]),
                        retry_after=response.headers.get("retry-after"),
                    )
            except _TooLongError as error:
                raise Undelivered(LATER, f"{server.url}: no answer within {whole_s:g} s") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                why = str(error) or type(error).__name__
                raise Undelivered(LATER, f"{server.url}: {_shown(why)}") from error

        yield post


def _tls(server: Server) -> "ssl.SSLContext":
    """Make the TLS settings. Raises ConfigError naming the file that cannot be used."""
    import ssl

    if server.url.startswith("http:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    name = server.ca_file or "the system's certificate authorities"
    try:
        context = ssl.create_default_context(cafile=server.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if server.cert_file and server.key_file:
            name = f"{server.cert_file}, {server.key_file}"
            # A key with a passphrase would ask on a terminal that is not there.
            context.load_cert_chain(server.cert_file, server.key_file, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{name}: {error.strerror or error if isinstance(error, OSError) else error}"
        ) from error
    return context


@contextmanager
def _within(whole_s: float) -> Iterator[None]:
    """Bound a whole exchange: an analyzer that answers byte by byte would pass every single timeout."""

    def over(_signal: int, _frame: FrameType | None) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, whole_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the shippers' lock: one whose daemon was killed may still be at work.

    Raises BlockingIOError where it is, other OSErrors where the lock cannot be made.
    """
    fd = os.open(state / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _limit() -> None:
    for limit, value in (
        (resource.RLIMIT_CORE, 0),  # a core file would hold the token
        (resource.RLIMIT_CPU, 300),
        (resource.RLIMIT_AS, 2 << 30),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(limit)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with suppress(OSError, ValueError):  # a sandbox may forbid it; the service manager has limits too
            resource.setrlimit(limit, (most, most))


def _shown(text: str) -> str:
    """Put foreign text on one line of bounded length."""
    return " ".join(text.split())[:_WHY_LENGTH].encode("ascii", "backslashreplace").decode("ascii")


def _said(status: int, why: str) -> int:
    print(f"necropsy-agent: shipper: {why}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

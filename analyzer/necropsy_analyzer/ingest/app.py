"""The analyzer's HTTP interface. In: requests of agents. Out: acknowledgements, problems (RFC 9457).

POST /v1/batches takes a batch whole or not at all and answers with an `Ack` once it is on disk. GET /health
says that the process lives, /ready that the store answers; /schema describes it all (OpenAPI 3.1).
Opening, decoding and storing happen in threads, so that the event loop goes on reading; what finds no free
thread is told to come again (503 with Retry-After) rather than queued without bound.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
    SecurityScheme,
)

from necropsy_agent import __version__
from necropsy_agent.wire import CONTENT_TYPE, INGEST_PATH, Ack
from necropsy_analyzer.ingest.decode import Refusal, decode, encoding_of
from necropsy_analyzer.store import batches, hosts
from necropsy_analyzer.store.body import Limits
from necropsy_analyzer.store.store import Store, StoreUnavailableError

log = logging.getLogger("necropsy.ingest")

_AT_ONCE: Final = 2
_HELD_BYTES: Final = 256 << 20
_DRAINED_BYTES: Final = 256 << 20
_DRAIN_TIMEOUT_S: Final = 30.0
_BUSY_RETRY_S: Final = 2
_FULL_RETRY_S: Final = 60
_BODY_TIMEOUT_S: Final = 120.0

Arrived = Callable[[], None]
"""Called, from a thread, after evidence was stored."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What was wrong, in one line (RFC 9457, application/problem+json)."""

    status: int
    title: str
    detail: str


class Health(msgspec.Struct, frozen=True):
    """How the analyzer is."""

    status: str
    version: str


class _Door:
    """Bounds how many batches are opened and stored at once, and how many bytes wait for that."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._held_bytes = 0

    def hold(self, size: int) -> None:
        """Count bytes that were read. Raises Refusal 503 where too many wait."""
        if self._held_bytes + size > _HELD_BYTES:
            raise Refusal(503, "too much waits to be stored: send again later", retry_after_s=5)
        self._held_bytes += size

    def let_go(self, size: int) -> None:
        """Count bytes that are done with."""
        self._held_bytes -= size

    async def through(self, call: Callable[[], Ack]) -> Ack:
        """Run a call in a thread when one is free."""
        async with self._free:
            return await asyncio.to_thread(call)


class _Body:
    """A request's body as it comes (ASGI's http.request messages), and whether all of it has come."""

    def __init__(self, request: Request[Any, Any, State]) -> None:
        self._receive = request.receive
        self._whole = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body in pieces. Raises Refusal where the sender goes away."""
        while not self._whole:
            message = await self._receive()
            if message["type"] != "http.request":
                self._whole = True
                raise Refusal(400, "the sender went away before the batch was whole")
            self._whole = not message.get("more_body", False)
            yield message["body"]

    async def drain(self) -> None:
        """Read the rest, within bounds, and drop it.

        A sender that is still sending when the connection closes is reset, and never sees why it was refused.
        """
        size = 0
        with suppress(TimeoutError, Refusal):
            async with asyncio.timeout(_DRAIN_TIMEOUT_S):
                async for chunk in self.chunks():
                    size += len(chunk)
                    if size > _DRAINED_BYTES:
                        return


@dataclass
class _BatchOperation(Operation):
    """Describes the body of POST /v1/batches, which the handler reads as a stream."""

    def __post_init__(self) -> None:
        text = Schema(
            type=OpenAPIType.STRING,
            description="NDJSON: a BatchHead line and one Event a line; Content-Encoding zstd or gzip",
        )
        self.request_body = RequestBody(content={CONTENT_TYPE: OpenAPIMediaType(schema=text)}, required=True)


@post(
    INGEST_PATH,
    status_code=200,
    operation_class=_BatchOperation,
    operation_id="storeBatch",
    summary="Store a batch of events",
    security=[{"token": []}],
    responses={
        status: ResponseSpec(Problem, generate_examples=False, description=why)
        for status, why in {
            400: "no batch: damaged, cut, not NDJSON",
            401: "no token, or one that is not valid",
            403: "the token is of another host",
            408: "the body took too long",
            409: "the batch id was used for other events",
            413: "the batch is too large",
            415: "the content encoding or the wire version is not understood",
            422: "the batch contradicts itself: count, ids, numbers",
            500: "an error of the analyzer's own",
            503: "the store is full or busy: send again after Retry-After",
        }.items()
    },
)
async def _batches(request: Request[Any, Any, State], state: State) -> Ack:
    """Take a batch whole or not at all. The same batch again, or the same events, change nothing."""
    body = _Body(request)
    try:
        return await _take(request, body, state)
    except (Refusal, StoreUnavailableError) as error:
        if not (isinstance(error, Refusal) and error.status == HTTPStatus.REQUEST_TIMEOUT):
            await body.drain()
        raise


@get("/health", operation_id="health", summary="The process lives")
async def _health() -> Health:
    """Answer as long as the process does."""
    return Health("live", __version__)


@get(
    "/ready",
    operation_id="ready",
    summary="The store answers",
    responses={503: ResponseSpec(Problem, generate_examples=False, description="the store does not answer")},
)
async def _ready(state: State) -> Health:
    """Answer when batches can be taken."""
    await asyncio.to_thread(_answers, state["store"])
    return Health("ready", __version__)


def make_app(
    store: Store,
    *,
    limits: Limits | None = None,
    arrived: Arrived | None = None,
    body_timeout_s: float = _BODY_TIMEOUT_S,
) -> Litestar:
    """Make the ASGI application over an open store. A body has `body_timeout_s` to arrive in."""
    return Litestar(
        route_handlers=[_batches, _health, _ready],
        state=State(
            {
                "store": store,
                "limits": limits or Limits(),
                "arrived": arrived or (lambda: None),
                "door": _Door(),
                "body_timeout_s": body_timeout_s,
            }
        ),
        logging_config=None,
        request_max_body_size=None,  # bounded below, with an answer that says what to do
        exception_handlers={Refusal: _refused, StoreUnavailableError: _unavailable, Exception: _other},
        openapi_config=OpenAPIConfig(
            title="necropsy analyzer",
            version=__version__,
            description="Takes batches of events from necropsy's agents.",
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
            render_plugins=[JsonRenderPlugin(path=["/openapi.json", "/"]), YamlRenderPlugin()],
        ),
    )


async def _take(request: Request[Any, Any, State], sent: _Body, state: State) -> Ack:
    host = await asyncio.to_thread(_host_of, state["store"], request.headers.get("authorization"))
    limits: Limits = state["limits"]
    door: _Door = state["door"]
    timeout_s: float = state["body_timeout_s"]
    body = bytearray()
    try:
        encoding = encoding_of(request.headers.get("content-encoding"))
        try:
            async with asyncio.timeout(timeout_s):
                async for chunk in sent.chunks():
                    door.hold(len(chunk))
                    body += chunk
                    if len(body) > limits.body_bytes:
                        raise Refusal(
                            413, f"the body is larger than {limits.body_bytes} bytes: send smaller batches"
                        )
        except TimeoutError as error:
            raise Refusal(408, f"the body took longer than {timeout_s:g} s: send smaller batches") from error
        return await door.through(
            lambda: _store(
                state["store"], host, bytes(body), encoding, limits=limits, arrived=state["arrived"]
            )
        )
    except Refusal as refusal:
        log.warning(
            "batch refused host=%s status=%d bytes=%d why=%s",
            host.name, refusal.status, len(body), refusal.detail,
        )  # fmt: skip
        raise
    finally:
        door.let_go(len(body))


def _host_of(store: Store, header: str | None) -> hosts.Host:
    """Find the host of an Authorization header (RFC 6750). Raises Refusal 401."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refusal(401, "no token: send 'Authorization: Bearer TOKEN' ('necropsy hosts enroll NAME')")
    with store.read() as connection:
        host = hosts.of_token(connection, token.strip())
    if host is None:
        raise Refusal(401, "the token is not valid: enroll the host, or renew its token")
    return host


def _store(
    store: Store, host: hosts.Host, body: bytes, encoding: str, *, limits: Limits, arrived: Arrived
) -> Ack:
    """Decode a batch and store it in one transaction."""
    batch = decode(body, encoding, limits)
    if host.machine is not None and host.machine != batch.head.host:
        raise Refusal(
            403, f"the token is of {host.name}, which is another machine: enroll each host by itself"
        )
    try:
        with store.write() as connection:
            stored = batches.add(connection, host.id, batch, now_ns=time.time_ns())
    except hosts.HostError as error:
        raise Refusal(403, str(error)) from error
    except batches.BatchConflictError as error:
        raise Refusal(409, str(error)) from error
    log.info(
        "batch stored host=%s batch=%s events=%d duplicates=%d bytes=%d",
        host.name, batch.head.id, stored.accepted, stored.duplicates, len(body),
    )  # fmt: skip
    if stored.accepted:
        arrived()
    return Ack(batch=batch.head.id, accepted=stored.accepted, duplicates=stored.duplicates)


def _answers(store: Store) -> None:
    with store.read() as connection:
        hosts.every(connection)


def _problem(status: int, detail: str, retry_after_s: int | None = None) -> Response[bytes]:
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="necropsy"'
    body = Problem(status=status, title=HTTPStatus(status).phrase, detail=detail)
    return Response(
        msgspec.json.encode(body), status_code=status, headers=headers, media_type="application/problem+json"
    )


def _refused(_: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    return _problem(refusal.status, refusal.detail, refusal.retry_after_s)


def _unavailable(_: Request[Any, Any, Any], error: StoreUnavailableError) -> Response[bytes]:
    log.error("store unavailable: %s", error)
    return _problem(503, f"{error}: send again later", _FULL_RETRY_S if error.full else _BUSY_RETRY_S)


def _other(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, HTTPException):
        return _problem(error.status_code, error.detail or HTTPStatus(error.status_code).phrase)
    log.error("request failed", exc_info=error)
    return _problem(500, "an error of the analyzer's own: its log has it", _FULL_RETRY_S)

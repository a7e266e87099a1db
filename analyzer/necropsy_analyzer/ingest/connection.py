"""A sender's connection. In: bytes of HTTP/1.1 (RFC 9112). Out: requests, or an end in good time.

uvicorn waits for the head of a request for ever and reads as much of it as comes. A few senders that trickle
headers would take all descriptors, so both are bounded here; bodies are bounded by the application.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_ENDINGS: Final = {408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class Connection(HttpToolsProtocol):
    """uvicorn's connection with bounds on a request's head: its time, its size."""

    head_timeout_s = 20.0
    head_bytes = 64 << 10

    _deadline: asyncio.TimerHandle | None = None
    _heads = 0
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.head_timeout_s, self._end, 408)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; end the connection where a head gets too long."""
        heads, in_head = self._heads, self._in_head
        if in_head and self._deadline is None:
            self._deadline = self.loop.call_later(self.head_timeout_s, self._end, 408)
        super().data_received(data)
        if in_head and self._in_head and heads == self._heads:
            self._head_bytes += len(data)
            if self._head_bytes > self.head_bytes:
                self._end(431)

    def on_headers_complete(self) -> None:
        """Go on with the body."""
        self._heads += 1
        self._in_head = False
        self._wait_no_more()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Be ready for another head; until its first byte uvicorn's keep-alive time counts."""
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0

    def on_response_complete(self) -> None:
        """End the connection of a sender that has its answer and is still sending the body."""
        super().on_response_complete()
        if not self._in_head:
            self.transport.close()

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, status: int) -> None:
        self._wait_no_more()
        if not self.transport.is_closing():
            answer = b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(answer % (status, _ENDINGS[status]))
            self.transport.close()

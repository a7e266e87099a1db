"""A batch, read. In: a body as sent and its content coding. Out: a checked `Batch`, or why it is none.

The form is that of necropsy_agent/wire.py: NDJSON, a `BatchHead` line and one `Event` a line. Nothing here
looks into an event's body beyond its being JSON, and unknown kinds and fields pass.
"""

import re
from typing import Final

import msgspec

from necropsy_agent.wire import WIRE_VERSION, BatchHead, Event
from necropsy_analyzer.store.batches import Batch
from necropsy_analyzer.store.body import ENCODINGS, BodyError, BodyTooLargeError, Limits, plain

_INT64: Final = (1 << 63) - 1
_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,127}")
_SHOWN: Final = 60


class Refusal(Exception):  # noqa: N818  # an answer rather than an error of ours
    """What is wrong with a request, as HTTP says it: a status and one line for the sender's operator."""

    def __init__(self, status: int, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s


class _Wire(msgspec.Struct):
    wire: int


_WIRE: Final = msgspec.json.Decoder(_Wire)
_HEAD: Final = msgspec.json.Decoder(BatchHead)
_EVENTS: Final = msgspec.json.Decoder(Event)


def encoding_of(header: str | None) -> str:
    """Name the content coding of a request. Raises Refusal 415 for one that is not known."""
    encoding = (header or "identity").strip().lower()
    if encoding not in ENCODINGS:
        raise Refusal(
            415, f"content encoding {_shown(encoding)} is not understood: send {', '.join(ENCODINGS)}"
        )
    return encoding


def decode(body: bytes, encoding: str, limits: Limits) -> Batch:
    """Read a batch whole. Raises Refusal: 400 no batch, 413 too large, 415 of another wire version, 422
    it contradicts itself.
    """
    try:
        lines = plain(body, encoding, limits)
    except BodyTooLargeError as error:
        raise Refusal(413, f"{error}: send smaller batches") from error
    except BodyError as error:
        raise Refusal(400, str(error)) from error
    head = _head(lines)
    try:
        lines.decode("utf-8")
        events = _EVENTS.decode_lines(lines[lines.find(b"\n") + 1 :] if b"\n" in lines else b"")
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the batch is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise Refusal(400, "an event of the batch is nested too deep") from error
    except msgspec.DecodeError as error:
        raise Refusal(
            400, f"not every line after the first is an event: {_shown(str(error), 200)}"
        ) from error
    _check(head, events)
    return Batch(head=head, events=events, body=body, encoding=encoding, plain_bytes=len(lines))


def _head(lines: bytes) -> BatchHead:
    end = lines.find(b"\n")
    line = lines if end < 0 else lines[:end]
    try:
        # Of a newer version nothing else is known, so its number is read by itself. The status is not one
        # of a bad batch, for which an agent would give its events up.
        wire = _WIRE.decode(line).wire
        if wire != WIRE_VERSION:
            raise Refusal(
                415, f"wire version {wire} is not understood, only {WIRE_VERSION}: upgrade the analyzer"
            )
        return _HEAD.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the first line is no batch head: {_shown(str(error), 200)}") from error


def _check(head: BatchHead, events: list[Event]) -> None:
    _names("batch", id=head.id, host=head.host)
    _numbers("batch", sent_wall_ns=head.sent_wall_ns)
    if len(head.agent) > 256 or "\0" in head.agent:
        raise Refusal(422, "the batch's agent is no program version")
    if head.count != len(events):
        raise Refusal(422, f"the batch says {head.count} events and has {len(events)}")
    if not events:
        raise Refusal(422, "the batch has no events")
    if len({event.id for event in events}) != len(events):
        raise Refusal(422, "the batch has an event id twice")
    for number, event in enumerate(events, 1):
        if event.host != head.host:
            raise Refusal(403, f"event {number} is of host {_shown(event.host)}, the batch of {head.host}")
        _names(f"event {number}", id=event.id, kind=event.kind, boot=event.boot)
        if event.of_boot is not None:
            _names(f"event {number}", of_boot=event.of_boot)
        _numbers(f"event {number}", seq=event.seq, wall_ns=event.wall_ns, mono_ns=event.mono_ns)


def _names(whose: str, **fields: str) -> None:
    for field, value in fields.items():
        if not _NAME.fullmatch(value):
            raise Refusal(422, f"{whose}: {field} {_shown(value)} is no name of up to 128 letters and digits")


def _numbers(whose: str, **fields: int) -> None:
    for field, value in fields.items():
        if not 0 <= value <= _INT64:
            raise Refusal(422, f"{whose}: {field} is not from 0 to 2^63-1")


def _shown(text: str, length: int = _SHOWN) -> str:
    """Quote a sender's text within one line of ASCII."""
    return ascii(text[:length]) if length == _SHOWN else ascii(text[:length])[1:-1]

"""`journalctl -o json` → kernel messages. In: lines of JSON. Out: `LogLine`s.

The fields are those of systemd.journal-fields(7). A message that is not UTF-8 stands as a list of bytes, one
that is too large as null.
"""

from collections.abc import Iterator

import msgspec

from necropsy_analyzer.report.report import LogLine


class _Entry(msgspec.Struct):
    """What is needed of a journal entry."""

    MESSAGE: str | list[int] | None = None
    PRIORITY: str | None = None
    transport: str | None = msgspec.field(name="_TRANSPORT", default=None)
    identifier: str | None = msgspec.field(name="SYSLOG_IDENTIFIER", default=None)
    pid: str | None = msgspec.field(name="_PID", default=None)
    source_us: str | None = msgspec.field(name="_SOURCE_MONOTONIC_TIMESTAMP", default=None)
    monotonic_us: str | None = msgspec.field(name="__MONOTONIC_TIMESTAMP", default=None)
    realtime_us: str | None = msgspec.field(name="__REALTIME_TIMESTAMP", default=None)


_decode = msgspec.json.Decoder(_Entry).decode


def entry_lines(raw: str, number: int, limit: int) -> Iterator[LogLine] | None:
    """Read one entry, each message line up to `limit` characters; None where the text is none."""
    try:
        entry = _decode(raw)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    return _lines(entry, number, limit)


def _lines(entry: _Entry, number: int, limit: int) -> Iterator[LogLine]:
    message = entry.MESSAGE
    if message is None:
        return
    if isinstance(message, list):
        message = bytes(byte & 0xFF for byte in message).decode("utf-8", "replace")
    kernel = entry.transport == "kernel" or entry.identifier == "kernel"
    if entry.transport is None and entry.identifier is None:
        kernel = True
    if not kernel and entry.identifier is not None:
        # As a syslog has it, so that one rule knows both.
        program = f"{entry.identifier}[{entry.pid}]" if entry.pid else entry.identifier
        message = f"{program}: {message}"
    monotonic_us = _number(entry.source_us) or _number(entry.monotonic_us)
    realtime_us = _number(entry.realtime_us)
    level = _number(entry.PRIORITY)
    for part in message.split("\n"):
        yield LogLine(
            number=number,
            text=part[:limit],
            time_s=None if monotonic_us is None else monotonic_us / 1e6,
            wall_s=None if realtime_us is None else realtime_us / 1e6,
            level=None if level is None else level & 7,
            kernel=kernel,
        )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 20 else None

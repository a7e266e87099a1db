"""What `status`, `check-config` and `vmcore` answer. In: a configuration or a path. Out: text or JSON."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from necropsy_agent.agent import runs
from necropsy_agent.config import Config, ConfigError, token_of
from necropsy_agent.health import Status, StatusError, read_status
from necropsy_agent.identity import identify
from necropsy_agent.outbox import Contact, Fill, Outbox
from necropsy_agent.outbox_file import OutboxError
from necropsy_agent.records import vmcore_head
from necropsy_agent.wire import VmcoreReport

_SCHEMA: Final = "necropsy.agent-status/1"
_VMCORE_SCHEMA: Final = "necropsy.vmcore/1"


class VmcoreError(Exception):
    """A file is no vmcore that can be read, in one line that says what to do."""


def status(config: Config, *, as_json: bool) -> str:
    """Tell how the agent of a configuration is. Raises StatusError."""
    state = Path(config.state_dir)
    told = read_status(state)
    running = runs(state)
    try:
        outbox = Outbox.attach(state)
    except OutboxError as error:
        raise StatusError(f"{state}: {error}: ask as root") from error
    try:
        fill, contact = outbox.fill(), outbox.contact()
    finally:
        outbox.close()
    if as_json:
        answer = {
            "schema": _SCHEMA,
            "running": running,
            **msgspec.to_builtins(told),
            "sources": [_fields(source) for source in told.sources],
            "outbox": {**_fields(fill), "limit_bytes": config.outbox.limit_bytes},
            "contact": _fields(contact),
        }
        return _json(answer)
    return "\n".join(_text(told, running, fill, contact, config.outbox.limit_bytes)) + "\n"


def check(config: Config) -> list[str]:
    """Look whether all that a configuration names can be used; give what is only doubtful, a line each.

    Raises ConfigError, IdentityError.
    """
    token_of(config.server)
    for path in (config.server.ca_file, config.server.cert_file, config.server.key_file):
        if path is not None:
            try:
                with open(path, "rb") as file:
                    file.read(1)
            except OSError as error:
                raise ConfigError(f"{path}: {error.strerror}") from error
    identify(Path(config.root))
    doubts = [
        f"{secret}: others than its owner can read it: chmod 600 {secret}"
        for secret in (config.server.token_file, config.server.key_file)
        if secret is not None and os.stat(secret).st_mode & 0o077
    ]
    folder = Path(config.state_dir)
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        doubts.append(f"{config.state_dir}: cannot be written by this user")
    return doubts


def vmcore(path: Path, *, as_json: bool) -> str:
    """Tell what the head of a vmcore says. Raises VmcoreError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            report = vmcore_head.inspect(fd, str(path))
        finally:
            os.close(fd)
    except IsADirectoryError as error:
        raise VmcoreError(f"{path}: a folder: name the vmcore in it") from error
    except OSError as error:
        raise VmcoreError(f"{path}: {error.strerror}") from error
    if report.format == "unknown":
        raise VmcoreError(f"{path}: {'; '.join(report.damage)}: give an ELF or kdump-compressed vmcore")
    if as_json:
        return _json({"schema": _VMCORE_SCHEMA, **_fields(report)})
    return "\n".join(_vmcore_text(report)) + "\n"


def _text(told: Status, running: bool, fill: Fill, contact: Contact, limit_bytes: int) -> Iterator[str]:
    if running:
        yield f"necropsy-agent {told.version} runs as {told.pid} since {_when(told.started_wall_ns)}"
    else:
        yield f"necropsy-agent does not run; {told.version} was last seen {_when(told.written_wall_ns)}"
    yield ""
    width = max(len(source.name) for source in told.sources)
    for source in told.sources:
        counts = f"found {source.found}, nothing {source.nothing}, failed {source.failed}"
        what = source.why or (counts if source.last_ns else "")
        yield f"  {source.name:{width}}  {source.state:6}  {what}".rstrip()
    yield ""
    waiting = ", ".join(f"{n} {keep}" for keep, n in fill.waiting.items()) or "nothing"
    yield f"waiting   {waiting}; {fill.bytes / (1 << 20):.1f} of {limit_bytes / (1 << 20):.0f} MiB"
    yield f"shipped   {', '.join(f'{n} {keep}' for keep, n in fill.shipped.items()) or 'nothing yet'}"
    yield f"dropped   {', '.join(f'{n} {keep}' for keep, n in fill.dropped.items()) or 'nothing'}"
    if fill.refused:
        yield f"refused   {fill.refused} events, kept until the next start: {fill.refused_why}"
    reached = _when(contact.reached_wall_ns) if contact.reached_wall_ns else "never"
    yield f"analyzer  last reached {reached}"
    if contact.failures:
        yield f"          {contact.failures} failures since: {contact.why}"


def _vmcore_text(report: VmcoreReport) -> Iterator[str]:
    yield f"{report.path}: {report.format}, {report.size_bytes} bytes"
    yield f"release   {report.release or 'not told'}"
    yield f"build id  {report.build_id or 'not told'}"
    yield f"crashed   {_when(report.crash_wall_ns) if report.crash_wall_ns else 'not told'}"
    for line in report.damage:
        yield f"damage    {line}"


def _fields(value: msgspec.Struct) -> dict[str, object]:
    """Give every field, those with their default too: who reads JSON asks for names."""
    return {
        name: msgspec.to_builtins(getattr(value, name))
        for name in value.__struct_fields__
        if not (isinstance(value, VmcoreReport) and name == "log")
    }


def _when(wall_ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_ns // 10**9))


def _json(answer: object) -> str:
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"

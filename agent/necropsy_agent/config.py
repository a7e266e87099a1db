"""What the agent is told. In: TOML, /etc/necropsy/agent.toml and its drop-ins. Out: one frozen `Config`.

The form is TOML 1.0. Drop-ins are the `*.toml` files of the folder named like the file (`agent.d` beside
`agent.toml`), merged in name order as systemd does it: a later value replaces an earlier one, tables are
merged. Every file is checked by itself, so that a complaint names the file that has to be mended.
"""

import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

DEFAULT: Final = Path("/etc/necropsy/agent.toml")

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class ConfigError(Exception):
    """What is wrong with the configuration, in one line that names the file and the key."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where to ship: the analyzer's `url`, the file with this host's token, and TLS.

    `ca_file` replaces the system's certificate authorities; `cert_file` and `key_file` are this host's own
    certificate for mutual TLS. A relative path is looked for in systemd's $CREDENTIALS_DIRECTORY where that
    is set, else beside the configuration file. `http://` is only taken for a loopback address, unless
    `allow_plain_http` says that something else encrypts the way. `timeout_s` bounds each wait for the
    analyzer.
    """

    url: str = ""
    token_file: str = ""
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    allow_plain_http: bool = False
    timeout_s: _Seconds = 30.0


class SourcesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which sources are off, and what the others are told.

    `pstore_clear` erases a live pstore record once the analyzer has it; `crash_roots` are further folders
    with crash folders in them, which are read after standing unchanged for `crash_quiet_s`. `look_every_s`
    shortens the pauses between two looks at what cannot be polled.
    """

    off: tuple[str, ...] = ()
    kmsg_path: str = "/dev/kmsg"
    pstore_clear: bool = False
    crash_roots: tuple[str, ...] = ()
    crash_quiet_s: Annotated[float, Meta(ge=0, le=86_400)] = 60.0
    look_every_s: _Seconds | None = None


class OutboxConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How much may wait on disk for the analyzer; SQLite's write-ahead log adds some megabytes."""

    limit_bytes: Annotated[int, Meta(ge=16 << 20, le=1 << 40)] = 256 << 20


class ShipConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How large a batch may be before compression, and how long an event without urgency waits for others."""

    batch_events: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    batch_bytes: Annotated[int, Meta(ge=64 << 10, le=64 << 20)] = 4 << 20
    routine_wait_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `root` stands before every path of the host, so that a recorded tree is a host too.

    `rules` are folders of the administrator's own rules, whose lines are shipped as well as the shipped
    rules' are.
    """

    root: str = "/"
    state_dir: str = "/var/lib/necropsy-agent"
    rules: tuple[str, ...] = ("/etc/necropsy/rules.d",)
    health_every_s: _Seconds = 300.0
    server: Server = Server()
    sources: SourcesConfig = SourcesConfig()
    outbox: OutboxConfig = OutboxConfig()
    ship: ShipConfig = ShipConfig()


def load(
    path: Path = DEFAULT, *, sources: Collection[str] = (), environ: Mapping[str, str] | None = None
) -> Config:
    """Read a configuration file and its drop-ins. `sources` are the names that `[sources] off` may hold.

    Raises ConfigError.
    """
    merged: dict[str, Any] = {}
    for file in (path, *_drop_ins(path)):
        told = _read(file)
        _check(told, file, sources)
        _merge(merged, told)
    config = msgspec.convert(merged, Config)
    _check_server(config.server, path)
    environ = os.environ if environ is None else environ
    folder = Path(environ.get("CREDENTIALS_DIRECTORY") or path.resolve().parent)
    server = msgspec.structs.replace(
        config.server,
        **{
            name: str(folder / value)
            for name in ("token_file", "ca_file", "cert_file", "key_file")
            if (value := getattr(config.server, name))
        },
    )
    return msgspec.structs.replace(config, server=server)


def token_of(server: Server) -> str:
    """Read this host's token. Raises ConfigError, in a line that does not hold it."""
    try:
        with open(server.token_file, "rb") as file:
            token = file.read(4096).strip()
    except OSError as error:
        raise ConfigError(
            f"{server.token_file}: {error.strerror}: put the token there that 'necropsy hosts enroll' printed"
        ) from error
    if not token or not token.isascii() or len(token.split()) != 1 or not token.decode("ascii").isprintable():
        raise ConfigError(f"{server.token_file}: it must hold the token that 'necropsy hosts enroll' printed")
    return token.decode("ascii")


def closest(name: str, names: Collection[str]) -> str:
    """Suggest what a misspelt name was meant to be, as the end of a complaint."""
    from difflib import get_close_matches

    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"


def _drop_ins(path: Path) -> Iterator[Path]:
    folder = path.with_suffix(".d")
    try:
        yield from (folder / name for name in sorted(os.listdir(folder)) if name.endswith(".toml"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{file}: there is no such file: write one with [server] url and token_file, or give --config"
        ) from error
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from error


def _check(told: dict[str, Any], file: Path, sources: Collection[str]) -> None:
    """Complain of the first unknown key or unfit value of one file."""
    for key, names in _unknown(told, Config, ""):
        raise ConfigError(f"{file}: unknown key {key}: {closest(key.rpartition('.')[2], names)}")
    try:
        config = msgspec.convert(told, Config)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise ConfigError(f"{file}: {where.rstrip('`')}: {what[:1].lower()}{what[1:]}") from error
    for name in config.sources.off:
        if sources and name not in sources:
            raise ConfigError(f"{file}: sources.off: there is no source {name}: {closest(name, sources)}")
    for key, path in (("root", config.root), ("state_dir", config.state_dir)):
        if not os.path.isabs(path):
            raise ConfigError(f"{file}: {key}: give an absolute path, not {path!r}")


def _unknown(told: dict[str, Any], shape: Any, place: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    fields = {field.name: field.type for field in msgspec.structs.fields(shape)}
    for key, value in told.items():
        if key not in fields:
            yield place + key, tuple(fields)
        elif isinstance(value, dict) and _is_struct(fields[key]):
            yield from _unknown(value, fields[key], f"{place}{key}.")


def _is_struct(of: object) -> bool:
    return isinstance(of, type) and issubclass(of, msgspec.Struct)


def _merge(into: dict[str, Any], told: dict[str, Any]) -> None:
    for key, value in told.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _check_server(server: Server, path: Path) -> None:
    """Check what only all files together tell."""
    if not server.url:
        raise ConfigError(f"{path}: server.url is missing: give the analyzer's, as https://analyzer:8470")
    if not server.token_file:
        raise ConfigError(
            f"{path}: server.token_file is missing: give the file with the token of 'necropsy hosts enroll'"
        )
    try:
        url = urlsplit(server.url)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise ConfigError(f"{path}: server.url: {error}") from error
    if url.scheme not in ("https", "http") or not host:
        raise ConfigError(f"{path}: server.url: {server.url!r} is no https:// address of a host")
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise ConfigError(f"{path}: server.url: only scheme, host, port and path; the token has its own file")
    if url.scheme == "http" and not server.allow_plain_http and not _loopback(host):
        raise ConfigError(
            f"{path}: server.url: http:// would send the token in the clear: use https://, "
            "or set server.allow_plain_http = true where a tunnel encrypts the way"
        )
    if (server.cert_file is None) != (server.key_file is None):
        raise ConfigError(f"{path}: server.cert_file and server.key_file belong together: give both")


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())

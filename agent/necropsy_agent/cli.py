"""The `necropsy-agent` command. In: arguments. Out: exit status 0, 1 (not done, one line why), 2 (usage)."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from necropsy_agent import __version__

if TYPE_CHECKING:
    from necropsy_agent.config import Config

_DEFAULT: Final = "/etc/necropsy/agent.toml"


def main() -> None:
    """Run the command line and exit with its status."""
    options = _parser().parse_args()
    try:
        options.command(options)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if not _is_for_people(error):
            raise
        print(f"necropsy-agent: {error}", file=sys.stderr)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="necropsy-agent",
        description="Collects what a dying kernel leaves behind, and ships it to the analyzer.",
    )
    parser.add_argument("--version", action="version", version=f"necropsy-agent {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command, text in (
        (
            "run",
            _run,
            "Follow all sources and ship what they give, until SIGTERM; SIGHUP reads the configuration anew.",
        ),
        ("once", _once, "Look at everything one time and ship it; status 0 when the analyzer has all of it."),
        (
            "status",
            _status,
            "Tell how the agent is: its sources, its outbox, when it last reached the analyzer.",
        ),
        (
            "check-config",
            _check_config,
            "Say whether the configuration can be used; nothing is started or sent.",
        ),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument(
            "--config", type=Path, default=Path(_DEFAULT), metavar="FILE",
            help=f"the configuration; FILE's namesake folder .d adds drop-ins (default: {_DEFAULT})",
        )  # fmt: skip
        if name == "status":
            _add_format(sub, "text")
        sub.set_defaults(command=command)
    text = "Print what the head of a vmcore tells: format, kernel release, time of the crash."
    vmcore = commands.add_parser("vmcore", help=text, description=text)
    vmcore.add_argument(
        "path", type=Path, metavar="PATH", help="an ELF or kdump-compressed vmcore, flattened or not"
    )
    _add_format(vmcore, "json")
    vmcore.set_defaults(command=_vmcore)
    return parser


def _add_format(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--format", choices=("json", "text"), default=default, help=f"form of the answer (default: {default})"
    )


def _run(options: argparse.Namespace) -> None:
    from necropsy_agent.daemon import Daemon

    Daemon(_config(options), lambda: _config(options), os.environ).run()


def _once(options: argparse.Namespace) -> None:
    from necropsy_agent.once import once

    once(_config(options))


def _status(options: argparse.Namespace) -> None:
    from necropsy_agent.report import status

    sys.stdout.write(status(_config(options), as_json=options.format == "json"))


def _check_config(options: argparse.Namespace) -> None:
    from necropsy_agent.report import check

    for line in check(_config(options)):
        print(line, file=sys.stderr)
    print(f"{options.config}: the configuration can be used")


def _vmcore(options: argparse.Namespace) -> None:
    from necropsy_agent.report import vmcore

    sys.stdout.write(vmcore(options.path, as_json=options.format == "json"))


def _config(options: argparse.Namespace) -> "Config":
    from necropsy_agent.config import load
    from necropsy_agent.sources import SOURCES

    return load(options.config, sources=[name for name, _ in SOURCES])


def _is_for_people(error: Exception) -> bool:
    """Say whether an error is one of those whose text is the line that a person reads."""
    from necropsy_agent.config import ConfigError
    from necropsy_agent.health import StatusError
    from necropsy_agent.identity import IdentityError
    from necropsy_agent.once import NotAllError
    from necropsy_agent.outbox_file import OutboxError
    from necropsy_agent.report import VmcoreError

    ours = (ConfigError, IdentityError, NotAllError, OutboxError, StatusError, VmcoreError)
    return isinstance(error, ours)

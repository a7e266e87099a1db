"""The `necropsy` command. In: arguments. Out: exit status 0, 1 (something could not be done), 2 (usage).

One file a command. Only the command that was asked for is imported, so that `necropsy triage` starts fast.
"""

import os
import sys
from importlib import import_module
from typing import Any

COMMANDS: dict[str, str] = {
    "triage": "triage:triage",
    "serve": "serve:serve",
    "incidents": "incidents:incidents",
    "show": "show:show",
    "hosts": "hosts:app",
    "rules": "rules:app",
    "evaluate": "evaluate:evaluate",
}
"""Every command: the module in this package and the function or typer application in it."""


class CommandError(Exception):
    """What a command could not do, as the one line that a person reads."""


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        import typer  # noqa: F401
    except ImportError:
        print(
            "necropsy: the analyzer is not installed; install it with: pip install 'necropsy[analyzer]'",
            file=sys.stderr,
        )
        sys.exit(1)
    sys.exit(_run(sys.argv[1:]))


def _application(arguments: list[str]) -> Any:
    import typer

    asked = arguments[0] if arguments else ""
    whole = asked not in COMMANDS or "_NECROPSY_COMPLETE" in os.environ
    application = typer.Typer(
        name="necropsy", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    application.callback()(_top)
    for name, place in COMMANDS.items():
        if whole or name == asked:
            module, attribute = place.split(":")
            command = getattr(import_module(f"{__name__}.{module}"), attribute)
            if isinstance(command, typer.Typer):
                application.add_typer(command, name=name)
            else:
                application.command(name)(command)
    return application


def _top() -> None:
    """Why did this host die, what proves it, and what should be done about it?"""


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        from necropsy_agent import __version__

        print(f"necropsy {__version__}")
        return 0
    try:
        status = _application(arguments)(args=arguments, prog_name="necropsy", standalone_mode=False)
    except CommandError as error:
        print(f"necropsy: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has gone; what it wanted it has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "necropsy"
        print(f"necropsy: {usage().rstrip('.')}. Try '{where} --help'.", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0

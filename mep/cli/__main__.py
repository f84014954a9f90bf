"""``mep``, and ``python -m mep.cli``: the table of verbs, and the one place that exits."""

import importlib
import sys
from typing import Any, Final

import click

from mep.cli.errors import INTERRUPTED, CliError
from mep.wire.settings import SettingsError

VERBS: Final = {
    "configure": "Make an endpoint: write its files, ready to be edited.",
    "register": "Make an endpoint known to the relay, with an administrator's token.",
    "start": "Run an endpoint, in the foreground or detached.",
    "stop": "Stop an endpoint and, unless told otherwise, its users' processes.",
    "list": "Show the endpoints of this machine.",
    "status": "Show what an endpoint is doing.",
    "render": "Show the configuration that a user would get, or the refusal.",
    "check": "Check an endpoint's files, and the look-ups that they name.",
    "map": "Show which account an identity becomes, and why.",
    "why-denied": "Show why a task or a person was refused.",
    "audit": "Show what was decided, and what users' processes did.",
    "deny": "Refuse an account or an identity from now on, and end what runs of theirs.",
    "allow": "Undo a denial.",
    "recheck": "Look at once whether running user endpoints may go on.",
    "rotate-key": "Change the key that the relay signs starts with.",
    "prepare": "Check the configuration and write what is generated from it.",
    "login": "Log in, so that scripts need no token.",
    "logout": "Log out.",
    "whoami": "Show who you are to the relay.",
    "endpoints": "Show the endpoints that you may use.",
    "functions": "Search the functions that you may call.",
    "submit": "Run a function of a script at an endpoint.",
    "tasks": "Show your tasks, or what became of one; cancel it.",
    "logs": "Show what your own user endpoint wrote, where it ran.",
    "groups": "Make groups of people, to share functions with them.",
    "version": "Show the version.",
}

_MODULES: Final = {
    "list": ("listing", "command"),
    "deny": ("deny", "deny"),
    "allow": ("deny", "allow"),
    "recheck": ("deny", "recheck"),
    "rotate-key": ("rotate", "command"),
    "map": ("mapping", "command"),
    "why-denied": ("why_denied", "command"),
    "login": ("login", "login"),
    "logout": ("login", "logout"),
    "whoami": ("login", "whoami"),
}
"""Module and command of a verb; every other is `command` of the module of its name."""

EPILOG: Final = """
\b
First steps of an administrator (as root), or of anyone for themselves:
  mep configure cluster --relay-url https://relay.example.org:8443
  mep register cluster
  mep start cluster

\b
First steps of a scientist:
  mep login --relay-url https://relay.example.org:8443
  mep endpoints
  mep submit script.py:function 3 '"text"' --endpoint ID

\b
Exit status: 0 done; 1 not done, or the answer is no; 2 wrong command line;
3 the endpoint is not running; 130 interrupted.
"""


class Verbs(click.Group):
    """A group that imports a command when it is used, and lists them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table, which is the order in which one needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in VERBS:
            return None
        module, name = _MODULES.get(cmd_name, (cmd_name, "command"))
        command = getattr(importlib.import_module(f"mep.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest verb for one that there is not."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from mep.wire.settings import nearest

            raise click.UsageError(f"there is no verb {args[0]!r}{nearest(args[0], list(VERBS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table itself."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hpc-mep", prog_name="mep")
def mep() -> None:
    """Run an endpoint of a self-hosted function service, or use one.

    `mep VERB --help` explains a verb, with examples.
    """


def main() -> None:
    """Run the command line; only here does the process exit."""
    sys.exit(_run(sys.argv[1:]))


def _run(argv: list[str]) -> int:
    try:
        status: Any = mep.main(argv, prog_name="mep", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except CliError as error:
        return _fail(str(error), error.status)
    except SettingsError as error:
        return _fail(str(error), 1)
    except ImportError as error:
        return _fail(_missing(error), 1)
    except OSError as error:
        return _fail(_system(error), 1)
    return status if isinstance(status, int) else 0


def _fail(sentence: str, status: int) -> int:
    print(f"mep: {sentence}", file=sys.stderr)
    return status


def _system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    remedy = " (are you who you need to be? a site's endpoints are root's)"
    return f"{where}{error.strerror or error}{remedy if isinstance(error, PermissionError) else ''}"


def _missing(error: ImportError) -> str:
    name = (error.name or "").partition(".")[0]
    if name in ("mep", "mep_sdk", ""):
        raise error
    return (
        f"this needs the Python package {name}, which is not installed here; install an endpoint "
        "with:  pip install 'hpc-mep[endpoint]'"
    )


if __name__ == "__main__":
    main()

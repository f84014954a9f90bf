"""A person's token, given to one command: by file, environment, standard input or prompt.

Never as an argument: others on the machine see those.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from mep.cli.errors import CliError

VARIABLE: Final = "MEP_TOKEN"

option: Final[Callable[[Any], Any]] = click.option(
    "--token-file",
    metavar="FILE",
    help=f"Read the token from FILE, '-' for standard input. Else ${VARIABLE}, else a prompt.",
)


def given(token_file: str | None) -> str | None:
    """The token, where it was given without a prompt; it is removed from the environment.

    Raises:
        CliError: the file cannot be read, or what was given is no token.
    """
    environment = os.environ.pop(VARIABLE, None)
    if token_file == "-":  # noqa: S105 - a file name
        return _checked(sys.stdin.read(65536))
    if token_file is not None:
        try:
            return _checked(Path(token_file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"the token file {token_file} cannot be read: {error}") from error
    return None if environment is None else _checked(environment)


def needed(token_file: str | None, whose: str) -> str:
    """The token, asked for where it was not given; `whose` stands in the prompt.

    Raises:
        CliError: as :func:`given`, or there is nobody to ask.
    """
    token = given(token_file)
    if token is not None:
        return token
    if not sys.stdin.isatty():
        raise CliError(
            f"{whose} is needed: give --token-file FILE ('-' for standard input) or ${VARIABLE}"
        )
    return _checked(click.prompt(whose[0].upper() + whose[1:], hide_input=True))


def _checked(text: str) -> str:
    token = text.strip()
    if not token or len(token) > 8192 or not token.isascii() or not token.isprintable():
        raise CliError("what was given as a token is none: one line of printable ASCII is expected")
    if " " in token:
        raise CliError("what was given as a token contains spaces; give the token alone")
    return token

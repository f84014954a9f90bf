"""``mep start``: run an endpoint."""

import json
import os
import subprocess
import sys
from typing import Any, Final

import click

from mep.cli import tokens
from mep.cli.errors import CliError
from mep.cli.site import Site, configured_site

SHOWN_LINES: Final = 12


@click.command
@click.argument("name")
@click.option(
    "--detach", is_flag=True, help="Return when it is ready; it goes on in the background."
)
@tokens.option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when it is ready.")
def command(name: str, detach: bool, token_file: str | None, as_json: bool) -> int:
    """Run NAME: in the foreground until Ctrl-C, which ends users' processes too, or detached.

    An endpoint that the relay does not know yet is registered first, with a token as for
    `mep register`. On a site with systemd, use the units instead:
    systemctl enable --now mep@NAME.

    \b
    Examples:
      mep start cluster
      mep start cluster --detach && mep status cluster
      mep start laptop --token-file ~/relay.token
    """
    from mep.cli.preparation import prepare, registered, untold
    from mep.cli.running import refuse_second

    place = configured_site(name)
    token = tokens.given(token_file)
    refuse_second(place)
    if not registered(place):
        from mep.cli.registration import register, registrar

        register(place, registrar(place, token))
    parent = prepare(place)
    if words := untold(place):
        print(f"warning: {words}", file=sys.stderr, flush=True)
    if parent.allowed_functions is not None:
        from mep.cli.checks import warn_of_template

        warn_of_template(place)
    if not as_json:
        print(f"registered ID: {parent.endpoint_id}", flush=True)
    if detach:
        answer = _detached(place)
        _announce(name, answer, as_json)
        return 0
    return _foreground(place, parent.endpoint_id, as_json)


def _foreground(place: Site, endpoint_id: str, as_json: bool) -> int:
    from mep.cli.supervisor import lock, supervise

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    def ready(answer: dict[str, Any]) -> None:
        if "error" not in answer:
            _announce(place.name, answer, as_json)

    with lock(place):
        return supervise(place, endpoint_id, say, ready)


def _announce(name: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"name": name, **answer}), flush=True)
        return
    print(f"{name} is running (process {answer['pid']})", flush=True)
    if answer["relay"] == "refused":
        print(f"the relay refuses it: see `mep status {name}`, and run `mep register {name}`")
    elif answer["relay"] != "up":
        print("the relay is not reachable yet; the link comes up when it is")


def _detached(place: Site) -> dict[str, Any]:
    """Start a supervisor of its own session, and wait for its word.

    Raises:
        CliError: it could not start; the message says why.
    """
    from mep.cli.processes import supervisor_environment

    reading, writing = os.pipe()
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    log = os.open(place.detached_log, log_flags, 0o600)
    before = os.fstat(log).st_size
    try:
        subprocess.Popen(
            [
                *(sys.executable, "-I", "-m", "mep.cli.supervisor", place.name),
                *("--report", str(writing)),
            ],
            env=supervisor_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            pass_fds=[writing],
            start_new_session=True,
        )
    finally:
        os.close(log)
        os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    answer = json.loads(said) if said else {"error": "it ended without a word"}
    if "error" in answer:
        raise CliError(f"{place.name} did not start: {answer['error']}{_log_since(place, before)}")
    return dict(answer)


def _log_since(place: Site, offset: int) -> str:
    """The last lines that its processes wrote, for whoever cannot see them."""
    with place.detached_log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode("utf-8", "replace").splitlines()[-SHOWN_LINES:]
    return "".join(f"\n  {line}" for line in (*lines, f"(log: {place.detached_log})"))
